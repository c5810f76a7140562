"""A loop that is run by the thread that waits, and by nobody else: a test session's.

Between two waits the loop stands still, and so does everything on it. The main thread runs it in :class:`DrivingWaiter`
until its call has ended; or others run it there, by ``run_until_complete`` and the like. An :class:`AttachedLoop` ends
when its loop stops. This run goes on until it is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .._errors import DeadlockError, at
from .._private.abilities import lost
from .._private.cpython import get_running_loop
from .._private.rows import SWITCHING
from .._threads.lock_waiter import LockWaiter
from .._threads.native import get_ident
from ..strategies.interface import Waiter
from .exit import process_exit
from .factories import AttachedRuns
from .program import AttachedLoop, ProgramLoop, WithReactor
from .run import Run

_STOPPED = "the loop of the tests was stopped"


class Driven(WithReactor):
    """A loop that enters ``around()`` for as long as it runs."""

    around: Callable[[], AbstractContextManager[object]]

    def __init__(self) -> None:
        self.around = nullcontext
        super().__init__()

    def run_forever(self) -> None:
        """Run until stop() is called."""
        if self.is_running():
            super().run_forever()  # raises RuntimeError
            return
        with self.around():
            super().run_forever()

    def _leave_reactor(self) -> None:
        """Part from the reactor if it is unused. Between two waits the loop stands still, and is not idle."""
        from .._twisted import reactor as reactors

        reactor = self._ours.reactor
        if reactor is None or reactors.is_unused(reactor):
            super()._leave_reactor()


class _SwitchingDriven(Driven, ProgramLoop):
    pass


def new_driven_loop() -> Driven:
    """Return a loop that the threads that wait run."""
    return Driven() if lost(SWITCHING) else _SwitchingDriven()


class DrivenRun(AttachedLoop):
    """The run of such a loop, through all its stops."""

    def _stopped(self) -> None:
        """Do nothing: the loop will run again."""

    def stopped_by_others(self) -> None:
        """End the run, because something has stopped the loop during a wait: ``loop.stop()`` or ``reactor.stop()``."""
        self.detach(_STOPPED)


class DrivenRuns(AttachedRuns):
    """The one run of such a loop."""

    is_driven = True

    def _attach(self) -> Any:
        process_exit.check()
        run = DrivenRun(self._loop, self.options.shutdown_timeout)
        process_exit.check(run)
        run.watch(self.options.stall_after, self.meter)
        return run

    def current(self) -> Run:
        """Return the run, whether the loop runs at the moment or not.

        :raises BridgeClosed: the bridge is closed, or the loop was stopped.
        """
        run: DrivenRun = self.last
        if run.accepts:
            return run
        if process_exit.has_begun:
            return process_exit.run_of(run)
        self._check_open()
        raise run.closed_error()

    def begin_to_close(self) -> None:
        """Do nothing: ``default_bridge().close()`` in a test does not end the loop that other tests share."""

    def end(self) -> None:
        """Close the bridge, as the loop is about to be closed."""
        super().begin_to_close()


class Driving:
    """The strategy for it: the main thread runs the loop while it waits; other threads wait on a lock."""

    name = "driving"

    def __init__(self, loop: Driven, stopped: Callable[[], object]) -> None:
        self._loop = loop
        self._stopped = stopped

    def unavailable(self) -> str | None:
        """Return None: where the loop cannot be run, :meth:`waiter` says so."""
        return None

    def waiter(self) -> Waiter:
        """Return a waiter for this thread.

        :raises DeadlockError: this is the main thread, and another loop runs in it.
        """
        if get_ident() != threading.main_thread().ident:
            return LockWaiter()
        running = get_running_loop()
        if running is not None and running is not self._loop:
            raise DeadlockError(
                f"the loop of the tests cannot run in this thread while {running!r} runs there; wait for its work "
                "before that loop begins, or await it in an async test" + at("loop-of-the-tests")
            )
        return DrivingWaiter(self._loop, self._stopped)


class DrivingWaiter:
    """Runs the loop in this thread until it is notified."""

    sleeps = False

    def __init__(self, loop: Driven, stopped: Callable[[], object]) -> None:
        self._loop = loop
        self._when_stopped = stopped
        self._is_notified = self._runs = self._is_late = False

    def wait(self, timeout: float | None) -> bool:
        """Run the loop. Return False after ``timeout`` seconds, or if something else has stopped it."""
        self._runs, self._is_late = True, False
        try:
            if not self._is_notified:
                timer = None if timeout is None else self._loop.call_later(timeout, self._end)
                try:
                    self._loop.run_forever()
                finally:
                    if timer is not None:
                        timer.cancel()
        finally:
            self._runs = False
        if not (self._is_notified or self._is_late):
            self._when_stopped()  # which notifies this waiter, unless its call has ended
        return self._is_notified

    def notify(self) -> None:
        """End the wait. Any thread may call this."""
        self._is_notified = True
        if get_running_loop() is self._loop:
            self._stop()
        elif self._runs:
            try:
                self._loop.call_soon_threadsafe(self._stop)
            except RuntimeError:  # the loop is closed
                pass

    def _end(self) -> None:
        self._is_late = True
        self._stop()

    def _stop(self) -> None:
        if self._runs:  # else a stop would end the next wait at once
            self._loop.stop()
