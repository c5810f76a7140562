"""What a strategy is: a way in which a caller's thread waits for one notification."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Waiter(Protocol):
    """Lets one thread wait for one notification.

    If the caller gives up (a second Ctrl-C, work that ignores its cancellation), the waiter is dropped, and a
    ``notify()`` that comes afterwards must do no harm. One that was notified is not used again: a call that goes on
    waiting, as the thread has run a function for ``in_caller``, gets a new one. A waiter that lets other greenlets of
    its thread go on has an attribute ``owner``, the greenlet that waits.
    """

    def wait(self, timeout: float | None) -> bool:
        """Wait until notified. Called in the thread that made the waiter, again after it has returned False or raised.

        :param timeout: seconds, at most ``threading.TIMEOUT_MAX``; None waits for ever.
        :returns: True once notified, also if that was before the wait; False on time-out.
        :raises BaseException: whatever a signal handler of this thread raises, such as KeyboardInterrupt. So the wait
            has to be one that signals interrupt.
        """
        ...

    def notify(self) -> None:
        """End the wait. Called once, from any thread, most often the loop's; may come before ``wait()``.

        It must not block, and must not raise.
        """
        ...


@runtime_checkable
class Strategy(Protocol):
    """A way to wait. One object serves every thread and every bridge.

    Three attributes are optional. ``special()`` returns the waiter of a strategy that picks another one for the place,
    or None where the thread has nothing else to run. ``switches_stacks`` says that the strategy may be asked for on a
    loop's own thread, where the stack switches. ``runs_hub`` says that it lets other greenlets of its thread run, which
    it cannot do in a loop's thread.
    """

    name: str

    def unavailable(self) -> str | None:
        """Return why the strategy cannot be used in this thread now, or None if it can. Called before every wait."""
        ...

    def waiter(self) -> Waiter:
        """Return a new waiter. Called in the thread that is about to wait; must not block."""
        ...
