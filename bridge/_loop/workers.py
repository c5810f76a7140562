"""The worker threads of a loop: native threads, also in a process that gevent has patched.

In such a process ``threading.Thread`` starts a greenlet in the calling thread. A greenlet that our loop's thread starts
never runs, because that thread waits in the selector and not in gevent's hub. A caller that waits for its work hangs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import sys
import threading
import weakref
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

from .._errors import BridgeError
from .._private.abilities import lost, unavailable
from .._private.cpython import idle_workers, worker
from .._private.rows import EXIT, GEVENT
from .._threads import native

# The first pause between two checks whether the threads of an executor have ended, in seconds.
_JOIN_PAUSE = 0.0005


class Workers(ThreadPoolExecutor):
    """An executor whose threads the loop joins when it ends, and that the interpreter does not join at exit.

    The interpreter would join them before any ``atexit`` handler runs. But it is our ``atexit`` handler that ends the
    loop, and with it the calls in which the threads are blocked.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if native.is_patched() and not lost(GEVENT, "cpython"):
            # The executor's own queue and locks are gevent's then. A gevent lock that the loop's thread has waited for
            # relies on a hub in that thread, which runs only while the thread waits there.
            self._work_queue = importlib.import_module("_queue").SimpleQueue()
            self._shutdown_lock = native.allocate_lock()
            idle: Any = self._idle_semaphore
            idle._cond = threading.Condition(native.allocate_lock())

    def _adjust_thread_count(self, *more: Any, **options: Any) -> None:
        if native.is_patched():
            self._add_real_thread()
            return
        if lost(EXIT):
            super()._adjust_thread_count(*more, **options)
            return
        before = len(self._threads)
        super()._adjust_thread_count(*more, **options)
        if len(self._threads) > before:
            workers = idle_workers()
            for thread in self._threads:
                workers.pop(thread, None)

    def _add_real_thread(self) -> None:
        """Start a native thread, where the executor itself would start a greenlet in a thread without a hub."""
        count = len(self._threads)
        if self._idle_semaphore.acquire(timeout=0) or count >= self._max_workers:
            return
        queue: Any = self._work_queue

        def dropped(_: object) -> None:
            queue.put(None)

        me, work = weakref.ref(self, dropped), worker
        # No initializer is used. CPython 3.14 passes a worker context instead of the two arguments for that.
        arguments: tuple[Any, ...]
        if sys.version_info >= (3, 14):
            arguments = me, self._create_worker_context(), queue
        else:
            arguments = me, queue, None, ()
        name = f"{self._thread_name_prefix}_{count}"
        thread = native.Thread(name=name, target=work, args=arguments, daemon=True)
        thread.start()
        threads: Any = self._threads
        threads.add(thread)


def load_executors() -> None:
    """Resolve the lazy imports of the executors in ``concurrent.futures``, which CPython has from 3.15 on.

    PySide6 6.12 has its own import function, which never resolves them. asyncio then passes an object that is not a
    class to ``isinstance()``, on any loop.
    """
    for name, module in ("ThreadPoolExecutor", "thread"), ("ProcessPoolExecutor", "process"):
        if name == "ProcessPoolExecutor" and "shiboken6" not in sys.modules:
            return  # its imports would take a fourth of the time of a first call
        if not isinstance(vars(concurrent.futures).get(name), type):
            loaded = importlib.import_module(f"concurrent.futures.{module}")
            setattr(concurrent.futures, name, getattr(loaded, name))


def pool_for(executor: Any, default: Any) -> Any:
    """Return the executor for work of a loop of ours, in a process that gevent has patched.

    :param executor: the executor that the caller passed; None for the default one.
    :param default: the loop's default executor; None if it has none.
    :raises StrategyUnavailable: this Python or anyio lacks a private name that native threads need.
    :raises BridgeError: the executor's threads would be greenlets, which run in the loop's own thread or never.
    """
    pool = default if executor is None else executor
    if lost(GEVENT, "cpython"):
        raise unavailable(GEVENT, "run the work in another process: concurrent.futures.ProcessPoolExecutor()")
    if pool is None:
        return Workers(thread_name_prefix="bridge-worker")
    processes: Any = sys.modules.get("concurrent.futures.process")
    is_of_python = isinstance(
        pool, ThreadPoolExecutor if processes is None else (ThreadPoolExecutor, processes.ProcessPoolExecutor)
    )
    if is_of_python and not isinstance(pool, Workers):
        raise BridgeError(
            f"gevent has patched this process, so that the threads of a {type(pool).__name__} are greenlets, which do "
            "not run beside the loop; leave the executor out, for the loop's own has real threads: "
            "loop.run_in_executor(None, function), asyncio.to_thread(function)"
        )
    return pool


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


async def shut_down_executor(executor: ThreadPoolExecutor, deadline: float) -> bool:
    """Shut the executor down and wait until its threads have ended. Return False if they have not by the deadline.

    :param deadline: the running loop's time, in seconds.
    """
    loop = asyncio.get_running_loop()
    executor.shutdown(wait=False, cancel_futures=True)
    pause = _JOIN_PAUSE
    threads: Any = getattr(executor, "_threads", ())  # without the private name: not waited for, they end by themselves
    while any(thread.is_alive() for thread in threads):
        # Polling, since a thread that joins them could not start while the process exits.
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True
