"""Cancel a blocked task that is not a BridgeTask.

Such a task comes from a task factory of the user, or from a library that calls ``asyncio.Task`` itself instead of
``loop.create_task``, as aiohttp 3.14 does. So it cannot be prepared beforehand. But a C task takes attributes, though
it shows no ``__dict__``, and asyncio, anyio and the C code look ``cancel`` and the like up on the object. So while the
task is blocked, its instance has methods of ours.

Two limits remain, and docs/explanation/switching.md states them. ``_fut_waiter`` is None. And before CPython 3.13 a
cancellation that the C task accepted before the stack blocks, to be raised in the next step, cannot be taken from it.
"""

from __future__ import annotations

import sys
import types
from asyncio import events
from typing import Any, cast

from .task import is_task

# Replaces the message of a cancellation that a blocked call has raised, while the C task still has it. If the C task
# raises it a second time, the message says why.
_RAISED = (
    "this cancellation was raised by block_on already; before CPython 3.13 asyncio cannot take it from a task that it "
    "has not made by loop.create_task"
)


def blocked(task: Any, wait: Any) -> None:
    """Redirect ``cancel()``, ``cancelling()`` and ``uncancel()`` to the wait. Call just before the stack switches."""
    below = _task_below(task, wait)
    task._bridge_wait = wait
    for name, function in _METHODS.items():
        setattr(task, name, types.MethodType(function, task))
    if below is not None:
        task._bridge_below = below
        below._bridge_above = task
        below.cancel = types.MethodType(_cancel_below, below)
    if task._must_cancel and task._cancel_message is not _RAISED:
        message = task._cancel_message
        _take_cancels(task)
        wait.cancel(message)


def unblocked(task: Any) -> None:
    """Undo :func:`blocked`. The methods stay while a cancellation is not taken back."""
    task._bridge_wait = None
    below = getattr(task, "_bridge_below", None)
    if below is not None:
        task._bridge_below = below._bridge_above = None
        if _cancels_of(below):
            below.cancel = types.MethodType(_cancel, below)
        else:
            del below.cancel
    if not _cancels_of(task) and getattr(task, "_bridge_cancelled_with", None) is None:
        del task.cancel, task.cancelling, task.uncancel


def _task_below(task: Any, wait: Any) -> Any:
    """Return the task in whose step the first step of an eager task runs; None if the task was not started eagerly.

    The task below stands still while the eager one is blocked. It awaits nothing yet through which it could be
    cancelled.
    """
    frame: types.FrameType | None = sys._getframe(2)
    stacks = wait.greenlets()[:-1]  # the greenlets below this one, if this is a foreign greenlet
    while frame is not None:
        if frame.f_code is events.Handle._run.__code__:
            below: Any = getattr(frame.f_locals["self"]._callback, "__self__", None)
            return below if is_task(below) and below is not task and not below.done() else None
        frame = frame.f_back
        if frame is None and stacks:
            frame = stacks.pop().gr_frame
    return None


def _take_cancels(task: Any) -> None:
    """Take the cancellation count over from the C task, and with it the pending cancellation of its next step."""
    task_class = _class_of(task)
    task._bridge_cancels = _cancels_of(task) + task_class.cancelling(task)
    task._cancel_message = _RAISED
    while task_class.uncancel(task):  # from CPython 3.13 on, a count of 0 revokes the pending cancellation
        pass


def _class_of(task: Any) -> Any:
    return cast(object, type(task))


def _cancels_of(task: Any) -> int:
    return getattr(task, "_bridge_cancels", 0)


def _cancel(task: Any, msg: Any = None) -> bool:
    if task._bridge_wait is None:
        below = getattr(task, "_bridge_cancelled_with", None)
        if below is not None:
            task._bridge_cancelled_with = None
            if below._fut_waiter is task and below._must_cancel:
                return True  # `below` begins to await this task and passes on a cancellation that has arrived before
        return bool(_class_of(task).cancel(task, msg))
    task._bridge_cancels = _cancels_of(task) + 1
    task._bridge_wait.cancel(msg)
    return True


def _cancel_below(task: Any, msg: Any = None) -> bool:
    """Cancel a task that stands still below a blocked one, and the blocked one, which it will most likely await."""
    above = task._bridge_above
    cancelled = bool(_class_of(task).cancel(task, msg))
    above.cancel(msg)
    above._bridge_cancelled_with = task
    return cancelled


def _cancelling(task: Any) -> int:
    return int(_class_of(task).cancelling(task)) + _cancels_of(task)


def _uncancel(task: Any) -> int:
    own = _cancels_of(task)
    if not own:
        return int(_class_of(task).uncancel(task))
    task._bridge_cancels = own - 1
    return _cancelling(task)


_METHODS: dict[str, Any] = {"cancel": _cancel, "cancelling": _cancelling, "uncancel": _uncancel}
