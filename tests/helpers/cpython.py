"""Run modules of CPython's own ``test.test_asyncio`` in this process, on our loop or on the standard library's.

``python cpython.py LOOP ONLY EXCEPT MODULE ...`` prints one line of JSON: the tests that failed, each with its
traceback, how many there were, how many loops of ours they made, and the slowest. LOOP is ``ours`` or ``stock``; ONLY
and EXCEPT are regular expressions that a test's full name has to match, and must not.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import json
import re
import sys
import time
import unittest
import warnings
from collections.abc import Iterator
from typing import Any


def substitute() -> None:
    """Put our loop in the place of the selector loop that a program gets by default."""
    from bridge._loop.switching import SwitchingLoop
    from bridge._private.abilities import lost
    from bridge._private.rows import SWITCHING

    assert not lost(SWITCHING)
    init = SwitchingLoop.__init__

    def counting(self: Any, *args: Any) -> None:
        made.append(1)
        init(self, *args)

    SwitchingLoop.__init__ = counting  # type: ignore[method-assign]
    for module in (asyncio, asyncio.unix_events):
        module.SelectorEventLoop = SwitchingLoop  # type: ignore[misc]
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = SwitchingLoop
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = SwitchingLoop  # type: ignore[attr-defined]


def substitute_in_runners(module: Any) -> None:
    """Let the tests of asyncio.Runner make our loop, where they make a BaseEventLoop without a selector."""
    from bridge._loop.switching import SwitchingLoop

    def new_loop(self: Any) -> Any:
        loop: Any = SwitchingLoop()
        loop.shutdown_ag_run = False
        shut_down = loop.shutdown_asyncgens

        async def shutdown_asyncgens() -> None:
            loop.shutdown_ag_run = True
            await shut_down()

        loop.shutdown_asyncgens = shutdown_asyncgens
        return loop

    module.BaseTest.new_loop = new_loop


def cases(suite: unittest.TestSuite) -> Iterator[Any]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each


class Result(unittest.TestResult):
    """Notes each test's time, for who wants to know which ones are slow."""

    _began = 0.0

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._began = time.monotonic()
        faulthandler.dump_traceback_later(60, exit=True)

    def stopTest(self, test: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        times[test.id()] = round(time.monotonic() - self._began, 2)


times: dict[str, float] = {}
made: list[int] = []


def main(loop: str, only: str, left_out: str, modules: list[str]) -> None:
    from test import support

    support.use_resources = []  # neither the network nor what takes long
    warnings.simplefilter("default")
    if loop == "ours":
        substitute()
    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    for name in modules:
        module = importlib.import_module(f"test.test_asyncio.{name}")
        if loop == "ours" and name == "test_runners":
            substitute_in_runners(module)
        loaded = loader.loadTestsFromModule(module)
        suite.addTests(
            case for case in cases(loaded) if re.search(only, case.id()) and not re.search(left_out, case.id())
        )
    result = Result()
    suite.run(result)
    failed = {test.id(): text for test, text in [*result.failures, *result.errors]}
    failed |= {test.id(): "passed, where CPython expects a failure" for test in result.unexpectedSuccesses}
    slow = dict(sorted(times.items(), key=lambda item: -item[1])[:5])
    found = {"ran": result.testsRun, "skipped": len(result.skipped), "failed": failed, "made": len(made), "slow": slow}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
