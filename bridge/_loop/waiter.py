"""Waiters on a loop, for what ends in no Future of the loop's own: another thread or the loop itself may notify them.

They keep the contract of :class:`bridge.strategies.Waiter`. The loop goes on meanwhile: on its own thread the stack
switches, and in a worker thread of the loop a coroutine waits there, inside the worker's cancel scope. What ends the
wait from outside (a cancellation of the task or the scope, Ctrl-C, the end of the loop) is raised, and reaches nothing
else: what is waited for goes on.
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
    """What the stack or the coroutine waits for; a class of its own, so that a report knows it."""


class LoopWaiter:
    """What the two have in common: ``notify()`` in any thread, by a Future of the loop's."""

    __slots__ = ("_future", "_loop", "notified")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: Told | None = None  # while somebody waits
        self.notified = False

    def notify(self) -> None:
        """End the wait. Called once, from any thread."""
        self.notified = True  # first: who is about to wait looks at it last
        if self._future is None:
            return
        if get_running_loop() is self._loop:
            self._go_on()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, which has ended the wait
                self._loop.call_soon_threadsafe(self._go_on)

    def _begin(self, timeout: float | None) -> tuple[Told, asyncio.TimerHandle | None]:
        """Return the Future to wait for, and the timer that ends it. Called on the loop's thread."""
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
    """Waits on the loop's own thread, where the stack switches; in a task as around an ``await``."""

    __slots__ = ()
    _loop: SwitchingLoop

    def wait(self, timeout: float | None) -> bool:
        """Let the loop go on until notified.

        :raises DeadlockError: called on the root stack, outside any callback.
        :raises asyncio.CancelledError: the task that waits was cancelled.
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
    """Waits in a worker thread of the loop, for as long as the cancel scope in which it works is not cancelled."""

    __slots__ = ("_block_on",)

    def __init__(self, loop: asyncio.AbstractEventLoop, block_on: Callable[[Coroutine[Any, Any, bool]], Any]) -> None:
        super().__init__(loop)
        self._block_on = block_on

    def wait(self, timeout: float | None) -> bool:
        """Wait until notified, inside the scope.

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
        """Wait on the loop; its name is what a report shows."""
        timer = None
        try:
            future, timer = self._begin(timeout)
            await future
            return self.notified
        finally:
            self._end(timer)
