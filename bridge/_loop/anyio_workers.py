"""Native worker threads for anyio on one loop, in a process that gevent has patched.

anyio keeps a loop's idle workers in a loop-local variable, and starts a worker if the list there is empty. So a loop of
ours gets a list that is never empty: it makes a worker, a native thread, on demand. anyio is not patched, and other
loops are unchanged.
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
_SimpleQueue: Any = importlib.import_module("_queue").SimpleQueue  # the C class, which gevent does not patch


class _Queue(_SimpleQueue):  # type: ignore[misc]
    def task_done(self) -> None:
        """Do nothing: anyio never joins a worker's queue."""


class _Worker(native.Thread, _WorkerThread):  # type: ignore[misc]
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.queue = _Queue()

    def run(self) -> None:
        """Run work until the loop's root task has ended."""
        worker_threads.come_from(self.loop)
        super().run()


class _Idle(deque[Any]):
    """The idle workers. anyio takes the last one; if there is none, :meth:`pop` starts one."""

    # anyio reads this from the first worker, which is this object itself while the list is empty: never idle too long.
    idle_since = math.inf

    def __init__(self, workers: set[Any]) -> None:
        super().__init__()
        self._workers = workers

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) if len(self) else self

    def pop(self) -> Any:  # type: ignore[override]
        """Return an idle worker, or a new one."""
        if len(self):
            return super().pop()
        root_task = _backend.find_root_task()
        worker = _Worker(root_task, self._workers, self)
        worker.start()
        self._workers.add(worker)
        root_task.add_done_callback(worker.stop, context=Context())
        return worker


def use_here() -> None:
    """Make anyio use native threads as workers of the running loop."""
    workers: set[Any] = set()
    _backend._threadpool_workers.set(workers)
    _backend._threadpool_idle_workers.set(_Idle(workers))
