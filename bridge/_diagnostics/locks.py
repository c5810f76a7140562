"""Find what a blocked thread waits for: a lock, a token of a limiter, a thread of a pool that is full.

Like :mod:`.chains` this only reads, from any thread, and calls no code of the user's.

Where a private name that this reads is missing, the report says less.
"""

from __future__ import annotations

import _thread
import ast
import concurrent.futures
import inspect
import linecache
import sys
from collections.abc import Collection
from concurrent.futures.thread import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from opcode import opmap
from types import FrameType
from typing import Any, cast

from .._calls.waiting import PatientCondition
from .._loop.worker_threads import PoolThread
from .._private.abilities import lost
from .._private.rows import REPORTS
from .._threads.condition import Condition
from .._threads.lock_waiter import LockWaiter
from .._threads.signals import wait_looking_up

_BEFORE_WITH = opmap.get("BEFORE_WITH")
_LOCKS: tuple[type, ...] = (_thread.LockType, _thread.RLock)
_OF_LOCKS = frozenset({"threading", Condition.__module__, LockWaiter.__module__, wait_looking_up.__module__})


def waited_for(frame: FrameType | None) -> str | None:
    """Return the lock that the thread of this innermost frame is about to acquire, with the place; None for no lock.

    Acquiring a lock is a call of C, which has no frame. So the lock is looked up by the source text of the current
    instruction, if that is a name with attributes: ``with lock:``, ``self._lock.acquire()``.
    """
    outer, owner = frame, None
    while outer is not None and outer.f_globals.get("__name__") in _OF_LOCKS:
        owner, outer = outer.f_locals.get("self"), outer.f_back
    if outer is None:
        return None
    if owner is not None:  # an object such as an Event or a Condition
        return f"{owner!r}, in {outer.f_code.co_filename}:{outer.f_lineno}: {_line(outer)}"
    frame = outer
    code = frame.f_code
    index = frame.f_lasti // 2
    if code.co_code[frame.f_lasti] == _BEFORE_WITH:
        index -= 1  # up to 3.12 its own position is the whole statement; this is the end of the expression
    position = next(islice(code.co_positions(), index, None), None)
    if position is None:
        return None
    line, end_line, start, end = position
    if line is None or start is None or end is None or line != end_line:
        return None
    source = linecache.getline(code.co_filename, line, frame.f_globals).encode()[start:end].decode(errors="replace")
    lock = _looked_up(source, frame)
    if not isinstance(lock, _LOCKS) or "unlocked" in repr(lock):
        return None
    return f"{lock!r}, in {code.co_filename}:{line}: {source}"


def standing_in(frame: FrameType | None) -> Standing | None:
    """Return the standard library's wait for Futures that blocks the thread of this innermost frame; None for none."""
    while frame is not None and frame.f_globals.get("__name__") in _OF_LOCKS:
        frame = frame.f_back
    if frame is None or frame.f_code not in _STANDING:
        return None
    name, instead = _STANDING[frame.f_code]
    one: Any = frame.f_locals.get("self")
    if one is None:
        return Standing(name, instead, list(frame.f_locals.get("fs", ())))
    if isinstance(getattr(one, "_condition", None), PatientCondition):  # of ours, which waits as block_on does
        return None
    return Standing(name, instead, [one])


@dataclass
class Standing:
    """A wait that stops everything else in its thread."""

    name: str
    instead: str  # what to write
    futures: list[Any]  # that it waits for


_STANDING: dict[Any, tuple[str, str]] = {
    cast(Any, concurrent.futures.wait).__code__: ("concurrent.futures.wait", "bridge.wait(futures)"),
    cast(Any, concurrent.futures.as_completed).__code__: (
        "concurrent.futures.as_completed",
        "bridge.as_completed(futures)",
    ),
    cast(Any, concurrent.futures.Future.result).__code__: ("result() of a Future", "block_on(future)"),
    cast(Any, concurrent.futures.Future.exception).__code__: ("exception() of a Future", "bridge.wait([future])"),
}


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals).strip()


def _looked_up(source: str, frame: FrameType) -> Any:
    try:
        node = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        return None
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("acquire", "__enter__")
    ):
        node = node.func.value
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    found: Any = frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    for name in reversed(names):
        found = inspect.getattr_static(found, name, None)  # runs no property
    return found


def limiter_in(frames: Collection[tuple[FrameType, int]]) -> Any:
    """Return the anyio CapacityLimiter for whose token suspended frames wait; None if they do not."""
    backend: Any = sys.modules.get("anyio._backends._asyncio")
    if backend is None:
        return None
    code = getattr(getattr(backend.CapacityLimiter, "acquire_on_behalf_of", None), "__code__", None)
    return next((frame.f_locals.get("self") for frame, _ in frames if frame.f_code is code), None)


def full_pools(loop: Any, reactor: Any, blocked: Collection[int]) -> list[str]:
    """Return a line for each pool of the loop whose threads are all blocked in calls while work waits for one of them.

    :param blocked: the threads that are blocked.
    """
    lines: list[str] = []
    executor: Any = getattr(loop, "_default_executor", None)
    if isinstance(executor, ThreadPoolExecutor) and not lost(REPORTS, "cpython"):
        threads, waiting = list(executor._threads), executor._work_queue.qsize()
        if len(threads) >= executor._max_workers and waiting and _all_in(threads, blocked):
            lines.append(_full(f"all {len(threads)} threads of the loop's executor", waiting))
    pool: Any = getattr(reactor, "threadpool", None)
    team: Any = getattr(pool, "_team", None)
    if team is not None and not lost(REPORTS, "twisted"):
        waiting = team.statistics().backloggedWorkCount
        threads = [thread for thread in pool.threads if isinstance(thread, PoolThread) and thread.is_alive()]
        if len(threads) >= pool.max and waiting and _all_in(threads, blocked):
            lines.append(_full(f"all {len(threads)} threads of the reactor's thread pool", waiting))
    return lines


def _all_in(threads: Collection[Any], blocked: Collection[int]) -> bool:
    return all(thread.ident in blocked for thread in threads)


def _full(pool: str, waiting: int) -> str:
    return (
        f"{pool} are blocked in calls, and {waiting} more pieces of work wait for one of them; if what the calls wait "
        "for is among those, none ever ends: give the pool more threads, or call the blocking code on the loop"
    )
