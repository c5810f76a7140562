"""Waiters that wait on a loop for an event that is not a Future of that loop. Any thread may notify them.

They keep the contract of :class:`bridge.strategies.Waiter`, and the loop keeps running. On the loop's own thread the
stack switches. In a worker thread of the loop a coroutine waits on the loop, inside the worker's cancel scope. An
exception that ends the wait from outside (a cancellation of the task or the scope, Ctrl-C, the end of the loop) is
raised to the caller only: the work that it waited for continues.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from .._private.cpython import get_running_loop
from .in_place import raise_interrupt
from .switching import SwitchingLoop


class Told(asyncio.Future[None]):
    """The Future that a LoopWaiter waits for; a class of its own, so that reports recognize it."""


class LoopWaiter:
    """The base of both waiters: ``notify()``, from any thread, by a Future of the loop."""

    __slots__ = ("_future", "_loop", "notified")
    sleeps = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: Told | None = None  # set during a wait
        self.notified = False

    def notify(self) -> None:
        """End the wait. Called once, from any thread."""
        self.notified = True  # first: _begin() sets _future and then checks this
        if self._future is None:
            return
        if get_running_loop() is self._loop:
            self._go_on()
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed, which has ended the wait
                self._loop.call_soon_threadsafe(self._go_on)

    def _begin(self, timeout: float | None) -> tuple[Told, asyncio.TimerHandle | None]:
        """Return the Future to wait for and the timer that settles it. Called on the loop's thread."""
        self._future = future = Told(loop=self._loop)
        timer = None if timeout is None else self._loop.call_later(timeout, self._go_on)
        if self.notified:
            self._go_on()
        return future, timer

    def _go_on(self) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)

    def _end(self, timer: asyncio.TimerHandle | None) -> None:
        self._future = None
        if timer is not None:
            timer.cancel()


class StackWaiter(LoopWaiter):
    """Waits on the loop's own thread by switching the stack. In a task it behaves like an ``await``."""

    __slots__ = ()
    _loop: SwitchingLoop

    def wait(self, timeout: float | None) -> bool:
        """Block the stack until notified. Return False on time-out.

        :param timeout: seconds; None waits for ever.
        :raises DeadlockError: called on the root stack, outside any callback.
        :raises asyncio.CancelledError: the waiting task was cancelled.
        :raises BridgeClosed: the loop was stopped for good or closed.
        """
        loop = self._loop
        if self.notified:
            return True
        if timeout is not None and timeout <= 0:
            return False
        timer = None
        try:
            future, timer = self._begin(timeout)
            loop.wait(future, asyncio.current_task(loop), None)
            if future.cancelled():
                future.result()
            return self.notified
        finally:
            self._end(timer)
            if loop.interrupted:
                raise_interrupt(loop)


class ScopeWaiter(LoopWaiter):
    """Waits in a worker thread of the loop, until notified or until the worker's cancel scope is cancelled."""

    __slots__ = ("_block_on",)

    def __init__(self, loop: asyncio.AbstractEventLoop, block_on: Callable[[Coroutine[Any, Any, bool]], Any]) -> None:
        super().__init__(loop)
        self._block_on = block_on

    def wait(self, timeout: float | None) -> bool:
        """Wait until notified, inside the scope. Return False on time-out.

        :param timeout: seconds; None waits for ever.
        :raises asyncio.CancelledError: the scope was cancelled.
        :raises BridgeClosed: the loop was stopped for good or closed.
        """
        if self.notified:
            return True
        if timeout is not None and timeout <= 0:
            return False
        done: bool = self._block_on(self.until_it_is_done(timeout))
        return done

    async def until_it_is_done(self, timeout: float | None) -> bool:
        """Wait on the loop. Reports show the name of this coroutine."""
        timer = None
        try:
            future, timer = self._begin(timeout)
            await future
            return self.notified
        finally:
            self._end(timer)
