"""Run trial over packages of Twisted's tests on one reactor, and print the outcome of each test as JSON.

Arguments: "bridge" for the reactor of ``bridge.install()`` or "asyncio" for Twisted's own, the file to write to, and
the names of packages, modules or classes. Twisted's tests that make reactors of many kinds make only this kind here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import time
import types
import warnings
from typing import Any

import bridge
from bridge._loop.switching import SwitchingLoop
from bridge._twisted import reactor as reactors

kind, file, *names = sys.argv[1:]

if kind == "bridge":
    bridge.install()
else:
    from twisted.internet import asyncioreactor

    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)

from twisted.internet.test import reactormixins  # noqa: E402
from twisted.trial.reporter import Reporter  # noqa: E402
from twisted.trial.runner import TestLoader, TrialRunner  # noqa: E402


class Outcomes(Reporter):
    """Notes the outcome of each test, the worst if it has several."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.outcomes: dict[str, str] = {}
        self.errors_of: dict[str, str] = {}
        self.times: dict[str, float] = {}

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self.times[test.id()] = time.monotonic()

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self.times[test.id()] = time.monotonic() - self.times[test.id()]

    def _note(self, test: Any, outcome: str, why: object = "") -> None:
        name = test.id()
        if outcome not in ("success", "skip", "expected failure") or name not in self.outcomes:
            self.outcomes[name] = outcome
        if why:
            self.errors_of[name] = str(why.getTraceback() if hasattr(why, "getTraceback") else why)

    def addSuccess(self, test: Any) -> None:
        self._note(test, "success")

    def addError(self, test: Any, error: Any) -> None:
        self._note(test, "error", error)

    def addFailure(self, test: Any, fail: Any) -> None:
        self._note(test, "failure", fail)

    def addSkip(self, test: Any, reason: Any) -> None:
        self._note(test, "skip")

    def addExpectedFailure(self, test: Any, *more: Any) -> None:
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test: Any, *more: Any) -> None:
        self._note(test, "unexpected success")

    def done(self) -> None:
        pass


def a_reactor_of_ours(test: Any) -> Any:
    """Return a new reactor of ours on a loop of its own, as Twisted's asyncioSelectorReactor() does for its own."""
    before = asyncio.get_event_loop()
    loop = SwitchingLoop()
    asyncio.set_event_loop(loop)

    def clean_up() -> None:
        loop.close()
        asyncio.set_event_loop(before)

    test.addCleanup(clean_up)
    return reactors.build(loop, False, loop)


made: Any = types.ModuleType("made")
made.AsyncioSelectorReactor = a_reactor_of_ours if kind == "bridge" else reactormixins.asyncioSelectorReactor
sys.modules["made"] = made
reactormixins.ReactorBuilder._reactors = ["made.AsyncioSelectorReactor"]

warnings.simplefilter("ignore")
with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile("shared", deadline=None, suppress_health_check=list(HealthCheck))  # the machine is busy
    settings.load_profile("shared")
runner = TrialRunner(Outcomes, stream=io.StringIO(), realTimeErrors=False)
result: Any = runner.run(TestLoader().loadByNames(names, True))
with open(file, "w") as written:
    json.dump({"outcomes": result.outcomes, "errors": result.errors_of, "times": result.times}, written)
