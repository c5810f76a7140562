"""How a thread waits for a Future of any kind: as ``block_on`` does, but without a call of its own.

``result()`` of a Future of ours, :func:`bridge.wait` and :func:`bridge.as_completed` get a waiter from
:func:`waiter_here`. It runs meanwhile what the thread has to keep running: the loop, a GUI, gevent's hub, other
greenlets. Most threads have nothing to keep running, and wait on a lock.
"""

from __future__ import annotations

from typing import Any

from .._errors import StrategyUnavailable
from .._loop import worker_threads
from .._loop.switching import SwitchingLoop
from .._loop.waiter import ScopeWaiter, StackWaiter
from .._private.abilities import why_lost
from .._private.rows import SWITCHING
from .._runs.run import Run
from .._runs.runs import bridges
from .._runs.where import NO_LOOP, OnLoop, Worker, is_thread_of, where
from .._threads.condition import Condition
from ..strategies import special_waiter
from ..strategies.interface import Strategy, Waiter


def waiter_here(strategy: Strategy | None) -> Waiter | None:
    """Return a waiter that runs what this thread has to keep running meanwhile; None if that is nothing.

    :param strategy: the bridge's. Where it cannot be used, and for None, a strategy that fits the place is taken.
    """
    match where():
        case OnLoop(SwitchingLoop() as loop):
            return StackWaiter(loop)
        case Worker(loop) if worker_threads.scope_of_this_thread() is not None:
            waiter = _in_scope(loop)
            if waiter is not None:
                return waiter
        case _:
            pass
    special = getattr(strategy, "special", None)
    if special is not None:
        found: Waiter | None = special()
        return found
    if strategy is None or strategy.unavailable() is not None:
        return special_waiter()
    other = strategy.waiter()
    return None if getattr(other, "sleeps", False) else other


def _in_scope(loop: Any) -> Waiter | None:
    bridge = bridges.of(where())
    run = bridge.last_run
    if run is None or not run.has(loop) or run.over is not None:
        return None
    return ScopeWaiter(loop, bridge.block_on)


class PatientCondition(Condition):
    """The condition of a Future of ours: a wait on it is as one of ``block_on``."""

    strategy: Strategy | None = None  # of the bridge that runs the work

    def waiter(self) -> Waiter | None:
        """Return the waiter for this thread; None for a wait on a lock."""
        strategy = self.strategy
        special = getattr(strategy, "special", None)
        if special is not None and where() is NO_LOOP:
            found: Waiter | None = special()  # the commonest case, with one call less
            return found
        return waiter_here(strategy)


def check_place(run: Run, call: str) -> None:
    """Refuse to wait here for work on that run's loop, if this is the thread of the loop and no stack can switch.

    :param call: the refused call as it is written, for the message.
    :raises StrategyUnavailable: the loop that runs here cannot switch stacks.
    :raises DeadlockError: this is the thread of a loop that is starting or ending.
    """
    match where():
        case OnLoop(loop):
            if loop is run.loop and not isinstance(loop, SwitchingLoop):
                raise cannot_switch(loop, call)
        case _:
            if is_thread_of(run):
                raise run.refusal_here(call)


def cannot_switch(loop: Any, call: str) -> StrategyUnavailable:
    """Return the error for a call on the thread of a loop that cannot go on meanwhile."""
    lacking = why_lost(SWITCHING)
    return StrategyUnavailable(
        f"{call} was called on the loop's own thread, where only a loop of ours can switch stacks, and this is "
        f"{type(loop).__module__}.{type(loop).__name__}"
        + (f": {lacking}" if lacking else ", from the user's loop_factory")
        + "; write 'await' in a coroutine, or call the blocking code in a thread: await asyncio.to_thread(function)"
    )
