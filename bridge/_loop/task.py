"""BridgeTask: a task that can be cancelled while its step is blocked. contained(): the coroutine around that of a call.

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
from contextvars import Context
from typing import Any, cast

from .._private.cpython import Future, Task

_REVOKES = sys.version_info >= (3, 13)  # uncancel() down to 0 revokes a cancellation that is not delivered yet

_current_task = asyncio.current_task


class BridgeTask(Task[Any]):
    """A task of a loop that switches stacks. It can be cancelled while its step is blocked.

    A task that cancels itself is cancelled where it next suspends: where it blocks, or where its step ends. So the
    cancellation is noted until then. From CPython 3.13 on C's task has it too, and a task that blocks takes it back.
    Before, nothing takes a cancellation from C's task. So it gets the cancellation when the step has ended.

    ``wait``: the wait that the task's step is blocked in. ``cancels``: how many cancellations went to a wait, or are
    noted only, and were not taken back by ``uncancel()``.
    """

    __slots__ = ()
    wait: Any = None
    cancels = 0
    user_coro: Any = None  # of a call's task in debug mode: the coroutine that is contained

    def get_coro(self) -> Any:
        """Return the task's coroutine. That of a call contains the user's, and has its name."""
        coro = cast(Any, super())._coro  # see below
        inner = inner_coroutine(coro)
        if inner is not None and inner is not coro:
            coro.__name__, coro.__qualname__ = getattr(inner, "__name__", ""), getattr(inner, "__qualname__", "")
        return coro

    def get_stack(self, *, limit: int | None = None) -> list[types.FrameType]:
        """Return the frames of the task. Of a blocked task that is the outermost frame, as of a task that awaits."""
        if self.wait is None:
            return super().get_stack(limit=limit)
        frame = getattr(self._coro, "cr_frame", None)
        return [] if frame is None or limit == 0 else [frame]

    @property
    def _coro(self) -> Any:
        # Not get_coro(), which in CPython 3.12.1 reads from address 0 if the task was eager and has ended.
        coro = cast(Any, super())._coro
        return self.user_coro or inner_coroutine(coro) or coro

    @_coro.setter
    def _coro(self, coro: Any) -> None:
        # In the words of C's task, by which greenback knows that it has to write into the task's memory, and can.
        raise AttributeError("attribute '_coro' of 'Task' objects is not writable")

    @property
    def _fut_waiter(self) -> Any:
        return getattr(super(), "_fut_waiter", None) if self.wait is None else self.wait.future

    @property
    def _must_cancel(self) -> bool:
        if self.wait is not None:
            return self.wait.error is not None
        return bool(getattr(super(), "_must_cancel", False)) or self in _noted_by(self.get_loop())

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task. While its step is blocked, cancel the wait, as if it were an await."""
        if self.wait is not None:
            self.wait.cancel(msg)
            self.cancels += 1
            return True
        loop = self.get_loop()
        if self is not _current_task(loop) or self.done():
            return super().cancel(msg)
        noted = _noted_by(loop)
        if self not in noted:
            loop.call_soon(end_step, self, context=Context())
            loop.run_first()  # type: ignore[attr-defined]
        noted[self] = msg
        if _REVOKES:
            return super().cancel(msg)
        self.cancels += 1
        return True

    def cancelling(self) -> int:
        """Return the number of cancellation requests, minus those taken back by :meth:`uncancel`."""
        return super().cancelling() + self.cancels

    def uncancel(self) -> int:
        """Take one cancellation request back and return how many are left."""
        if self.cancels:
            self.cancels -= 1
        else:
            super().uncancel()
        left = self.cancelling()
        if not left and _REVOKES:
            _noted_by(self.get_loop()).pop(self, None)
        return left

    def take_noted(self, wait: Any) -> None:
        """Hand the cancellation that the task has requested of itself to a wait. Called as the task blocks."""
        message = _noted_by(self.get_loop()).pop(self)
        if _REVOKES:
            self.cancels += super().cancelling()
            while super().uncancel():
                pass
        wait.cancel(message)


class EagerTask(BridgeTask):
    """A task whose first step runs in its constructor, most often within the step of another task.

    If that first step blocks, the other task cannot continue below it. A cancellation of the other task then has to
    reach this one. :mod:`bridge._loop.asyncio_tasks` does that, as for tasks of other classes.
    """


for _each in (BridgeTask, EagerTask):
    _each.__name__ = _each.__qualname__ = "Task"  # repr() shows it; libraries and tests look for "<Task"


def _noted_by(loop: Any) -> dict[Any, Any]:
    """Return the tasks of a loop that have cancelled themselves, with the message."""
    noted: dict[Any, Any] = loop._stacks.self_cancels  # not the property, which each step would have to call
    return noted


def end_step(task: BridgeTask) -> None:
    """Deliver the cancellation that the task has requested of itself, unless a wait has got it. The step has ended."""
    loop = task.get_loop()
    noted = _noted_by(loop)
    if task not in noted:
        return
    message = noted.pop(task)
    if _REVOKES:
        return
    if not task.done():
        Task.cancel(task, message)
        if task.cancels:
            task.cancels -= 1
        else:  # uncancel() was called, which does not revoke the cancellation
            Task.uncancel(task)
    elif not task.cancelled() and task._exception is None:
        # asyncio cancels such a task instead of setting its result. No callback has been called yet.
        created: list[Any] | None = getattr(task, "_source_traceback", None)
        Future.__init__(task, loop=loop)
        if created is not None:
            task._source_traceback[:] = created  # type: ignore[attr-defined]
        Future.cancel(task, message)


def is_task(x: object) -> bool:
    """Return whether x is an asyncio task, in C or in Python."""
    return asyncio.isfuture(x) and hasattr(x, "get_coro")


def set_once(future: asyncio.Future[None]) -> None:
    """Set the Future's result unless it is done."""
    if not future.done():
        future.set_result(None)


class Contained:
    """The SystemExit or KeyboardInterrupt that ended a contained coroutine, as its result.

    A task that raises one of the two ends the loop. Where a caller waits for the task, the exception belongs to the
    caller instead.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def contained(
    coro: Coroutine[Any, Any, Any], *, primed: bool, holder: Any = None, loop: Any = None
) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that awaits coro, and returns SystemExit and KeyboardInterrupt as :class:`Contained`.

    :param primed: have it started already. A task that is cancelled before its first step throws into its coroutine. If
        that had not started, Python would warn that coro was never awaited.
    :param holder: its attribute ``work`` is set to the task on the loop, before coro takes its first step.
    """
    outer: Any = containing(coro, primed, holder, loop)
    # What asyncio shows of a task. A BridgeTask shows the coroutine that is contained.
    outer.__name__ = getattr(coro, "__name__", outer.__name__)
    outer.__qualname__ = getattr(coro, "__qualname__", outer.__qualname__)
    if primed:
        outer.send(None)
    return outer  # type: ignore[no-any-return]


async def containing(coro: Coroutine[Any, Any, Any], primed: bool, holder: Any, loop: Any) -> Any:
    """Await coro, as the coroutine that :func:`contained` returns, which describes the arguments."""
    try:
        if primed:
            try:
                await _pause()
            except BaseException:
                coro.close()
                raise
            if getattr(coro, "cr_frame", coro) is None:  # closed by its caller, whose call has failed meanwhile
                raise asyncio.CancelledError
        if holder is not None:
            holder.work = _current_task(loop)
        return await coro
    except (SystemExit, KeyboardInterrupt) as error:
        return Contained(error)


# Few locals: every task has this frame, and a task that blocks has it twice.
@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


def inner_coroutine(awaited: Any) -> Any:
    """Return the coroutine that a contained one awaits, None if that has ended. Return anything else unchanged."""
    if getattr(awaited, "cr_code", None) is not containing.__code__:
        return awaited
    frame = awaited.cr_frame
    return None if frame is None else frame.f_locals.get("coro")
