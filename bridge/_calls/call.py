"""One call: post it to the loop, start it there, cancel it, and end it with its outcome.

The two threads share one object, the call. The caller's thread makes it and reads its outcome after the waiter's
``wait()``. The loop's thread starts it, and sets the outcome before the waiter's ``notify()``. The states of a call and
the moves of each thread stand in :mod:`bridge._calls.state`.

A waiter is notified outside ``except``, or what it raises would get the work's exception as its ``__context__``. This,
and why locals are deleted, stands at the head of ``_loop/task.py``. Where Ctrl-C and ``PyThreadState_SetAsyncExc`` may
raise stands in :mod:`bridge._threads`, "Interrupts".
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context, copy_context
from time import monotonic
from types import TracebackType
from typing import Any

from .._errors import BridgeClosed, at
from .._loop import worker_threads
from .._loop.base import never_raise, start_task, starts_now
from .._loop.switching import SwitchingLoop
from .._loop.task import Contained
from .._private.cpython import get_running_loop
from .._runs.run import Run
from .._threads.native import get_ident
from .._values.context import take_variables
from .._values.deferreds import await_any, deferreds
from .._values.kinds import Kind, describe, discard, returned_kind
from .._values.outcomes import set_traceback, trim
from ..strategies.interface import Waiter
from . import other_loops
from .calling import Calling
from .other_loops import ROUTED, here, route_of
from .state import (
    CANCEL,
    CANCELLED,
    CANCELLING,
    END,
    ENDED,
    IN_LEFT,
    LEAVE,
    LEFT_CANCELLED,
    NEW,
    START,
    WITHDRAW,
    WORKING,
    State,
    move,
    state_of,
)

# The states in which a call has its outcome.
_ENDS = frozenset({ENDED, CANCELLED})
# A callable may return a Deferred.
MAY_BE_DEFERRED = frozenset({Kind.DEFERRED, Kind.CALLABLE})
_COROUTINE, _FUTURE = Kind.COROUTINE, Kind.FUTURE  # at a fifth of the cost of the attributes
# Seconds between two checks that a foreign loop still runs, while a call waits for a Future of that loop.
_FOREIGN_CHECK = 0.1


class Call:
    """Work that a caller waits for, and its outcome.

    Subclasses notify the caller (:meth:`_tell`). ``x`` is what was passed. ``work`` is what the loop made of it: a
    task, a Deferred, a Future or a :class:`~bridge._calls.calling.Calling`, whose ``cancel()`` cancels the call. It is
    set before the first step of the work. ``route`` carries a callback to the thread of the work.
    """

    __slots__ = (
        "context",
        "error",
        "kind",
        "one_turn",
        "phase",
        "route",
        "run",
        "scope",
        "started",
        "still_runs",
        "value",
        "work",
        "x",
    )  # fmt: skip
    waits = False  # whether a thread waits for it
    tells_late = False  # whether it tells of an error that comes too late for its caller; else asyncio or Twisted does

    def __init__(
        self,
        run: Run,
        x: Any,
        kind: Kind,
        route: Callable[[Callable[[], object]], object],
        context: Context | None,
    ) -> None:
        self.run = run
        self.phase = NEW
        self.x = x
        self.kind = kind
        self.route = route
        self.context = context
        self.started = monotonic()
        self.scope: Any = None  # the anyio cancel scope that the caller works in
        self.work: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.one_turn = False
        self.still_runs = False  # the work was cancelled but cannot be stopped

    def _tell(self) -> None:
        raise NotImplementedError

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether one of these threads waits for the call, as far as can be known."""
        raise NotImplementedError

    def on_wait(self, function: Callable[[], object]) -> None:
        """Have each thread that begins to wait for the call from now on call the function, if any can begin."""

    def after_fork(self, error: BaseException) -> bool:
        """Drop the call in a forked child. Return whether the thread that forked waits for it."""
        raise NotImplementedError

    def _failed_late(self, error: BaseException | None) -> None:
        """Tell of an error that comes after the end of the loop has failed the call. Called if ``tells_late``."""

    # On any thread.

    @property
    def state(self) -> State:
        """How far the call is."""
        return state_of(self)

    @property
    def is_open(self) -> bool:
        """Whether the call has not ended, and its caller has not left."""
        return self in self.run.open

    @property
    def key(self) -> tuple[int, float]:
        """An identity of the call that does not keep it alive."""
        return id(self), self.started

    def cancel(self, *, again: bool = True) -> None:
        """Post the cancellation of the work. The call ends when the work has ended.

        :param again: also if the work was cancelled before.
        """
        with contextlib.suppress(RuntimeError):  # the loop is closed, which has ended the call
            self.route(self._cancel if again else self._cancel_once)

    def end(self, value: Any, error: BaseException | None) -> None:
        """Set the outcome and notify the caller, unless the call has ended already."""
        try:
            if move(self, END) not in _ENDS:
                return
        except BaseException as killed:  # PyThreadState_SetAsyncExc; if it came before the move, the run ends the call
            if not self.is_open:
                self.error = self._killed(killed)
                with contextlib.suppress(Exception):
                    self._tell()
            raise
        self.value = value
        self.error = error
        self.work = None  # it holds the error as well; see the head of _loop/task.py
        try:
            meter = self.run.meter
            if not meter.count() % meter.every:  # as in _count(), without a call
                meter.measure(monotonic() - self.started)
            self._tell()
        except BaseException:  # the same, before or after the caller was notified
            with contextlib.suppress(Exception):
                self._tell()
            raise

    def _killed(self, cause: BaseException) -> BridgeClosed:
        error = BridgeClosed(
            f"the loop's thread was killed by {cause!r}; the call was not completed" + at("loop-ended")
        )
        error.__cause__ = cause
        return error

    def _count(self) -> None:
        meter = self.run.meter
        if not meter.count() % meter.every:
            meter.measure(monotonic() - self.started)

    # On the caller's thread.

    def post(self) -> None:
        """Post the start of the call. If the loop has ended meanwhile, end the call with that error."""
        try:
            self.route(self.start)
        except RuntimeError as error:  # the loop is closed
            self.end(None, self._foreign_loop_stopped(error))
            return
        if self.kind is _FUTURE and self.route != self.run.post:
            with contextlib.suppress(RuntimeError):  # the bridge has been closed, which has ended the call
                self.run.post(self._watch_foreign_loop)

    def leave(self) -> bool:
        """Wait no longer. Return False if the call has ended meanwhile.

        The work may still run. The run keeps the call until the work ends, since the loop refers to its tasks weakly.
        A task that waits for an object without other references would be garbage, and never clean up.
        """
        if move(self, LEAVE) not in IN_LEFT:
            return False
        self._count()
        return True

    def abort(self) -> None:
        """Give the call up, whose caller gets no outcome: it was refused, or interrupted at whatever line."""
        if move(self, WITHDRAW) is None:
            self.cancel(again=False)
            self.leave()

    # In the thread of the work, most often the loop's.

    def start(self) -> None:
        """Begin the work; for a coroutine, take its first step."""
        x = self.x  # the caller clears self.x as soon as the call has ended
        if move(self, START) is not WORKING:  # its caller, or the loop's end, was faster
            discard(x)
            return
        try:
            if self.kind is _COROUTINE:
                self._start_task(x)
            else:
                self._start(self.kind, x)
        except BaseException as raised:
            if self.route is here and not isinstance(raised, Exception):  # Ctrl-C in the caller's own thread
                raise
            error: BaseException | None = raised
        else:
            error = None
        if error is not None:
            other_loops.explain(error, self.run)
            trim(error)  # as in _future_done
            self.end(None, self.run.explained(error, self.x))
            del error  # the frames in its traceback keep this one, their caller; see the head of _loop/task.py
            return
        if self.one_turn and self.is_open:
            self._allow_one_turn()

    def _allow_one_turn(self) -> None:
        """Have the work cancelled after one iteration of the loop."""
        if self.route is here:
            self._cancel_once()
            return
        loop = get_running_loop() or self.run.loop
        if starts_now(loop):
            loop.call_soon(self._cancel_once)
        else:  # the work's own first step has not been taken yet; see start_task
            loop.call_soon(loop.call_soon, self._cancel_once)

    def _start(self, kind: Kind, x: Any) -> None:
        if kind is Kind.CALLABLE:
            context, loop = self.context, self.run.loop
            assert context is not None
            if isinstance(loop, SwitchingLoop):
                self.work = Calling(loop)
            x = context.run(x)
            self.context = context  # again: a caller that has left meanwhile has cleared it
            self.work = None
            returned = returned_kind(x)
            if returned is None:
                self.end(x, None)
                return
            kind = returned
            if kind is Kind.FUTURE and not x.done() and x.get_loop() is not loop:
                self.kind, self.x, self.route = kind, x, route_of(self.run, x, kind)
                self.route(functools.partial(self._follow, x))
                self._watch_foreign_loop()
                return
            if kind is Kind.FUTURE or kind is Kind.CONCURRENT:
                self.x = x
        if kind is Kind.COROUTINE:
            self._start_task(x)
        elif kind is Kind.AWAITABLE:
            self._start_task(await_any(x))
        elif self.scope is not None:
            self._start_task(await_any(asyncio.wrap_future(x) if kind is Kind.CONCURRENT else x))
        elif kind is Kind.DEFERRED:
            if deferreds.met is not None:
                deferreds.met(self.run.loop)
            self.work = x
            x.addBoth(self._fired)
        else:
            self._follow(x)

    def _start_task(self, coro: Coroutine[Any, Any, Any]) -> None:
        if self.scope is not None:
            coro = worker_threads.within(self.scope, coro)
        context = copy_context() if self.context is None else self.context  # an empty context is false
        self._follow(start_task(self.run.loop, coro, context, holder=self))

    def _follow(self, future: Any) -> None:
        self.work = future
        if future.done():
            self._future_done(future)
        else:
            future.add_done_callback(self._future_done)

    def _future_done(self, future: Any) -> None:
        """End the call with the outcome of a task, or of a Future of asyncio or ``concurrent.futures``."""
        if self not in self.run.open:  # the caller has left
            move(self, END)
            if self.tells_late and self.run.over is not None and not future.cancelled():
                self._failed_late(future.exception())
            return
        # The caller is notified outside ``except``; see the head of this module.
        value: Any = None
        error: BaseException | None = None
        try:
            value = future.result()
        except BaseException as raised:
            # Without this frame, which would make a reference cycle.
            error = set_traceback(raised, None if raised.__traceback__ is None else raised.__traceback__.tb_next)
        if error is not None:
            if self.kind not in ROUTED:
                other_loops.explain(error, self.run)
            trim(error)
            if future is self.x:
                set_traceback(error, kept_traceback(future, error))
            self.end(None, error)
        elif type(value) is Contained:
            self.end(None, value.error)
        else:
            self.end(value, None)

    def _fired(self, result: Any) -> Any:
        if isinstance(result, deferreds.failure):
            if self.run.over is not None and not self.is_open:  # the loop's end has failed this call
                if isinstance(result.value, BridgeClosed):  # and one in a worker thread; not to be logged
                    return None
                if self.tells_late and self.kind is Kind.CALLABLE:  # else the user has the Deferred, and Twisted logs
                    self._failed_late(deferreds.error_of(result))
                    return None
            work = self.work
            if work is not None and threading.get_ident() != self.run.ident:
                deferreds.note_raised(work, result)
            # Twisted notes a failure as unhandled after all callbacks have run. So mark it as handled later, by a post.
            self.run.post(functools.partial(self._failed, result))
        else:
            self.end(result, None)
        return result

    def _failed(self, failure: Any) -> None:
        if getattr(self.work, "result", None) is failure:
            deferreds.mark_handled(self.work)
        error = deferreds.error_of(failure)
        try:
            if self.kind is Kind.DEFERRED:
                other_loops.explain_missing(error)
            self.end(None, error)
        finally:
            del error  # see the head of _loop/task.py

    def _cancel_once(self) -> None:
        """Cancel the work, unless it was cancelled before.

        With ``timeout=0`` the loop calls this after one iteration. If the loop stood still meanwhile, the caller posts
        it once more, because it cannot see what the loop is about to do.
        """
        if state_of(self) not in (CANCELLING, LEFT_CANCELLED):
            self._cancel()

    def _cancel(self) -> None:
        if move(self, CANCEL) is None:
            return
        work = self.work
        if work is None:  # interrupted before its start was posted
            self.end(None, asyncio.CancelledError())
            return
        try:
            cancelled = work.cancel()
        except BaseException as error:
            self.end(None, error)
            return
        if cancelled is False and isinstance(work, (concurrent.futures.Future, Calling)):
            # It runs where nothing can stop it, such as in an executor. So there is no cleanup to wait for.
            self.still_runs = True
            self.end(None, concurrent.futures.CancelledError())

    def _watch_foreign_loop(self) -> None:
        """Fail the call when the loop of the Future has stopped. A loop notifies nobody of that, so this polls."""
        if not self.is_open:
            return
        if self.x.get_loop().is_running():
            self.run.loop.call_later(_FOREIGN_CHECK, self._watch_foreign_loop)
        else:
            self.end(None, self._foreign_loop_stopped(None))

    def _foreign_loop_stopped(self, cause: BaseException | None) -> BridgeClosed:
        error = BridgeClosed(
            f"the loop that {describe(self.x)} is bound to has stopped; the call was not completed"
            + at("other-loop-stopped")
        )
        error.__cause__ = cause
        return error


never_raise |= {Call._future_done, Call._cancel, Call._cancel_once, Call._watch_foreign_loop}


class BlockedCall(Call):
    """A call whose caller waits in its thread."""

    # ``limit``: seconds after which the caller goes on in any case; not set if it waits without a limit.
    # ``began_with``: a copy of the context as the work finds it; None if nothing of it comes out.
    __slots__ = ("began_with", "caller", "limit", "waiter")
    waits = True
    limit: float

    def __init__(
        self,
        run: Run,
        x: Any,
        kind: Kind,
        route: Callable[[Callable[[], object]], object],
        context: Context | None,
        waiter: Waiter,
    ) -> None:
        Call.__init__(self, run, x, kind, route, context)
        self.waiter = waiter
        self.caller = get_ident()
        self.began_with: Context | None = None

    def _tell(self) -> None:
        self.waiter.notify()

    def let_go(self) -> None:
        """Clear the call's references as its caller leaves. Tasks that the work has left behind keep the call alive."""
        self.error = self.value = self.context = self.began_with = None

    def take_variables(self, before: Context, after: Context) -> None:
        """Set in the caller's thread what the work has set in its context.

        :param before: a copy of the context, as the work began.
        """
        take_variables(before, after)

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether one of these threads is the caller's."""
        return self.caller in idents

    def after_fork(self, error: BaseException) -> bool:
        """Return whether the caller's thread is the thread that forked. No other thread exists in the child."""
        return self.caller == get_ident()


def kept_traceback(future: Any, error: BaseException) -> TracebackType | None:
    """Return the traceback that the error of a user's Future had when it was first seen.

    The user may wait for the Future again. The traceback then has the frames of the first caller as well, and an
    asyncio Future written in C forgets the traceback with its first ``result()``.
    """
    try:
        kept: TracebackType | None = future._bridge_traceback
    except AttributeError:
        kept = error.__traceback__
        with contextlib.suppress(AttributeError):  # a Future class of the user's that takes no attributes
            future._bridge_traceback = kept
    return kept


def end_of(error: BaseException) -> str:
    """Return the word by which the statistics count a call with this error."""
    deferreds.load()
    return "cancelled" if isinstance(error, deferreds.cancellations) else "failed"
