"""The worker threads of a loop in a process that gevent has patched: native threads, where others would be greenlets.

There ``threading.Thread`` starts a greenlet in the calling thread. A greenlet that our loop's thread starts never runs,
because that thread waits in the selector and not in gevent's hub. A caller that waits for its work hangs.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

from .._errors import BridgeError, at
from .._private.abilities import lost, unavailable
from .._private.cpython import worker
from .._private.rows import GEVENT
from .._threads import native


def make_native(pool: Any) -> None:
    """Give an executor that was just made a queue and locks for threads.

    Its own are gevent's. A gevent lock that the loop's thread has waited for relies on a hub in that thread, which runs
    only while the thread waits there.
    """
    if not lost(GEVENT, "cpython"):
        pool._work_queue = native.patched().new_simple_queue()
        pool._shutdown_lock = native.allocate_lock()
        idle: Any = pool._idle_semaphore
        idle._cond = threading.Condition(native.allocate_lock())


def add_thread(pool: Any) -> None:
    """Start a native thread, where the executor itself would start a greenlet in a thread without a hub."""
    count = len(pool._threads)
    if pool._idle_semaphore.acquire(timeout=0) or count >= pool._max_workers:
        return
    queue: Any = pool._work_queue

    def dropped(_: object) -> None:
        queue.put(None)

    me, work = weakref.ref(pool, dropped), worker
    # No initializer is used. CPython 3.14 passes a worker context instead of the two arguments for that.
    arguments: tuple[Any, ...]
    if sys.version_info >= (3, 14):
        arguments = me, pool._create_worker_context(), queue
    else:
        arguments = me, queue, None, ()
    name = f"{pool._thread_name_prefix}_{count}"
    thread = native.Thread(name=name, target=work, args=arguments, daemon=True)
    thread.start()
    pool._threads.add(thread)


def pool_for(executor: Any, default: Any, kind: type[ThreadPoolExecutor]) -> Any:
    """Return the executor for work of a loop of ours.

    :param executor: the executor that the caller passed; None for the default one.
    :param default: the loop's default executor; None if it has none.
    :param kind: of an executor of ours.
    :raises StrategyUnavailable: this Python or anyio lacks a private name that native threads need.
    :raises BridgeError: the executor's threads would be greenlets, which run in the loop's own thread or never.
    """
    pool = default if executor is None else executor
    if lost(GEVENT, "cpython"):
        raise unavailable(GEVENT, "run the work in another process: concurrent.futures.ProcessPoolExecutor()")
    if pool is None:
        return kind(thread_name_prefix="bridge-worker")
    processes: Any = sys.modules.get("concurrent.futures.process")
    is_of_python = isinstance(
        pool, ThreadPoolExecutor if processes is None else (ThreadPoolExecutor, processes.ProcessPoolExecutor)
    )
    if is_of_python and not isinstance(pool, kind):
        raise BridgeError(
            f"gevent has patched this process, so that the threads of a {type(pool).__name__} are greenlets, which do "
            "not run beside the loop; leave the executor out, for the loop's own has real threads: "
            "loop.run_in_executor(None, function), asyncio.to_thread(function)" + at("greenlet-threads")
        )
    return pool


def load() -> None:
    """Import what :func:`prepare` needs, before the loop runs: the import takes longer than a task should."""
    if native.is_patched() and not lost(GEVENT, "anyio"):
        from . import anyio_workers as anyio_workers


_prepared: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


async def prepare(loop: asyncio.AbstractEventLoop) -> None:
    """Make anyio use native worker threads on the running loop, if gevent has patched the process."""
    # A coroutine, because anyio finds its loop only in a task.
    if native.is_patched() and loop not in _prepared:
        if not lost(GEVENT, "anyio"):
            from . import anyio_workers

            anyio_workers.use_here()
        _prepared.add(loop)


def has_real_threads(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether anyio's worker threads on the loop are native threads."""
    return not native.is_patched() or loop in _prepared
