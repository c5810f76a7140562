"""The stacks of the open calls: of the caller, of the work that it waits for, and of the loop's thread.

For the watchdog's warnings and for :func:`bridge.dump`. This only reads, in any thread, and needs no loop.
"""

from __future__ import annotations

import concurrent.futures
import linecache
import logging
import threading
import traceback
import types
from collections.abc import Iterable
from time import monotonic
from types import FrameType
from typing import Any

from .._calls import completed
from .._errors import at
from .._loop.stacks import OnLoopCall, Stacks
from .._loop.switching import SwitchingLoop
from .._loop.waiter import Told
from .._runs.run import Run
from .._threads import native
from .._values.kinds import describe
from .._values.origin import shown
from .._values.outcomes import is_machinery
from .._watch.watchdog import Watched, watchdog
from ..strategies.auto import name_of_gui
from . import idle, locks
from .chains import Link, chain_of, frames_of_stack, frames_of_stacks, walked

log = logging.getLogger("bridge")

Frames = list[tuple[FrameType, int]]

# The number of due calls that one report shows with their stacks. It counts the others.
_SHOWN = 10
# The number of blocked stacks that a report names, of a loop whose thread stands still.
_NAMED = 20
# The module of bridge.wait and bridge.as_completed.
_COMPLETED = completed.__name__


def report(target: Watched, calls: list[Any]) -> None:
    """Log one warning for each call that has waited too long. Called by the watchdog."""
    is_open = {call.key for call in target.watched()}
    calls = [call for call in calls if call.key in is_open]  # some may have ended since the watchdog looked
    for call in calls[:_SHOWN]:
        text = [_call(target, call, target.stall_after or 0.0), *_loop_thread(target)]
        log.warning("%s" + at("has-waited", "\n"), "\n".join(text))
    if len(calls) > _SHOWN:
        log.warning(
            "%d more calls on %s have waited for %g seconds; bridge.dump() prints them all" + at("has-waited"),
            len(calls) - _SHOWN,
            _name_of(target),
            target.stall_after,
        )


def everything() -> str:
    """Return every open call of every loop, with its stacks, and where the loops' threads stand."""
    targets = watchdog.targets
    runs = [target for target in targets if isinstance(target, Run)]
    taken = {id(getattr(run, "loop", None)) for run in runs}
    foreign = [target for target in targets if isinstance(target, Stacks) and id(target.loop) not in taken]
    lines: list[str] = []
    for target in [*runs, *foreign]:
        calls = open_calls(target)
        lines.append(f"{_name_of(target)}: {_count(len(calls), 'open call')}")
        for call in calls:
            lines += ["", call]
        lines += ["", *_loop_thread(target), ""]
    return "\n".join(lines or ["no loop of a bridge runs", ""])


def open_calls(target: Watched) -> list[str]:
    """Return the open calls of one loop, each as a line that says what it is and lines with its stacks."""
    now = monotonic()
    return [_call(target, call, now - call.started) for call in _all_calls(target)]


def _all_calls(target: Watched) -> list[Any]:
    calls: list[Any] = list(target.open) if isinstance(target, Run) else []
    loop: Any = _loop_of(target)
    if isinstance(loop, SwitchingLoop):
        calls += loop.stacks.calls()
    return sorted(calls, key=lambda call: call.started)


def _call(target: Watched, call: Any, seconds: float) -> str:
    """Return one call with its stacks."""
    after: list[str] = []
    waited = f"has waited for {seconds:.6g} seconds"
    if isinstance(call, OnLoopCall) and isinstance(call.work, Told):
        return _waiting_stack(target, call, seconds)
    if isinstance(call, OnLoopCall):
        where = "in a callback" if call.task is None else f"in {_shown(call.task)}"
        waited = "waits" if call.seen is None else f"has waited for more than {seconds:.6g} seconds"
        head = f"block_on({_asked(call.work)}) {waited}, on the loop's own thread, {where}:"
        caller = frames_of_stacks(call.wait.greenlets()) or _frames_of_thread(_ident_of(target))
        work = call.work
    elif call.waits:
        head = f"block_on({describe(call.x)}) {waited}, in {_thread(call.caller)}:"
        caller = _frames_of_caller(call)
        work = call.work
        after = idle.loops_in(_frames_of_thread(call.caller), _loop_of(target))
    else:
        head = f"submit({describe(call.x)}) was called {seconds:.6g} seconds ago, at:"
        return "\n".join(
            (
                head,
                shown(call.origin),
                *_held_up(call),
                "it waits for:",
                work_stack(call.work),
                *idle.reactors(target, call.work),
            )
        )
    text = _formatted(caller) or "  (the thread has ended)"
    return "\n".join((head, text, *after, "it waits for:", work_stack(work), *idle.reactors(target, work)))


def _waiting_stack(target: Watched, call: Any, seconds: float) -> str:
    """Return a stack that waits for Futures, by ``result()`` or :func:`bridge.wait`, with what it waits for."""
    waited = "waits" if call.seen is None else f"has waited for more than {seconds:.6g} seconds"
    where = "in a callback" if call.task is None else f"in {_shown(call.task)}"
    stack = frames_of_stacks(call.wait.greenlets())
    verb, futures = _futures_of(stack)
    head = f"{verb} {waited}, on the loop's own thread, {where}:"
    parts = [head, _formatted(stack or _frames_of_thread(_ident_of(target))), "it waits for:"]
    for future in [each for each in futures if not each.done()][:_SHOWN]:
        parts.append(work_stack(future))
    return "\n".join(parts)


def _futures_of(stack: Frames) -> tuple[str, list[Any]]:
    """Return the name of the function by which a stack waits for Futures, and the Futures."""
    for frame, _ in reversed(stack):
        name, held = frame.f_code.co_name, frame.f_locals
        if isinstance(held.get("self"), concurrent.futures.Future) and name in ("result", "exception"):
            return f"{name}() of a Future", [held["self"]]
        if frame.f_globals.get("__name__") == _COMPLETED and name in ("_wait", "as_completed"):
            listener: Any = held.get("listener")
            return f"bridge.{name.lstrip('_')}()", list(getattr(listener, "futures", ()))
    return "a Future", []


def is_held_up(call: Any) -> bool:
    """Return whether a thread with a loop or a GUI stands still for this submitted work. For the watchdog."""
    return bool(_standing_for(call))


def _held_up(call: Any) -> list[str]:
    lines: list[str] = []
    for ident, why, standing in _standing_for(call):
        lines.append(
            f"{_thread(ident)}, {why}, stands still for it in {standing.name}; write {standing.instead}, which lets it "
            "go on:"
        )
        lines.append(_formatted(_frames_of_thread(ident)))
    return lines


def _standing_for(call: Any) -> list[tuple[int, str, locks.Standing]]:
    """Return the threads that run a loop or a GUI and stand still for the Future of a submitted call."""
    future = getattr(call, "future", None)
    if future is None or not getattr(future, "_waiters", None):
        return []
    threads = {_ident_of(target): "which runs a loop" for target in watchdog.targets}
    gui = name_of_gui()
    if gui is not None:
        threads.setdefault(threading.main_thread().ident, f"which runs the events of {gui}")
    frames = native.current_frames()
    found: list[tuple[int, str, locks.Standing]] = []
    for ident, why in threads.items():
        standing = None if ident is None else locks.standing_in(frames.get(ident))
        if ident is not None and standing is not None and future in standing.futures:
            found.append((ident, why, standing))
    return found


def _asked(work: Any) -> str:
    """Describe what was passed to block_on, which a coroutine of ours may await."""
    if hasattr(work, "get_coro"):  # it is a task
        work = work.get_coro()
    while isinstance(work, types.CoroutineType) and is_machinery(None, work.cr_code.co_filename):
        frame = work.cr_frame
        inner: Any = None if frame is None else frame.f_locals.get("x", frame.f_locals.get("coro"))
        if inner is None:
            break
        work = inner
    return describe(work)  # pyright: ignore[reportUnknownArgumentType]


def work_stack(work: Any) -> str:
    """Return the chain of what a call's work waits for, as lines of text."""
    if work is None:
        return "  (the loop has not started it: it is busy)"
    return "\n".join(part for link in chain_of(work) for part in _link(link) if part)


def _link(link: Link) -> Iterable[str]:
    if link.closes_cycle:
        yield f"  {_shown(link.what)}, which stands above: these wait for each other, and can never end"
        return
    yield f"  {_shown(link.what)}"
    yield _formatted(link.frames)
    yield idle.loop_of_future(link.what)
    limiter = locks.limiter_in(link.frames)
    if limiter is not None:
        yield f"  (which waits for one of the {limiter.total_tokens} tokens of {limiter!r}: all are borrowed)"


def _loop_thread(target: Watched) -> list[str]:
    """Return lines that say where the loop's thread stands, or that it is idle."""
    frame = native.current_frames().get(_ident_of(target) or 0)
    name = f"the loop's thread, {_name_of(target)},"
    if frame is None:
        return [f"{name} has ended, or does not run yet"]
    if frame.f_globals.get("__name__") == "selectors":
        return [f"{name} is idle: it waits for the next event", *_run_by(target), *_full_pools(target)]
    lines = [f"{name} stands at:", _formatted(walked(frame)) or "  (inside the loop)"]
    lock = locks.waited_for(frame)
    if lock is not None:
        lines.append(f"it waits for {lock}")
    standing = locks.standing_in(frame)
    if standing is not None:
        lines.append(
            f"{standing.name} stops the thread, and the loop with it; write {standing.instead}, which lets the loop "
            "go on"
        )
    loop: Any = _loop_of(target)
    stacks = loop.stacks.calls() if isinstance(loop, SwitchingLoop) else []
    if stacks:
        lines.append(
            f"meanwhile {_count(len(stacks), 'call')} blocked on its stacks cannot go on; if one of them holds what "
            "the thread waits for, neither ever will:"
        )
        lines += [f"  {_place(frames_of_stack(call.wait.stack))}" for call in stacks[:_NAMED]]
    return lines + _run_by(target) + _full_pools(target)


def _run_by(target: Watched) -> list[str]:
    """Return lines with the program's functions that run the loop. The stacks of threads do not show them.

    The loop iterates in a greenlet, whose outermost frame has no caller. These functions are on the root stack.
    """
    loop: Any = _loop_of(target)
    root = loop.stacks.root if isinstance(loop, SwitchingLoop) else None
    text = "" if root is None else _formatted(walked(root.gr_frame))
    return ["the loop is run by:", text] if text else []


def _full_pools(target: Watched) -> list[str]:
    return locks.full_pools(_loop_of(target), getattr(target, "reactor", None), blocked_threads())


def blocked_threads() -> dict[int, Any]:
    """Return the calls that threads wait for, by thread identifier; for a thread with several the last."""
    calls = [call for target in watchdog.targets if isinstance(target, Run) for call in target.calls()]
    return {call.caller: call for call in sorted(calls, key=lambda call: call.started)}  # type: ignore[attr-defined]


def _loop_of(target: Watched) -> Any:
    return getattr(target, "loop", None)


def _ident_of(target: Watched) -> int | None:
    ident: int | None = getattr(target, "ident", None) or getattr(_loop_of(target), "_thread_id", None)
    return ident


def _name_of(target: Watched) -> str:
    if isinstance(target, Stacks):
        runs = [each for each in watchdog.targets if isinstance(each, Run) and each.has(target.loop)]
        if not runs:
            return f"of {target.loop!r}"
        target = runs[0]
    return target.name if isinstance(target, Run) else repr(target)


def _frames_of_caller(call: Any) -> Frames:
    # The waiter of a strategy that runs other greenlets meanwhile names the greenlet that waits.
    stack: Any = getattr(call.waiter, "owner", None)
    return (frames_of_stack(stack) if stack is not None else []) or _frames_of_thread(call.caller)


def _frames_of_thread(ident: int | None) -> Frames:
    return walked(native.current_frames().get(ident or 0))


def _formatted(frames: Frames) -> str:
    """Return frames as a traceback shows them, without those of the machinery: ours, asyncio's, Twisted's."""
    kept = [
        (frame, line)
        for frame, line in frames
        if not is_machinery(frame.f_globals.get("__name__"), frame.f_code.co_filename)
    ]
    return "".join(traceback.StackSummary.extract(iter(kept)).format()).rstrip()


def _place(frames: Frames) -> str:
    """Return the innermost place that is not of the machinery."""
    for frame, line in reversed(frames):
        code = frame.f_code
        if not is_machinery(frame.f_globals.get("__name__"), code.co_filename):
            text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
            return f"{code.co_filename}:{line}, in {code.co_name}: {text}"
    return "(inside the loop)"


def _thread(ident: int) -> str:
    names = [thread.name for thread in threading.enumerate() if thread.ident == ident]
    return f"thread {ident} ({names[0]})" if names else f"thread {ident}"


def _shown(what: Any) -> str:
    try:
        text = repr(what)
    except Exception as error:  # of a class of the user's, or because the object changes meanwhile
        text = f"<{type(what).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= 500 else f"{text[:497]}..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
