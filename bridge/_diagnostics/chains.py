"""Follow an awaited object to the last object that it waits for: through tasks, coroutines, Deferreds, generators.

This only reads, from any thread, while everything goes on. So an object may have changed by the next line. Nothing here
may call code of the user's, except a ``repr``.

Where a private name that this reads is missing, the chain ends earlier.
"""

# The types that a coroutine on the way yields and returns are unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import types
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from .._calls.calling import Calling
from .._loop.task import inner_coroutine, is_task
from .._values.cells import cell
from .._values.deferreds import deferreds, is_deferred_type

# A longer or broader chain is cut off.
_DEPTH = 50
_BRANCHES = 5


@dataclass
class Link:
    """An object that is waited for, with the frames in which it waits itself, outermost first."""

    what: Any
    frames: list[tuple[FrameType, int]] = field(default_factory=list[tuple[FrameType, int]])
    closes_cycle: bool = False  # it is in the chain already


def chain_of(awaited: Any) -> list[Link]:
    """Return the chain from an awaited object, or a coroutine, to the last object that can be known."""
    deferreds.load()  # a task may await a Deferred in a process whose calls have met none
    links: list[Link] = []
    seen: set[int] = set()
    todo: list[Any] = [awaited]
    while todo and len(links) < _DEPTH:
        each = todo.pop(0)
        if isinstance(each, deferreds.future):
            each = each.deferred
        link = Link(each, closes_cycle=id(each) in seen)
        links.append(link)
        if not link.closes_cycle:
            seen.add(id(each))
            todo = _next(each, link)[:_BRANCHES] + todo
    return links


def _next(each: Any, link: Link) -> list[Any]:
    if is_task(each):
        return _after_task(each, link)
    if is_deferred_type(type(each)):
        return deferreds.behind(each, link, frames_of)
    if isinstance(each, Calling):
        return _after_calling(each, link)
    children: Any = getattr(each, "_children", None)
    if asyncio.isfuture(each) and isinstance(children, list):  # of gather()
        return [child for child in children if not child.done()]
    if asyncio.isfuture(each):
        return _behind_shield(each)
    if isinstance(each, concurrent.futures.Future):  # of submit: what the loop has made of it
        work: Any = getattr(each, "work", None)
        return [] if work is None else [work]
    if each is None:
        return []
    link.frames, last = frames_of(each)
    return [] if last is None else [last]


def _after_task(task: Any, link: Link) -> list[Any]:
    wait: Any = getattr(task, "wait", None) or getattr(task, "_bridge_wait", None)
    if wait is not None:
        link.frames = frames_of_stacks(wait.greenlets())
        return [] if wait.future is None else [wait.future]
    link.frames, last = frames_of(task.get_coro())
    group = _tasks_of_group(link.frames)
    if group:
        return group
    waiter = getattr(task, "_fut_waiter", None)
    following = waiter if waiter is not None else last
    return [] if following is None else [following]


def _after_calling(calling: Calling, link: Link) -> list[Any]:
    wait = calling.wait
    if wait is None:  # it runs: the report shows the loop's thread
        return []
    link.frames = frames_of_stacks(wait.greenlets())
    return [] if wait.future is None else [wait.future]


def _tasks_of_group(frames: list[tuple[FrameType, int]]) -> list[Any]:
    """Return what the innermost frame waits for, if that is a TaskGroup or ``asyncio.wait``."""
    if not frames:
        return []
    frame = frames[-1][0]
    module, name = frame.f_globals.get("__name__"), frame.f_code.co_qualname
    held: Any = ()
    if (module, name) == ("asyncio.tasks", "_wait"):
        held = frame.f_locals.get("fs", ())
    elif module in ("asyncio.taskgroups", "anyio._backends._asyncio") and name.startswith("TaskGroup."):
        held = getattr(frame.f_locals.get("self"), "_tasks", ())
    return [each for each in list(held) if not each.done()]


def _behind_shield(future: Any) -> list[Any]:
    callbacks: list[Any] = list(getattr(future, "_callbacks", None) or ())
    for callback, _ in callbacks:
        inner = cell(callback, "inner")
        if inner is not None and not inner.done():
            return [inner]
    return []


_STEPS = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable")


def frames_of(awaited: Any) -> tuple[list[tuple[FrameType, int]], Any]:
    """Return the frames of a suspended coroutine or generator, outermost first, and the last object that it awaits.

    For a running one, return the frames up to where its suspended part begins.
    """
    frames: list[tuple[FrameType, int]] = []
    while awaited is not None and len(frames) < 1000:
        awaited = inner_coroutine(awaited)
        if isinstance(awaited, types.CoroutineType):
            frame, following = awaited.cr_frame, awaited.cr_await
        elif isinstance(awaited, types.GeneratorType):
            frame, following = awaited.gi_frame, awaited.gi_yieldfrom
        elif isinstance(awaited, types.AsyncGeneratorType):
            frame, following = awaited.ag_frame, awaited.ag_await
        elif type(awaited).__name__ in _STEPS:
            held = [
                each for each in gc.get_referents(awaited) if hasattr(each, "cr_frame") or hasattr(each, "ag_frame")
            ]
            awaited = held[0] if held else None
            continue
        elif type(awaited).__name__ == "FutureIter":  # of 'await future'
            held = [each for each in gc.get_referents(awaited) if asyncio.isfuture(each)]
            return frames, held[0] if held else None
        else:
            return frames, awaited if _is_waited_for(awaited) else None
        if frame is None:  # pyright: ignore[reportUnnecessaryComparison] - it has ended
            return frames, None
        frames.append((frame, frame.f_lineno))
        awaited = following
    return frames, None


def _is_waited_for(awaited: Any) -> bool:
    return asyncio.isfuture(awaited) or is_deferred_type(type(awaited))


def frames_of_stacks(stacks: list[Any]) -> list[tuple[FrameType, int]]:
    """Return the frames of a chain of greenlets: each runs under the one before it, and the last is blocked."""
    return [frame for stack in stacks for frame in frames_of_stack(stack)]


def frames_of_stack(stack: Any) -> list[tuple[FrameType, int]]:
    """Return the frames of a greenlet that is switched away, outermost first; none of one that runs."""
    return walked(stack.gr_frame)


def walked(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """Return a frame and its callers, outermost first."""
    frames: list[tuple[FrameType, int]] = []
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    frames.reverse()
    return frames
