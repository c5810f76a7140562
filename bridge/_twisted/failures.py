"""Failures of Deferreds: the exception of one, when it counts as handled, and when it means a cancellation."""

# Twisted annotates Deferred and Failure only in part.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.python.failure import Failure

from .._private.abilities import lost
from .._private.rows import DEFERREDS
from .._private.twisted import DebugInfo
from .._values.deferreds import is_cancellation
from .._values.outcomes import set_traceback


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
BY_OTHER_NAMES = (ConnectingCancelledError, DNSLookupError)


def is_cancelled_part(error: object) -> bool:
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
