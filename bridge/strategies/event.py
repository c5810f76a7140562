"""Wait on a threading.Event."""

from __future__ import annotations

import threading


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
        """Return None: every thread has events."""
        return None

    def waiter(self) -> EventWaiter:
        """Return a waiter with an event of its own."""
        return EventWaiter()
