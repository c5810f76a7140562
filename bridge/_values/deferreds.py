"""What the other rooms know of Twisted: nothing, until :mod:`bridge._twisted.deferreds` has registered itself here.

A process that passes no Deferred never imports Twisted. So nobody imports Twisted to see whether an object is a
Deferred: an object can be one only if ``twisted.internet.defer`` has been imported by somebody else. The first one that
is met loads our room for Twisted, by its name, since imports go downwards only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable
from importlib import import_module
from types import CodeType
from typing import Any

_DEFER = "twisted.internet.defer"
_OURS = "bridge._twisted.deferreds"


class Deferreds:
    """What is known of Deferreds. Before the registration no object is one."""

    def __init__(self) -> None:
        self.type: type | None = None  # the class Deferred
        self.future: Any = ()  # the class of a Future that is done when a Deferred has fired, made of (deferred, loop)
        self.failure: Any = ()  # the class Failure
        self.error_of: Callable[[Any], BaseException] = _unknown  # the exception of a Failure
        self.note_raised: Callable[[Any, Any], None] = _unknown  # for (deferred, failure): it is raised to somebody
        self.mark_handled: Callable[[Any], None] = _unknown  # for a Deferred: its failure has been raised to somebody
        self.run_callbacks: CodeType | None = None  # what calls the callbacks of a Deferred
        self.behind: Callable[[Any, Any, Any], list[Any]] = _unknown  # what a Deferred waits for; see _twisted.chains
        self.cancellations: tuple[type[BaseException], ...] = (
            asyncio.CancelledError,
            concurrent.futures.CancelledError,
        )
        # Whether an error that is no instance of these is how cancelled work ends, in the words of a part of Twisted.
        self.is_cancellation: Callable[[object], bool] = _never
        # Returns Twisted's own context stack of the calling thread, once there is one. Any module of Twisted's may use
        # it, so it is registered by itself, before the first Deferred.
        self.tracker: Callable[[], Any] | None = None
        # Called with the loop on which a Deferred is met, while loops of ours run without the reactor that they want.
        self.met: Callable[[asyncio.AbstractEventLoop], None] | None = None

    def load(self) -> None:
        """Load our room for Twisted, if Twisted's Deferreds are loaded."""
        if self.type is None and _DEFER in sys.modules:
            import_module(_OURS)


def _unknown(*_: Any) -> Any:
    raise AssertionError("no Deferred has been met")


def _never(_: object) -> bool:
    return False


deferreds = Deferreds()


def is_deferred_type(cls: type) -> bool:
    """Return whether cls is Deferred or derives from it.

    ``isinstance`` would go through ABCMeta, at some ten times the cost.
    """
    known = deferreds.type
    if known is None:
        known = getattr(sys.modules.get(_DEFER), "Deferred", None)
        if known not in cls.__mro__:
            return False
        import_module(_OURS)
        return True
    return known in cls.__mro__


def is_cancellation(error: object) -> bool:
    """Return whether the error is how cancelled work ends, in the words of asyncio or of any part of Twisted.

    Only who has asked for the cancellation takes it for one: others see the error as it is.
    """
    deferreds.load()
    return isinstance(error, deferreds.cancellations) or deferreds.is_cancellation(error)
