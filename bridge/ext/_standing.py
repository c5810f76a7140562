"""Work on the default bridge whose caller's thread runs a loop of its own, which stands still until the work ends.

Work that waits for a Future of that loop would never end. asyncio refuses that in an ``await``, but not in
``asyncio.wait``, nor where a callback is added to the Future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

from .. import DeadlockError, default_bridge
from .._diagnostics.chains import chain_of
from .._errors import at
from .._loop.base import start_task
from .._loop.task import is_task
from .._values.context import take_variables
from .._values.kinds import describe, discard

# Seconds between two looks. Work is given up when two looks find the same.
_LOOK = 0.5

ADVICE = (
    "What belongs to that loop (a Future, a task, a client that was made on it) cannot be used in such a nested run: "
    "make it in the coroutine that is passed, or write 'await' on that loop instead of the nested run"
)

# The loops that stand still for the work that runs in this context.
_standing_still: ContextVar[tuple[asyncio.AbstractEventLoop, ...]] = ContextVar("bridge_standing_still", default=())


def stands_still(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop stands still for the work that calls this."""
    return loop in _standing_still.get()


class _Watch:
    """Looks now and then what a task waits for, and cancels it if only a loop that stands still could go on with that.

    :param standing: that loop.
    """

    def __init__(self, task: asyncio.Task[Any], standing: asyncio.AbstractEventLoop) -> None:
        self.awaited: Any = None  # what the task was cancelled for
        self._task = task
        self._standing = standing
        self._before: list[int] = []
        self._timer = task.get_loop().call_later(_LOOK, self._look)
        task.add_done_callback(self._stop)

    def _stop(self, _: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        chain = [link.what for link in chain_of(self._task)]
        awaited = self._only_theirs(chain)
        found = [id(each) for each in chain]
        if awaited is not None and found == self._before:
            self.awaited = awaited
            self._task.cancel()
            return
        self._before = found if awaited is not None else []
        self._timer = self._task.get_loop().call_later(_LOOK, self._look)

    def _only_theirs(self, chain: list[Any]) -> Any:
        """Return the first object in the chain that belongs to the other loop, unless other work may end the wait."""
        theirs: list[Any] = []
        for each in chain:
            if asyncio.isfuture(each) and each.get_loop() is self._standing:
                theirs.append(each)
            elif theirs or not is_task(each) or getattr(each, "_fut_waiter", None) is None:
                return None  # an own Future, which some other event may end; or a task that is about to take a step
        return theirs[0] if theirs else None


def run_beside(coro: Coroutine[Any, Any, Any], context: Context, standing: asyncio.AbstractEventLoop) -> Any:
    """Run a coroutine on the default bridge, in a task of its own, for a thread whose own loop stands still meanwhile.

    :param context: that the task begins with; what the task sets in its own is set there afterwards.
    :raises DeadlockError: the coroutine waits for nothing but what belongs to that loop. It has been cancelled.
    """
    name = describe(coro)
    watches: list[_Watch] = []
    contexts: list[Context] = []

    def begin() -> asyncio.Task[Any]:
        # Not in the context itself: this one is of the call, so that in_caller() finds the thread that waits for it.
        contexts.extend([copy_context(), copy_context()])
        task = start_task(asyncio.get_running_loop(), coro, contexts[1])
        if not task.done():
            watches.append(_Watch(task, standing))
        return task

    begin.__qualname__ = f"of a nested run of {name}"  # for a report of the watchdog
    token: Any = None
    try:
        token = context.run(_standing_still.set, (*_standing_still.get(), standing))
        return context.run(default_bridge().block_on, begin)
    except asyncio.CancelledError:
        if not watches or watches[0].awaited is None:
            raise
    except RuntimeError as error:
        if "different loop" in str(error) or "different event loop" in str(error):
            error.add_note(f"The work was called where {standing!r} runs. {ADVICE}.")
        raise
    finally:
        if contexts:
            context.run(take_variables, *contexts)
        if token is not None:
            context.run(_standing_still.reset, token)
        discard(coro)  # if it has not begun
    raise DeadlockError(
        f"{name} would never end: it waits for {describe(watches[0].awaited)}, which belongs to {standing!r}; that "
        f"loop runs in the thread of the caller and stands still while the caller waits. {ADVICE}" + at("nested-run")
    )
