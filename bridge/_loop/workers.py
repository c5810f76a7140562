"""The executor of a loop, whose threads end with the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import sys
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

from .._private.abilities import lost
from .._private.cpython import idle_workers
from .._private.rows import EXIT
from .._threads.native import is_patched
from . import gevent

# The first pause between two checks whether the threads of an executor have ended, in seconds.
_JOIN_PAUSE = 0.0005


class Workers(ThreadPoolExecutor):
    """An executor whose threads the loop joins when it ends, and that the interpreter does not join at exit.

    The interpreter would join them before any ``atexit`` handler runs. But it is our ``atexit`` handler that ends the
    loop, and with it the calls in which the threads are blocked.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if is_patched():
            gevent.make_native(self)

    def _adjust_thread_count(self, *more: Any, **options: Any) -> None:
        if is_patched():
            gevent.add_thread(self)
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
