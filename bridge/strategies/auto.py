"""Pick the strategy that fits the place the caller stands in."""

from __future__ import annotations

from .lock import LockWaiter


class AutoStrategy:
    """Waits on a bare lock, the fastest way to wait in a thread that has nothing else to do."""

    name = "auto"

    def unavailable(self) -> str | None:
        """Return None: there is always one that fits."""
        return None

    def waiter(self) -> LockWaiter:
        """Return the waiter of the strategy that fits this thread."""
        return LockWaiter()
