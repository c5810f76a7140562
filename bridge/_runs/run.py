"""Run: the calls that are open on one loop, and what becomes of them when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Hashable
from typing import Any, Protocol

from .._errors import BridgeClosed, BridgeError, DeadlockError
from .._watch.meter import Meter
from .._watch.watchdog import Watched, watchdog
from ..strategies.interface import Strategy


class OpenCall(Protocol):
    """A call that has been posted to the loop and not ended."""

    work: Any  # what the loop made of it, such as a task; None before it starts
    started: float  # by the monotonic clock
    waits: bool  # whether a thread waits for it

    @property
    def key(self) -> Hashable:
        """What tells the call from every other one, without keeping it alive."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the call with the error, from any thread; does nothing if it has ended."""
        ...

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether one of these threads waits for the call, as far as can be known."""
        ...

    def on_wait(self, function: Callable[[], object]) -> None:
        """Have a function called by each thread that begins to wait for the call from now on, if one can."""
        ...

    def forget(self, error: BaseException) -> bool:
        """Let go of the call in a forked child. Return whether the thread that has forked waits for it."""
        ...


class Owner(Protocol):
    """The bridge that a call goes to, as the calls see it."""

    strategy: Strategy  # how its callers wait, if a call does not say

    # Return the run that takes calls; start one if none does.
    # It raises BridgeClosed if the bridge is closed or the loop ended as it started, and what kept it from starting.
    current_run: Callable[[], Run]

    @property
    def last_run(self) -> Run | None:
        """The run that runs or ran last."""
        ...

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        ...


class Run(Watched):
    """One run of one loop, as the calls see it.

    Calls are counted in ``open``, a set, and whoever removes a call from it has the right, and the duty, to end it:
    set operations are atomic, so a call ends once however its end races with the loop's death.

    A caller adds its call to ``open`` and *then* looks at ``over`` and ``accepts``; the loop's end sets the first, the
    exit of the process the second, and *then* fails what is in ``open``. So a call is either refused by its caller or
    failed by the end, and never forgotten.
    """

    loop: asyncio.AbstractEventLoop
    reactor: Any = None  # the reactor on the loop; None until somebody needs it
    post: Callable[[Callable[[], object]], object]  # call a function on the loop's thread
    calls_here = False  # run() on the loop's thread calls the function though no asyncio loop runs there

    def __init__(self, shutdown_timeout: float) -> None:
        self.stall_after = None
        self.meter = Meter()
        self.open: set[OpenCall] = set()
        self.left: set[OpenCall] = set()  # those whose caller has gone, until their work has ended
        self.is_ready = False
        # Whether a call need only look at this: it is ready, not over, and the process is not exiting.
        self.accepts = False
        self.ident: int | None = None  # the thread's
        self.portal: Any = None  # anyio's, once somebody has asked for it
        self.over: str | None = None  # why this run has ended
        self.cause: BaseException | None = None
        self.shutdown_timeout = shutdown_timeout
        # The work of calls that the end has failed: the loop itself refers to its tasks weakly, and one that is garbage
        # before it is cancelled never cleans up.
        self._orphans: list[Any] = []

    @property
    def own_thread(self) -> threading.Thread | None:
        """The thread of ours in which the loop runs; None if it is somebody else's."""
        return None

    @property
    def name(self) -> str:
        """What to call the loop's thread in a log."""
        raise NotImplementedError

    def watch(self, stall_after: float | None, meter: Meter) -> None:
        """Let the watchdog look at the calls, and count them in the meter of the bridge."""
        self.stall_after = stall_after
        self.meter = meter
        stacks: Any = getattr(getattr(self, "loop", None), "stacks", None)
        if stacks is not None:
            stacks.stall_after = stall_after
            watchdog.patience_changed(stacks)
        watchdog.add(self)

    def calls(self) -> list[OpenCall]:
        """Return the open calls that a thread waits for."""
        return [call for call in list(self.open) if call.waits]

    def watched(self) -> list[OpenCall]:
        """Return the open calls, those too that no thread waits for in one of our ways."""
        return list(self.open)

    @property
    def switches(self) -> int:
        """How often a stack of the loop's thread has blocked, while the loop is not closed."""
        loop: Any = getattr(self, "loop", None)
        stacks = getattr(loop, "stacks", None)
        return 0 if stacks is None or loop.is_closed() else stacks.switches

    def has(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return whether that is this run's loop."""
        return loop is not None and getattr(self, "loop", None) is loop

    def closed_error(self) -> BridgeClosed:
        """Return a new BridgeClosed that says why this run has ended."""
        error = BridgeClosed(f"{self.over or 'the loop has ended'}; the call was not completed")
        error.__cause__ = self.cause
        return error

    def needed_reactor(self) -> Any:
        """Return the reactor on the loop, which is made if it can be; None if there is none.

        :raises ReactorConflict: another reactor runs in this process.
        """
        return self.reactor

    def check(self) -> None:
        """Look where the caller stands, before each call to a loop of someone else's."""

    def explained(self, error: BaseException, x: Any) -> BaseException:
        """Return the error for the caller, as calling x on the loop's thread has raised one: most often that one."""
        return error

    def refusal_here(self, call: str) -> BridgeError:
        """Return the error for a call on the loop's own thread, at a time when the loop does not run there.

        :param call: as it is written, for the message.
        """
        return DeadlockError(
            f"{call} was called on the thread of a loop that does not run: it is starting or ending; call it "
            "before or after"
        )

    def end(self, reason: str, cause: BaseException | None = None) -> None:
        """Refuse further calls and fail the open ones at once; any thread may call this, the first one counts."""
        if self.over is None:
            self.cause = cause
            self.over = reason
            self.accepts = False
        watchdog.remove(self)
        while self.open:
            for call in list(self.open):
                self.fail(call, self.closed_error())

    def fail(self, call: OpenCall, error: BaseException) -> None:
        """Fail an open call. Its work goes on, if the loop does; any thread may call this."""
        self._orphans.append(call.work)
        call.fail(error)

    def forget(self) -> None:
        """Let go of the calls in a forked child: neither the loop's thread exists there nor any caller but one, maybe.

        A call that the forking thread has open itself fails, in the child; it may stand in a signal handler inside.
        """
        if self.over is None:
            self.over = "the process was forked, and the loop stayed with the parent"
        self.accepts = False
        own = {call for call in list(self.open) if call.forget(self.closed_error())}
        self._orphans += [call for call in self.open if call not in own]
        self.open = own
        if own:
            # Not here: the handler may have interrupted the waiter while that held a lock.
            threading.Thread(target=self.end, args=(self.over,), name="bridge-fork", daemon=True).start()

    def wait_closed(self) -> None:
        """Wait until a loop of ours, that begins to close, has ended."""

    def end_at_exit(self) -> None:
        """Start to end, as the process exits."""
        self.end("the process is exiting")

    def left_at_exit(self, deadline: float) -> list[str]:
        """Wait for the end and return names of what has not ended by the deadline, in seconds of ``monotonic()``."""
        return []
