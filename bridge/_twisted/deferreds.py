"""Deferreds, as the loop and the calls see them. Importing this module registers it with :mod:`bridge._values`."""

# Twisted's Deferred and Failure are annotated in part.
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
    """A Future that is done when a Deferred has fired; it leaves the Deferred's result where it is.

    It is cancelled the way a task is: ``cancel()`` cancels the Deferred and lets it clean up, and only when the
    Deferred then fires with Twisted's CancelledError is the Future cancelled. A Deferred that somebody else
    cancelled is one that fired with an error, as any other.
    """

    def __init__(self, deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        if deferreds.met is not None:
            with contextlib.suppress(ReactorConflict):  # which the call says that has made the Deferred
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
        else:  # fired in another thread, where waking the task would leave the loop asleep
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
        """Return whether a callback added after the wait has changed the Deferred's result since it fired for us."""
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
        """Send into a coroutine that awaits the overtaken Deferred; the coroutine gets the value of then.

        The Deferred's iterator reads its result anew when it is resumed, before anything else runs. So the value of
        then stands there for this one step.
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
    """Return the exception of a Failure, with the traceback that the Failure has kept for it.

    The Failure itself is returned where its value is no exception.
    """
    error = cast(object, failure.value)
    if not isinstance(error, BaseException):  # Twisted takes anything; a Failure itself can be raised
        return failure
    if failure.tb is not None:
        set_traceback(error, failure.tb)
    return error


# Of an endpoint that was connecting, and of one that was still resolving the name.
_BY_OTHER_NAMES = (ConnectingCancelledError, DNSLookupError)


def _is_cancelled_part(error: object) -> bool:
    """Return whether twisted.web's ResponseNeverReceived or the like was cancelled: they say why in a list."""
    reasons: Any = getattr(error, "reasons", None)
    return type(reasons) is list and any(isinstance(each, Failure) and is_cancellation(each.value) for each in reasons)


class _Raised(DebugInfo):
    """What Twisted knows of a Deferred whose failure is raised to somebody: not to log that one as unhandled.

    Twisted notes the failure when all callbacks have run. By then the one who waits may have gone on for long: in
    another thread than the one that fires the Deferred, or as a later callback blocks.
    """

    def __init__(self, info: DebugInfo | None, failure: Failure) -> None:
        if info is not None:
            self.creator, self.invoker = info.creator, info.invoker
            info.failResult = None  # or it would log it as it is dropped
        self._raised = failure

    def __setattr__(self, name: str, value: Any) -> None:
        is_raised = name == "failResult" and value is not None and value is self._raised
        super().__setattr__(name, None if is_raised else value)


def note_raised(deferred: Deferred[Any], failure: Failure) -> None:
    """Keep Twisted from logging this failure as unhandled. Called in a callback of the Deferred, in any thread."""
    if not lost(DEFERREDS):
        deferred._debugInfo = _Raised(deferred._debugInfo, failure)


def mark_handled(deferred: Deferred[Any]) -> None:
    """Keep Twisted from logging the Deferred's failure as unhandled: it has been raised to somebody."""
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
    deferreds.type = Deferred  # the last, for it says that all of this is there


if deferreds.type is None:
    _register()
