"""BridgeTask and the coroutine inside it: how a task awaits Deferreds as well as Futures.

asyncio's task takes what its coroutine yields for a Future and fails with "Task got bad yield" on a Deferred
(twisted/twisted#9806). So the task gets a coroutine of ours, which drives the user's and hands the task a Future
for every Deferred that comes along.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

from .._values.deferreds import deferreds, is_deferred_type


class BridgeTask(asyncio.Task[Any]):
    """A task whose coroutine may await Deferreds, and that can be cancelled while its step is blocked.

    It has no ``__init__`` of its own, which would cost a fifth of the time to make a task, so its attributes are there
    only once they are set. ``wait``: the wait that the task's step is blocked in, on a loop that switches stacks.
    ``cancels``: the cancellations that went to a wait and were not taken back. The task of C does not know of them,
    since what it would do for one is to cancel the next step.
    """

    __slots__ = ("cancels", "user_coro", "wait")
    user_coro: Coroutine[Any, Any, Any]
    wait: Any
    cancels: int

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that the user passed."""
        try:
            return self.user_coro
        except AttributeError:  # during an eager first step, before the line after the constructor ran
            return driven_by(super().get_coro())

    def get_stack(self, *, limit: int | None = None) -> list[types.FrameType]:
        """Return the frames of the task; of one that is blocked the outermost, as of one that awaits."""
        if _wait_of(self) is None:
            return super().get_stack(limit=limit)
        frame = getattr(self.get_coro(), "cr_frame", None)
        return [] if frame is None or limit == 0 else [frame]

    @property
    def _coro(self) -> Coroutine[Any, Any, Any]:
        return self.get_coro()

    @_coro.setter
    def _coro(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Take the next steps in another coroutine, which drives the one before, as greenback's portals do."""
        driver: Any = super().get_coro()
        self.user_coro = coro
        if driver.cr_running:
            _cancels_noted_by(self.get_loop())[_replaced(self)] = coro
        elif not self.done():
            driver.throw(_Replaced(coro))

    @property
    def _fut_waiter(self) -> Any:
        wait = _wait_of(self)
        return getattr(super(), "_fut_waiter", None) if wait is None else wait.future

    @property
    def _must_cancel(self) -> bool:
        wait = _wait_of(self)
        if wait is not None:
            return wait.error is not None
        return bool(getattr(super(), "_must_cancel", False)) or self in _self_cancels(self)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task, also while its step is blocked: then as around an await.

        What cancels itself is cancelled where it next suspends, and nobody knows yet whether it will block there or
        await. So this is noted, for the wait or for the driver.
        """
        wait = _wait_of(self)
        if wait is not None:
            wait.cancel(msg)
        elif not self.done() and (noted := _self_cancels(self)) is not NO_CANCELS and self is _current(self):
            noted[self] = msg
        else:
            return super().cancel(msg)
        self.cancels = _cancels_of(self) + 1
        return True

    def cancelling(self) -> int:
        """Return how many cancellations have been asked for and not taken back."""
        return super().cancelling() + _cancels_of(self)

    def uncancel(self) -> int:
        """Take one cancellation back, and return how many are left."""
        own = _cancels_of(self)
        if not own:
            return super().uncancel()
        self.cancels = own - 1
        left = self.cancelling()
        if not left and sys.version_info >= (3, 13):  # from there on it does not cancel what it has not cancelled yet
            _self_cancels(self).pop(self, None)
        return left


class EagerTask(BridgeTask):
    """A task whose first step runs as it is made, most often within the step of another task.

    Where it blocks in there, the other one stands still below it, and a cancellation of that has to reach this one:
    as for a task that is not ours, see :mod:`bridge._loop.asyncio_tasks`.
    """


# What tasks await most often, and take as it is.
_PLAIN = frozenset({type(None), asyncio.Future, asyncio.Task, BridgeTask})


def is_task(x: object) -> bool:
    """Return whether x is a task of asyncio's, of the class in C or of the one in Python."""
    return asyncio.isfuture(x) and hasattr(x, "get_coro")


def set_once(future: asyncio.Future[None]) -> None:
    """Set the Future's result unless it is done."""
    if not future.done():
        future.set_result(None)


def cancel_now(loop: asyncio.AbstractEventLoop) -> None:
    """Hand over to the current task the cancellation that it asked for itself. Called as its step ends."""
    task = _current_task(loop)
    noted = _cancels_noted_by(loop)
    if isinstance(task, BridgeTask) and task in noted:
        message = noted.pop(task)
        asyncio.Task.cancel(task, message)
        if task.cancels:
            task.cancels -= 1
        else:  # it was taken back, which from CPython 3.13 on undoes it only if it was the last one
            asyncio.Task.uncancel(task)


class _Replaced(Exception):
    """Thrown into the driver of a task that is suspended: from now on it drives another coroutine."""

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.coro = coro
        self.waited: Any = None  # what the task waits for

    def resume(self, send: object) -> Any:
        """Return what the driver has yielded before, and yields once more, to whom has thrown this."""
        return self.waited


def _replaced(task: object) -> Any:
    """Return under what the coroutine is noted that replaces the one of a task, which is in a step now."""
    return "coro", task


def _end_step(coro: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """Do what was noted in the current task's step, and return the coroutine of the next step."""
    cancel_now(loop)
    return _cancels_noted_by(loop).pop(_replaced(_current_task(loop)), coro)


def _drop_noted(loop: asyncio.AbstractEventLoop) -> None:
    """Forget what was noted in the current task's step, with which the task fails."""
    task, noted = _current_task(loop), _cancels_noted_by(loop)
    noted.pop(task, None)
    noted.pop(_replaced(task), None)


def _wait_of(task: Any) -> Any:
    return getattr(task, "wait", None)


def _cancels_of(task: Any) -> int:
    return getattr(task, "cancels", 0)


# Of loops that cannot be blocked, whose tasks note no cancellations. It is empty, but while a task is in the step in
# which its coroutine was replaced.
NO_CANCELS: dict[Any, Any] = {}


def _self_cancels(task: asyncio.Task[Any]) -> dict[Any, Any]:
    return _cancels_noted_by(task.get_loop())


def _cancels_noted_by(loop: asyncio.AbstractEventLoop) -> dict[Any, Any]:
    ours: Any = getattr(loop, "_ours", None)
    return NO_CANCELS if ours is None else ours.self_cancels


def _current(task: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
    return _current_task(task.get_loop())


_current_task = asyncio.current_task


class Contained:
    """The SystemExit or KeyboardInterrupt that ended a contained coroutine, as its result.

    A task that lets one of them out ends the loop. Where somebody waits for the task, the exception is his.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def drive(coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that runs coro and that any asyncio task on the loop can run."""
    driver = _driver(_steps(coro, loop, False, _cancels_noted_by(loop)))
    # Up to its first yield, where it stands inside its try. A task that is cancelled before its first step throws
    # into the driver, which must hand that on, or the user's coroutine would end as "never awaited".
    driver.send(None)
    return driver


def contained(coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Coroutine[Any, Any, Any]:
    """Return a coroutine as from :func:`drive` that returns SystemExit and KeyboardInterrupt as :class:`Contained`."""
    driver = _driver(_steps(coro, loop, True, _cancels_noted_by(loop)))
    driver.send(None)
    return driver


def driven_by(driver: Any) -> Coroutine[Any, Any, Any]:
    """Return the user's coroutine that a coroutine from :func:`drive` runs; another coroutine is returned as it is."""
    if getattr(driver, "cr_code", None) is not _driver.__code__:
        coroutine: Coroutine[Any, Any, Any] = driver
        return coroutine
    coroutine = inner_coroutine(driver)
    assert coroutine is not None, "asked for the coroutine of a driver that has ended"
    return coroutine


def inner_coroutine(awaited: Any) -> Any:
    """Return the user's coroutine if that is the driver of one, None if the driver has ended; else what was passed."""
    if getattr(awaited, "cr_code", None) is not _driver.__code__:
        return awaited
    frame = awaited.cr_frame
    if frame is not None:
        frame = frame.f_locals["steps"].gi_frame
    return None if frame is None else frame.f_locals.get("coro")


def is_plain(waited: Any) -> bool:
    """Return whether a task takes this from its coroutine as it is: whether it is no Deferred."""
    return type(waited) in _PLAIN or not is_deferred_type(waited.__class__)


async def _driver(steps: Any) -> Any:
    # From CPython 3.12 on a task takes no generator-based coroutine, so the generator has this one around it.
    return await steps


_Coro = Coroutine[Any, Any, Any]
_Yielding = Generator[Any, Any, Any]
_EXITS = (SystemExit, KeyboardInterrupt)


@types.coroutine
def _steps(coro: _Coro, loop: asyncio.AbstractEventLoop, contain: bool, noted: dict[Any, Any]) -> _Yielding:
    # Few names: a task has this frame, and one that blocks has it twice.
    value: Any = None
    error: BaseException | None = None
    overtaken: Any = None  # a Future of a Deferred, or _Replaced
    fired: Any = None
    try:
        yield
    except GeneratorExit:  # dropped before its first step: Python itself warns of the user's coroutine
        raise
    except _Replaced as raised:
        coro, overtaken = raised.coro, raised
    except BaseException as raised:
        error = raised
    while True:
        try:
            # None of this stands in an except block: the user's code would get our exception as its context.
            if error is not None:
                try:
                    waited = coro.throw(error)
                finally:
                    error = None  # a frame that holds the exception that passes through it is a reference cycle
            elif overtaken is not None:
                waited = overtaken.resume(coro.send)
                overtaken = None
            else:
                waited = coro.send(value)
        except StopIteration as raised:
            if noted:
                _end_step(coro, loop)
            return raised.value
        except BaseException as raised:
            if contain and isinstance(raised, _EXITS):
                return Contained(raised)
            if noted:
                _drop_noted(loop)
            raise
        if noted:
            coro = _end_step(coro, loop)
        try:
            if type(waited) in _PLAIN or is_plain(waited):
                value = yield waited
                continue
            fired, value = deferreds.future(waited, loop), None
            fired._asyncio_future_blocking = True
            yield fired
        except GeneratorExit:
            coro.close()
            raise
        except _Replaced as raised:
            coro, overtaken, raised.waited = raised.coro, raised, waited
        except BaseException as raised:
            error = raised
            if fired is not None and fired.cancelled():
                deferreds.mark_handled(waited)
        else:
            if fired.is_overtaken():
                error = fired.error()
                overtaken = fired if error is None else None
        fired = waited = None  # a failed task has the error, and the frames of the error are called by this one
