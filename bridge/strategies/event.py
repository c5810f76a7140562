"""Wait on a threading.Event."""

from __future__ import annotations

import threading

from .._native import FOR_GREENLETS, is_patched


class EventWaiter:
    """An event that ``notify`` sets."""

    __slots__ = ("notify", "wait")
    sleeps = True  # the thread runs nothing meanwhile

    def __init__(self) -> None:
        event = threading.Event()
        self.wait = event.wait
        self.notify = event.set


class EventStrategy:
    """Waits on a ``threading.Event``."""

    name = "event"

    def unavailable(self) -> str | None:
        """Return a reason in a process that gevent has patched, where the events are for greenlets."""
        return FOR_GREENLETS if is_patched() else None

    def waiter(self) -> EventWaiter:
        """Return a waiter with an event of its own."""
        return EventWaiter()
