"""Run: the open calls of one loop, and how they fail when the loop ends.

Python may raise an exception between any two lines: in the main thread the one of a signal handler (Ctrl-C), in any
thread one that was set by ``PyThreadState_SetAsyncExc``. So each step of the end of a run can be repeated, and a
repetition does what is left. A step that was interrupted is called again by its caller, or tried again by the loop's
thread. The modules of this package refer to this as *interrupts*.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Hashable
from typing import Any, Protocol

from .._errors import BridgeClosed, BridgeError, DeadlockError, at
from .._threads import native
from .._watch.meter import Meter
from .._watch.watchdog import Watched, watchdog
from ..strategies.interface import Strategy
from .states import END, FORK, RUNNING, Stateful

# Why a run is over in a forked child.
FORKED = "the process was forked, and the loop stayed with the parent"


class OpenCall(Protocol):
    """A call that has been posted to the loop and has not ended."""

    work: Any  # the task, Future or Deferred of the call; None before it starts
    started: float  # in seconds of the monotonic clock
    waits: bool  # whether a thread waits for the call

    @property
    def key(self) -> Hashable:
        """An identity of the call that does not keep the call alive."""
        ...

    def end(self, value: Any, error: BaseException | None) -> None:
        """End the call with this outcome. Any thread may call this; it does nothing if the call has ended."""
        ...

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether one of these threads is known to wait for the call."""
        ...

    def on_wait(self, function: Callable[[], object]) -> None:
        """Register a function that each thread calls as it begins to wait for the call, if a thread can still do so."""
        ...

    def after_fork(self, error: BaseException) -> bool:
        """Drop the call in a forked child. Return whether the thread that has forked waits for it."""
        ...


class Owner(Protocol):
    """The interface of a bridge to the calls."""

    strategy: Strategy  # of calls that name none
    context_out: bool  # of calls that do not say it
    runs: Any  # its Runs; see runs.py, which imports this module

    # Return the run that accepts calls; start one if there is none.
    # It raises BridgeClosed if the bridge is closed or the loop ended as it started. An error that kept the loop from
    # starting is raised as it is.
    current_run: Callable[[], Run]

    @property
    def last_run(self) -> Run | None:
        """The current run, else the latest one."""
        ...

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        ...


class Run(Stateful, Watched):
    """One run of one loop: the interface to the calls. Its states and their moves are in :mod:`.states`.

    The set ``open`` holds the open calls. The code that removes a call from it must end that call. Operations of a set
    are atomic, so a call ends once even if its end races with the death of the loop.

    A caller adds its call to ``open`` and *then* looks at the state. Whoever ends the run, or refuses calls as the
    process exits, moves it and *then* fails the calls in ``open``. So a call is either refused by its caller or failed
    by the end; none is forgotten.
    """

    loop: asyncio.AbstractEventLoop  # set by the loop's thread while the run is STARTING, before the first call
    reactor: Any = None  # the reactor on the loop; None until one is needed
    post: Callable[[Callable[[], object]], object]  # calls a function on the loop's thread
    calls_here = False  # run() on the loop's thread calls the function even though no asyncio loop runs there

    def __init__(self, shutdown_timeout: float) -> None:
        super().__init__()
        self.stall_after = None
        self.meter = Meter()
        self.process = os.getpid()
        self.open: set[OpenCall] = set()
        self.left: set[OpenCall] = set()  # calls whose caller has gone, until their work has ended
        self.ident: int | None = None  # of the loop's thread, which sets it before it calls anything
        self.portal: Any = None  # anyio's portal, made when it is first asked for
        self.shutdown_timeout = shutdown_timeout
        # Work of the calls that the end has failed. The loop refers to its tasks weakly, and a task that is collected
        # before it is cancelled never cleans up.
        self._orphans: list[Any] = []

    @property
    def is_ready(self) -> bool:
        """Whether calls are, or were, accepted."""
        return self.has_been(RUNNING)

    @property
    def own_thread(self) -> threading.Thread | None:
        """The loop's thread if the bridge has started it, else None."""
        return None

    @property
    def name(self) -> str:
        """What to call the loop's thread in a log."""
        raise NotImplementedError

    def watch(self, stall_after: float | None, meter: Meter) -> None:
        """Register the run with the watchdog, and count its calls in the meter of the bridge."""
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
        """Return all open calls. Some may have no thread that waits by one of our strategies."""
        return list(self.open)

    @property
    def switches(self) -> int:
        """The number of times that a stack of the loop's thread has blocked; 0 once the loop is closed."""
        loop: Any = getattr(self, "loop", None)
        stacks = getattr(loop, "stacks", None)
        return 0 if stacks is None or loop.is_closed() else stacks.switches

    def has(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return whether the loop is the one of this run."""
        return loop is not None and getattr(self, "loop", None) is loop

    def closed_error(self) -> BridgeClosed:
        """Return a new BridgeClosed with the reason for the end of this run."""
        error = BridgeClosed(f"{self.over or 'the loop has ended'}; the call was not completed" + at("loop-ended"))
        error.__cause__ = self.cause
        return error

    def needed_reactor(self) -> Any:
        """Return the reactor on the loop, making one if that is possible; None if there is none.

        :raises ReactorConflict: another reactor runs in this process.
        """
        return self.reactor

    def check(self) -> None:
        """Check the calling thread before each call to an attached loop or reactor."""

    def explained(self, error: BaseException, x: Any) -> BaseException:
        """Return the error to raise to the caller when calling x on the loop's thread has raised ``error``.

        Most runs return ``error`` itself.
        """
        return error

    def refusal_here(self, call: str) -> BridgeError:
        """Return the error for a call that is made on the loop's own thread while the loop does not run there.

        :param call: the call as the user writes it, for the message.
        """
        return DeadlockError(
            f"{call} was called on the thread of a loop that does not run: it is starting or ending; call it "
            "before or after" + at("loop-starting-or-ending")
        )

    def end(self, reason: str, cause: BaseException | None = None) -> None:
        """Refuse further calls and fail the open ones at once. Any thread may call this; the first reason is kept."""
        self.move(END, reason, cause)
        self.refuses = True  # again: an interrupt may have come between the move and this
        watchdog.remove(self)
        while self.open:
            for call in list(self.open):
                self.fail(call, self.closed_error())

    def fail(self, call: OpenCall, error: BaseException) -> None:
        """Fail an open call. Any thread may call this; the work goes on if the loop does."""
        self._orphans.append(call.work)
        call.end(None, error)

    def forget(self) -> None:
        """Abandon the calls in a forked child.

        The loop's thread does not exist there, unless it is the one that has forked. Of the callers only the thread
        that has forked may exist, for instance when a signal handler forks during its wait.
        """
        self.move(FORK, FORKED)
        self.abandon_calls()

    def abandon_calls(self) -> None:
        """In a forked child: keep the calls from ending, but for that of the thread that has forked, which fails."""
        own = {call for call in list(self.open) if call.after_fork(self.closed_error())}
        self._orphans += [call for call in self.open if call not in own]
        self.open = own
        if own:
            # In another thread: the signal handler may have interrupted the waiter while the waiter held a lock.
            # A native one: the start of a greenlet would let others run, maybe in a child of Popen before its exec().
            native.Thread(target=self.end, args=(FORKED,), name="bridge-fork", daemon=True).start()

    def wait_closed(self) -> None:
        """Wait until a loop that a bridge owns, and that has begun to close, has ended."""

    def end_at_exit(self) -> None:
        """Begin to end the run because the process exits."""
        self.end("the process is exiting")

    def left_at_exit(self, deadline: float) -> list[str]:
        """Wait for the end of the run. Return the names of threads and tasks that have not ended by the deadline.

        :param deadline: in seconds of ``time.monotonic()``.
        """
        return []
