"""block_on and run in the caller's thread: choose the loop, post the call, wait, and return the outcome.

The first call loads this module, and with it asyncio.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from time import monotonic
from types import CoroutineType
from typing import Any

from .._errors import BridgeClosed, DeadlockError
from .._loop import in_place, worker_threads
from .._loop.base import is_ours
from .._loop.switching import SwitchingLoop
from .._loop.worker_threads import loop_here
from .._private.cpython import get_running_loop
from .._runs.run import Owner, Run
from .._threads.native import get_ident
from .._threads.seconds import checked_seconds, wait_looking_up
from .._values.context import caller, library, take_variables
from .._values.deferreds import is_cancellation
from .._values.kinds import Kind, describe, discard, kind_of
from .._watch.watchdog import watchdog
from ..strategies import refused, resolve
from ..strategies.interface import Strategy
from . import asgiref, deadlock, unseen_fork
from .call import ROUTED, BlockedCall, end_of, route_of
from .errands import has_rung, leave, pending, ring_self, serve
from .finder import bridge_of
from .submit import submit
from .waiting import cannot_switch

__all__ = ["block_on", "get_running_loop", "is_ours", "loop_here", "run", "short_way", "submit"]

# Yields the core to another thread, and releases the GIL meanwhile.
_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: None)

# Kinds that need no copy of the caller's context: the loop neither calls nor awaits them.
_WITHOUT_CONTEXT = frozenset({Kind.DEFERRED, Kind.FUTURE, Kind.CONCURRENT})
_FUTURE = Kind.FUTURE  # at a fifth of the cost of the attribute

_ASGIREF = "asgiref.sync"
_modules = sys.modules

_set_caller = caller.set
_STILL_RUNS = "The work was cancelled but has not ended; it still runs."


def short_way(running: object, x: Any) -> Callable[[SwitchingLoop, Any], Any] | None:
    """Return the function that waits for x on the running loop's own thread; None if x needs :func:`block_on`.

    It does the same for the commonest kinds of x, with fewer frames: such a call is short, and a stack that is blocked
    keeps every frame between its caller and the switch.
    """
    if isinstance(running, SwitchingLoop):
        cls: type[object] = x.__class__
        if cls is CoroutineType:
            return in_place.block_coroutine
        if cls is asyncio.Future:
            return in_place.block_future
    return None


def block_on(bridge: Owner | None, x: Any, timeout: float | None, how: str | Strategy | None) -> Any:
    """Wait for x in this thread; :meth:`bridge.Bridge.block_on` has the contract."""
    running = get_running_loop()
    call: BlockedCall | None = None
    try:
        kind = kind_of(x)
        if timeout is not None:
            timeout = checked_seconds(timeout, "timeout")
        worker_loop = worker_threads.loop_of_this_thread()
        if bridge is None:
            if isinstance(running, SwitchingLoop):
                return _block_here(running, x, kind, timeout, how)
            bridge = bridge_of(running or worker_loop)
        run = bridge.current_run()
        if running is run.loop:
            return _block_here(running, x, kind, timeout, how)
        if get_ident() == run.ident:
            if not unseen_fork.is_of_parent(run):
                raise run.refusal_here(f"block_on({describe(x)})")
            unseen_fork.renew(run)  # a thread of the child's that has got the ident of the parent's loop
            run = bridge.current_run()
        strategy = _strategy_for(bridge, running, how)
        context, make = _context_for(kind, running)
        while True:
            call = _call_on(run, x, kind, make, context, strategy, worker_loop)
            if timeout is not None:
                call.limit = timeout
            run.open.add(call)
            # The exit of the process first refuses further calls, and then fails those that are open.
            if run.over is None and (run.accepts or bridge.current_run() is run):
                break
            run.open.discard(call)
            run = bridge.current_run()
        if timeout is None:
            _check_for_deadlock(call, running, worker_loop)
        return _outcome(call, x, timeout, _wait_for(call, strategy, timeout))
    except BaseException:
        if call is None:
            discard(x)
        elif call.x is not None:  # no outcome: it was refused, or interrupted, maybe before it was posted
            call.run.open.discard(call)
            discard(x)
        raise
    finally:
        if call is not None:
            if pending:
                leave(call)
            call.let_go()
        del call, x  # the error's traceback holds this frame; see the head of _loop/task.py


def _strategy_for(bridge: Owner, running: Any, how: str | Strategy | None) -> Strategy:
    """Return the strategy that the call names, or the bridge's.

    :raises StrategyUnavailable: it cannot be used here.
    """
    strategy = bridge.strategy if how is None else resolve(how)
    if running is not None and isinstance(running, SwitchingLoop) and getattr(strategy, "runs_hub", False):
        # The greenlets of a loop's thread belong to the loop. None of them runs a hub for other greenlets.
        strategy = resolve("auto")
    reason = strategy.unavailable()
    if reason is not None:
        raise refused(strategy, reason)
    return strategy


def _context_for(kind: Kind, running: Any) -> tuple[Context | None, type[BlockedCall]]:
    """Return a copy of this thread's context for the work, if it needs one, and the class of the call."""
    if kind in _WITHOUT_CONTEXT:
        return None, BlockedCall
    context = copy_context()
    name = library.get()
    if name is not None and name != "asyncio":
        context.run(library.set, None)
    return context, asgiref.call_type(running) if _ASGIREF in _modules else BlockedCall


def _call_on(
    run: Run,
    x: Any,
    kind: Kind,
    make: type[BlockedCall],
    context: Context | None,
    strategy: Strategy,
    worker_loop: Any,
) -> BlockedCall:
    """Return a new call to the run's loop."""
    route = run.post if kind not in ROUTED else route_of(run, x, kind)
    call = make(run, x, kind, route, context, strategy.waiter())
    if worker_loop is run.loop and (route == run.post or kind is Kind.CONCURRENT):
        call.scope = worker_threads.scope_of_this_thread()
        if call.scope is not None:
            call.route = run.post
    if context is not None:
        context.run(_set_caller, call)
        call.began_with = context.copy()
    return call


def _check_for_deadlock(call: BlockedCall, running: Any, worker_loop: Any) -> None:
    """Refuse a call without a limit that could never end."""
    if running is not None:
        deadlock.check(call)
    elif call.kind is _FUTURE and worker_loop is not None:
        deadlock.check_worker(call.x)


def _wait_for(call: BlockedCall, strategy: Strategy, timeout: float | None) -> bool:
    """Post the call and wait for its end. Return False if it was given up, with its work still running.

    :raises BaseException: an exception in this thread, such as KeyboardInterrupt; the work has been cancelled.
    """
    run, waiter = call.run, call.waiter
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
        done = _begin_and_wait(call, limit)
        if done and call.waiter is not waiter:
            done = _serve_and_wait(call, strategy, None if limit is None else call.started + limit)
        if not done:
            call.ask_to_time_out()
            done = _wait_patiently(call, strategy, patience if timeout != 0 else 0.0)
    except BaseException as error:
        try:
            _interrupted(call, error, patience, strategy)
        except BaseException:  # a second one, maybe before the first line of _interrupted()
            call.leave()
            raise
        finally:
            if pending:
                leave(call)
        _take_variables(call)
        raise
    return done


def _take_variables(call: BlockedCall) -> None:
    """Set in this thread what the work has set in its copy of the context."""
    before, context = call.began_with, call.context
    if before is not None and context is not None:
        if type(call) is BlockedCall:
            take_variables(before, context)
        else:
            call.take_variables(before, context)


def _outcome(call: BlockedCall, x: Any, timeout: float | None, done: bool) -> Any:
    """Return the value of a call that has ended or was given up, or raise its error."""
    try:
        meter = call.run.meter
        _take_variables(call)
        if not done:
            call.give_up()
            meter.note("timed_out")
            raise _timed_out(x, timeout, still_runs=True)
        call.x = None
        if call.error is None:
            return call.value
        if call.cancel_asked and is_cancellation(call.error):
            meter.note("timed_out")
            raise _timed_out(x, timeout, call.still_runs) from call.error
        if isinstance(call.error, BridgeClosed):
            discard(x)
        meter.note(end_of(call.error))
        raise call.error
    finally:
        del call, x  # as in block_on


def _begin_and_wait(call: BlockedCall, limit: float | None) -> bool:
    still_open = call.run.open  # before the call is posted: a run that is forgotten in a forked child has a new set
    call.begin()
    if call in still_open:
        # Yield the core to the loop before sleeping. If both threads share a core, a short call has ended when this
        # thread runs again, and neither had to be woken up. That takes two switches of threads instead of six: a thread
        # that a lock wakes up still has to wait for the GIL, which the thread that released the lock holds.
        _give_way()
        if call in still_open:
            return _wait_a_while(call, limit)
    return call.waiter.wait(limit)  # it has been notified, or is about to be


def _wait_a_while(call: BlockedCall, limit: float | None) -> bool:
    """Wait as :func:`_wait` does, and once compare the process id; see ``unseen_fork``."""
    if getattr(call.waiter, "sleeps", False) and (limit is None or limit > unseen_fork.A_WHILE):
        if call.waiter.wait(unseen_fork.A_WHILE):
            return True
        if limit is not None:
            limit -= unseen_fork.A_WHILE
    if unseen_fork.is_of_parent(call.run) and unseen_fork.move_to_new_run(call):
        return True
    return _wait(call, limit)


def _wait(call: BlockedCall, limit: float | None) -> bool:
    """Wait for the call, ``limit`` seconds at the most. Return False on time-out."""
    waiter = call.waiter
    if call.caller == threading.main_thread().ident and getattr(waiter, "sleeps", False):
        return wait_looking_up(waiter.wait, limit)
    return waiter.wait(limit)


def _serve_and_wait(call: BlockedCall, strategy: Strategy, deadline: float | None, is_patient: bool = False) -> bool:
    """Wait for the call, and run this thread's errands meanwhile. Called after a wait that a bell may have ended.

    :param deadline: in seconds of ``monotonic()``. It does not end an errand that runs.
    :param is_patient: move the deadline by the time that errands take.
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
    """Wait some seconds for a call whose work was cancelled, and run its errands. Return False on time-out."""
    deadline = monotonic() + seconds
    if pending:  # maybe an errand that was taken, and interrupted
        ring_self(call)
    # A bell may have ended the wait that was interrupted. Its waiter must not be used again then.
    return (has_rung(call) or _wait(call, seconds)) and _serve_and_wait(call, strategy, deadline, is_patient=True)


def _block_here(loop: Any, x: Any, kind: Kind, timeout: float | None, how: str | Strategy | None) -> Any:
    """Wait for x on the loop's own thread, where the stack switches."""
    if how is not None and not getattr(resolve(how), "switches_stacks", False):
        raise DeadlockError(
            f"block_on({describe(x)}, strategy={how!r}) was called on the loop's own thread, which cannot wait in that "
            "way for what it has to run itself; leave the strategy out, and the stack switches"
        )
    if not isinstance(loop, SwitchingLoop):
        raise cannot_switch(loop, f"block_on({describe(x)})")
    try:
        return in_place.block(loop, x, kind, timeout)
    finally:
        if loop.stacks.interrupted:
            in_place.raise_interrupt(loop)


def run(bridge: Owner | None, function: Callable[[], Any]) -> Any:
    """Call a function in a task on the loop's thread; :meth:`bridge.Bridge.run` has the contract."""
    running = get_running_loop()
    if bridge is None and isinstance(running, SwitchingLoop):
        return function()
    if bridge is None:
        bridge = bridge_of(running or worker_threads.loop_of_this_thread())
    run = bridge.current_run()
    if (running is not None and running is run.loop) or (run.calls_here and get_ident() == run.ident):
        return function()
    return block_on(bridge, _called(function), None, None)


async def _called(function: Callable[[], Any]) -> Any:
    return function()


def _interrupted(call: BlockedCall, error: BaseException, patience: float, strategy: Strategy) -> None:
    """Cancel the work and wait for its cleanup, after an exception in the caller's thread has ended the wait.

    A second exception, such as that of another Ctrl-C, ends this wait at once.
    """
    call.limit = patience
    done = call.is_settled  # it came as the call ended: the wait may have consumed the notification
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
