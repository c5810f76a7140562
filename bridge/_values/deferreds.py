"""The registry by which the other rooms handle Deferreds. :mod:`bridge._twisted.deferreds` fills it in.

A process that passes no Deferred never imports Twisted. An object can be a Deferred only if ``twisted.internet.defer``
was imported before, so the test for one does not import Twisted. The first Deferred that is found loads
``bridge._twisted``, by its name, since imports go downwards only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import CodeType
from typing import Any
from weakref import WeakSet

_DEFER = "twisted.internet.defer"
_OURS = "bridge._twisted.deferreds"


class Deferreds:
    """What ``bridge._twisted`` registers. Before that, no object is a Deferred."""

    def __init__(self) -> None:
        self.type: type | None = None  # the class Deferred
        self.future: Any = ()  # a class, made of (deferred, loop): a Future for the Deferred
        # A coroutine function that awaits a Deferred in a task, whether or not a plain ``await`` can.
        self.awaited: Callable[[Any], Awaitable[Any]] = _unknown
        self.failure: Any = ()  # the class Failure
        self.error_of: Callable[[Any], BaseException] = _unknown  # the exception of a Failure
        # Called with (deferred, failure): the failure is raised in a caller.
        self.note_raised: Callable[[Any, Any], None] = _unknown
        self.mark_handled: Callable[[Any], None] = _unknown  # with a Deferred: a caller has got its failure
        self.run_callbacks: CodeType | None = None  # the code that calls a Deferred's callbacks
        self.behind: Callable[[Any, Any, Any], list[Any]] = _unknown  # what a Deferred waits for; see _twisted.chains
        self.future_behind: Callable[[Any], Any] = _unknown  # the Future that a Deferred waits for, if there is one
        self.cancellations: tuple[type[BaseException], ...] = (
            asyncio.CancelledError,
            concurrent.futures.CancelledError,
        )
        # Whether another error, which some part of Twisted raises, means that the work was cancelled.
        self.is_cancellation: Callable[[object], bool] = _never
        # Returns Twisted's own context stack of the calling thread; None until that exists. Any module of Twisted may
        # use the stack, so this is registered on its own, before the first Deferred.
        self.tracker: Callable[[], Any] | None = None
        # Called with the loop on which a Deferred is found, while loops of ours still lack the reactor that they want.
        self.met: Callable[[asyncio.AbstractEventLoop], None] | None = None
        self.to_be_awaited = True  # whether plain tasks are to await Deferreds, where a loop says nothing of its own
        self.with_reactor: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # the loops that have a reactor, or will
        # The stand-ins for a loop whose callback is running, by thread. See _runs.attached.
        self.stand_ins: dict[int, asyncio.AbstractEventLoop] = {}

    def load(self) -> None:
        """Load ``bridge._twisted`` if Twisted's Deferreds are loaded."""
        if self.type is None and _DEFER in sys.modules:
            import_module(_OURS)


def _unknown(*_: Any) -> Any:
    raise AssertionError("no Deferred has been met")


def _never(_: object) -> bool:
    return False


deferreds = Deferreds()


def is_deferred_type(cls: type) -> bool:
    """Return whether cls is Deferred or derives from it.

    ``isinstance`` goes through ABCMeta, which takes some ten times as long.
    """
    known = deferreds.type
    if known is None:
        known = getattr(sys.modules.get(_DEFER), "Deferred", None)
        if known not in cls.__mro__:
            return False
        import_module(_OURS)
        return True
    return known in cls.__mro__


async def await_any(x: Any) -> Any:
    """Await any awaitable object, a Deferred as well."""
    return await (deferreds.awaited(x) if is_deferred_type(x.__class__) else x)


def is_cancellation(error: object) -> bool:
    """Return whether the error means that the work was cancelled, for asyncio or any part of Twisted.

    Use it only in code that has asked for the cancellation. Other code treats the error like any other.
    """
    deferreds.load()
    return isinstance(error, deferreds.cancellations) or deferreds.is_cancellation(error)
