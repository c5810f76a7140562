"""Wait on a bare lock: the fastest strategy, since ``notify`` is the lock's ``release``."""

from __future__ import annotations

from .._threads.lock_waiter import LockWaiter


class LockStrategy:
    """Waits on a ``threading.Lock``."""

    name = "lock"

    def unavailable(self) -> str | None:
        """Return None: every thread has locks."""
        return None

    def waiter(self) -> LockWaiter:
        """Return a waiter with a lock of its own."""
        return LockWaiter()
