"""Factories of runs: in a thread that the bridge starts, or on a loop or reactor that the program runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import BridgeClosed, BridgeError, at
from .._threads.native import new_lock
from .._values.origin import place_of, users_frame
from .exit import process_exit
from .runs import Runs, engine
from .states import LOST

if TYPE_CHECKING:
    import asyncio

    from .attached import AttachedReactor
    from .options import Options, Settings
    from .owned import LoopThread
    from .program import AttachedLoop
    from .run import Owner, Run


class OwnedRuns(Runs):
    """Starts a loop in a thread of its own when a call comes and no loop runs."""

    last: LoopThread | None

    def __init__(self, owner: Owner, options: Options) -> None:
        super().__init__(owner, options)

    def current(self) -> Run:
        """Return the loop thread that runs; start one if there is none.

        :raises BridgeClosed: the bridge is closed, or the loop ended as it started.
        :raises BaseException: the error that kept the loop from starting.
        """
        run = self.last
        if run is not None and run.accepts:
            return run
        return self._start()

    def _start(self) -> Run:
        engine.load()
        if process_exit.has_begun:
            return process_exit.run_of(self.last)
        from .where import loop_here

        run = self.last
        if run is not None and run.state.is_over and run.has(loop_here()):
            # This is the thread of a loop that is shutting down, or a worker that the shutdown waits for.
            raise run.closed_error()
        with self.starting:
            if self.is_closed:
                raise BridgeClosed(f"{self.owner!r} takes no more calls; make a new Bridge()" + at("bridge-closed"))
            run = self.last
            started = self._new_after(run) if run is None or run.state.is_over else run
            process_exit.watch_child()
            # Also if the run was made by an earlier call: a signal handler may have blocked it, or raised, before it
            # started the run.
            started.start()
        if self.is_closed:  # the bridge was closed meanwhile; close() may have found no run
            started.begin_to_close(self._closed(), final=True)
        started.wait_ready()
        if started.state.is_over:
            if started.was_interrupted or started.has_given_way:  # the latter before this call was open
                return self._start()
            raise started.closed_error()
        return started

    def _new_after(self, run: LoopThread | None) -> LoopThread:
        """Make the next run, unless a signal handler has made one meanwhile. Return the one that ``last`` holds."""
        from .owned import LoopThread

        if run is not None:
            run.wait_ended()
        options = self.options
        new = LoopThread(
            name=options.name or "bridge",
            loop_factory=options.loop_factory,
            install_reactor=options.install_reactor,
            await_deferreds=options.await_deferreds,
            owner=self.owner,
            previous=run or self.parents,
            shutdown_timeout=options.shutdown_timeout,
        )
        if self.last is run:
            new.watch(options.stall_after, self.meter)
            self.last = new
            process_exit.check(new)
        return self.last or new

    def begin_to_close(self) -> LoopThread | None:
        """Begin to close. Return the run that is closing, since another thread may replace ``last`` before it ends."""
        self.is_closed = True
        run = self.last
        if run is not None:
            run.begin_to_close(self._closed(), final=True)
        return run

    def _closed(self) -> str:
        return f"{self.owner!r} was closed"

    def drop(self) -> bool:
        """Begin to end the loop. Return whether it was running."""
        run = self.last
        if run is None or run.state.is_over:
            return False
        run.begin_to_close("its Bridge was dropped without close()")
        return True

    def forget(self) -> None:
        """Start afresh in a forked child: the loop belongs to the parent."""
        self.starting = starting = new_lock()  # another thread may have held the old one
        with starting:  # a child that has called no hooks may have threads already; they start no run meanwhile
            run = self.parents = self.last
            self.last = None
            if run is not None:
                run.forget()


class DefaultRuns(OwnedRuns):
    """The runs of the default bridge: after a close the next call starts a new run.

    While nobody uses it, it leaves the installed reactor to a loop that the program runs.
    """

    def __init__(self, owner: Owner, options: Options, settings: Settings) -> None:
        super().__init__(owner, options)
        self._settings = settings

    def _new_after(self, run: LoopThread | None) -> LoopThread:
        self._settings.started_at = place_of(users_frame())
        new = super()._new_after(run)
        if self.options.install_reactor is None:
            new.on_claim = self._leave_reactor
        return new

    def _leave_reactor(self) -> None:
        with self.starting:  # so that no call begins with the run that may end
            if self.last is not None:
                from .claimed import leave_reactor

                leave_reactor(self.last)
            elif self.parents is not None:  # in a forked child
                for reactor in self.parents.hand_over():
                    reactor.owner = reactor.leave = None
                self.parents.reactor = None

    def begin_to_close(self) -> LoopThread | None:
        """Begin to close. Return the run that is closing."""
        run = self.last
        if run is not None:
            run.begin_to_close("the default bridge was closed")
        self._settings.reopen()
        return run

    def drop(self) -> bool:
        """Do nothing: the default bridge exists until the process ends."""
        return False


class AttachedRuns(Runs):
    """Follows a loop or a reactor that the program runs. Each time that it runs is one run."""

    is_attached = True

    def __init__(self, owner: Owner, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(owner, options)
        self._loop = loop
        self.last = self._attach()

    def know_workers(self) -> None:
        """Have the worker threads of the loop, and of a reactor on it, know which loop they work for."""
        from .._loop import worker_threads
        from .._loop.base import BridgeLoop

        if isinstance(self._loop, BridgeLoop):  # they know
            return
        if not self.last.calls_here:
            worker_threads.know_workers_of(self._loop)
        if self.last.reactor is not None:
            worker_threads.know_threads_of(self.last.reactor, self._loop)

    def take_options(self, options: Options) -> None:
        """Replace the options, and apply ``stall_after`` to the current run."""
        super().take_options(options)
        self.last.watch(options.stall_after, self.meter)

    def _attach(self) -> AttachedLoop | AttachedReactor:
        from .program import attach

        process_exit.check()
        run = attach(self._loop, self.options.shutdown_timeout)
        process_exit.check(run)
        run.watch(self.options.stall_after, self.meter)
        return run

    def current(self) -> Run:
        """Return the run of the loop.

        :raises BridgeClosed: the bridge is closed.
        :raises BridgeError: the loop does not run.
        """
        run: AttachedLoop | AttachedReactor = self.last
        if run.accepts and self._loop.is_running():
            run.check()
            return run
        if process_exit.has_begun:
            return process_exit.run_of(run)
        with self.starting:
            self._check_open()
            run = self.last
            if run.calls_here and run.state.is_over and self._loop.is_closed():
                raise run.closed_error()  # a reactor that has stopped never runs again
            if not self._loop.is_running():
                state = "is closed" if self._loop.is_closed() else "does not run"
                raise BridgeError(
                    f"the loop that {self.owner!r} is attached to, {self._loop!r}, {state}; run it, or use a Bridge() "
                    "of its own" + at("loop-not-running")
                )
            if run.state.is_over:
                self.last = run = self._attach()
                if not self._loop.is_running():  # it has stopped meanwhile, without a notification to the new run
                    run.end("the loop that the bridge is attached to has stopped")
            run.check()
            return run

    def _check_open(self) -> None:
        if self.last.state is LOST:
            raise BridgeClosed(
                f"the loop that {self.owner!r} is attached to runs in the process that this one was forked from; "
                "attach to a loop of this one, or use a Bridge()" + at("forked-child")
            )
        if self.is_closed:
            raise BridgeClosed(
                f"{self.owner!r} takes no more calls; attach another: Bridge.attach(loop)" + at("bridge-closed")
            )

    def begin_to_close(self) -> None:
        """Detach from the loop, which goes on."""
        self.is_closed = True
        self.last.detach(f"{self.owner!r} was closed")

    def drop(self) -> bool:
        """Detach from the loop. Return False: the bridge owns nothing, so nobody had to close it."""
        # None if attaching has failed. A run that is over has nothing left to detach from, and the interpreter may be
        # taking its modules down.
        if self.last is not None and not self.last.state.is_over:
            self.last.detach("its Bridge was dropped")
        return False

    def forget(self) -> None:
        """Start afresh in a forked child. A loop that was running is lost there; any other may still be run."""
        self.starting = new_lock()
        self.parents = self.last
        if self.last is not None:  # None while another thread is attaching
            self.last.forget()


class AnyioRuns(AttachedRuns):
    """The same for a loop that nobody has attached, for calls of anyio's worker threads."""

    serves_anyio_only = True
