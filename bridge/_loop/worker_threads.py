"""Where a worker thread came from: the loop that handed it its work, and the cancel scope it works in.

A worker thread of ``asyncio.to_thread``, ``deferToThread`` or ``anyio.to_thread`` on a loop of ours finds its way
back to that loop. A thread that nobody handed any work to has no home.
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
    """One piece of work for an executor. ``future`` is what the loop gave for it, as soon as it is known."""

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

    :raises StrategyUnavailable: it is anyio's, and anyio lacks a private name by which to find its loop.
    """
    try:
        return _local.loop
    except AttributeError:
        _check_anyio()
        # An anyio worker serves one loop for as long as it lives.
        backend = sys.modules.get("anyio._backends._asyncio")
        thread: Any = threading.current_thread()
        worker_type: Any = getattr(backend, "WorkerThread", ())  # (): without anyio, or without its class
        _local.loop = getattr(thread, "loop", None) if isinstance(thread, worker_type) else None
        return _local.loop


def come_from(loop: asyncio.AbstractEventLoop | None) -> None:
    """Note that this worker thread works for the loop, if there is one."""
    _local.loop = loop


def forget_worker_loop() -> None:
    """Let this thread have no home any more, in a forked child."""
    _local.loop = None


def job_of_this_thread() -> Job | None:
    """Return the work that this thread of an executor does for a loop of ours, None in any other thread."""
    return _local.job


def loop_here() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or that this worker thread got its work from."""
    return get_running_loop() or loop_of_this_thread()


def call_for(job: Job, func: Callable[..., T], *args: Any) -> T:
    """Call func in this thread as work that the loop handed to it."""
    before = loop_of_this_thread(), _local.job
    _local.loop, _local.job = job.loop, job
    try:
        return func(*args)
    finally:
        _local.loop, _local.job = before


class PoolThread(native.Thread):
    """A thread of a reactor's pool; ``home`` is called in it for the loop that it works for."""

    def __init__(self, home: Callable[[], asyncio.AbstractEventLoop | None], **options: Any) -> None:
        super().__init__(**options)
        self._home = home

    def run(self) -> None:
        """Run the pool's worker."""
        come_from(self._home())
        super().run()


def scope_of_this_thread() -> Any:
    """Return the anyio CancelScope that this worker thread works in, None where there is none.

    :raises StrategyUnavailable: it is anyio's, and anyio lacks a private name by which to enter its scope.
    """
    backend = sys.modules.get("anyio._backends._asyncio")
    if backend is None:
        return None
    try:
        scope = getattr(backend.threadlocals, "current_cancel_scope", None)
    except AttributeError:  # anyio has lost that name, or another thread is just importing it
        _check_anyio()
        return None
    if scope is not None and lost(SCOPES):  # asked only here, for every call comes by
        _check_anyio()
        return None
    return scope


def _check_anyio() -> None:
    """Refuse a worker thread of anyio's that would be served outside its loop or its cancel scope."""
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
        # anyio looks for tasks to cancel while there are any in the scope, and there were none. A scope that its host
        # has left, as it has abandoned this worker, is no more among those that the outer one looks into.
        origin = cancelled if scope._active else scope
        asyncio.get_running_loop().call_soon(origin._deliver_cancellation, origin)
    try:
        return await coro
    finally:
        scope._tasks.discard(task)
        del task  # an error's traceback holds this frame, and the task the error


def _cancelled(scope: Any) -> Any:
    """Return the scope, or the one around it, that cancels what runs in it; None if there is none."""
    while scope is not None and not scope.cancel_called:
        scope = None if scope.shield else scope._parent_scope
    return scope
