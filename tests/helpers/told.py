"""A strategy whose callers leave when they are told to, so that no test of a time-out depends on the clock.

::

    bridge.block_on(work(), timeout=1, strategy=Told(started))  # the time is up when the work has set the event
    bridge.block_on(work(), timeout=1, strategy=Told(started, cancelled))  # and patience is over when it has set this
"""

from __future__ import annotations

import threading


class Told:
    """A caller's time is up when the first event is set; if there is a second one, its patience when that is set."""

    name = "told"

    def __init__(self, time_is_up: threading.Event, patience_is_over: threading.Event | None = None) -> None:
        self._events = time_is_up, patience_is_over
        self.has_asked = threading.Event()  # a call has posted the cancellation of its work

    def unavailable(self) -> None:
        """Return None: it waits in any thread."""

    def waiter(self) -> ToldWaiter:
        """Return a waiter of one call."""
        return ToldWaiter(self, [event or threading.Event() for event in self._events])


class ToldWaiter:
    """Waits without a limit, up to the event that is next."""

    sleeps = False  # it must not be waited for in slices, as each wait takes the next event

    def __init__(self, strategy: Told, events: list[threading.Event]) -> None:
        self._strategy = strategy
        self._events = events
        self._notified = threading.Event()
        self.notify = self._notified.set

    def wait(self, timeout: float | None) -> bool:
        """Wait; a call with a time limit does so once for that, and once for the cleanup."""
        event = self._events.pop(0) if timeout is not None else threading.Event()
        if not self._events:
            self._strategy.has_asked.set()
        while not event.is_set():
            if self._notified.wait(0.001):
                return True
        return self._notified.is_set()
