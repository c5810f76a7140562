"""The one-shot lock, on which one thread sleeps until another one wakes it.

It is the cheapest way to wait that a signal handler may interrupt at any line, as ``acquire()`` is one call of C.
"""

from __future__ import annotations

from .native import allocate_lock


class LockWaiter:
    """A lock that is held until ``notify``, which is its ``release``. A waiter of :class:`bridge.strategies.Waiter`."""

    __slots__ = ("_lock", "notify")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self.notify = self._lock.release

    def wait(self, timeout: float | None) -> bool:
        """Acquire the lock."""
        return self._lock.acquire() if timeout is None else self._lock.acquire(True, timeout)


class Alarm(LockWaiter):
    """Wakes one thread again and again. If it rings several times before the thread waits, that wait ends once."""

    __slots__ = ()

    def ring(self) -> None:
        """End the wait, or the next one. Called in any thread, also in a signal handler."""
        try:
            self.notify()
        except RuntimeError:  # it rings already
            pass
