"""In a forked child: let go of the loops of the parent, without touching what the two processes share.

A fork copies descriptors, not what they refer to. The child's copy of an epoll descriptor is the parent's poller:
``unregister`` in the child is one in the parent, and ``shutdown`` of a socket ends the parent's connection. ``close``
ends only the copy. It should: a peer sees the end of a connection when the last copy is closed. So nothing here calls
anything but ``close``, and that only on what belongs to a loop and its connections. Listening sockets stay open, since
a child may have been forked to serve one.

What the parent's loop has begun must not go on here, not even to clean up: the ``finally`` of a coroutine that is
garbage would run, in the wrong process. So all of it is kept, by the loop. The loop is kept by the frames of its
thread, which are never left in the child.
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
    """Make a loop of the parent's one that is closed, and keep all that belongs to it alive.

    If it is the loop's own thread that has forked, the loop ends as soon as the child returns to it, and runs nothing.

    :param kept: what else must not become garbage.
    """
    tasks = list(asyncio.all_tasks(loop))
    for task in tasks:
        with contextlib.suppress(AttributeError):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    if lost(FORK):  # what is left open ends with the child; at least nothing of ours runs
        _kept.append([loop, *kept, tasks])
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
    """Close the child's copy of a descriptor, by the object that has it."""
    with contextlib.suppress(OSError, AttributeError):
        resource.close()
