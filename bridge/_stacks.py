"""The stacks of a call: of the thread that waits, of the work that it waits for, and of the loop's thread."""

from __future__ import annotations

import asyncio
import sys
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from ._adapt import describe
from ._outcome import is_machinery

if TYPE_CHECKING:
    from ._call import BlockedCall


def stalled(call: BlockedCall, seconds: float) -> str:
    """Return the warning for a call that has waited for so many seconds."""
    return "\n".join(
        (
            f"block_on({describe(call.x)}) has waited for {seconds:g} seconds, in thread {call.caller}:",
            _thread_stack(call.caller),
            "it waits for:",
            _work_stack(call.work),
            f"the loop's thread, {call.life.name}, stands at:",
            _thread_stack(call.life.ident),
        )
    )


def _thread_stack(ident: int | None) -> str:
    frame = sys._current_frames().get(ident) if ident is not None else None
    if frame is None:
        return "  (the thread has ended)"
    return _formatted(list(traceback.walk_stack(frame))[::-1])


def _work_stack(work: Any) -> str:
    if work is None:
        return "  (the loop has not started it: it is busy)"
    if not isinstance(work, asyncio.Task):
        return f"  {work!r}"
    frames: list[tuple[FrameType, int]] = []
    awaited: Any = cast(Any, work.get_coro())
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return f"  {work!r}\n{_formatted(frames)}"


def _formatted(entries: list[tuple[FrameType, int]]) -> str:
    kept = [
        (frame, line)
        for frame, line in entries
        if not is_machinery(frame.f_globals.get("__name__"), frame.f_code.co_filename)
    ]
    return "".join(traceback.StackSummary.extract(iter(kept)).format()).rstrip() or "  (inside the loop)"
