"""The loop that a worker thread works for, and the cancel scope in which it works.

Known are the workers of a loop of ours, of a loop or reactor that is attached, and anyio's workers of any loop. The
:class:`NoLoop` of a thread and its subclasses are answers of :func:`bridge._runs.where.where`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from .._private.abilities import lost, unavailable
from .._private.cpython import works_for_a_loop
from .._private.rows import SCOPES
from .._threads import native

P = ParamSpec("P")
T = TypeVar("T")


class NoLoop:
    """The place of a thread that runs no loop, and works for none."""

    __slots__ = ()
    loop: Any = None
    runs_here = False  # whether the loop runs in this thread
    is_unknown = False
    of_anyio = False


class UnknownWorker(NoLoop):
    """The place of an executor's thread that works for a loop that is not ours, and that nobody has attached."""

    __slots__ = ()
    is_unknown = True


class Worker(NoLoop):
    """The place of a thread that works for a loop."""

    __slots__ = ("loop",)
    __match_args__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


class AnyioWorker(Worker):
    """The place of one of anyio's workers, which serves one loop from its start to its end."""

    __slots__ = ()
    of_anyio = True


class Job(Worker):
    """One piece of work for an executor. ``future``: the loop's Future for it; None until the loop has returned it."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.future: asyncio.Future[Any] | None = None


NO_LOOP, UNKNOWN_WORKER = NoLoop(), UnknownWorker()


class Here(threading.local):
    """What this thread is, as far as is known without its running loop. ``place`` is missing until it is asked for."""

    place: NoLoop


here = Here()


def place_of_this_thread() -> NoLoop:
    """Return the place of this thread, whatever loop runs in it.

    :raises StrategyUnavailable: it is an anyio worker, and anyio lacks a private name by which to find its loop.
    """
    try:
        return here.place
    except AttributeError:
        _check_anyio()
        thread = threading.current_thread()
        if isinstance(thread, PoolThread):  # not kept: a reactor takes its pool along to another loop
            loop = thread.home()
            return NO_LOOP if loop is None else Worker(loop)
        here.place = _first_place()
        return here.place


def _first_place() -> NoLoop:
    thread: Any = threading.current_thread()
    backend = sys.modules.get("anyio._backends._asyncio")
    worker_type: Any = getattr(backend, "WorkerThread", ())  # (): anyio is not imported, or lacks the class
    if isinstance(thread, worker_type):
        loop = getattr(thread, "loop", None)
        return NO_LOOP if loop is None else AnyioWorker(loop)
    return UNKNOWN_WORKER if works_for_a_loop(thread, sys._getframe()) else NO_LOOP


def loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    """Return the loop that this worker thread works for, None in any other thread.

    :raises StrategyUnavailable: as :func:`place_of_this_thread`.
    """
    loop: asyncio.AbstractEventLoop | None = place_of_this_thread().loop
    return loop


def come_from(loop: asyncio.AbstractEventLoop | None) -> None:
    """Set the loop that this worker thread works for; None for no loop."""
    here.place = NO_LOOP if loop is None else Worker(loop)


def forget_worker_loop() -> None:
    """After a fork: forget which loop this thread works for."""
    here.place = NO_LOOP


def call_for(job: Job, func: Callable[..., T], *args: Any) -> T:
    """Call func in this thread as the given job of a loop."""
    before = getattr(here, "place", None)
    here.place = job
    try:
        return func(*args)
    finally:
        if before is None:
            del here.place
        else:
            here.place = before


def know_workers_of(loop: Any) -> None:
    """Have the executors' threads that work for a loop know it, though the loop is not ours.

    It stays so when a bridge detaches from the loop. A loop whose objects take no attributes stays as it is.
    """
    run_in_executor = loop.run_in_executor
    if getattr(run_in_executor, "is_ours", False):
        return

    def run_known(executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if executor is not None and not isinstance(executor, ThreadPoolExecutor):
            future: asyncio.Future[Any] = run_in_executor(executor, func, *args)
            return future
        if loop.get_debug() and inspect.iscoroutinefunction(func):
            raise TypeError("coroutines cannot be used with run_in_executor()")  # the loop would see call_for only
        job = Job(loop)
        job.future = future = run_in_executor(executor, call_for, job, func, *args)
        return future

    run_known.is_ours = True  # type: ignore[attr-defined]
    with contextlib.suppress(AttributeError, TypeError):
        loop.run_in_executor = run_known


def know_threads_of(reactor: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Have the threads of a reactor's pool know which loop they work for. For an attached reactor.

    :param loop: the reactor's, or what stands in for one. A later call replaces it.
    """
    known = reactor.getThreadPool
    if not isinstance(known, _KnownPool):
        reactor.getThreadPool = known = _KnownPool(known)
    known.loop = loop


class _KnownPool:
    """Replaces the function that returns a reactor's pool, whose threads then know the loop that they work for."""

    def __init__(self, get_pool: Callable[[], Any]) -> None:
        self._get_pool = get_pool
        self._pool: Any = None
        self.loop: Any = None

    def __call__(self) -> Any:
        pool = self._get_pool()
        if pool is not self._pool:
            call = pool.callInThreadWithCallback

            def call_known(on_result: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
                call(on_result, call_for, Job(self.loop), functools.partial(func, *args, **kwargs))

            pool.callInThreadWithCallback = call_known
            self._pool = pool
        return pool


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
