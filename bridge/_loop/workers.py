"""The worker threads of a loop: real ones, also in a process that gevent has patched.

There ``threading.Thread`` starts a greenlet in the thread that starts it. One that our loop's thread starts never runs,
for that thread waits in the system and not in gevent's hub; so whoever waits for its work hangs.
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

# Seconds after which the end of a loop first looks again whether the threads of its executor have ended.
_JOIN_PAUSE = 0.0005


class Workers(ThreadPoolExecutor):
    """Worker threads that the loop waits for as it ends, and that the interpreter does not wait for as it exits.

    It would join them before any handler of ``atexit`` runs, and it is such a handler that ends the loop and with it
    the calls that workers are blocked in.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if native.is_patched() and not lost(GEVENT, "cpython"):
            # For greenlets then: a lock of gevent's that the loop's thread has waited for relies on a hub there, which
            # runs only while that thread waits.
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
        """Start a thread where the executor itself would start a greenlet, in a thread that runs no hub."""
        count = len(self._threads)
        if self._idle_semaphore.acquire(timeout=0) or count >= self._max_workers:
            return
        queue: Any = self._work_queue

        def dropped(_: object) -> None:
            queue.put(None)

        me, work = weakref.ref(self, dropped), worker
        # The executor has no initializer, for which 3.14 has this context in the place of two arguments.
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
    """Put the executors of ``concurrent.futures`` in the place of their lazy imports, which CPython has from 3.15 on.

    PySide6 6.12 has an import function of its own, by which they are never resolved: asyncio then compares executors
    with what is no class, on any loop.
    """
    for name, module in ("ThreadPoolExecutor", "thread"), ("ProcessPoolExecutor", "process"):
        if name == "ProcessPoolExecutor" and "shiboken6" not in sys.modules:
            return  # what it imports takes a fourth of the time of a first call
        if not isinstance(vars(concurrent.futures).get(name), type):
            loaded = importlib.import_module(f"concurrent.futures.{module}")
            setattr(concurrent.futures, name, getattr(loaded, name))


def pool_for(executor: Any, default: Any) -> Any:
    """Return the executor for work of a loop of ours, in a patched process.

    :param executor: the one that was asked for; None for the default one.
    :param default: the loop's default executor, if it has one.
    :raises StrategyUnavailable: this Python or anyio lacks a private name that real threads need.
    :raises BridgeError: its threads would be greenlets, and run in the loop's thread itself, or never.
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
    """Let anyio have real worker threads on the loop that runs here, if the process is patched."""
    # anyio knows the loop in a task only.
    if native.is_patched() and loop not in _prepared:
        if not lost(GEVENT, "anyio"):
            from . import anyio_workers

            anyio_workers.use_here()
        _prepared.add(loop)


def has_real_threads(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether anyio's worker threads on the loop are threads."""
    return not native.is_patched() or loop in _prepared


async def shut_down_executor(executor: ThreadPoolExecutor, deadline: float) -> bool:
    """Let the executor's threads finish what they do; return False if they had not by the deadline.

    :param deadline: the running loop's time, in seconds.
    """
    loop = asyncio.get_running_loop()
    executor.shutdown(wait=False, cancel_futures=True)
    pause = _JOIN_PAUSE
    threads: Any = getattr(executor, "_threads", ())  # without them nobody knows, and they end by themselves
    while any(thread.is_alive() for thread in threads):
        # Not a thread that joins them: as the process exits no thread can start.
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True
