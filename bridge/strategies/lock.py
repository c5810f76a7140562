"""Wait on a bare lock: the fastest strategy, since ``notify`` is the lock's ``release``."""

from __future__ import annotations

import threading

from .._threads.native import allocate_lock, get_ident
from .._threads.seconds import wait_looking_up


class LockWaiter:
    """Holds a lock that ``notify`` releases."""

    __slots__ = ("_lock", "notify")
    sleeps = True  # the thread runs nothing meanwhile

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self.notify = self._lock.release

    def wait(self, timeout: float | None) -> bool:
        """Acquire the lock."""
        return self._lock.acquire() if timeout is None else self._lock.acquire(True, timeout)


class SleepingWaiter(LockWaiter):
    """Waits on a lock. In the main thread it wakes now and then to let signal handlers run."""

    __slots__ = ()

    def wait(self, timeout: float | None) -> bool:
        """Acquire the lock."""
        if get_ident() == threading.main_thread().ident:
            return wait_looking_up(super().wait, timeout)
        return super().wait(timeout)


class LockStrategy:
    """Waits on a ``threading.Lock``."""

    name = "lock"

    def unavailable(self) -> str | None:
        """Return None: every thread has locks."""
        return None

    def waiter(self) -> LockWaiter:
        """Return a waiter with a lock of its own."""
        return LockWaiter()
