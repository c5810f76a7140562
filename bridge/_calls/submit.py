"""submit: start a call, and hand out a Future of its outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from contextvars import Context, copy_context
from typing import Any

from .._errors import BridgeClosed
from .._private.abilities import lost, unavailable
from .._private.rows import FUTURES
from .._runs.run import Owner, Run
from .._runs.runs import bridges
from .._runs.where import is_thread_of, where
from .._values.context import library
from .._values.deferreds import is_cancellation
from .._values.kinds import Kind, describe, discard, kind_of
from .._values.origin import Origin, origin_of
from .._values.outcomes import set_traceback, trim
from .._watch.watchdog import watchdog
from . import unseen_fork
from .call import MAY_BE_DEFERRED, Call, end_of, kept_traceback
from .conditions import PatientFuture
from .other_loops import BOUND, route_of
from .state import CANCELLED, OPEN, WITHDRAW, move
from .unseen import Unseen, keep, tell
from .waiting import check_place


class SubmittedCall(Call):
    """A call whose outcome goes to a Future."""

    __slots__ = ("future", "is_ignored", "origin")
    tells_late = True

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
        self.is_ignored = False
        self.origin: Origin = ()

    def _tell(self) -> None:
        future = self.future
        if self.error is None:
            future.set_result(self.value)
        elif self.state is CANCELLED and is_cancellation(self.error):
            self.run.meter.note("cancelled")
            future.end_cancelled()
        else:
            self.run.meter.note(end_of(self.error))
            # Every open call fails with BridgeClosed. Cancelled work has no error that asyncio would log either.
            if not isinstance(self.error, BridgeClosed) and not is_cancellation(self.error):
                future.unseen = Unseen(describe(self.x), self.error, self.origin)
                keep(future)
            future.set_exception(self.error)
        future.drop_call()
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

    def _failed_late(self, error: BaseException | None) -> None:
        if error is None or isinstance(error, BridgeClosed) or is_cancellation(error):
            return
        if not self.is_ignored:
            trim(error)
            tell(Unseen(describe(self.x), error, self.origin, is_late=True))

    def after_fork(self, error: BaseException) -> bool:
        """Fail the Future in a forked child. Its work goes on in the parent only."""
        self.future.fail_in_child(error)
        return False


class WorkFuture(PatientFuture):
    """The Future of submitted work. ``cancel()`` is a request; the Future is cancelled when the work has ended."""

    # What was submitted, its error, and where submit() was called; None once a caller has asked for the error.
    unseen: Unseen | None = None
    _is_ignored = False

    def __init__(self, call: SubmittedCall) -> None:
        super().__init__()
        self._call: SubmittedCall | None = call
        self.guard()

    def __del__(self) -> None:
        unseen = self.take_unseen()
        if unseen is not None:
            tell(unseen)

    def take_unseen(self) -> Unseen | None:
        """Return the error that is to be logged, once."""
        unseen, self.unseen = self.unseen, None
        return None if self._is_ignored else unseen

    def drop_call(self) -> None:
        """Drop the call, which has ended."""
        self._call = None

    def ignore(self) -> None:
        """Do not log the error of the work, even if nobody asks for it."""
        self._is_ignored = True
        call = self._call
        if call is not None:
            call.is_ignored = True

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of the work or raise its error, as any Future; the traceback does not grow.

        It waits as ``block_on`` does. A time-out, Ctrl-C or a cancellation ends the wait and nothing else.

        :raises DeadlockError: the work needs the stack that would wait.
        :raises StrategyUnavailable: the work needs this very thread, whose loop cannot go on meanwhile.
        """
        try:
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
        if own is not None and not self.done():
            check_place(own.run, f"{verb}() of {describe(self)}")

    def _check_place(self, method: str, timeout: float | None) -> None:
        own = self._call
        if own is None or not (where().runs_here or is_thread_of(own.run)):
            return
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
        call.cancel()
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
            bridge = bridges.of(where(), kind in MAY_BE_DEFERRED)
        context = copy_context()
        if library.get() not in (None, "asyncio"):
            context.run(library.set, None)
        while True:
            run = bridge.current_run()
            if unseen_fork.is_of_parent(run):
                unseen_fork.renew(run)
                continue
            route = run.post if kind not in BOUND else route_of(run, x, kind)
            call = SubmittedCall(run, x, kind, route, context)
            future = call.future
            condition: Any = future._condition
            condition.strategy = bridge.strategy
            try:
                move(call, OPEN)
                if not run.refuses or (run.over is None and bridge.current_run() is run):  # as in block_on
                    call.origin = origin_of(sys._getframe(2))
                    call.post()
                    if run.unwatched:
                        watchdog.wake(run)
                    return future
                move(call, WITHDRAW)
            except BaseException:  # Ctrl-C, or a refusal; no caller has the Future
                call.abort()
                raise
    except BaseException:
        discard(x)
        raise
