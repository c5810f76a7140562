"""block_on and run in the caller's thread: find the loop, post the call, wait, and return the outcome.

The first call loads this module, and with it asyncio.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from asyncio import Future
from collections.abc import Callable
from contextvars import Context, copy_context
from gc import get_referents
from time import monotonic
from types import CoroutineType
from typing import Any

from .._errors import BridgeClosed, DeadlockError, at
from .._loop import in_place, worker_threads
from .._loop.base import is_ours
from .._loop.in_place import block_coroutine, block_future
from .._loop.switching import SwitchingLoop
from .._private.cpython import get_running_loop
from .._runs.run import Owner, Run
from .._runs.runs import bridges
from .._runs.where import NO_LOOP, Answer, Job, NoLoop, OnLoop, is_thread_of, where
from .._threads.native import get_ident
from .._threads.signals import wait_looking_up
from .._values.context import caller, library
from .._values.deferreds import is_cancellation
from .._values.kinds import Kind, describe, describe_pending, discard, kind_of, returned_kind
from .._values.numbers import checked_seconds
from .._watch.watchdog import watchdog
from ..strategies import refused, resolve
from ..strategies.interface import Strategy
from . import asgiref, deadlock, unseen_fork
from .call import MAY_BE_DEFERRED, BlockedCall, end_of
from .errands import has_rung, leave, pending, ring_self, serve
from .other_loops import BOUND, route_of
from .state import CANCELLED, OPEN, WITHDRAW, move
from .submit import submit
from .waiting import cannot_switch

__all__ = ["Future", "SwitchingLoop", "block_coroutine", "block_future"]  # and more, for _api/default.py
__all__ += ["block_on", "get_running_loop", "is_ours", "run", "submit", "where"]

# Yields the core to another thread, and releases the GIL meanwhile.
_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: None)

# Kinds that need no copy of the caller's context: the loop neither calls nor awaits them.
_WITHOUT_CONTEXT = frozenset({Kind.DEFERRED, Kind.FUTURE, Kind.CONCURRENT})
_COROUTINE, _FUTURE = Kind.COROUTINE, Kind.FUTURE  # at a fifth of the cost of the attributes

_ASGIREF = "asgiref.sync"
_modules = sys.modules

_set_caller = caller.set
_STILL_RUNS = "The work was cancelled but has not ended; it still runs."


def block_on(bridge: Owner | None, x: Any, timeout: float | None, how: str | Strategy | None, out: bool | None) -> Any:
    """Wait for x in this thread; :meth:`bridge.Bridge.block_on` has the contract."""
    call: BlockedCall | None = None
    try:
        # A fresh coroutine is the commonest kind. So it is known without a call.
        fresh = x.__class__ is CoroutineType and not (x.cr_suspended or x.cr_running or x.cr_frame is None)
        kind = _COROUTINE if fresh else kind_of(x)
        if timeout is not None:
            timeout = checked_seconds(timeout, "timeout")
        here = where()
        match here:
            case NoLoop():
                bridge = bridge or bridges.of(here, kind in MAY_BE_DEFERRED)
            case OnLoop(SwitchingLoop() as loop) if bridge is None or bridge.current_run().loop is loop:
                _check_switches(how, x)
                try:
                    return in_place.block(loop, x, kind, timeout, out is False)
                finally:
                    if loop.stacks.interrupted:
                        in_place.raise_interrupt(loop)
            case OnLoop(loop):  # one that stands still meanwhile
                bridge = bridge or bridges.of(here)
                if bridge.current_run().loop is loop:
                    _check_switches(how, x)
                    raise cannot_switch(loop, f"block_on({describe(x)})")
        run = (runs := bridge.runs).last
        if run is None or run.refuses or not run.has_served or runs.is_attached:
            run = runs.current()  # in all other cases that would return the same
        if get_ident() == run.ident:
            run = _run_elsewhere(bridge, run, x)
        strategy = _strategy_for(bridge, how, here)
        while True:
            call = _call_on(run, x, kind, strategy, here, bridge.context_out if out is None else out)
            if timeout is not None:
                call.limit = timeout
            move(call, OPEN)
            # The exit of the process first refuses further calls, and then fails those that are open.
            if not run.refuses or (run.over is None and bridge.current_run() is run):
                break
            move(call, WITHDRAW)
            run = bridge.current_run()
        if timeout is None and here is not NO_LOOP:
            _check_for_deadlock(call, here)
        done = _wait_for(call, strategy, timeout)
        _take_variables(call)
        if not done and call.leave():
            raise _timed_out(call, timeout, still_runs=True)
        call.x = None
        if call.error is None:
            return call.value
        raise _error_of(call, x, timeout)
    except BaseException:
        _drop(call, x)
        raise
    finally:
        if call is not None:
            if pending:
                leave(call)
            call.let_go()
        del call, x  # the error's traceback holds this frame; see the head of _loop/task.py


def _drop(call: BlockedCall | None, x: Any) -> None:
    """Close a coroutine that was not started, and end a call without an outcome: it was refused, or interrupted."""
    if call is None:
        discard(x)
    elif call.x is not None:
        call.abort()
        discard(x)


def _check_switches(how: str | Strategy | None, x: Any) -> None:
    """Refuse a strategy that is named in a call on the loop's own thread, unless it switches stacks."""
    if how is not None and not getattr(resolve(how), "switches_stacks", False):
        raise DeadlockError(
            f"block_on({describe(x)}, strategy={how!r}) was called on the loop's own thread, which cannot wait in that "
            "way for what it has to run itself; leave the strategy out, and the stack switches"
            + at("strategy-on-loop-thread")
        )


def _run_elsewhere(bridge: Owner, run: Run, x: Any) -> Run:
    """Refuse a call in the thread of its loop, unless a forked child's thread has only got the ident of the parent's.

    :raises DeadlockError: the loop does not run here, as it starts or ends.
    :raises StrategyUnavailable: the bridge is attached to the reactor that runs here.
    """
    if not unseen_fork.is_of_parent(run):
        raise run.refusal_here(f"block_on({describe(x)})")
    unseen_fork.renew(run)
    return bridge.current_run()


def _strategy_for(bridge: Owner, how: str | Strategy | None, here: Answer) -> Strategy:
    """Return the strategy that the call names, or the bridge's.

    :raises StrategyUnavailable: it cannot be used here.
    """
    strategy = bridge.strategy if how is None else resolve(how)
    if how is not None and bridge.runs.is_driven:  # only its own strategy runs the loop
        strategy = bridge.strategy
    if isinstance(here.loop, SwitchingLoop) and here.runs_here and getattr(strategy, "runs_hub", False):
        # The greenlets of a loop's thread belong to the loop. None of them runs a hub for other greenlets.
        strategy = resolve("auto")
    reason = strategy.unavailable()
    if reason is not None:
        raise refused(strategy, reason)
    return strategy


def _call_on(run: Run, x: Any, kind: Kind, strategy: Strategy, here: Answer, context_out: bool) -> BlockedCall:
    """Return a new call to the run's loop, with a copy of this thread's context if the work needs one."""
    context: Context | None = None
    make = BlockedCall
    if kind not in _WITHOUT_CONTEXT:
        context = copy_context()
        name = library.get()
        if name is not None and name != "asyncio":
            context.run(library.set, None)
        if _ASGIREF in _modules:
            make = asgiref.call_type(here.loop if here.runs_here else None)
    route = run.post if kind not in BOUND else route_of(run, x, kind, waits=True)
    call = make(run, x, kind, route, context, strategy.waiter())
    if here.loop is run.loop and not here.runs_here and (route == run.post or kind is Kind.CONCURRENT):
        call.scope = worker_threads.scope_of_this_thread()
        if call.scope is not None:
            call.route = run.post
    if context is not None:
        context.run(_set_caller, call)
        if context_out:
            call.began_with = context.copy()
    return call


def _check_for_deadlock(call: BlockedCall, here: Answer) -> None:
    """Refuse a call without a limit that could never end."""
    if here.runs_here:
        deadlock.check(call)
    elif call.kind is _FUTURE and isinstance(here, Job):
        deadlock.check_worker(call.x, here)


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
            call.cancel(again=False)
            done = _wait_patiently(call, strategy, patience if timeout != 0 else 0.0)
    except BaseException as error:
        try:
            _interrupted(call, error, patience, strategy)
        except BaseException:  # a second one, maybe before the first line of _interrupted()
            call.abort()
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
    if before is None or context is None:
        return
    mappings = get_referents(before, context)
    if len(mappings) != 2 or mappings[0] is not mappings[1]:  # otherwise nothing was set; see take_variables()
        call.take_variables(before, context)


def _error_of(call: BlockedCall, x: Any, timeout: float | None) -> BaseException:
    """Return the error to raise in the caller, of a call that has ended with one."""
    error = call.error
    assert error is not None
    try:
        if call.state is CANCELLED and is_cancellation(error):
            timed_out = _timed_out(call, timeout, call.still_runs, x)
            timed_out.__cause__ = error
            return timed_out
        if isinstance(error, BridgeClosed):
            discard(x)
        call.run.meter.note(end_of(error))
        return error
    finally:
        del call, x, error  # as in block_on


def _begin_and_wait(call: BlockedCall, limit: float | None) -> bool:
    still_open = call.run.open  # before the call is posted: a run that is forgotten in a forked child has a new set
    call.post()
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
    if getattr(call.waiter, "sleeps", True) and (limit is None or limit > unseen_fork.A_WHILE):
        if call.waiter.wait(unseen_fork.A_WHILE):
            return True
        if limit is not None:
            limit -= unseen_fork.A_WHILE
    if unseen_fork.is_of_parent(call.run) and unseen_fork.move_to_new_run(call):
        return True
    return _wait(call, limit)


def _wait(call: BlockedCall, limit: float | None) -> bool:
    """Wait for the call, ``limit`` seconds at the most. Return False on time-out."""
    if call.caller == threading.main_thread().ident:  # the others have nothing to look up for
        return wait_looking_up(call.waiter, limit)
    return call.waiter.wait(limit)


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


def run(bridge: Owner | None, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function in a task on the loop's thread; :meth:`bridge.Bridge.run` has the contract."""
    if not callable(function):
        try:
            raise _not_a_function(function)
        finally:
            discard(function)
    call = functools.partial(function, *args, **kwargs)
    here = where()
    if bridge is None and here.runs_here and isinstance(here.loop, SwitchingLoop):
        return _awaited_here(bridge, call())
    bridge = bridge or bridges.of(here)
    run = bridge.current_run()
    if (here.runs_here and here.loop is run.loop) or (run.calls_here and is_thread_of(run)):
        return _awaited_here(bridge, call())
    return block_on(bridge, _called(call), None, None, None)


async def _called(function: Callable[[], Any]) -> Any:
    value = function()
    return await value if _is_coroutine(value) else value


def _awaited_here(bridge: Owner | None, value: Any) -> Any:
    return block_on(bridge, value, None, None, None) if _is_coroutine(value) else value


def _is_coroutine(value: object) -> bool:
    return value.__class__ is CoroutineType


def _not_a_function(x: Any) -> TypeError:
    if returned_kind(x) is None:
        return TypeError(
            f"run() takes a function and its arguments, not {describe(x)}, of type {type(x).__name__}"
            + at("takes-a-function")
        )
    name: str | None = x.__qualname__ if _is_coroutine(x) else None
    instead = "block_on(...)" if name is None else f"block_on({name}(...)), or run({name}, ...)"
    return TypeError(
        f"run() takes a function and its arguments, not {describe(x)}; write {instead}" + at("takes-a-function")
    )


def _interrupted(call: BlockedCall, error: BaseException, patience: float, strategy: Strategy) -> None:
    """Cancel the work and wait for its cleanup, after an exception in the caller's thread has ended the wait.

    A second exception, such as that of another Ctrl-C, ends this wait at once.
    """
    call.limit = patience
    done = not call.is_open  # it came as the call ended: the wait may have consumed the notification
    try:
        if not done:
            call.cancel()
            done = _wait_patiently(call, strategy, patience)
    finally:
        call.leave()
        call.run.meter.note("cancelled")
        if call.work is None:  # never started
            discard(call.x)
    if not done:
        error.add_note(_STILL_RUNS)
    elif call.error is not None and not is_cancellation(call.error) and error.__context__ is None:
        error.__context__ = call.error


def _timed_out(call: BlockedCall, timeout: float | None, still_runs: bool, x: Any = None) -> TimeoutError:
    error = TimeoutError(f"{describe_pending(call.x if x is None else x)} did not finish within {timeout} seconds")
    if still_runs:
        error.add_note(_STILL_RUNS)
    call.run.meter.note("timed_out")
    return error
