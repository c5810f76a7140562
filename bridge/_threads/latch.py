"""Latch: an event whose waiters Ctrl-C may hit at any line.

Neither of the standard library's will do. A Ctrl-C in ``Thread.join()`` marks a thread that runs as stopped (CPython
3.11 and 3.12, where the handler for it releases the lock that the thread still holds: bpo-45274), so that a new loop
would be started beside the old one. A Ctrl-C in ``Event.wait()`` may come out as "release unlocked lock".
"""

from __future__ import annotations

import contextlib
from _thread import LockType

from .native import allocate_lock
from .seconds import wait_looking_up

# How often a waiter looks at the latch itself, in seconds: what is raised from outside in the thread that opens it
# (PyThreadState_SetAsyncExc) may come before its waiters are told.
_LOOK = 0.1


class Latch:
    """Is opened once, by any thread; any number of threads wait for it."""

    def __init__(self) -> None:
        self.is_open = False
        # Each waiter has a lock of its own. One that was interrupted leaves it behind, which does no harm.
        self._locks: list[LockType] = []

    def open(self) -> None:
        """Let everybody pass, from now on."""
        self.is_open = True
        while self._locks:
            with contextlib.suppress(IndexError):  # another thread opens it too
                self._locks.pop().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the latch is open, for so many seconds at the most; return whether it is."""
        if self.is_open:
            return True
        lock = allocate_lock()
        lock.acquire()
        self._locks.append(lock)
        # First the look: open() may have gone through the list before.
        wait_looking_up(lambda seconds: self.is_open or lock.acquire(timeout=seconds), timeout, _LOOK)
        return self.is_open
