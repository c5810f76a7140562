"""The next link in a report's chain of waits: what a Deferred itself waits for.

If a private name that this module reads is missing, the chain ends earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import DeferredList

from .._private.abilities import lost
from .._private.rows import REPORTS
from .awaits import DeferredFuture
from .conversion import mirrored

_DeferredList: Any = DeferredList  # to mypy it is a function


def behind(deferred: Any, link: Any, tools: Any) -> list[Any]:
    """Return what a Deferred waits for, and set ``link.frames`` to the frames of the generator that waits.

    :param link: the link of the Deferred.
    :param tools: the functions ``cell(function, name)`` and ``frames_of(awaited)`` of the room of reports.
    """
    cell: Callable[[Any, str], Any]
    cell, frames_of = tools
    if lost(REPORTS, "twisted"):
        return []
    if deferred._chainedTo is not None:
        return [deferred._chainedTo]
    if isinstance(deferred, _DeferredList):
        return [each for each in getattr(deferred, "_deferredList", ()) if not each.called or each._chainedTo]
    canceller = deferred._canceller
    mirror = mirrored(canceller)
    if mirror is not None:
        return [mirror]
    status = cell(canceller, "status")
    waiting_on: Any = getattr(status, "waitingOn", None)
    if waiting_on is None:
        return []
    if isinstance(waiting_on, DeferredFuture):  # a driver of Twisted's that runs in the step of a task
        waiting_on = waiting_on.deferred
    for args in _callback_args(waiting_on):
        if len(args) > 2 and args[2] is status:  # _gotResultInlineCallbacks(_, waiting, gen, status, context)
            link.frames = frames_of(args[1])[0]
    return [waiting_on]


def _callback_args(deferred: Any) -> Iterator[tuple[Any, ...]]:
    for entry in list(getattr(deferred, "_callbacks", None) or getattr(deferred, "callbacks", None) or ()):
        try:
            yield entry[0][1] or ()
        except (TypeError, IndexError):
            return
