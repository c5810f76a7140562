"""Wait on a threading.Event.

By a lock among those that the event releases when it is set, and not by ``Event.wait()``. Ctrl-C may come between the
lines of that: then it raises "release unlocked lock", or it ends with the event's lock held, and ``set()`` hangs.
"""

from __future__ import annotations

import threading
from typing import Any

from .._threads.lock_waiter import LockWaiter
from .._threads.native import patched


class EventWaiter(LockWaiter):
    """An event that ``notify`` sets."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        LockWaiter.__init__(self)
        event = threading.Event()
        condition: Any = event._cond  # type: ignore[attr-defined]
        condition._waiters.append(self._lock)
        self._is_set = event.is_set
        self.notify = event.set

    def wait(self, timeout: float | None) -> bool:
        """Wait until the event releases the lock, which it does once."""
        return self._is_set() or self._lock.acquire(True, -1 if timeout is None else timeout) or self._is_set()


class EventStrategy:
    """Waits on a ``threading.Event``."""

    name = "event"

    def unavailable(self) -> str | None:
        """Return a reason where gevent has patched the events, or where Python has lost a name of theirs."""
        backend = patched()
        if backend is not None:
            return str(backend.REFUSAL)
        from .._private.abilities import why_lost  # not with ``import bridge``, which would load every table of names
        from .._private.rows import EVENTS

        return why_lost(EVENTS)

    def waiter(self) -> EventWaiter:
        """Return a waiter with an event of its own."""
        return EventWaiter()
