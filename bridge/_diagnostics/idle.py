"""What does not run, though a call waits for it: a loop, a loop that stands still meanwhile, a reactor."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Any

from .._values.deferreds import is_deferred_type
from .chains import chain_of


def loop_of_future(what: Any) -> str:
    """Return a line about the loop of a Future if that loop does not run, else an empty string."""
    if not asyncio.isfuture(what) or what.done():
        return ""
    loop = what.get_loop()
    if loop.is_running():
        return ""
    state = "is closed" if loop.is_closed() else "does not run"
    return (
        f"  (which is bound to {loop!r}, and that loop {state}: it can never finish. Make it on the bridge's loop, in "
        "a coroutine or by block_on(lambda: ...))"
    )


def loops_in(frames: list[tuple[FrameType, int]], loop: object) -> list[str]:
    """Return lines about the loops that run on a stack and stand still while it waits.

    :param loop: the loop that the stack waits for.
    """
    found: list[Any] = []
    for frame, _ in frames:
        if frame.f_code.co_varnames[:1] != ("self",):
            continue
        owner: Any = frame.f_locals.get("self")
        each = owner if isinstance(owner, asyncio.AbstractEventLoop) else None
        if (
            isinstance(owner, asyncio.Runner) and frame.f_code.co_name == "run"
        ):  # of a loop that has no frames of Python's, such as uvloop's
            each = owner.get_loop()  # which it has, as the stack is below its run()
        if each is not None and each is not loop and each not in found and each.is_running():
            found.append(each)
    return [
        f"meanwhile {each!r}, which that thread runs, stands still; in its coroutines write 'await bridge.call(...)', "
        "or call the blocking code in another thread: await asyncio.to_thread(function)"
        for each in found
    ]


def reactors(target: Any, work: Any) -> list[str]:
    """Return lines about the installed reactor, if it does not run and the work waits for a Deferred."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or work is None or reactor is getattr(target, "reactor", None) or reactor.running:
        return []
    last: object = chain_of(work)[-1].what
    if not is_deferred_type(type(last)):
        return []
    kind = f"{type(reactor).__module__}.{type(reactor).__qualname__}"
    return [
        f"the Deferred may wait for twisted.internet.reactor, of {kind}, which does not run: its timers do not go off "
        "and its connections are not served. Put it on a loop that runs: asyncio.Runner("
        "loop_factory=bridge.new_event_loop) for the program's own, or a bridge beside it, block_on(...)"
    ]
