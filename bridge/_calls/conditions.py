"""Futures of ours, whose ``result()`` and ``exception()`` wait as ``block_on`` does.

On a loop's own thread the stack switches. In a GUI's thread its events run. In a process that gevent has patched only
the calling greenlet blocks. There a Future of the standard library waits on a lock of gevent's. Releasing such a lock
in another thread is not safe: now and then the hub is not notified. A hub that has nothing else to do then takes the
wait for a deadlock (LoopExit).
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any

from .._private.abilities import lost
from .._private.rows import PORTALS
from .._threads.native import is_patched
from .waiting import PatientCondition


class PatientFuture(concurrent.futures.Future[Any]):
    """A Future whose ``result()`` and ``exception()`` wait as ``block_on`` does, and leave it as it is."""

    def guard(self) -> None:
        """Share a lock with the loop's thread that is not gevent's, and that Ctrl-C never leaves held.

        Called before any thread waits.
        """
        self._condition = PatientCondition()


def serve_portal(portal: Any, block_on: Callable[[Coroutine[Any, Any, None]], object]) -> None:
    """Make the Futures of an anyio portal wait as ours do. In a patched process greenlets then wait for its calls."""
    if lost(PORTALS):  # its Futures then wait as those of any portal
        return

    async def start(*call: Any, name: Any) -> None:
        portal._task_group.start_soon(portal._call_func, *call, name=name)

    def spawn(func: Any, args: Any, kwargs: Any, name: Any, future: Any, *more: Any, **options: Any) -> None:
        future.__class__ = PatientFuture
        future.guard()
        if is_patched():
            block_on(start(func, args, kwargs, future, name=name))
        else:
            spawn_by_anyio(func, args, kwargs, name, future, *more, **options)

    spawn_by_anyio = portal._spawn_task_from_thread
    portal._spawn_task_from_thread = spawn
