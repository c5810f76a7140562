"""How a thread waits for a Future of any kind: as ``block_on`` does, but without a call of its own.

``result()`` of a Future of ours, :func:`bridge.wait` and :func:`bridge.as_completed` get a waiter from
:func:`waiter_here`. On the thread of a loop it keeps the loop running, elsewhere it is one of the bridge's strategy.
"""

from __future__ import annotations

from typing import Any

from .._errors import StrategyUnavailable, at
from .._loop import worker_threads
from .._loop.switching import SwitchingLoop
from .._loop.waiter import ScopeWaiter, StackWaiter
from .._private.abilities import why_lost
from .._private.rows import SWITCHING
from .._runs.run import Run
from .._runs.runs import bridges
from .._runs.where import OnLoop, Worker, is_thread_of, where
from .._threads.condition import Condition
from ..strategies import resolve
from ..strategies.interface import Strategy, Waiter


def waiter_here(strategy: Strategy | None) -> Waiter:
    """Return a waiter for this thread.

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
    if strategy is None or strategy.unavailable() is not None:
        strategy = resolve("auto")
    return strategy.waiter()


def _in_scope(loop: Any) -> Waiter | None:
    bridge = bridges.of(where())
    run = bridge.last_run
    if run is None or not run.has(loop) or run.over is not None:
        return None
    return ScopeWaiter(loop, bridge.block_on)


class PatientCondition(Condition):
    """The condition of a Future of ours: a wait on it is as one of ``block_on``."""

    strategy: Strategy | None = None  # of the bridge that runs the work

    def waiter(self) -> Waiter:
        """Return the waiter for this thread."""
        return waiter_here(self.strategy)


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
        + (f": {lacking}" if lacking else "")
        + "; write 'await' in a coroutine, or call the blocking code in a thread: await asyncio.to_thread(function)"
        + ("" if lacking else "; or make the loop by bridge.new_event_loop, on which the call works as it stands")
        + at("cannot-switch-stacks")
    )
