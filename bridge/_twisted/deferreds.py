"""Deferreds for the loop and the calls. Importing this module registers their functions with :mod:`bridge._values`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.defer import Deferred as Deferred
from twisted.python.failure import Failure

from .._values.deferreds import deferreds
from . import chains, tracker
from .awaits import DeferredFuture, awaited
from .failures import BY_OTHER_NAMES, error_of, is_cancelled_part, mark_handled, note_raised


def _register() -> None:
    tracker.register()
    deferreds.future = DeferredFuture
    deferreds.awaited = awaited
    deferreds.failure = Failure
    deferreds.error_of = error_of
    deferreds.note_raised = note_raised
    deferreds.mark_handled = mark_handled
    deferreds.run_callbacks = getattr(getattr(Deferred, "_runCallbacks", None), "__code__", None)
    deferreds.behind = chains.behind
    deferreds.future_behind = chains.future_behind
    deferreds.cancellations += (CancelledError, *BY_OTHER_NAMES)
    deferreds.is_cancellation = is_cancelled_part
    deferreds.type = Deferred  # last: readers take it as the sign that all the others are set


if deferreds.type is None:
    _register()
