"""The stacks of a loop: which of them wait, for what, and which one runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from contextvars import Context
from time import monotonic
from typing import Any

from greenlet import GreenletExit, greenlet

from .._errors import BridgeClosed
from .._private.rows import takes_more
from .._watch.watchdog import Watched
from .forwarding import Charge, Retired, switch
from .streams import StreamLoop


class Wait:
    """One stack that waits: for a Future, or for one turn of the loop.

    In the latter case it stands in the loop's queue itself, at a third of the cost of a Handle for a callback.
    """

    __slots__ = ("base", "coro", "error", "future", "stack", "stacks", "task")
    # What the loop reads of a Handle, in its debug mode as well. To be one would take half as much memory again.
    _cancelled = False
    _callback = _source_traceback = None
    _args = ()

    def __init__(
        self, stack: greenlet, base: Any, future: asyncio.Future[Any] | None, task: Any, stacks: Stacks, coro: Any
    ) -> None:
        self.stack = stack
        self.base: greenlet = base  # the runner that the stack is, or that a greenlet of somebody else's runs under
        self.future = future
        self.task = task
        self.stacks: Stacks | None = stacks  # None: it is over
        self.coro = coro  # that is driven in the stack, None if it waits for the Future
        self.error: BaseException | None = None

    def __call__(self, _: object = None) -> None:
        """Let the stack go on. A callback of the loop: the runner that it stands in is parked here."""
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
                except GreenletExit:  # it was thrown away as a signal handler has cut off the line that would use it
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
        except BaseException as error:  # that a signal handler has raised
            context = {"message": "error as a blocked stack was to go on", "exception": error, "handle": self}
            asyncio.get_running_loop().call_exception_handler(context)

    _run_known = _run

    def _run_with_more(self, *more: Any, **options: Any) -> None:
        self._run_known()

    if takes_more("asyncio.events:Handle", "_run", 1):
        _run = _run_with_more

    def cancelled(self) -> bool:
        """Return False: it does not leave the loop's queue."""
        return False

    def cancel(self, message: Any = None) -> None:
        """Cancel what is waited for; if that is over, raise CancelledError in the stack, as a task does."""
        future = self.future
        if future is not None and (future.cancel(message) or future.cancelled()):
            return  # the first cancellation comes out of the Future, with its own message
        if self.error is None:
            self.error = asyncio.CancelledError() if message is None else asyncio.CancelledError(message)

    def raise_error(self) -> None:
        """Raise the error in the stack, which has gone on."""
        assert self.error is not None
        try:
            raise self.error
        finally:
            self.error = None

    def greenlets(self) -> list[greenlet]:
        """Return the runner and those of others that run under it, up to the one that is blocked; for those who look.

        Two greenlets of others are seen to stand on each other if one is the other one's parent.
        """
        found: list[greenlet] = []
        each: greenlet | None = self.stack
        while each is not None and each is not self.base and each not in found:
            found.insert(0, each)
            each = each.parent
        return [self.base, *found]


class OnLoopCall:
    """A call that a stack is blocked in, for those who look at it."""

    waits = True

    def __init__(self, wait: Wait, first_seen: dict[Hashable, float]) -> None:
        self.work = wait.future if wait.coro is None else wait.coro
        # Not of the wait, of which there is one for each time that the call suspends. Another object may come to have
        # this address, and then it is another call in another stack.
        self.key = id(self.work), id(wait.stack)
        self.seen = first_seen.get(self.key)
        self.started: float = monotonic() if self.seen is None else self.seen
        self.task = wait.task
        self.wait = wait


class _NoTracker:
    """In the place of the thread's tracker of ``twisted.python.context``, while that is not imported: no context."""

    contexts: tuple[Any, ...] = ({},)


class Stacks(Charge, Watched):
    """The stacks of a loop; apart from the loop for the reason that ``base.Ours`` is."""

    __slots__ = (
        "closed_error", "context", "context_updates", "first_seen", "interrupted", "iterate", "last_root",
        "loop", "refusals", "run_once", "stall_after", "switches", "thread", "tracker", "unwatched",
    )  # fmt: skip
    look_every = 0.25

    def __init__(self, loop: StreamLoop, run_once: Callable[[], None], iterate: Callable[[], bool]) -> None:
        super().__init__()
        self.loop = loop
        # Methods of the loop's that are bound once, not for each runner.
        self.run_once = run_once
        self.iterate = iterate
        self.stall_after = None  # until a bridge is on the loop: then only is there a second thread, which may look
        self.unwatched = False
        self.first_seen: dict[Hashable, float] = {}
        self.last_root: greenlet | None = None
        self.thread: threading.Thread | None = None  # that the stacks belong to
        self.context = Context()  # of runners, outside any callback
        self.switches = 0
        self.closed_error: Callable[[], BaseException] = _closed
        self.refusals: dict[greenlet, int] | None = None  # how often each stack was refused, while the loop closes
        self.tracker: Any = _NoTracker  # Twisted's, of the thread
        self.context_updates: dict[int, tuple[Context, dict[Any, Any]]] = {}
        self.interrupted: Any = None  # the task whose wait Ctrl-C has cancelled, of a program that shares the thread

    def is_kept(self, each: greenlet) -> bool:
        """Return whether somebody is going to switch to this one, also because it is blocked."""
        return super().is_kept(each) or each in self.loop._streams.waits

    def calls(self) -> list[OnLoopCall]:
        """Return the calls that stacks of the loop's thread are blocked in, of several in one stack the innermost.

        None of them has noted when it began, which would make it slower by one per cent: it counts from when somebody
        first saw it here.
        """
        calls = [OnLoopCall(wait, self.first_seen) for wait in list(self.loop._streams.waits.values())]
        self.first_seen = {call.key: call.started for call in calls}
        return calls


def _closed() -> BridgeClosed:
    return BridgeClosed("the loop was closed; the call was not completed")
