"""Twisted's own tests of Deferreds, with ``Deferred.__await__`` as it is once a loop of ours has started.

``python twisteds_own.py trial MODULE...`` runs them as trial does. ``python twisteds_own.py KIND MODULE...`` runs them
within the step of a task on a loop of that kind. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import unittest
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial._synctest import _collectWarnings
from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestLoader
from twisted.trial.unittest import TestCase

import bridge
from bridge._twisted import awaits


class Counted(awaits.DeferredFuture):
    """What ``await deferred`` yields where a task runs."""

    made = 0

    def __init__(self, deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(deferred, loop)
        Counted.made += 1


def cases_of(modules: list[str], without: re.Pattern[str]) -> list[Any]:
    """Return the test cases of the modules, one for each test method."""
    cases: list[Any] = []

    def add(test: Any) -> None:
        for each in test if hasattr(test, "__iter__") else [test]:
            if each is not test:
                add(each)
            elif not without.search(each.id()):
                cases.append(each)

    for name in modules:
        add(TestLoader().loadModule(import_module(name)))
    return cases


async def in_task(cases: list[Any], result: TestResult) -> None:
    """Run test cases in steps of this task, those that need a reactor on its loop as well."""
    for case in cases:
        if isinstance(case, TestCase):
            await _without_trial(case, result)
        else:
            case.run(result)


async def _without_trial(case: Any, result: TestResult) -> None:
    """Run a test case whose method may return a Deferred. trial itself would run a reactor until that has fired."""
    result.startTest(case)
    case._installObserver()
    try:
        case.setUp()
        case._warnings = []
        waits = _collectWarnings(case._warnings.append, getattr(case, case._testMethodName))
        if isinstance(waits, Deferred):
            await asyncio.wait_for(waits, 5)
        case.tearDown()
    except unittest.SkipTest:
        pass
    except BaseException:
        result.addError(case, Failure())
    case._removeObserver()


def main(kind: str, without: str, modules: list[str]) -> None:
    result = TestResult()
    loop_factory = bridge.new_event_loop if kind == "ours" else asyncio.SelectorEventLoop
    with bridge.Bridge(install_reactor=False) as each:  # puts the method in its place
        each.block_on(asyncio.sleep(0))
    awaits.DeferredFuture = Counted  # type: ignore[misc]
    if kind == "trial":
        for case in cases_of(modules, re.compile(without)):
            case.run(result)
    else:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(asyncio.sleep(0))  # a loop of ours installs its reactor before the tests import it
            runner.run(in_task(cases_of(modules, re.compile(without)), result))
    failed = {case.id(): failure.getTraceback() for case, failure in [*result.failures, *result.errors]}
    print(json.dumps({"ran": result.testsRun, "failed": failed, "counted": Counted.made}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
