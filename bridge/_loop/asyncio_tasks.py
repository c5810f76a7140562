"""Tasks that are not ours, and how they are cancelled while they are blocked.

A task factory of the user's makes them, or a library that calls ``asyncio.Task`` itself, past ``loop.create_task``: so
aiohttp 3.14 does. Nothing can be built into such a task beforehand. But a task of C's own class takes attributes,
though it shows no ``__dict__``, and asyncio, anyio and C's own code look ``cancel`` and the like up on the object. So
while it is blocked it has methods of ours.

What has no place there remains, and docs/blocking.md says so: ``_fut_waiter`` is None, and a cancellation that C's task
has taken before the stack blocks, which it means for the next step, cannot be taken from it before CPython 3.13.
"""

from __future__ import annotations

import asyncio
import sys
import types
from asyncio import events
from typing import Any, cast

# In the place of the message of a cancellation that was raised out of a blocked call, as long as C's task still has it.
# Where it is raised for the second time, it says why.
_RAISED = (
    "this cancellation was raised by block_on already; before CPython 3.13 asyncio cannot take it from a task that it "
    "has not made by loop.create_task"
)


def blocked(task: Any, wait: Any) -> None:
    """Let the task be cancelled while it is blocked in the wait; its first moment is now."""
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
    """Undo :func:`blocked`, as far as all cancellations were taken back."""
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
    """Return the task in whose step the first step of the given one runs, as it was started eagerly; else None.

    It stands still for as long as that blocks, and cannot be cancelled by what it awaits, for it has not come so far.
    """
    frame: types.FrameType | None = sys._getframe(2)
    stacks = wait.greenlets()[:-1]  # that this one runs under, if it is a greenlet of somebody else's
    while frame is not None:
        if frame.f_code is events.Handle._run.__code__:
            below: Any = getattr(frame.f_locals["self"]._callback, "__self__", None)
            is_task = isinstance(below, asyncio.Task)
            return cast(Any, below) if is_task and below is not task and not below.done() else None
        frame = frame.f_back
        if frame is None and stacks:
            frame = stacks.pop().gr_frame
    return None


def _take_cancels(task: Any) -> None:
    """Take over the count of cancellations from C's task, and the order to cancel its next step."""
    kind = _kind(task)
    task._bridge_cancels = _cancels_of(task) + kind.cancelling(task)
    task._cancel_message = _RAISED
    while kind.uncancel(task):  # the one that comes to zero takes the order back, from CPython 3.13 on
        pass


def _kind(task: Any) -> Any:
    return cast(object, type(task))


def _cancels_of(task: Any) -> int:
    return getattr(task, "_bridge_cancels", 0)


def _cancel(task: Any, msg: Any = None) -> bool:
    if task._bridge_wait is None:
        below = getattr(task, "_bridge_cancelled_with", None)
        if below is not None:
            task._bridge_cancelled_with = None
            if below._fut_waiter is task and below._must_cancel:
                return True  # it comes to await this one only now, and hands on a cancellation that has been here
        return bool(_kind(task).cancel(task, msg))
    task._bridge_cancels = _cancels_of(task) + 1
    task._bridge_wait.cancel(msg)
    return True


def _cancel_below(task: Any, msg: Any = None) -> bool:
    """Cancel a task that stands still under one that is blocked: that one too, which it will most likely await."""
    above = task._bridge_above
    cancelled = bool(_kind(task).cancel(task, msg))
    above.cancel(msg)
    above._bridge_cancelled_with = task
    return cancelled


def _cancelling(task: Any) -> int:
    return int(_kind(task).cancelling(task)) + _cancels_of(task)


def _uncancel(task: Any) -> int:
    own = _cancels_of(task)
    if not own:
        return int(_kind(task).uncancel(task))
    task._bridge_cancels = own - 1
    return _cancelling(task)


_METHODS: dict[str, Any] = {"cancel": _cancel, "cancelling": _cancelling, "uncancel": _uncancel}
