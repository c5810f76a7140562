"""submit: start a call, and hand out a Future of its outcome."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection
from contextvars import Context, copy_context
from typing import Any

from .._errors import BridgeClosed
from .._loop.base import never_raise
from .._loop.worker_threads import loop_here
from .._private.abilities import lost, unavailable
from .._private.cpython import get_running_loop
from .._private.rows import FUTURES
from .._runs.run import Owner, Run
from .._threads.native import get_ident
from .._values.context import library
from .._values.deferreds import is_cancellation
from .._values.kinds import Kind, describe, discard, kind_of
from .._values.origin import Origin, origin_of, shown
from .._values.outcomes import set_traceback, trim
from .._watch.records import records
from .._watch.watchdog import watchdog
from . import unseen_fork
from .call import ROUTED, Call, end_of, kept_traceback, route_of
from .conditions import PatientFuture
from .finder import bridge_of
from .waiting import check_place

log = logging.getLogger("bridge")


class SubmittedCall(Call):
    """A call whose outcome goes to a Future."""

    __slots__ = ("future", "origin")

    def __init__(
        self,
        run: Run,
        x: Any,
        kind: Kind,
        route: Callable[[Callable[[], object]], object],
        context: Context | None,
    ) -> None:
        super().__init__(run, x, kind, route, context)
        self.future = WorkFuture(self)
        self.origin: Origin = ()

    def _tell(self) -> None:
        future = self.future
        if self.error is None:
            future.set_result(self.value)
        elif self.cancel_asked and is_cancellation(self.error):
            self.run.meter.note("cancelled")
            future.end_cancelled()
        else:
            self.run.meter.note(end_of(self.error))
            if not isinstance(self.error, BridgeClosed):  # every open call fails with that
                future.unseen = describe(self.x), self.error, self.origin
            future.set_exception(self.error)
        future.forget()
        # A caller of the frames in the error's traceback may hold this call: see the head of _loop/task.py. Another
        # thread, of the exit or the watchdog, may ask for the Future at this moment.
        del self.error, self.value, self.future

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether any thread waits for the Future."""
        future = getattr(self, "future", None)
        return future is not None and future.is_waited_for()

    def on_wait(self, function: Callable[[], object]) -> None:
        """Have each thread that begins to wait for the Future from now on call the function."""
        future: Any = getattr(self, "future", None)
        if future is not None:
            future._condition.on_wait = function

    def forget(self, error: BaseException) -> bool:
        """Fail the Future in a forked child. Its work goes on in the parent only."""
        self.future.fail_in_child(error)
        return False


never_raise |= {Call._future_done, Call.cancel, Call.time_out, Call._watch_foreign_loop}


class WorkFuture(PatientFuture):
    """The Future of submitted work. ``cancel()`` is a request; the Future is cancelled when the work has ended."""

    # What was submitted, its error, and where submit() was called; None once a caller has asked for the error.
    unseen: tuple[str, BaseException, Origin] | None = None

    def __init__(self, call: SubmittedCall) -> None:
        super().__init__()
        self._call: SubmittedCall | None = call
        self.guard()

    def __del__(self) -> None:
        unseen, self.unseen = self.unseen, None
        if unseen is not None:
            _log_unseen(*unseen)

    def forget(self) -> None:
        """Drop the call, which has ended."""
        self._call = None

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of the work or raise its error, as any Future; the traceback does not grow.

        It waits as ``block_on`` does. A time-out, Ctrl-C or a cancellation ends the wait and nothing else.

        :raises DeadlockError: the work needs the stack that would wait.
        :raises StrategyUnavailable: the work needs this very thread, whose loop cannot go on meanwhile.
        """
        try:
            own = self._call
            if own is not None and (get_running_loop() is not None or get_ident() == own.run.ident):
                self._check_place("result", timeout)
            return super().result(timeout)
        except BaseException as error:
            trim(error)
            if getattr(self, "_exception", error) is error:
                self.unseen = None
                set_traceback(error, kept_traceback(self, error))
            raise

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error of the work, as any Future; None if it returned. It waits as :meth:`result` does."""
        try:
            own = self._call
            if own is not None and (get_running_loop() is not None or get_ident() == own.run.ident):
                self._check_place("exception", timeout)
            error = super().exception(timeout)
        except BaseException as raised:
            trim(raised)
            raise
        self.unseen = None
        return error

    def check_place(self, verb: str) -> None:
        """Refuse to wait for the Future here, if that would keep the work from going on.

        :param verb: the function that waits, for the message.
        """
        own = self._call
        if own is None or (get_running_loop() is None and get_ident() != own.run.ident):
            return
        if not self.done():
            check_place(own.run, f"{verb}() of {describe(self)}")

    def _check_place(self, method: str, timeout: float | None) -> None:
        if timeout is None or timeout > 0:  # otherwise it does not wait
            if lost(FUTURES) and not self.done():
                raise unavailable(FUTURES, "await bridge.as_future(future), or wait in a plain thread")
            self.check_place(method)

    @property
    def work(self) -> Any:
        """What the loop has made of x, such as a task; None before it has begun and when it has ended."""
        own = self._call
        return None if own is None else own.work

    def is_waited_for(self) -> bool:
        """Return whether a thread waits for the result, in ``result()`` or in ``concurrent.futures.wait()``."""
        # If this Python lacks the private name ``_waiters``, the Future counts as waited for.
        condition: Any = self._condition
        return bool(condition._waiters or getattr(self, "_waiters", True))

    def fail_in_child(self, error: BaseException) -> None:
        """Set the error in a forked child. Another thread of the parent may have held the lock of the Future."""
        self.guard()
        for waits in (getattr(self, "_waiters", None), getattr(self, "_done_callbacks", None)):  # the parent's
            if waits is not None:
                waits.clear()
        self._call = None
        if not self.done():
            self.set_exception(error)

    def running(self) -> bool:
        """Return whether the work has not ended; it starts at once."""
        return not self.done()

    def cancel(self) -> bool:
        """Ask the loop to cancel the work. Return False if it has ended already."""
        call = self._call
        if call is None or self.done():
            return False
        call.ask_to_cancel()
        return True

    def _get_snapshot(self, *more: Any, **options: Any) -> Any:
        """Return the outcome. From CPython 3.15 on asyncio calls this instead of ``exception()``."""
        self.unseen = None
        return super()._get_snapshot(*more, **options)  # type: ignore[misc]

    def end_cancelled(self) -> None:
        """Set the Future cancelled. Called once, when the work has ended."""
        super().cancel()
        self.set_running_or_notify_cancel()


def submit(bridge: Owner | None, x: Any) -> WorkFuture:
    """Start x and return its Future. :meth:`bridge.Bridge.submit` has the contract."""
    try:
        kind = kind_of(x)
        if bridge is None:
            bridge = bridge_of(loop_here())
        context = copy_context()
        if library.get() not in (None, "asyncio"):
            context.run(library.set, None)
        while True:
            run = bridge.current_run()
            if unseen_fork.is_of_parent(run):
                unseen_fork.renew(run)
                continue
            route = run.post if kind not in ROUTED else route_of(run, x, kind)
            call = SubmittedCall(run, x, kind, route, context)
            future = call.future
            condition: Any = future._condition
            condition.strategy = bridge.strategy
            try:
                run.open.add(call)
                if run.over is None and (run.accepts or bridge.current_run() is run):  # as in block_on
                    call.origin = origin_of(sys._getframe(2))
                    call.begin()
                    if run.unwatched:
                        watchdog.wake(run)
                    return future
                run.open.discard(call)
            except BaseException:  # Ctrl-C, or a refusal; no caller has the Future
                call.ask_to_cancel()
                run.open.discard(call)
                raise
    except BaseException:
        discard(x)
        raise


def _log_unseen(what: str, error: BaseException, origin: Origin) -> None:
    """Log an error that no caller has asked for. Called as the Future is finalized, in any thread."""
    text = f"submit({what}) failed, and nobody asked its Future for the error; it was called at:\n{shown(origin)}"
    if log.isEnabledFor(logging.ERROR):
        exc_info = type(error), error, error.__traceback__
        records.handle(log.makeRecord("bridge", logging.ERROR, __file__, 0, text, (), exc_info))
