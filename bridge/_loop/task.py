"""BridgeTask and its driver: how a task awaits Deferreds as well as Futures.

asyncio's task expects its coroutine to yield Futures and fails with "Task got bad yield" on a Deferred
(twisted/twisted#9806). So the task gets a coroutine of ours, the *driver*. It drives the user's coroutine, passes
Futures on, and yields a Future for every Deferred.

Two rules hold wherever the loop calls the user's code. The places refer to this section.

* **Not inside** ``except``. An exception that the user's code raises there would get ours as its ``__context__``, and
  code that waits there would keep ours alive for as long.
* **Delete the locals.** An error's traceback holds the frames that it passed through. If such a frame holds the error
  itself, or a task that ended with the error, they form a reference cycle.
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

    It has no ``__init__``, which would cost a fifth of the time to make a task. So an attribute is missing until it is
    set. ``wait``: the wait that the task's step is blocked in, on a loop that switches stacks. ``cancels``: how many
    cancellations went to a wait and were not taken back by ``uncancel()``. They are kept from C's task, which would
    cancel the next step for them.
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
        """Return the frames of the task. Of a blocked task that is the outermost frame, as of a task that awaits."""
        if _wait_of(self) is None:
            return super().get_stack(limit=limit)
        frame = getattr(self.get_coro(), "cr_frame", None)
        return [] if frame is None or limit == 0 else [frame]

    @property
    def _coro(self) -> Coroutine[Any, Any, Any]:
        return self.get_coro()

    @_coro.setter
    def _coro(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Replace the task's coroutine by one that drives it, as greenback's portals do. The next step runs it."""
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
        """Cancel the task. While its step is blocked, cancel the wait, as if it were an await.

        A task that cancels itself is cancelled where it next suspends. Whether it will block or await there is not
        known yet, so the cancellation is noted for the wait and for the driver.
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
        """Return the number of cancellation requests, minus those taken back by :meth:`uncancel`."""
        return super().cancelling() + _cancels_of(self)

    def uncancel(self) -> int:
        """Take one cancellation request back and return how many are left."""
        own = _cancels_of(self)
        if not own:
            return super().uncancel()
        self.cancels = own - 1
        left = self.cancelling()
        if not left and sys.version_info >= (3, 13):  # from 3.13 on, this revokes a cancellation not yet delivered
            _self_cancels(self).pop(self, None)
        return left


class EagerTask(BridgeTask):
    """A task whose first step runs in its constructor, most often within the step of another task.

    If that first step blocks, the other task cannot continue below it. A cancellation of the other task then has to
    reach this one. :mod:`bridge._loop.asyncio_tasks` does that, as for tasks of other classes.
    """


# The types that tasks await most often and that the driver yields unchanged.
_PLAIN = frozenset({type(None), asyncio.Future, asyncio.Task, BridgeTask})


def is_task(x: object) -> bool:
    """Return whether x is an asyncio task, in C or in Python."""
    return asyncio.isfuture(x) and hasattr(x, "get_coro")


def set_once(future: asyncio.Future[None]) -> None:
    """Set the Future's result unless it is done."""
    if not future.done():
        future.set_result(None)


def cancel_now(loop: asyncio.AbstractEventLoop) -> None:
    """Deliver to the current task the cancellation that it requested of itself. Called at the end of its step."""
    task = _current_task(loop)
    noted = _cancels_noted_by(loop)
    if isinstance(task, BridgeTask) and task in noted:
        message = noted.pop(task)
        asyncio.Task.cancel(task, message)
        if task.cancels:
            task.cancels -= 1
        else:  # uncancel() was called; from CPython 3.13 on that revokes the cancellation only if the count is 0
            asyncio.Task.uncancel(task)


class _Replaced(Exception):
    """Thrown into the driver of a suspended task, to make it drive another coroutine."""

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self.coro = coro
        self.waited: Any = None  # what the driver yielded last, and the task waits for

    def resume(self, send: object) -> Any:
        """Return what the driver yielded last. It yields that again, to the caller of ``throw()``."""
        return self.waited


def _replaced(task: object) -> Any:
    """Return the key in a loop's notes for the new coroutine of a running task."""
    return "coro", task


def _end_step(coro: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """Carry out what was noted during the current task's step. Return the coroutine of the next step."""
    cancel_now(loop)
    return _cancels_noted_by(loop).pop(_replaced(_current_task(loop)), coro)


def _drop_noted(loop: asyncio.AbstractEventLoop) -> None:
    """Drop what was noted during the current task's step, as the task fails."""
    task, noted = _current_task(loop), _cancels_noted_by(loop)
    noted.pop(task, None)
    noted.pop(_replaced(task), None)


def _wait_of(task: Any) -> Any:
    return getattr(task, "wait", None)


def _cancels_of(task: Any) -> int:
    return getattr(task, "cancels", 0)


# The notes of all loops that cannot be blocked. Their tasks note no cancellations here. It holds an entry only between
# the replacement of a running task's coroutine and the end of that step.
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

    A task that raises one of the two ends the loop. Where a caller waits for the task, the exception belongs to the
    caller instead.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def drive(coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Coroutine[Any, Any, Any]:
    """Return a driver of coro, which any asyncio task on the loop can run."""
    driver = _driver(_steps(coro, loop, None, _cancels_noted_by(loop)))
    # Advance the driver to its first yield, inside its `try`. If the task is cancelled before its first step, it throws
    # into the driver. The driver must pass that on, or Python would warn that coro was never awaited.
    driver.send(None)
    return driver


def contained(
    coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, holder: Any = None
) -> Coroutine[Any, Any, Any]:
    """Return a driver as from :func:`drive` that returns SystemExit and KeyboardInterrupt as :class:`Contained`.

    :param holder: its attribute ``work`` is set to the task, before coro takes its first step.
    """
    driver = _driver(_steps(coro, loop, True if holder is None else holder, _cancels_noted_by(loop)))
    driver.send(None)
    return driver


def driven_by(driver: Any) -> Coroutine[Any, Any, Any]:
    """Return the user's coroutine that a driver runs. Return any other coroutine unchanged."""
    if getattr(driver, "cr_code", None) is not _driver.__code__:
        coroutine: Coroutine[Any, Any, Any] = driver
        return coroutine
    coroutine = inner_coroutine(driver)
    assert coroutine is not None, "asked for the coroutine of a driver that has ended"
    return coroutine


def inner_coroutine(awaited: Any) -> Any:
    """Return the user's coroutine that a driver runs, None if the driver has ended. Return anything else unchanged."""
    if getattr(awaited, "cr_code", None) is not _driver.__code__:
        return awaited
    frame = awaited.cr_frame
    if frame is not None:
        frame = frame.f_locals["steps"].gi_frame
    return None if frame is None else frame.f_locals.get("coro")


def is_plain(waited: Any) -> bool:
    """Return whether a driver yields this to its task unchanged, which it does for everything but a Deferred."""
    return type(waited) in _PLAIN or not is_deferred_type(waited.__class__)


def _tell(holder: Any, loop: asyncio.AbstractEventLoop) -> bool:
    """Set the holder's ``work`` to the current task. Return True, which stands for a holder that was told."""
    if holder is not True:
        holder.work = _current_task(loop)
    return True


async def _driver(steps: Any) -> Any:
    # From CPython 3.12 on a task refuses a generator-based coroutine, so this coroutine wraps it.
    return await steps


_Coro = Coroutine[Any, Any, Any]
_Yielding = Generator[Any, Any, Any]
_EXITS = (SystemExit, KeyboardInterrupt)


# Few locals: every task has this frame, and a task that blocks has it twice.
@types.coroutine
def _steps(coro: _Coro, loop: asyncio.AbstractEventLoop, holder: Any, noted: dict[Any, Any]) -> _Yielding:
    value: Any = None
    error: BaseException | None = None
    overtaken: Any = None  # the Future of a Deferred, or _Replaced
    fired: Any = None
    try:
        yield
    except GeneratorExit:  # dropped before the first step: Python itself warns that coro was never awaited
        raise
    except _Replaced as raised:
        coro, overtaken = raised.coro, raised
    except BaseException as raised:
        error = raised
    holder = holder and _tell(holder, loop)
    while True:
        try:
            # Outside `except`; see the head of this module.
            if error is not None:
                try:
                    waited = coro.throw(error)
                finally:
                    error = None  # or this frame and the error form a reference cycle
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
            if holder is not None and isinstance(raised, _EXITS):
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
        fired = waited = None  # or a failed task that was awaited, its error and this frame form a cycle
