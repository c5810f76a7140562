"""Abandon the parent's loops in a forked child, without touching what the two processes share.

A fork copies descriptors, but both copies refer to one kernel object. An epoll descriptor in the child is the parent's
poller: ``unregister`` in the child unregisters in the parent too. ``shutdown`` of a socket ends the parent's
connection. ``close`` closes only the child's copy, which is needed: a peer sees the end of a connection when the last
copy is closed. So this module calls ``close`` only, and only on the descriptors of a loop and its connections.
Listening sockets stay open, since a child may have been forked to serve one.

Tasks of the parent's loop must not go on in the child, not even to clean up: if a coroutine were collected, its
``finally`` would run in the wrong process. So the loop keeps references to all of them. The frames of the loop's thread
keep the loop, since the child never leaves these frames.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Any

from .._loop.base import BridgeLoop
from .._private.abilities import lost
from .._private.rows import FORK

_kept: list[Any] = []


def abandon(loop: Any, kept: Iterable[Any]) -> None:
    """Mark a loop of the parent as closed, and keep all that belongs to it alive.

    If the loop's own thread has forked, the loop ends as soon as the child returns to it. It runs no more callbacks.

    :param kept: further objects that must not be collected.
    """
    tasks = list(asyncio.all_tasks(loop))
    for task in tasks:
        with contextlib.suppress(AttributeError):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    # Of a loop such as uvloop's, or without the names of asyncio's, the descriptors stay open until the child exits or
    # calls exec(). If its own thread has forked, what is ready runs before it ends.
    if not hasattr(loop, "_ready") or lost(FORK):
        _kept.append([loop, *kept, tasks])
        loop.stop()
        if isinstance(loop, BridgeLoop):
            loop.abandon_alarm()
        return
    selector: Any = getattr(loop, "_selector", None)
    map_of: dict[int, Any] = {} if selector is None else dict(selector.get_map() or {})
    watched = list(map_of.values())
    loop._bridge_kept = [*kept, tasks, watched, loop._ready]
    loop._ready = deque()
    loop._thread_id = None
    loop._closed = True
    for key in watched:
        handles: tuple[Any, ...] = key.data
        for handle in handles:
            transport: Any = getattr(getattr(handle, "_callback", None), "__self__", None)
            if isinstance(transport, asyncio.Transport | asyncio.DatagramTransport):
                close(getattr(transport, "_sock", None))
    if isinstance(loop, BridgeLoop):
        loop.abandon_alarm()
    for each in (getattr(loop, "_ssock", None), getattr(loop, "_csock", None)):
        close(each)
    if selector is not None:
        selector.close()


def close(resource: Any) -> None:
    """Close the child's copy of a descriptor, through the object that owns the descriptor."""
    with contextlib.suppress(OSError, AttributeError):
        resource.close()
