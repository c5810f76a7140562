"""Run modules of CPython's own ``test.test_asyncio`` in this process, on our loop or on the standard library's.

``python cpython.py LOOP PATTERN MODULE ...`` prints one line of JSON: the tests that failed, each with its traceback,
and how many there were. LOOP is ``ours`` or ``stock``; PATTERN, a regular expression, says which tests to leave out.
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
    from bridge.loop.swap import SwapLoop, missing

    assert not missing()
    for module in (asyncio, asyncio.unix_events):
        module.SelectorEventLoop = SwapLoop  # type: ignore[misc]
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = SwapLoop
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = SwapLoop  # type: ignore[attr-defined]


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


def main(loop: str, left_out: str, modules: list[str]) -> None:
    from test import support

    support.use_resources = []  # neither the network nor what takes long
    warnings.simplefilter("default")
    if loop == "ours":
        substitute()
    loader = unittest.TestLoader()
    pattern = re.compile(left_out)
    suite = unittest.TestSuite()
    for module in modules:
        loaded = loader.loadTestsFromModule(importlib.import_module(f"test.test_asyncio.{module}"))
        suite.addTests(case for case in cases(loaded) if not pattern.search(case.id()))
    result = Result()
    suite.run(result)
    failed = {test.id(): text for test, text in [*result.failures, *result.errors]}
    failed |= {test.id(): "passed, where CPython expects a failure" for test in result.unexpectedSuccesses}
    slow = dict(sorted(times.items(), key=lambda item: -item[1])[:5])
    print(json.dumps({"ran": result.testsRun, "skipped": len(result.skipped), "failed": failed, "slow": slow}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
