"""The loop that a worker thread works for, and the cancel scope in which it works.

A call that blocks in a worker thread of ``asyncio.to_thread``, ``deferToThread`` or ``anyio.to_thread`` on a loop of
ours goes to that loop. Any other thread works for no loop.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from .._private.abilities import lost, unavailable
from .._private.cpython import get_running_loop
from .._private.rows import SCOPES
from .._threads import native

P = ParamSpec("P")
T = TypeVar("T")


class Job:
    """One piece of work for an executor. ``future``: the loop's Future for it; None until the loop has returned it."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] | None = None


class _Local(threading.local):
    loop: asyncio.AbstractEventLoop | None
    job: Job | None = None


_local = _Local()


def loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    """Return the loop that this worker thread works for, None in any other thread.

    :raises StrategyUnavailable: it is an anyio worker, and anyio lacks a private name by which to find its loop.
    """
    try:
        return _local.loop
    except AttributeError:
        _check_anyio()
        thread: Any = threading.current_thread()
        if isinstance(thread, PoolThread):  # not kept: a reactor takes its pool along to another loop
            return thread.home()
        # An anyio worker serves the same loop from its start to its end.
        backend = sys.modules.get("anyio._backends._asyncio")
        worker_type: Any = getattr(backend, "WorkerThread", ())  # (): anyio is not imported, or lacks the class
        _local.loop = getattr(thread, "loop", None) if isinstance(thread, worker_type) else None
        return _local.loop


def come_from(loop: asyncio.AbstractEventLoop | None) -> None:
    """Set the loop that this worker thread works for; None for no loop."""
    _local.loop = loop


def forget_worker_loop() -> None:
    """After a fork: forget which loop this thread works for."""
    _local.loop = None


def job_of_this_thread() -> Job | None:
    """Return the job that this executor thread runs for a loop of ours, None in any other thread."""
    return _local.job


def loop_here() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, else the loop that this worker thread works for."""
    return get_running_loop() or loop_of_this_thread()


def call_for(job: Job, func: Callable[..., T], *args: Any) -> T:
    """Call func in this thread as the given job of a loop."""
    before = loop_of_this_thread(), _local.job
    _local.loop, _local.job = job.loop, job
    try:
        return func(*args)
    finally:
        _local.loop, _local.job = before


class PoolThread(native.Thread):
    """A thread of a reactor's pool. ``home`` returns the loop that it works for."""

    def __init__(self, home: Callable[[], asyncio.AbstractEventLoop | None], **options: Any) -> None:
        super().__init__(**options)
        self.home = home


def scope_of_this_thread() -> Any:
    """Return the anyio CancelScope in which this worker thread works, None if there is none.

    :raises StrategyUnavailable: it is an anyio worker, and anyio lacks a private name by which to enter its scope.
    """
    backend = sys.modules.get("anyio._backends._asyncio")
    if backend is None:
        return None
    try:
        scope = getattr(backend.threadlocals, "current_cancel_scope", None)
    except AttributeError:  # this anyio lacks the name, or another thread is importing anyio at this moment
        _check_anyio()
        return None
    if scope is not None and lost(SCOPES):  # checked last, since every call comes here
        _check_anyio()
        return None
    return scope


def _check_anyio() -> None:
    """Raise StrategyUnavailable in an anyio worker whose calls would run outside its loop or its cancel scope."""
    is_anyios = type(threading.current_thread()).__module__ == "anyio._backends._asyncio"
    if is_anyios and lost(SCOPES):
        raise unavailable(SCOPES, "call anyio.from_thread.run(function) in such a thread")


async def within(scope: Any, coro: Coroutine[Any, Any, T]) -> T:
    """Await coro in the current task as a part of the scope, which may have been entered by another task."""
    from anyio._backends import _asyncio as backend

    task = asyncio.current_task()
    assert task is not None
    backend._task_states[task] = backend.TaskState(None, scope)
    scope._tasks.add(task)
    cancelled = _cancelled(scope)
    if cancelled is not None:
        # A cancelled scope of anyio's retries the delivery only while it has tasks, and this one had none. If the host
        # task has left the scope (it abandoned this worker), the outer scope no longer delivers to it either: then the
        # delivery starts in the scope itself.
        origin = cancelled if scope._active else scope
        asyncio.get_running_loop().call_soon(origin._deliver_cancellation, origin)
    try:
        return await coro
    finally:
        scope._tasks.discard(task)
        del task  # an error's traceback has this frame; see the head of task.py


def _cancelled(scope: Any) -> Any:
    """Return the innermost cancelled scope that applies: this one or one around it, up to a shield. None if none is."""
    while scope is not None and not scope.cancel_called:
        scope = None if scope.shield else scope._parent_scope
    return scope
