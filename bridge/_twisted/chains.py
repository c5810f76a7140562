"""What a Deferred itself waits for: the next link in a report's chain of waits, and the Future at the end of it.

If a private name that this module reads is missing, the chain ends earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import DeferredList

from .._private.abilities import lost
from .._private.rows import REPORTS
from .._values.cells import cell
from .awaits import DeferredFuture
from .conversion import mirrored

_DeferredList: Any = DeferredList  # to mypy it is a function
_DEPTH = 50


def behind(deferred: Any, link: Any = None, frames_of: Callable[[Any], Any] | None = None) -> list[Any]:
    """Return what a Deferred waits for, and set ``link.frames`` to the frames of the generator that waits.

    :param link: the link of the Deferred.
    :param frames_of: the function ``frames_of(awaited)`` of the room of reports; None to leave the frames out.
    """
    if lost(REPORTS, "twisted"):
        return []
    if deferred._chainedTo is not None:
        return [deferred._chainedTo]
    if isinstance(deferred, _DeferredList):
        return [each for each in getattr(deferred, "_deferredList", ()) if not each.called or each._chainedTo]
    canceller = deferred._canceller
    mirror = mirrored(canceller)
    if mirror is None:  # Deferred.fromFuture() keeps the Future in its canceller
        mirror = cell(canceller, "future")
    if asyncio.isfuture(mirror):
        return [mirror]
    status = cell(canceller, "status")
    waiting_on: Any = getattr(status, "waitingOn", None)
    if waiting_on is None:
        return []
    if isinstance(waiting_on, DeferredFuture):  # a driver of Twisted's that runs in the step of a task
        waiting_on = waiting_on.deferred
    if frames_of is not None:
        for args in _callback_args(waiting_on):
            if len(args) > 2 and args[2] is status:  # _gotResultInlineCallbacks(_, waiting, gen, status, context)
                link.frames = frames_of(args[1])[0]
    return [waiting_on]


def future_behind(deferred: Any) -> Any:
    """Return the asyncio Future that a Deferred waits for by way of other Deferreds; None if it waits for none.

    A Deferred that waits for several is not followed.
    """
    for _ in range(_DEPTH):
        if deferred.called and deferred._chainedTo is None:  # it has fired, or is paused
            return None
        following = behind(deferred)
        if len(following) != 1:
            return None
        (deferred,) = following
        if asyncio.isfuture(deferred):
            return deferred
    return None


def _callback_args(deferred: Any) -> Iterator[tuple[Any, ...]]:
    for entry in list(getattr(deferred, "_callbacks", None) or getattr(deferred, "callbacks", None) or ()):
        try:
            yield entry[0][1] or ()
        except (TypeError, IndexError):
            return
