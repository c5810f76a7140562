"""Deferreds for the loop and the calls. Importing this module registers its functions with :mod:`bridge._values`."""

# Twisted annotates Deferred and Failure only in part.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.defer import Deferred as Deferred
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.python.failure import Failure

from .._errors import ReactorConflict
from .._private.abilities import lost
from .._private.rows import DEFERREDS
from .._private.twisted import DebugInfo
from .._threads.native import get_ident
from .._values.deferreds import deferreds, is_cancellation
from .._values.outcomes import set_traceback
from . import chains, tracker


class DeferredFuture(asyncio.Future[None]):
    """A Future that is done when a Deferred has fired. It does not change the Deferred's result.

    It is cancelled like a task: ``cancel()`` cancels the Deferred and lets it clean up. The Future is cancelled only
    when the Deferred then fires with Twisted's CancelledError. If other code cancels the Deferred, that CancelledError
    is an error like any other.
    """

    def __init__(self, deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        if deferreds.met is not None:
            with contextlib.suppress(ReactorConflict):  # the call that has made the Deferred raises it
                deferreds.met(loop)
        self.deferred = deferred
        self._thread = get_ident()
        self._cancel_message: Any = None
        self._cancel_requested = False
        self._result_then: Any = None
        deferred.addBoth(self._fired)

    def _fired(self, result: Any) -> Any:
        self._result_then = result
        if isinstance(result, Failure) and not self.done():
            note_raised(self.deferred, result)
        if get_ident() == self._thread:
            self._wake()
        else:  # fired in another thread: waking the task from there would not wake the loop
            self.get_loop().call_soon_threadsafe(self._wake)
        return result

    def _wake(self) -> None:
        if self.done():
            return
        if self._cancel_requested:
            failure = self._result_then
            if isinstance(failure, Failure) and is_cancellation(failure.value):
                super().cancel(self._cancel_message)
                return
        self.set_result(None)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the Deferred. Return False if it has fired already."""
        if self.done():
            return False
        self._cancel_requested = True
        self._cancel_message = msg
        self.deferred.cancel()
        return True

    def is_overtaken(self) -> bool:
        """Return whether a callback added after the wait has changed the result that this Future has seen."""
        deferred = self.deferred
        return bool(deferred.paused) or getattr(deferred, "result", self) is not self._result_then

    def error(self) -> BaseException | None:
        """Return the exception that the Deferred fired with, None if it fired with a value."""
        result = self._result_then
        return error_of(result) if isinstance(result, Failure) else None

    def value(self) -> Any:
        """Return the value that the Deferred fired with."""
        return self._result_then

    def resume(self, send: Any) -> Any:
        """Resume a coroutine that awaits the overtaken Deferred, with the value that the Deferred fired with.

        The Deferred's iterator reads ``result`` again when it is resumed, before any other code runs. So the original
        value is put back for this one step.
        """
        deferred: Any = self.deferred
        missing = object()
        paused, result = deferred.paused, getattr(deferred, "result", missing)
        deferred.paused, deferred.result = 0, self._result_then
        try:
            return send(None)
        finally:
            deferred.paused += paused
            if deferred.result is self._result_then:  # else the step itself has added callbacks
                if result is missing:
                    del deferred.result
                else:
                    deferred.result = result


def error_of(failure: Failure) -> BaseException:
    """Return the exception of a Failure, with the traceback that the Failure has kept.

    If the Failure's value is no exception, return the Failure itself.
    """
    error = cast(object, failure.value)
    if not isinstance(error, BaseException):  # Twisted accepts any value; a Failure itself can be raised
        return failure
    if failure.tb is not None:
        set_traceback(error, failure.tb)
    return error


# What a cancelled endpoint fires with: while it connects, and while it still resolves the host name.
_BY_OTHER_NAMES = (ConnectingCancelledError, DNSLookupError)


def _is_cancelled_part(error: object) -> bool:
    """Return whether an error lists a cancellation in its ``reasons``, as twisted.web's ResponseNeverReceived does."""
    reasons: Any = getattr(error, "reasons", None)
    return type(reasons) is list and any(isinstance(each, Failure) and is_cancellation(each.value) for each in reasons)


class _Raised(DebugInfo):
    """The DebugInfo of a Deferred whose failure is raised to a caller: it never logs that failure as unhandled.

    Twisted records the failure when all callbacks have run. By then the caller may have gone on long ago: it may run in
    a thread other than the one that fires the Deferred, or a later callback may block.
    """

    def __init__(self, info: DebugInfo | None, failure: Failure) -> None:
        if info is not None:
            self.creator, self.invoker = info.creator, info.invoker
            info.failResult = None  # else the old DebugInfo would log the failure when it is dropped
        self._raised = failure

    def __setattr__(self, name: str, value: Any) -> None:
        is_raised = name == "failResult" and value is not None and value is self._raised
        super().__setattr__(name, None if is_raised else value)


def note_raised(deferred: Deferred[Any], failure: Failure) -> None:
    """Keep Twisted from logging this failure as unhandled. Called in a callback of the Deferred, in any thread."""
    if not lost(DEFERREDS):
        deferred._debugInfo = _Raised(deferred._debugInfo, failure)


def mark_handled(deferred: Deferred[Any]) -> None:
    """Keep Twisted from logging the Deferred's failure as unhandled: it has been raised to a caller."""
    info = getattr(deferred, "_debugInfo", None)
    if info is not None:
        info.failResult = None


def _register() -> None:
    tracker.register()
    deferreds.future = DeferredFuture
    deferreds.failure = Failure
    deferreds.error_of = error_of
    deferreds.note_raised = note_raised
    deferreds.mark_handled = mark_handled
    deferreds.run_callbacks = getattr(getattr(Deferred, "_runCallbacks", None), "__code__", None)
    deferreds.behind = chains.behind
    deferreds.cancellations += (CancelledError, *_BY_OTHER_NAMES)
    deferreds.is_cancellation = _is_cancelled_part
    deferreds.type = Deferred  # last: readers take it as the sign that all the others are set


if deferreds.type is None:
    _register()
