"""Futures of ours: whoever waits for one waits in the way of ``block_on``.

On a loop's own thread the stack switches, in a GUI's thread its events run, and in a process that gevent has patched
the greenlet blocks and no other one. There a Future of the standard library's waits on a lock that is gevent's. To
release such a lock in another thread is not safe: now and then its hub does not hear of it, and it takes the wait for a
deadlock (LoopExit) if it has nothing else to do.
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
    """A Future whose ``result()`` and ``exception()`` wait in the way of ``block_on``, and leave it as it is."""

    def guard(self) -> None:
        """Share a lock with the loop's thread that is none of gevent's, and that Ctrl-C never leaves held.

        Called before anybody waits.
        """
        self._condition = PatientCondition()


def serve_portal(portal: Any, block_on: Callable[[Coroutine[Any, Any, None]], object]) -> None:
    """Make the Futures of a portal of anyio's wait as ours; in a patched process greenlets then wait for its calls."""
    if lost(PORTALS):  # whoever waits for a call then waits as for any portal's
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
