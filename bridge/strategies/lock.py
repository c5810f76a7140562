"""Wait on a bare lock: the fastest, since nothing but the lock itself stands between notify and the waking thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

# Lets another thread of this core run, and the GIL go meanwhile.
_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: None)


class LockWaiter:
    """Holds a lock that ``notify`` releases."""

    __slots__ = ("_lock", "notify")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.notify = self._lock.release

    def wait(self, timeout: float | None) -> bool:
        """Acquire the lock."""
        acquire = self._lock.acquire
        if acquire(False):
            return True
        # One turn for the loop before this thread falls asleep. If both share a core, a short call has ended when it
        # comes back, and neither had to be woken up: two switches of threads instead of six, since a thread that is
        # woken by the release still has to wait for the GIL, which whoever released the lock holds.
        _give_way()
        return acquire() if timeout is None else acquire(True, timeout)


class LockStrategy:
    """Waits on a ``threading.Lock``."""

    name = "lock"

    def unavailable(self) -> str | None:
        """Return None: every thread has locks."""
        return None

    def waiter(self) -> LockWaiter:
        """Return a waiter with a lock of its own."""
        return LockWaiter()
