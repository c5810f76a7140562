"""Errors that reach nobody while a test runs: no code awaits or catches them, so they are only logged.

These are what Twisted logs of a Deferred that is dropped with its failure and of functions that the reactor calls; what
asyncio hands to the default exception handler of the loop; and what ``submit`` logs of a Future that nobody has asked.
An error that a library, or the tested code, has caught and logs itself is not one of them. One in what a fixture of a
wider scope has made is not the test's.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..._calls.unseen import Unseen, watchers
from ..._errors import at
from ..._values.context import maker
from .loops import SharedLoop
from .makers import Maker, maker_in, maker_of_task

# Twisted's names of what logs for code that nobody waits for.
_NAMESPACES = "twisted.internet."
_PACKAGE = str(Path(__file__).parents[2])
# What pytest keeps of the last test that has failed, until the next one is called.
_LAST = ("last_exc", "last_type", "last_value", "last_traceback")


class UnseenErrors:
    """What has been logged since the test began."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._test: Maker | None = None
        self._stop: list[Callable[[], object]] = []
        self._is_observing = False
        watchers.append(self._submitted)
        self._stop.append(lambda: watchers.remove(self._submitted))

    def begin(self, shared: SharedLoop, test: Maker, *, after_failure: bool) -> None:
        """Note that a test begins.

        :param after_failure: the test before has failed, so that its traceback may keep Deferreds with failures.
        """
        if after_failure:
            for name in _LAST:
                with suppress(AttributeError):
                    delattr(sys, name)
            gc.collect()
        self._test = test
        self._texts.clear()
        self._watch(shared.loop)
        self._observe()

    def take(self, name: str) -> str:
        """Return the message for a test: the errors since it began, with their tracebacks."""
        gc.collect(1)  # Deferreds and tasks of the test that are in circles
        taken = self._texts.copy()
        self._texts.clear()
        if not taken:
            return ""
        count = f"{len(taken)} {'error' if len(taken) == 1 else 'errors'}"
        return (
            f"{name} has had {count} that nobody has seen:\n{''.join(taken)}"
            "Await or handle them; or mark the test: @pytest.mark.bridge(unseen='ignore')" + at("unseen-errors")
        )

    def unload(self) -> None:
        """Note nothing more."""
        while self._stop:
            self._stop.pop()()

    def _observe(self) -> None:
        if self._is_observing or "twisted.logger" not in sys.modules:
            return
        from ..._twisted.unseen import observe_failures

        self._stop.append(observe_failures(self._logged))
        self._is_observing = True

    def _logged(self, namespace: str, what: str, failure: Any) -> None:
        from ..._twisted.makers import maker_of_error

        if namespace.startswith(_NAMESPACES) and self._is_charged(maker_of_error(failure.value)):
            if namespace == "twisted.internet.defer":
                what = "Unhandled error in Deferred"
            is_clean = failure.value.__traceback__ is None  # Twisted has taken the frames out of it
            text = failure.getTraceback() if is_clean else _formatted(failure.value)
            self._texts.append(f"{what or 'Unhandled error'}:\n{text}")

    def _submitted(self, unseen: Unseen) -> None:
        if self._is_charged(None):
            text = _formatted(unseen.error)
            self._texts.append(f"submit({unseen.what}) failed, and nobody asked its Future for the error:\n{text}")

    def _is_charged(self, made_by: object) -> bool:
        """Return whether an error is the test's, or nobody's who is known; and not a fixture's or an earlier test's."""
        return (made_by or maker.get()) in (None, self._test)

    def _watch(self, loop: Any) -> None:
        """Note what the default exception handler of the loop gets. A handler that a test sets has seen its errors."""

        def handle(context: dict[str, Any]) -> None:
            error = context.get("exception")
            if error is not None and self._is_charged(_maker_in(context)):
                self._texts.append(f"{context.get('message')}:\n{_formatted(error)}")
            loop.__class__.default_exception_handler(loop, context)

        loop.default_exception_handler = handle


def _formatted(error: BaseException) -> str:
    """Return the traceback, without our frames."""
    told = traceback.TracebackException.from_exception(error)
    told.stack[:] = [each for each in told.stack if not each.filename.startswith(_PACKAGE)]
    return "".join(told.format())


def _maker_in(context: dict[str, Any]) -> Any:
    task: Any = context.get("task", context.get("future"))
    if hasattr(task, "get_coro"):
        return maker_of_task(task)
    return maker_in(getattr(context.get("handle"), "_context", None))
