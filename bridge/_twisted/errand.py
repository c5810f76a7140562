"""Outcome: the Deferred of ``in_caller`` for a coroutine that Twisted drives, not asyncio."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError as CancelledError
from twisted.internet.defer import Deferred


class Outcome(Deferred[None]):
    """Fires when the function has returned or raised in the caller's thread.

    :param withdraw: withdraws the function; returns False if the function has begun.
    """

    def __init__(self, withdraw: Callable[[], bool]) -> None:
        super().__init__()
        self._withdraw = withdraw
        self.cancel_asked = False

    def cancel(self) -> None:
        """Withdraw the function. If it has begun, wait for its end."""
        if self.called or self._withdraw():
            super().cancel()
        else:
            self.cancel_asked = True
