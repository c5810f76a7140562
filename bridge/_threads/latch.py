"""Latch: an event whose waiters may be interrupted at any line (see :mod:`bridge._threads`).

Neither wait of the standard library serves. A Ctrl-C in ``Thread.join()`` marks a running thread as stopped (CPython
3.11 and 3.12, where the handler for it releases the lock that the thread still holds: bpo-45274). A new loop would
then be started beside the old one. A Ctrl-C in ``Event.wait()`` may come out as "release unlocked lock".
"""

from __future__ import annotations

import contextlib

from .lock_waiter import LockWaiter
from .signals import wait_in_slices

# How often a waiter checks is_open, in seconds. An exception that is raised from outside in the thread that opens the
# latch (PyThreadState_SetAsyncExc) may prevent the release of the waiters' locks.
_LOOK = 0.1


class Latch:
    """A one-shot event: any thread opens it once, and any number of threads wait for it."""

    def __init__(self) -> None:
        self.is_open = False
        # Each waiter has a lock of its own. An interrupted waiter leaves its lock in the list, which does no harm.
        self._locks: list[LockWaiter] = []

    def open(self) -> None:
        """Open the latch for good and wake all waiters."""
        self.is_open = True
        while self._locks:
            with contextlib.suppress(IndexError):  # another thread in open() has taken the last lock
                self._locks.pop().notify()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the latch is open. Return False on time-out.

        :param timeout: seconds; None waits for ever.
        """
        if self.is_open:
            return True
        lock = LockWaiter()
        self._locks.append(lock)
        # is_open first: open() may have emptied the list before this lock was added.
        wait_in_slices(lambda seconds: self.is_open or lock.wait(seconds), timeout, _LOOK)
        return self.is_open
