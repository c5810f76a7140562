"""A reactor's thread pool with native threads, in a process that gevent has patched.

There the queues and locks of Twisted's own pool are gevent's. They need a running hub in every thread, and the loop's
thread runs none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from twisted.python import log

from .._private.abilities import lost
from .._private.rows import GEVENT
from .._threads import native


def make_real(pool: Any) -> None:
    """Make an idle pool of Twisted's use native threads, queues and locks if gevent has patched the process."""
    if native.is_patched() and not lost(GEVENT, "twisted"):
        pool._pool = _native_team
        pool.__init__(pool.min, pool.max, pool.name)


def _native_team(limit: Callable[[], int], factory: Callable[..., Any]) -> Any:
    threads: Any = importlib.import_module("twisted._threads")
    new_queue = native.patched().new_simple_queue

    def start(target: Callable[[], None]) -> None:
        factory(target=target).start()

    def create() -> Any:
        statistics = team.statistics()
        if statistics.busyWorkerCount + statistics.idleWorkerCount >= limit():
            return None
        return threads.ThreadWorker(start, new_queue())

    coordinator = threads.LockWorker(native.allocate_lock(), native.original("_thread", "_local")())
    team = threads.Team(coordinator, createWorker=create, logException=log.err)
    return team
