"""The verbs as the caller's thread sees them: where a call goes, how the thread waits, and what comes out.

This module is what the first call loads: with it comes asyncio.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio import _get_running_loop as get_running_loop
from collections.abc import Callable
from contextvars import Context, copy_context
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .._errors import BridgeClosed, DeadlockError
from .._loop import in_place, worker_threads
from .._loop.base import is_ours
from .._loop.switching import SwitchingLoop
from .._loop.worker_threads import loop_here
from .._threads.colocate import LONGEST, Colocation, Pair
from .._threads.native import get_ident
from .._threads.seconds import checked_seconds, wait_looking_up
from .._values.context import caller, library, take_variables
from .._values.deferreds import is_cancellation
from .._values.kinds import Kind, describe, discard, kind_of
from .._watch.watchdog import watchdog
from ..strategies import refused, resolve
from ..strategies.interface import Strategy
from . import asgiref, deadlock
from .call import ROUTED, BlockedCall, end_of, route_of
from .errands import has_rung, leave, pending, ring_self, serve
from .submit import submit
from .waiting import cannot_switch

if TYPE_CHECKING:
    from .._runs.run import Owner
    from .submit import Find

__all__ = ["block_on", "get_running_loop", "is_ours", "loop_here", "run", "short_way", "submit"]

# Lets another thread of this core run, and the GIL go meanwhile.
_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: None)

# What needs no copy of the caller's context: nothing of it is called or awaited on the loop.
_WITHOUT_CONTEXT = frozenset({Kind.DEFERRED, Kind.FUTURE, Kind.CONCURRENT})
_FUTURE = Kind.FUTURE  # at a fifth of the cost of the attribute

_ASGIREF = "asgiref.sync"
_modules = sys.modules

_set_caller = caller.set
_STILL_RUNS = "The work was cancelled but has not ended; it still runs."


def short_way(running: object, x: Any) -> Callable[[SwitchingLoop, Any], Any] | None:
    """Return what waits for x on the running loop's own thread as :func:`block_on` would, for the commonest kinds of x.

    A call there is short, and a stack that is blocked keeps every frame on the way.
    """
    if isinstance(running, SwitchingLoop):
        cls: type[object] = x.__class__
        if cls is CoroutineType:
            return in_place.block_coroutine
        if cls is asyncio.Future:
            return in_place.block_future
    return None


def block_on(bridge: Owner | None, find: Find, x: Any, timeout: float | None, how: str | Strategy | None) -> Any:
    """Wait for x in this thread; :meth:`bridge.Bridge.block_on` has the contract.

    :param find: returns the bridge by the loop that this thread stands in, if none is given.
    """
    running = get_running_loop()
    try:
        kind = kind_of(x)
        if timeout is not None:
            timeout = checked_seconds(timeout, "timeout")
        worker_loop = worker_threads.loop_of_this_thread()
        if bridge is None:
            if isinstance(running, SwitchingLoop):
                return _block_here(running, x, kind, timeout, how)
            bridge = find(running or worker_loop)
        run = bridge.current_run()
        if running is run.loop:
            return _block_here(running, x, kind, timeout, how)
        if get_ident() == run.ident:
            raise run.refusal_here(f"block_on({describe(x)})")
        strategy = bridge.strategy if how is None else resolve(how)
        if running is not None and isinstance(running, SwitchingLoop) and strategy.name == "greenlet":
            # The greenlets of a loop's thread are the loop's: none of them runs a hub for others.
            strategy = resolve("auto")
        reason = strategy.unavailable()
        if reason is not None:
            raise refused(strategy, reason)
        context: Context | None = None
        before: Any = None  # a copy of it, if there is one, as the work finds it
        make = BlockedCall
        if kind not in _WITHOUT_CONTEXT:
            context = copy_context()
            if _ASGIREF in _modules:
                make = asgiref.call_type(running)
            name = library.get()
            if name is not None and name != "asyncio":
                context.run(library.set, None)
        while True:
            route = run.post if kind not in ROUTED else route_of(run, x, kind)
            waiter = strategy.waiter()
            call = make(run, x, kind, route, context, waiter)
            if timeout is not None:
                call.limit = timeout
            if worker_loop is run.loop and (route == run.post or kind is Kind.CONCURRENT):
                call.scope = worker_threads.scope_of_this_thread()
                if call.scope is not None:
                    call.route = run.post
            if context is not None:
                context.run(_set_caller, call)
                before = context.copy()
            try:
                run.open.add(call)
                # The exit of the process fails what is open after it has refused further calls.
                if run.over is None and (run.accepts or bridge.current_run() is run):
                    break
                run.open.discard(call)
            except BaseException:  # Ctrl-C, before the call was posted; or a refusal
                run.open.discard(call)
                raise
            run = bridge.current_run()
        if timeout is None:
            if running is not None:
                deadlock.check(call)
            elif kind is _FUTURE and worker_loop is not None:
                try:
                    deadlock.check_worker(x)
                except BaseException:
                    run.open.discard(call)
                    raise
    except BaseException:
        discard(x)
        raise
    patience = run.shutdown_timeout
    if timeout == 0:
        call.one_turn = True
        limit: float | None = patience
    else:
        limit = timeout
    try:
        if run.unwatched:
            watchdog.wake(run)
        if pending:
            ring_self(call)
        if run.colocation is None or not getattr(waiter, "sleeps", False):
            done = _begin_and_wait(call, limit)
        else:
            done = _begin_and_wait_faster(run.colocation, call, limit)
        if done and call.waiter is not waiter:
            done = _serve_and_wait(call, strategy, None if limit is None else call.started + limit)
        if not done:
            call.ask_to_time_out()
            done = _wait_patiently(call, strategy, patience if timeout != 0 else 0.0)
    except BaseException as error:
        try:
            _interrupted(call, error, patience, strategy)
        except BaseException:  # another one meanwhile, maybe before its first line
            call.leave()
            raise
        finally:
            if pending:
                leave(call)
        if context is not None:
            call.take_variables(before, context)
            call.context = None  # which has the call
        raise
    try:
        if context is not None:
            if make is BlockedCall:
                take_variables(before, context)
            else:
                call.take_variables(before, context)
        if not done:
            call.give_up()
            run.meter.note("timed_out")
            raise _timed_out(x, timeout, still_runs=True)
        call.x = None
        if call.error is None:
            return call.value
        if call.cancel_asked and is_cancellation(call.error):
            run.meter.note("timed_out")
            raise _timed_out(x, timeout, call.still_runs) from call.error
        if isinstance(call.error, BridgeClosed):
            discard(x)
        run.meter.note(end_of(call.error))
        raise call.error
    finally:
        if pending:
            leave(call)
        # The error's traceback holds this frame: with these in it, frame and error would be a reference cycle. And
        # tasks that the work has left behind have the call in their context, for as long as they run.
        call.error = call.value = call.context = None
        del call, x


def _begin_and_wait(call: BlockedCall, limit: float | None) -> bool:
    call.begin()
    still_open = call.run.open
    if call in still_open:
        # One turn for the loop before this thread falls asleep. If both share a core, a short call has ended when it
        # comes back, and neither had to be woken up: two switches of threads instead of six, since a thread that is
        # woken by a lock still has to wait for the GIL, which whoever released the lock holds.
        _give_way()
        if call in still_open:
            return _wait(call, limit)
    return call.waiter.wait(limit)  # which is notified, or is about to be


def _wait(call: BlockedCall, limit: float | None) -> bool:
    """Wait for the call, for so many seconds."""
    waiter = call.waiter
    if call.caller == threading.main_thread().ident and getattr(waiter, "sleeps", False):
        return wait_looking_up(waiter.wait, limit)
    return waiter.wait(limit)


def _serve_and_wait(call: BlockedCall, strategy: Strategy, deadline: float | None, is_patient: bool = False) -> bool:
    """Wait for the call, and run the errands of this thread meanwhile. Called when the last wait was ended, maybe.

    :param deadline: in seconds of ``monotonic()``. It does not end an errand that runs.
    :param is_patient: the time that errands take does not count.
    """
    while has_rung(call):
        began = monotonic()
        if serve(call, strategy):
            break
        now = monotonic()
        if deadline is not None and is_patient:
            deadline += now - began
        if not _wait(call, None if deadline is None else max(0.0, deadline - now)):
            return False
    return True


def _wait_patiently(call: BlockedCall, strategy: Strategy, seconds: float) -> bool:
    """Wait for so many seconds for a call whose work was cancelled, and run its errands meanwhile."""
    deadline = monotonic() + seconds
    if pending:  # maybe one that was taken, and interrupted
        ring_self(call)
    # A wait that was interrupted may have been rung, and its waiter must not be used again then.
    return (has_rung(call) or _wait(call, seconds)) and _serve_and_wait(call, strategy, deadline, is_patient=True)


def _begin_and_wait_faster(colocation: Colocation, call: BlockedCall, limit: float | None) -> bool:
    """Do the same, on one core with the loop for a short while if nobody else waits and that is the faster way now."""
    try:
        try:
            if not colocation.take(call):
                return _begin_and_wait(call, limit)
            together = colocation.choose()
            done = _begin_and_wait_together(colocation, call, limit) if together else _begin_and_wait(call, limit)
            colocation.note(together, monotonic() - call.started)
        finally:
            colocation.give_back(call)
    finally:
        colocation.give_back(call)  # once more, should Ctrl-C have ended the first
    return done


def _begin_and_wait_together(colocation: Colocation, call: BlockedCall, limit: float | None) -> bool:
    short = LONGEST if limit is None else min(limit, LONGEST)
    pair = Pair(colocation)
    try:
        try:
            pair.join()
            done = _begin_and_wait(call, short)
        finally:
            pair.part()
    finally:
        pair.part()  # once more, should Ctrl-C have ended the first
    return done or _wait(call, None if limit is None else limit - short)


def _block_here(loop: Any, x: Any, kind: Kind, timeout: float | None, how: str | Strategy | None) -> Any:
    """Wait for x on the loop's own thread, where the stack switches."""
    if how is not None and resolve(how).name not in ("auto", "greenlet"):
        raise DeadlockError(
            f"block_on({describe(x)}, strategy={how!r}) was called on the loop's own thread, which cannot wait in that "
            "way for what it has to run itself; leave the strategy out, and the stack switches"
        )
    if not isinstance(loop, SwitchingLoop):
        raise cannot_switch(loop, f"block_on({describe(x)})")
    try:
        return in_place.block(loop, x, kind, timeout)
    finally:
        if loop._stacks.interrupted:
            in_place.raise_interrupt(loop)


def run(bridge: Owner | None, find: Find, function: Callable[[], Any]) -> Any:
    """Call a function in a task on the loop's thread; :meth:`bridge.Bridge.run` has the contract."""
    running = get_running_loop()
    if bridge is None and isinstance(running, SwitchingLoop):
        return function()
    if bridge is None:
        bridge = find(running or worker_threads.loop_of_this_thread())
    run = bridge.current_run()
    if (running is not None and running is run.loop) or (run.calls_here and get_ident() == run.ident):
        return function()
    return block_on(bridge, find, _called(function), None, None)


async def _called(function: Callable[[], Any]) -> Any:
    return function()


def _interrupted(call: BlockedCall, error: BaseException, patience: float, strategy: Strategy) -> None:
    """Cancel the work and let it clean up, as the wait was ended by an exception in the caller's thread.

    Another exception meanwhile, such as that of a second Ctrl-C, leaves at once.
    """
    call.limit = patience
    done = call.is_settled  # it came just as the call ended: the notification may have been taken already
    try:
        if not done:
            call.ask_to_cancel()
            done = _wait_patiently(call, strategy, patience)
    finally:
        call.give_up()
        call.run.meter.note("cancelled")
        if call.work is None:  # never started
            discard(call.x)
    if not done:
        error.add_note(_STILL_RUNS)
    elif call.error is not None and not is_cancellation(call.error) and error.__context__ is None:
        error.__context__ = call.error


def _timed_out(x: Any, timeout: float | None, still_runs: bool) -> TimeoutError:
    error = TimeoutError(f"{describe(x)} did not finish within {timeout} seconds")
    if still_runs:
        error.add_note(_STILL_RUNS)
    return error
