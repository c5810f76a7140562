"""The stacks of a loop: which of them are blocked, what they wait for, and which one runs.

``forwarding.py`` says why there is no call between the line that puts a greenlet in charge and the switch to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from contextvars import Context
from time import monotonic
from typing import Any

from greenlet import GreenletExit, greenlet

from .._errors import BridgeClosed, at
from .._private.rows import takes_more
from .._watch.watchdog import Watched
from .forwarding import Charge, Retired, switch
from .streams import StreamLoop


class Wait:
    """The wait of one blocked stack: for a Future, or for one iteration of the loop.

    In the latter case the wait itself stands in the loop's queue, at a third of the cost of a Handle.
    """

    __slots__ = ("base", "coro", "error", "future", "stack", "stacks", "task")
    # The attributes of a Handle that the loop reads, also in debug mode. A subclass of Handle would take 1.5 times the
    # memory.
    _cancelled = False
    _callback = _source_traceback = None
    _args = ()

    def __init__(
        self, stack: greenlet, base: Any, future: asyncio.Future[Any] | None, task: Any, stacks: Stacks, coro: Any
    ) -> None:
        self.stack = stack
        self.base: greenlet = base  # the runner: the stack itself, or the one under a foreign greenlet
        self.future = future
        self.task = task
        self.stacks: Stacks | None = stacks  # None once the wait is over
        self.coro = coro  # the coroutine that is driven in the stack; None if the stack waits for the Future itself
        self.error: BaseException | None = None

    def __call__(self, _: object = None) -> None:
        """Resume the stack. This is a callback of the loop; the runner in which it runs is parked here."""
        stacks = self.stacks
        if stacks is not None:
            self.stacks = None
            runner = stacks.active
            stacks.parked.append(runner)
            stacks.active = self.base
            try:
                value = switch(self.stack)
            except BaseException as error:
                try:
                    stacks.hand_on(runner, None, error)
                except GreenletExit:  # a signal handler raised before the parked runner was used, so it was dropped
                    raise Retired from None
            else:
                if stacks.active is not runner:
                    try:
                        stacks.hand_on(runner, value, None)
                    except GreenletExit:
                        raise Retired from None

    def _run(self) -> None:
        try:
            self()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # raised by a signal handler
            context = {"message": "error as a blocked stack was to go on", "exception": error, "handle": self}
            asyncio.get_running_loop().call_exception_handler(context)

    _run_known = _run

    def _run_with_more(self, *more: Any, **options: Any) -> None:
        self._run_known()

    if takes_more("asyncio.events:Handle", "_run", 1):
        _run = _run_with_more

    def cancelled(self) -> bool:
        """Return False: a wait never leaves the loop's queue."""
        return False

    def cancel(self, message: Any = None) -> None:
        """Cancel the Future. If it is done already, raise CancelledError in the stack, as a task does."""
        future = self.future
        if future is not None and (future.cancel(message) or future.cancelled()):
            return  # the Future raises the first cancellation, with its message
        if self.error is None:
            self.error = asyncio.CancelledError() if message is None else asyncio.CancelledError(message)

    def raise_error(self) -> None:
        """Raise the wait's error. Called in the stack, after it has resumed."""
        assert self.error is not None
        try:
            raise self.error
        finally:
            self.error = None

    def greenlets(self) -> list[greenlet]:
        """Return the runner and the foreign greenlets above it, up to the one that is blocked; for reports.

        A foreign greenlet counts as above another one if that is its parent.
        """
        found: list[greenlet] = []
        each: greenlet | None = self.stack
        while each is not None and each is not self.base and each not in found:
            found.insert(0, each)
            each = each.parent
        return [self.base, *found]


class OnLoopCall:
    """A call in which a stack is blocked, for the watchdog and reports."""

    waits = True

    def __init__(self, wait: Wait, first_seen: dict[Hashable, float]) -> None:
        self.work = wait.future if wait.coro is None else wait.coro
        # Not the id of the wait: a call has a new one each time that it suspends. If another object gets the address of
        # the work, it is another call, in another stack.
        self.key = id(self.work), id(wait.stack)
        self.seen = first_seen.get(self.key)
        self.started: float = monotonic() if self.seen is None else self.seen
        self.task = wait.task
        self.wait = wait


class _NoTracker:
    """Replaces the thread's tracker of ``twisted.python.context`` while that is not imported. It has no context."""

    contexts: tuple[Any, ...] = ({},)


class Stacks(Charge, Watched):
    """The stacks of a loop; a separate object for the reason given in ``base.Ours``."""

    __slots__ = (
        "closed_error", "context", "context_updates", "first_seen", "has_factory", "interrupted", "iterate",
        "last_root", "loop", "refusals", "run_once", "self_cancels", "spare", "stall_after", "switches", "thread",
        "tracker", "trimming", "unwatched",
    )  # fmt: skip
    look_every = 0.25

    def __init__(self, loop: StreamLoop, run_once: Callable[[], None], iterate: Callable[[], bool]) -> None:
        super().__init__()
        self.loop: StreamLoop | None = loop  # None once it is closed
        # Methods of the loop, bound once instead of for each runner.
        self.run_once = run_once
        self.iterate = iterate
        self.stall_after = None  # until a bridge uses the loop: only then is there a watchdog thread that checks it
        self.unwatched = False
        self.first_seen: dict[Hashable, float] = {}
        self.last_root: greenlet | None = None
        self.thread: threading.Thread | None = None  # the thread that the stacks belong to
        # The context of runners outside any callback, in which signal handlers run there.
        self.context = Context()
        self.switches = 0
        self.spare = 0  # the fewest runners that were parked after an iteration, since the last were ended
        self.trimming: asyncio.TimerHandle | None = None  # ends those
        self.closed_error: Callable[[], BaseException] = _closed
        self.refusals: dict[greenlet, int] | None = None  # how often each stack was refused, while the loop closes
        self.tracker: Any = _NoTracker  # Twisted's context tracker of the thread
        self.context_updates: dict[int, tuple[Context, dict[Any, Any]]] = {}
        self.has_factory = False  # whether a task factory is set
        self.self_cancels: dict[Any, Any] = {}  # the tasks that have cancelled themselves; see task.BridgeTask
        self.interrupted: Any = None  # the task whose wait Ctrl-C has cancelled, in a program on the loop's thread

    def is_kept(self, each: greenlet) -> bool:
        """Return whether this greenlet of ours will be switched to again: also if it is blocked."""
        return super().is_kept(each) or each in self._waits()

    def calls(self) -> list[OnLoopCall]:
        """Return the calls in which the loop's stacks are blocked, of several calls in one stack the innermost.

        A call does not record when it began, which would make it 1 % slower. Its start is when this method first
        returned it.
        """
        calls = [OnLoopCall(wait, self.first_seen) for wait in list(self._waits().values())]
        self.first_seen = {call.key: call.started for call in calls}
        return calls

    def _waits(self) -> dict[Any, Any]:
        loop = self.loop
        return {} if loop is None else loop._ours.streams.waits

    def part(self) -> None:
        """Drop the references to a loop that is closed: they make a cycle, which would keep the loop alive."""
        self.loop = None
        self.context = Context()
        self.run_once = self.iterate = _never_called


def _never_called() -> Any:
    raise AssertionError("a closed loop does not run")


def _closed() -> BridgeClosed:
    return BridgeClosed("the loop was closed; the call was not completed" + at("loop-ended"))
