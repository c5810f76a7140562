"""A sync context manager over an async one.

One task on the loop (see ``served``) enters it, waits while the caller's ``with`` block runs, and leaves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._errors import BridgeError, at
from .._private.cpython import get_running_loop
from .._values.kinds import describe
from .._values.outcomes import trim
from .detect import check_async_context_manager, class_of, has, loop_of
from .served import Server, Session, Step

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy
    from .caller import ViewOwner

T = TypeVar("T")


def check_loop(manager: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Refuse an async context manager that was made on another loop.

    :raises BridgeError: it has an attribute ``loop`` or ``_loop`` with that other loop.
    """
    own = loop_of(manager)
    if own is None or own is loop:
        return
    name = class_of(manager).__name__
    where = "runs in this thread" if own is get_running_loop() else "is not the bridge's"
    raise BridgeError(
        f"cannot enter {describe(manager)}: it was made on a loop that {where}, and works on that loop only; pass a "
        f"function that makes it, which is called on the bridge's loop: enter(lambda: {name}(...))"
        + at("bound-to-another-loop")
    )


class Entered(Session, AbstractContextManager[T, "bool | None"], Generic[T]):
    """An async context manager, for one ``with`` statement."""

    def __init__(
        self,
        owner: ViewOwner,
        manager: AbstractAsyncContextManager[Any, Any] | Callable[[], AbstractAsyncContextManager[Any, Any]],
        timeout: float | None,
        strategy: str | Strategy | None,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(owner, timeout, strategy)
        self._manager = manager
        self._convert = convert
        self._server: _Host | None = None
        self._left = False

    def __enter__(self) -> T:
        """Enter the async context manager on the loop, and return the result of its ``__aenter__``.

        :raises BridgeError: it was entered before.
        :raises BaseException: what ``__aenter__`` raised, the very object.
        """
        if self._server is not None:
            raise BridgeError(
                f"{self!r} was entered before, and serves one 'with' statement only; make another: enter(...)"
                + at("one-with-statement")
            )
        self._caller, run = self._choose_bridge()
        check_loop(self._manager, run.loop)
        host = self._server = _Host(run, self._manager)
        try:
            try:
                self._call(host.enter)
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
        host = self._server
        if host is None or self._left:
            state = "was not entered" if host is None else "was left before"
            raise BridgeError(f"{self!r} {state}; use it in a 'with' statement" + at("one-with-statement"))
        self._left = True
        try:
            self._call(lambda: host.leave(exc))
            return host.swallowed
        except BaseException as error:
            if host.is_open:  # Ctrl-C came before the request reached the loop
                self._post(host.abandon)
            if error is exc:  # __aexit__ has raised the block's exception again: let it pass
                error.__traceback__ = traceback
                return False
            trim(error)
            raise

    def __del__(self) -> None:
        host = getattr(self, "_server", None)
        if host is not None and host.is_kept and host.run.over is None:
            if not self._left:  # else a second Ctrl-C came before the request reached the loop
                warnings.warn(
                    f"{self!r} was entered and never left; use 'with'" + at("never-left"), ResourceWarning, 1, self
                )
            self._post(host.abandon)

    def __repr__(self) -> str:
        return f"<sync context manager of {describe(self._manager)}>"

    def _late(self) -> str:
        host = self._server
        return f"{describe(self._manager)} was not {'entered' if host is None else host.doing}"

    def _undo_enter(self, host: _Host, error: BaseException) -> None:
        if host.is_open and host.run.over is None:
            with contextlib.suppress(Exception):
                self._caller.block_on(lambda: host.leave(error), strategy=self._strategy)
        else:
            self._post(host.abandon)


class Held(Entered[Any]):
    """What a call of a view has entered. A ``with`` leaves it, or whoever drops the view of its value."""

    def __del__(self) -> None:
        host = getattr(self, "_server", None)
        if host is not None and host.is_kept and host.run.over is None:
            self._post(host.let_go)

    def detach(self) -> None:
        """Never leave it: its value is used as that of an ``await``."""
        if self._server is not None:
            self._post(self._server.detach)


_DETACHED = asyncio.CancelledError()  # stands for the exception of a block that never ends


class _Host(Server):
    """The task that enters and leaves the manager. The methods are called on the loop's thread."""

    def __init__(self, run: Run, manager: Any) -> None:
        super().__init__(run)
        self.value: Any = None
        self.swallowed: bool | None = None
        self.is_open = False  # entered, and its __aexit__ not called yet
        self.doing = "entered"
        self._manager = manager
        self._interrupts_exit = False  # cancel the task once __aexit__ has been called
        self._abandoned = False
        # Each is set to None after use. Their results may refer to the Entered, which would be a reference cycle.
        self._leaving: asyncio.Future[BaseException | None] | None = None
        self._entering: Step | None = None
        self._left: Step | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is entered or being entered, and ``leave()`` was not called. May be read in any thread."""
        task, leaving = self._task, self._leaving
        return task is not None and not task.done() and leaving is not None and not leaving.done()

    def enter(self) -> asyncio.Future[None]:
        """Start to enter, and return a Future that is done when that has ended."""
        self._check_loop()
        entering = self._entering = Step(self)
        self._leaving = self.run.loop.create_future()
        self._left = Step(self)
        self.variables.note_caller()
        self._start(self._run())
        return entering

    def leave(self, error: BaseException | None) -> asyncio.Future[None] | None:
        """Start to leave, and return a Future that is done when that has ended."""
        self._check_loop()
        self.doing = "left"
        self.variables.note_caller()
        self._leave_with(error)
        left, self._left = self._left, None
        return left

    def interrupt(self) -> bool:
        """Cancel the manager's ``__aenter__`` or ``__aexit__``. Return False if it is in neither."""
        if self.is_open and self._leaving is not None and self._leaving.done():
            # __aexit__ is about to be called. A cancellation now would be passed to it as the block's exception.
            self._interrupts_exit = True
            return True
        return self._cancel()

    def abandon(self) -> None:
        """Leave with a CancelledError, now or as soon as it is entered. Called when the caller will not leave it."""
        self._abandoned = True
        if self.is_open:
            self._leave_with(asyncio.CancelledError())

    def let_go(self) -> None:
        """Leave it as after a block without an exception. Called when nobody waits for that."""
        if self.is_open:
            self._leave_with(None)

    def detach(self) -> None:
        """End the task without leaving."""
        if self.is_open:
            self._leave_with(_DETACHED)

    def _leave_with(self, error: BaseException | None) -> None:
        if self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(error)

    async def _run(self) -> None:
        entering = self._entering
        assert entering is not None
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
            trim(refusal)
            self._entering = None
            self._end(entering, refusal)
            return
        self.is_open = True
        self._entering = None
        self._end(entering, None)
        if self._abandoned:
            self.abandon()
        del entering
        await self._leave(cls, manager)

    async def _leave(self, cls: Any, manager: Any) -> None:
        error: BaseException | None = None
        raised: BaseException | None = None
        leaving, left = self._leaving, self._left
        assert leaving is not None
        assert left is not None
        try:
            try:
                error = await leaving
            except asyncio.CancelledError as cancellation:
                # Cancelled by a scope or a task group that was entered, or by the end of the loop. The manager gets it
                # at once. The caller gets the outcome when its block ends, since nothing can interrupt the block.
                error = raised = cancellation
            self.is_open = False
            if error is _DETACHED:
                return
            self._leaving = leaving = None
            self.variables.begin()
            if self._interrupts_exit:
                self._cancel()
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
            self._end(left, raised)
        finally:
            # An error's traceback may hold this frame, which would be a reference cycle.
            del error, raised, left, leaving

    def _end(self, step: Step, error: BaseException | None) -> None:
        self._uncancel()
        self.variables.end()
        step.finish(error)

    def _task_done(self, task: object) -> None:
        for step in (self._entering, self._left):
            if step is not None:
                step.finish(asyncio.CancelledError())
