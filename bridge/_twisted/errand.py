"""What a coroutine that Twisted drives awaits while a function of its runs in the caller's thread: see in_caller."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError as CancelledError
from twisted.internet.defer import Deferred


class Outcome(Deferred[None]):
    """Fires when the outcome is there.

    :param withdraw: takes the function back; returns False if it has begun.
    """

    def __init__(self, withdraw: Callable[[], bool]) -> None:
        super().__init__()
        self._withdraw = withdraw
        self.cancel_asked = False

    def cancel(self) -> None:
        """Withdraw the function; one that has begun is waited for."""
        if self.called or self._withdraw():
            super().cancel()
        else:
            self.cancel_asked = True
