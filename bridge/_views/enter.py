"""A sync context manager over an async one.

One task on the loop enters it, waits while the caller's ``with`` block runs, and leaves it. Cancel scopes, task groups
and ``asyncio.timeout`` must be left by the task that entered them, and they cancel that task.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._calls.variables import Variables
from .._errors import BridgeError
from .._loop.base import start_task
from .._values.kinds import describe
from .._values.outcomes import trim
from .detect import check_async_context_manager, class_of, has

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy
    from .caller import Caller, ViewOwner

T = TypeVar("T")


class Entered(AbstractContextManager[T, "bool | None"], Generic[T]):
    """An async context manager, for one ``with`` statement."""

    def __init__(
        self,
        owner: ViewOwner,
        manager: AbstractAsyncContextManager[Any, Any] | Callable[[], AbstractAsyncContextManager[Any, Any]],
        timeout: float | None,
        strategy: str | Strategy | None,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self._owner = owner
        self._manager = manager
        self._timeout = timeout
        self._strategy = strategy
        self._convert = convert
        self._caller: Caller
        self._host: _Host | None = None
        self._left = False

    def __enter__(self) -> T:
        """Enter the async context manager on the loop, and return the result of its ``__aenter__``.

        :raises BridgeError: it was entered before.
        :raises BaseException: what ``__aenter__`` raised, the very object.
        """
        if self._host is not None:
            raise BridgeError(
                f"{self!r} was entered before, and serves one 'with' statement only; make another: enter(...)"
            )
        self._caller = self._owner.caller()
        host = self._host = _Host(self._caller.current_run(), self._manager)
        try:
            try:
                self._cross(host.enter)
            except BaseException as error:
                self._left = True
                # Ctrl-C may have come after it was entered; or it ignores the cancellation and is entered later.
                self._undo_enter(host, error)
                raise
        except BaseException as error:
            trim(error)
            raise
        value, host.value = host.value, None
        return value if self._convert is None else self._convert(value)  # type: ignore[no-any-return]

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Leave the async context manager on the loop. ``__aexit__`` gets the block's exception, and may swallow it.

        :raises BridgeError: it was not entered, or was left before.
        :raises BridgeClosed: the loop has ended meanwhile.
        :raises BaseException: what ``__aexit__`` raised, the very object.
        """
        host = self._host
        if host is None or self._left:
            state = "was not entered" if host is None else "was left before"
            raise BridgeError(f"{self!r} {state}; use it in a 'with' statement")
        self._left = True
        try:
            self._cross(lambda: host.leave(exc))
            return host.swallowed
        except BaseException as error:
            if host.run.over is None and host.is_open:  # Ctrl-C came before the request reached the loop
                with contextlib.suppress(RuntimeError):
                    host.run.post(host.abandon)
            if error is exc:  # __aexit__ has raised the block's exception again: let it pass
                error.__traceback__ = traceback
                return False
            trim(error)
            raise

    def __del__(self) -> None:
        host = getattr(self, "_host", None)
        if host is not None and host.is_kept and host.run.over is None:
            if not self._left:  # else a second Ctrl-C came before the request reached the loop
                warnings.warn(f"{self!r} was entered and never left; use 'with'", ResourceWarning, 1, self)
            with contextlib.suppress(RuntimeError):
                host.run.post(host.abandon)

    def __repr__(self) -> str:
        return f"<sync context manager of {describe(self._manager)}>"

    def _cross(self, request: Callable[[], object]) -> None:
        host = self._host
        assert host is not None
        if host.run.over is not None:
            raise host.run.closed_error()
        host.variables.send()
        try:
            self._caller.block_on(request, timeout=self._timeout, strategy=self._strategy)
        except TimeoutError as error:
            if host.was_cancelled:
                error.args = (f"{describe(self._manager)} was not {host.doing} within {self._timeout} seconds",)
            raise
        finally:
            host.variables.receive()

    def _undo_enter(self, host: _Host, error: BaseException) -> None:
        if host.run.over is not None:
            return
        if host.is_open:
            with contextlib.suppress(Exception):
                self._caller.block_on(lambda: host.leave(error), strategy=self._strategy)
        else:
            with contextlib.suppress(RuntimeError):
                host.run.post(host.abandon)


class _Outcome(asyncio.Future[None]):
    """The Future that the caller blocks on. Cancelled like a task: it is done when the manager has ended its step."""

    def __init__(self, host: _Host) -> None:
        super().__init__(loop=host.run.loop)
        self._host: _Host | None = host

    def cancel(self, msg: Any = None) -> bool:
        if self.done() or self._host is None:
            return False
        self._host.interrupt()
        return True

    def finish(self, error: BaseException | None) -> None:
        self._host = None
        if isinstance(error, asyncio.CancelledError):
            super().cancel()
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(None)


class _Host:
    """Runs the task that enters and leaves the manager. The methods are called on the loop's thread."""

    def __init__(self, run: Run, manager: Any) -> None:
        self.run = run
        self.value: Any = None
        self.swallowed: bool | None = None
        self.is_open = False  # entered, and its __aexit__ not called yet
        self.doing = "entered"
        self.was_cancelled = False  # interrupt() was called in this step
        self.variables = Variables()
        self._manager = manager
        self._task: asyncio.Task[Any] | None = None
        self._interrupts = 0
        self._interrupts_exit = False  # cancel the task once __aexit__ has been called
        self._abandoned = False
        # Each is set to None after use. Their results may refer to the Entered, which would be a reference cycle.
        self._leaving: asyncio.Future[BaseException | None] | None = None
        self._entering: _Outcome | None = None
        self._left: _Outcome | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is entered or being entered, and ``leave()`` was not called. May be read in any thread."""
        task, leaving = self._task, self._leaving
        return task is not None and not task.done() and leaving is not None and not leaving.done()

    def enter(self) -> asyncio.Future[None]:
        """Start to enter, and return a Future that is done when that has ended."""
        loop = self._check_loop()
        entering = self._entering = _Outcome(self)
        self._leaving = loop.create_future()
        self._left = _Outcome(self)
        assert self.variables.context is not None
        self.variables.note_caller()
        now = asyncio.current_task() is None
        self._task = start_task(loop, self._run(), self.variables.context, now=now)
        self._task.add_done_callback(self._ended)
        return entering

    def leave(self, error: BaseException | None) -> asyncio.Future[None] | None:
        """Start to leave, and return a Future that is done when that has ended."""
        self._check_loop()
        self.doing = "left"
        self.was_cancelled = False
        self.variables.note_caller()
        if self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(error)
        left, self._left = self._left, None
        return left

    def interrupt(self) -> None:
        """Cancel the step that the manager is in: its ``__aenter__`` or ``__aexit__``."""
        if self._task is not None and not self._task.done():
            self.was_cancelled = True
            self._interrupts += 1
            if self.is_open and self._leaving is not None and self._leaving.done():
                # __aexit__ is about to be called. A cancellation now would be passed to it as the block's exception.
                self._interrupts_exit = True
            else:
                self._task.cancel()

    def abandon(self) -> None:
        """Leave with a CancelledError, now or as soon as it is entered. Called when the caller will not leave it."""
        self._abandoned = True
        if self._leaving is not None and self.is_open and not self._leaving.done():
            self._leaving.set_result(asyncio.CancelledError())

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self.run.loop:
            raise self.run.closed_error()
        return loop

    async def _run(self) -> None:
        entering, leaving, left = self._entering, self._leaving, self._left
        assert entering is not None
        assert leaving is not None
        assert left is not None
        manager, cls = self._manager, class_of(self._manager)
        self.variables.begin()
        try:
            if not has(cls, "__aenter__", "__aexit__"):
                manager = manager()
                check_async_context_manager(manager)
                cls = class_of(manager)
            self.value = await cls.__aenter__(manager)
        except GeneratorExit:
            raise
        except BaseException as refusal:
            self.variables.end()
            trim(refusal)
            self._entering = None
            entering.finish(refusal)
            return
        self._note_entered(entering)
        error: BaseException | None = None
        raised: BaseException | None = None
        try:
            try:
                error = await leaving
            except asyncio.CancelledError as cancellation:
                # Cancelled by a scope or a task group that was entered, or by the end of the loop. The manager gets it
                # at once. The caller gets the outcome when its block ends, since nothing can interrupt the block.
                error = raised = cancellation
            self.is_open = False
            self._leaving = leaving = None
            self.variables.begin()
            if self._interrupts_exit and self._task is not None:
                self._task.cancel()
            try:
                if error is None:
                    swallowed = await cls.__aexit__(manager, None, None, None)
                else:
                    swallowed = await cls.__aexit__(manager, type(error), error, error.__traceback__)
            except GeneratorExit:
                raise
            except BaseException as failure:
                raised = failure
                if failure is not error:
                    trim(failure)
            else:
                if raised is None:
                    self.swallowed = bool(swallowed)
                elif swallowed:
                    raised = None
            self._uncancel()
            self.variables.end()
            left.finish(raised)
        finally:
            # An error's traceback may hold this frame, which would be a reference cycle.
            del error, raised, left, entering, leaving

    def _note_entered(self, entering: _Outcome) -> None:
        self._uncancel()
        self.variables.end()
        self.is_open = True
        self._entering = None
        entering.finish(None)
        if self._abandoned:
            self.abandon()

    def _ended(self, _: object) -> None:
        """Wake callers that still wait: the task was cancelled before its first step, or was dropped."""
        for outcome in (self._entering, self._left):
            if outcome is not None and not outcome.done():
                outcome.finish(asyncio.CancelledError())

    def _uncancel(self) -> None:
        count, self._interrupts = self._interrupts, 0
        for _ in range(count):
            assert self._task is not None
            self._task.uncancel()
