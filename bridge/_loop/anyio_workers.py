"""anyio's worker threads as real ones, for one loop, in a process that gevent has patched.

anyio keeps the idle workers of a loop in a variable of that loop's, and starts a new one where there is none. So a loop
of ours gets a list that always has one: what it makes are threads. Nothing is patched, and other loops are as ever.
"""

from __future__ import annotations

import importlib
import math
from collections import deque
from contextvars import Context
from typing import Any

from .._threads import native
from . import worker_threads

_backend: Any = importlib.import_module("anyio._backends._asyncio")
_WorkerThread: Any = _backend.WorkerThread
_SimpleQueue: Any = importlib.import_module("_queue").SimpleQueue  # the real one


class _Queue(_SimpleQueue):  # type: ignore[misc]
    def task_done(self) -> None:
        """Do nothing: nobody joins the queue of a worker."""


class _Worker(native.Thread, _WorkerThread):  # type: ignore[misc]
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.queue = _Queue()

    def run(self) -> None:
        """Do what comes until the loop's main task has ended."""
        worker_threads.come_from(self.loop)
        super().run()


class _Idle(deque[Any]):
    """The idle workers, the last one of which is taken; where there is none it makes one."""

    idle_since = math.inf  # of what is looked at in place of the first when it is empty: it has not been idle for long

    def __init__(self, workers: set[Any]) -> None:
        super().__init__()
        self._workers = workers

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) if len(self) else self

    def pop(self) -> Any:  # type: ignore[override]
        """Return a worker."""
        if len(self):
            return super().pop()
        root_task = _backend.find_root_task()
        worker = _Worker(root_task, self._workers, self)
        worker.start()
        self._workers.add(worker)
        root_task.add_done_callback(worker.stop, context=Context())
        return worker


def use_here() -> None:
    """Give the loop that runs here real workers."""
    workers: set[Any] = set()
    _backend._threadpool_workers.set(workers)
    _backend._threadpool_idle_workers.set(_Idle(workers))
