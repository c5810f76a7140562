"""Futures that greenlets of gevent's wait for, in a patched process.

A Future waits on a lock there that is gevent's. To release such a lock in another thread is not safe: now and then its
hub does not hear of it, and it takes the wait for a deadlock (LoopExit) if it has nothing else to do. So a Future of
ours waits by the strategy ``gevent``, and what it shares with the loop's thread is guarded by a lock of the system's.

The private names of anyio that this module stands on (test_names.py::test_portal_names), in anyio 4.0 to 4.16:
``BlockingPortal._spawn_task_from_thread``, ``_task_group`` and ``_call_func``. Of the standard library:
``concurrent.futures.Future._condition`` (test_names.py::test_concurrent_future_names).
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any

from ._condition import Condition
from ._native import is_patched
from .strategies import resolve


class PatientFuture(concurrent.futures.Future[Any]):
    """A Future that blocks the greenlet only."""

    def guard(self) -> None:
        """Share a lock with the loop's thread that is none of gevent's, and that Ctrl-C never leaves held.

        Called before anybody waits.
        """
        self._condition = Condition()

    def result(self, timeout: float | None = None) -> Any:
        """Return the result or raise the error, as any Future."""
        return super().result(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, as any Future; None if there is none."""
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Wait in a patched process until this is done or the time is up, and return the seconds that are left."""
        if self.done() or not is_patched():
            return timeout
        waiter = resolve("gevent").waiter()
        self.add_done_callback(lambda _: waiter.notify())
        waiter.wait(None if timeout is None else max(0.0, timeout))
        return 0.0


def serve_greenlets(portal: Any, block_on: Callable[[Coroutine[Any, Any, None]], object]) -> None:
    """Let greenlets wait for the calls of a portal of anyio's, in a patched process."""

    async def start(*call: Any, name: Any) -> None:
        portal._task_group.start_soon(portal._call_func, *call, name=name)

    def spawn(func: Any, args: Any, kwargs: Any, name: Any, future: Any) -> None:
        future.__class__ = PatientFuture
        future.guard()
        block_on(start(func, args, kwargs, future, name=name))

    portal._spawn_task_from_thread = spawn
