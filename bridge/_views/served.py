"""One task on the loop that serves several calls: those of an iteration, or of a ``with`` block.

Cancel scopes, ``asyncio.timeout`` and task groups must be left by the task that entered them, and they cancel that
task. An async generator may enter one at one item and leave it at another. So one task takes all steps, in one context.

The caller waits for a step by ``block_on`` of a Future. So it times out, is interrupted, and fails with the loop as any
other call. What cancels the wait cancels the step, and the wait ends when the step has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .._calls.variables import Variables
from .._loop.base import start_task
from .._runs.runs import engine

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy
    from .caller import Caller, ViewOwner


class Session:
    """The caller's side."""

    def __init__(self, owner: ViewOwner, timeout: float | None, strategy: str | Strategy | None) -> None:
        self._owner = owner
        self._timeout = timeout
        self._strategy = strategy
        self._caller: Caller
        self._server: Any = None  # a Server, once the first call has made it

    def _choose_bridge(self) -> tuple[Caller, Run]:
        """Return the bridge that all calls will be made on, and its run. Called before the first of them."""
        engine.renew()  # later it would be too late: work that has begun goes on in the parent of a forked child only
        caller = self._owner.caller()
        return caller, caller.current_run()

    def _late(self) -> str:
        """Return what did not happen in time."""
        raise NotImplementedError

    def _call(self, request: Callable[[], asyncio.Future[Any] | None]) -> None:
        """Wait for the step that a request returns. Context variables go in, and come out if the bridge has it so."""
        assert self._server is not None
        self._server.variables.send()
        try:
            self._cross(request)
        finally:
            if self._caller.context_out:
                self._server.variables.receive()
            else:
                self._server.variables.drop()

    def _cross(self, request: Callable[[], asyncio.Future[Any] | None]) -> None:
        """Call a request on the loop's thread, and wait for the step that it returns.

        :raises BridgeClosed: the loop has ended.
        """
        assert self._server is not None
        if self._server.run.over is not None:
            raise self._server.run.closed_error()
        try:
            self._caller.block_on(request, timeout=self._timeout, strategy=self._strategy)
        except TimeoutError as error:
            raised, self._server.time_out_raised = self._server.time_out_raised, None
            if error is not raised:
                error.args = (f"{self._late()} within {self._timeout} seconds",)
            del raised  # the error's traceback holds this frame
            raise

    def _post(self, function: Callable[[], object]) -> None:
        """Have the loop call a function, if it still runs, without waiting for that."""
        if self._server is not None and self._server.run.over is None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._server.run.post(function)


class Step(asyncio.Future[None]):
    """The Future that a caller blocks on. Cancelled like a task: it is done when the task has ended the step."""

    def __init__(self, server: Server) -> None:
        super().__init__(loop=server.run.loop)
        self._server: Server | None = server
        self.cancel_asked = False

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the step; the Future itself if there is no step that could be cancelled."""
        if self.done() or self._server is None:
            return False
        self.cancel_asked = True
        return self._server.interrupt() or super().cancel(msg)

    def finish(self, error: BaseException | None = None) -> None:
        """Wake the caller. Does nothing if it waits no more."""
        server, self._server = self._server, None
        if self.done():
            return
        if isinstance(error, TimeoutError) and server is not None:
            server.time_out_raised = error
        if error is None:
            self.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            super().cancel()
        else:
            self.set_exception(error)


class Server:
    """The task. The methods are called on the loop's thread."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.variables = Variables()
        self._task: asyncio.Task[Any] | None = None
        self.time_out_raised: TimeoutError | None = None  # by a step itself, and not because its caller's time was up
        self._interrupts = 0  # our own cancellations of the task, without an uncancel() yet

    def interrupt(self) -> bool:
        """Cancel the step that the task is in. Return False if it is in none."""
        raise NotImplementedError

    def _task_done(self, task: object) -> None:
        """Wake callers that still wait: the task was cancelled before its first step, or was dropped."""
        raise NotImplementedError

    def _check_loop(self) -> None:
        """Refuse a request that another loop calls.

        :raises BridgeClosed: the loop of the task has ended.
        """
        if asyncio.get_running_loop() is not self.run.loop:
            raise self.run.closed_error()

    def _start(self, coro: Coroutine[Any, Any, None]) -> None:
        assert self.variables.context is not None
        now = asyncio.current_task() is None
        self._task = start_task(self.run.loop, coro, self.variables.context, now=now)
        self._task.add_done_callback(self._task_done)

    def _cancel(self) -> bool:
        """Cancel the task. Return False if it does not run."""
        if self._task is None or self._task.done():
            return False
        self._interrupts += 1
        self._task.cancel()
        return True

    def _uncancel(self) -> bool:
        """Call uncancel() for each of our own cancellations of the task. Return whether there were any."""
        count, self._interrupts = self._interrupts, 0
        for _ in range(count):
            assert self._task is not None
            self._task.uncancel()
        return count > 0
