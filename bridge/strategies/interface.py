"""The interface of a strategy: a way in which a caller's thread waits for one notification."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Waiter(Protocol):
    """Lets one thread wait for one notification.

    A caller may give up: at a second Ctrl-C, or if the work ignores its cancellation. The waiter is then dropped, and a
    late ``notify()`` must do no harm. A notified waiter is not used again. A call that has to wait on, after the thread
    has run a function for ``in_caller``, gets a new waiter.

    Three attributes are optional:

    - ``sleeps``, true if left out: the thread runs nothing while it waits. The main thread then calls ``wait()`` for a
      second at a time, so that a signal that arrives as it falls asleep is handled. A loop's thread that sleeps until
      another loop has done something counts as standing still where a deadlock is looked for. Set it to False if
      ``wait()`` runs something meanwhile, such as the events of a window; then it has to let signals be handled itself.
    - ``owner``, None if left out: the greenlet that waits, if ``wait()`` lets other greenlets of its thread run.
    - ``was_told``, for a waiter whose ``wait()`` raises an error of its own once a call, as when the window was closed:
      set to True then. The next waiter of the same call gets its value.
    """

    def wait(self, timeout: float | None) -> bool:
        """Wait until notified. Called in the thread that made the waiter; again if it has returned False or raised.

        :param timeout: seconds, at most ``threading.TIMEOUT_MAX``; None waits for ever. If the waiter sleeps, a part of
            what is left to the caller.
        :returns: True once notified, also before the wait; False on time-out.
        :raises BaseException: what a signal handler of this thread raises, such as KeyboardInterrupt. So signals must
            be able to interrupt the wait.
        """
        ...

    def notify(self) -> None:
        """End the wait. Called once, from any thread, mostly the loop's; maybe before ``wait()``.

        It must not block, and must not raise.
        """
        ...


@runtime_checkable
class Strategy(Protocol):
    """A way to wait. One object serves every thread and every bridge.

    Two attributes are optional, and false if left out. ``switches_stacks``: users may name the strategy on a loop's own
    thread, where the stack switches instead. ``runs_hub``: the strategy lets other greenlets of its thread run, which
    it cannot do in a loop's thread.
    """

    name: str

    def unavailable(self) -> str | None:
        """Return why this thread cannot use the strategy now, or None if it can. Called before every wait."""
        ...

    def waiter(self) -> Waiter:
        """Return a new waiter. Called in the thread that is about to wait; must not block."""
        ...
