"""One call: post it to the loop, wait for it, time it out, cancel it, and take its outcome back.

The two threads share one object, the call. The caller's thread makes it and reads its outcome after the waiter's
``wait()``; the loop's thread starts it, and settles it before the waiter's ``notify()``.

The private names that this module stands on (test_names.py::test_concurrent_future_names), in CPython 3.4 to 3.14:
``concurrent.futures.Future._condition``, ``_waiters`` and ``_done_callbacks``; ``threading.Condition._waiters``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import math
import os
import sys
import threading
from asyncio import _get_running_loop
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context, copy_context
from time import monotonic
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from . import _deadlock
from ._adapt import Kind, describe, discard, kind_of, returned_kind
from ._errors import BridgeClosed, BridgeError, DeadlockError, StrategyUnavailable
from ._native import get_ident
from ._origin import Origin, origin_of, shown
from ._outcome import set_traceback, trim
from ._seconds import checked_seconds
from .loop import home, inline
from .loop.base import BridgeLoop, never_raise, start_task
from .loop.colocate import LONGEST, Colocation
from .loop.life import Life
from .loop.logs import twisted_log
from .loop.swap import SwapLoop, missing
from .loop.task import CANCELLATIONS, Contained, error_of, is_cancellation, mark_handled, note_raised
from .loop.variables import take_variables
from .loop.watch import watchdog
from .strategies import Strategy, Waiter, refused, resolve

if TYPE_CHECKING:
    from ._bridge import Bridge

    Find = Callable[[asyncio.AbstractEventLoop | None], Bridge]

# Lets another thread of this core run, and the GIL go meanwhile.
_give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: None)

# What needs no copy of the caller's context: nothing of it is called or awaited on the loop.
_WITHOUT_CONTEXT = frozenset({Kind.DEFERRED, Kind.FUTURE, Kind.CONCURRENT})
# What may live elsewhere than on the bridge's loop.
_ROUTED = frozenset({Kind.FUTURE, Kind.CONCURRENT})
# How often a call that waits for someone else's loop looks whether that loop still runs, in seconds.
_FOREIGN_CHECK = 0.1
# How long the main thread sleeps at a time, in seconds; see _wait.
_LOOK_UP = 1.0

log = logging.getLogger("bridge")

_STILL_RUNS = "The work was cancelled but has not ended; it still runs."


class Call:
    """What a caller waits for, and what came of it.

    Subclasses say who is told (:meth:`_tell`). ``x`` is what was passed; ``work`` what the loop made of it: a task, a
    Deferred or a Future, whose ``cancel()`` cancels the call. ``route`` carries a callback to where the work lives.
    """

    __slots__ = (
        "cancel_asked", "context", "error", "kind", "life", "one_turn", "route", "scope", "started", "still_runs",
        "value", "work", "x",
    )  # fmt: skip
    waits = False  # whether a thread waits for it

    def __init__(
        self,
        life: Life,
        x: Any,
        kind: Kind,
        route: Callable[[Callable[[], object]], object],
        context: Context | None,
    ) -> None:
        self.life = life
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
        self.cancel_asked = False
        self.still_runs = False  # the work was cancelled but cannot be stopped

    def _tell(self) -> None:
        raise NotImplementedError

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether one of these threads waits for the call, as far as can be known."""
        raise NotImplementedError

    def forget(self, error: BaseException) -> bool:
        """Let go of the call in a forked child. Return whether the thread that has forked waits for it."""
        raise NotImplementedError

    # On the caller's thread.

    def begin(self) -> None:
        """Post the call. If its loop has ended meanwhile, the call is settled by that."""
        try:
            self.route(self.start)
        except RuntimeError as error:  # the loop is closed
            self.fail(self._foreign_loop_stopped(error))
            return
        if self.kind is Kind.FUTURE and self.route != self.life.post:
            self.life.post(self._watch_foreign_loop)

    def ask_to_cancel(self) -> None:
        """Post the cancellation of the work."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the call settled by that
            self.route(self.cancel)

    # Where the work lives: most often on the loop's thread.

    def start(self) -> None:
        """Begin the work; for a coroutine, take its first step."""
        if self not in self.life.open:  # given up meanwhile, by its caller or by the loop's end
            discard(self.x)
            return
        try:
            if self.kind is Kind.COROUTINE:
                self._start_task(self.x)
            else:
                self._start(self.kind, self.x)
        except BaseException as raised:
            error: BaseException | None = raised
        else:
            error = None
        if error is not None:
            trim(error)  # as in _future_done
            self.settle(None, self.life.explained(error, self.x))
            del error  # the frames in its traceback have been called by this one, and keep it
            return
        if self.one_turn and not self.is_settled:
            if _get_running_loop() is None and get_ident() != self.life.ident:
                self.cancel()
            else:
                loop = _get_running_loop() or self.life.loop
                if sys.version_info >= (3, 12) or isinstance(loop, BridgeLoop):
                    loop.call_soon(self.cancel)
                else:  # the work's own first step has not been taken yet; see start_task
                    loop.call_soon(loop.call_soon, self.cancel)

    def _start(self, kind: Kind, x: Any) -> None:
        if kind is Kind.CALLABLE:
            assert self.context is not None
            x = self.context.run(x)
            returned = returned_kind(x)
            if returned is None:
                self.settle(x, None)
                return
            kind = returned
            if kind is Kind.FUTURE and not x.done() and x.get_loop() is not self.life.loop:
                self.kind, self.x, self.route = kind, x, _route(self.life, x, kind)
                self.route(functools.partial(self._follow, x))
                self._watch_foreign_loop()
                return
            if kind is Kind.FUTURE or kind is Kind.CONCURRENT:
                self.x = x
        if kind is Kind.COROUTINE:
            self._start_task(x)
        elif kind is Kind.AWAITABLE:
            self._start_task(_await(x))
        elif self.scope is not None:
            self._start_task(_await(asyncio.wrap_future(x) if kind is Kind.CONCURRENT else x))
        elif kind is Kind.DEFERRED:
            self.work = x
            x.addBoth(self._fired)
        else:
            self._follow(x)

    def _start_task(self, coro: Coroutine[Any, Any, Any]) -> None:
        if self.scope is not None:
            coro = home.within(self.scope, coro)
        context = copy_context() if self.context is None else self.context  # an empty context is false
        self._follow(start_task(self.life.loop, coro, context))

    def _follow(self, future: Any) -> None:
        self.work = future
        if future.done():
            self._future_done(future)
        else:
            future.add_done_callback(self._future_done)

    def _future_done(self, future: Any) -> None:
        """Take the outcome of a task or of a Future of either kind."""
        if self not in self.life.open:  # the caller has gone; an error is left for asyncio to log
            return
        # Nobody is told in an except block: what he raises then would have our error as its context.
        value: Any = None
        error: BaseException | None = None
        try:
            value = future.result()
        except BaseException as raised:
            error = raised
        if error is not None:
            trim(error)  # of this frame too, which would make a reference cycle
            if future is self.x:
                set_traceback(error, _kept_traceback(future, error))
            self.settle(None, error)
        elif type(value) is Contained:
            self.settle(None, value.error)
        else:
            self.settle(value, None)

    def _fired(self, result: Any) -> Any:
        if isinstance(result, Failure):
            if self.life.over is not None and isinstance(result.value, BridgeClosed) and self.is_settled:
                return None  # of a call that the same end has failed, in a worker; nobody is to log it
            work = self.work
            if work is not None and threading.get_ident() != self.life.ident:
                note_raised(work, result)
            # Twisted notes a failure as unhandled when all callbacks have run, so this waits until they have.
            self.life.post(functools.partial(self._failed, result))
        else:
            self.settle(result, None)
        return result

    def _failed(self, failure: Failure) -> None:
        if getattr(self.work, "result", None) is failure:
            mark_handled(self.work)
        self.settle(None, error_of(failure))

    def cancel(self) -> None:
        """Cancel the work, which settles the call when it has ended."""
        if self.is_settled and self.work is None:  # it has ended; a call that its caller has left still has its work
            return
        self.cancel_asked = True
        work = self.work
        if work is None:
            work = self._blocked_in_its_start()
            if work is None:  # interrupted before its start was posted
                self.settle(None, asyncio.CancelledError())
                return
        try:
            cancelled = work.cancel()
        except BaseException as error:
            self.settle(None, error)
            return
        if cancelled is False and isinstance(work, concurrent.futures.Future):
            # It runs in an executor, where nothing can stop it; so there is no cleanup to wait for either.
            self.still_runs = True
            self.settle(None, concurrent.futures.CancelledError())

    def _blocked_in_its_start(self) -> Any:
        """Return what the first step of the work waits for by a switch of the stack: then start() has not returned.

        It is the task that is blocked there, or in a callable the Future that it waits for; None if there is none.
        """
        loop = self.life.loop
        if isinstance(loop, SwapLoop):
            for stack, wait in list(loop.waits.items()):
                frame = stack.gr_frame
                while frame is not None:
                    if frame.f_code is Call.start.__code__ and frame.f_locals.get("self") is self:
                        return wait.future if wait.task is None else wait.task
                    frame = frame.f_back
        return None

    # On any thread.

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Set the outcome and tell who waits for it, unless the call has ended already."""
        try:
            self.life.open.remove(self)
        except KeyError:
            return
        except BaseException as killed:  # of PyThreadState_SetAsyncExc; it is raised when the call is removed
            self.error = self._killed(killed)
            self._tell()
            raise
        self.value = value
        self.error = error
        self.work = None  # which holds the error as well: see the end of start_task
        try:
            meter = self.life.meter
            if not meter.count() % meter.every:
                meter.measure(monotonic() - self.started)
            self._tell()
        except BaseException:  # the same, before or after it was told
            with contextlib.suppress(Exception):
                self._tell()
            raise

    def _killed(self, cause: BaseException) -> BridgeClosed:
        error = BridgeClosed(f"the loop's thread was killed by {cause!r}; the call was not completed")
        error.__cause__ = cause
        return error

    @property
    def key(self) -> tuple[int, float]:
        """What tells the call from every other one, without keeping it alive."""
        return id(self), self.started

    def give_up(self) -> None:
        """End the call with no outcome, as its caller does not wait for it any longer."""
        try:
            self.life.open.remove(self)
        except KeyError:
            return
        meter = self.life.meter
        if not meter.count() % meter.every:
            meter.measure(monotonic() - self.started)

    def fail(self, error: BaseException) -> None:
        """End the call with an error of ours."""
        self.settle(None, error)

    @property
    def is_settled(self) -> bool:
        """Whether the call has ended."""
        return self not in self.life.open

    def _watch_foreign_loop(self) -> None:
        """Fail the call when the loop of the Future has stopped. Nothing tells us of that, so this looks."""
        if self.is_settled:
            return
        if self.x.get_loop().is_running():
            self.life.loop.call_later(_FOREIGN_CHECK, self._watch_foreign_loop)
        else:
            self.fail(self._foreign_loop_stopped(None))

    def _foreign_loop_stopped(self, cause: BaseException | None) -> BridgeClosed:
        error = BridgeClosed(f"the loop that {describe(self.x)} is bound to has stopped; the call was not completed")
        error.__cause__ = cause
        return error


class BlockedCall(Call):
    """A call whose caller waits in its thread."""

    # ``limit``: the seconds after which the caller goes on in any case; it is there only if there is such a time.
    __slots__ = ("caller", "limit", "waiter")
    waits = True
    limit: float

    def __init__(
        self,
        life: Life,
        x: Any,
        kind: Kind,
        route: Callable[[Callable[[], object]], object],
        context: Context | None,
        waiter: Waiter,
    ) -> None:
        Call.__init__(self, life, x, kind, route, context)
        self.waiter = waiter
        self.caller = get_ident()

    def _tell(self) -> None:
        self.waiter.notify()

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether one of these threads is the caller's."""
        return self.caller in idents

    def forget(self, error: BaseException) -> bool:
        """Return whether the caller's thread is the one that has forked. No other one exists in the child."""
        return self.caller == get_ident()


class SubmittedCall(Call):
    """A call whose outcome goes to a Future."""

    __slots__ = ("future", "origin")

    def __init__(
        self,
        life: Life,
        x: Any,
        kind: Kind,
        route: Callable[[Callable[[], object]], object],
        context: Context | None,
    ) -> None:
        super().__init__(life, x, kind, route, context)
        self.future = WorkFuture(self)
        self.origin: Origin = ()

    def _tell(self) -> None:
        future = self.future
        if self.error is None:
            future.set_result(self.value)
        elif self.cancel_asked and is_cancellation(self.error):
            self.life.meter.note("cancelled")
            future.end_cancelled()
        else:
            self.life.meter.note(_end_of(self.error))
            if not isinstance(self.error, BridgeClosed):  # of that everybody hears
                future.unseen = describe(self.x), self.error, self.origin
            future.set_exception(self.error)
        future.forget()
        # The frames in the error's traceback may have been called by one that holds this call.
        del self.error, self.value, self.future

    def is_waited_for(self, idents: Collection[int | None]) -> bool:
        """Return whether any thread waits for the Future."""
        return self.future.is_waited_for()

    def forget(self, error: BaseException) -> bool:
        """Fail the Future, whose work goes on in the parent only."""
        self.future.fail_in_child(error)
        return False


never_raise |= {Call._future_done, Call.cancel}


class WorkFuture(concurrent.futures.Future[Any]):
    """The Future of submitted work. ``cancel()`` asks; the Future is cancelled when the work has ended."""

    # What its work was, the error that it ended with, and where submit() was called; until somebody asks for the error.
    unseen: tuple[str, BaseException, Origin] | None = None

    def __init__(self, call: SubmittedCall) -> None:
        super().__init__()
        self._call: SubmittedCall | None = call

    def __del__(self) -> None:
        unseen, self.unseen = self.unseen, None
        if unseen is not None:
            _log_unseen(*unseen)

    def forget(self) -> None:
        """Let go of the call, which has ended."""
        self._call = None

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of the work or raise its error, as any Future; the traceback does not grow."""
        try:
            return super().result(timeout)
        except BaseException as error:
            trim(error)
            if self.done():
                self.unseen = None
            if self.done() and not self.cancelled() and self.exception() is error:
                set_traceback(error, _kept_traceback(self, error))
            raise

    def is_waited_for(self) -> bool:
        """Return whether a thread waits for the result, in ``result()`` or in ``concurrent.futures.wait()``."""
        return bool(self._condition._waiters or self._waiters)  # type: ignore[attr-defined]

    def fail_in_child(self, error: BaseException) -> None:
        """Set the error in a forked child. Another thread of the parent may have held the lock of the Future."""
        self._condition = threading.Condition()
        self._waiters.clear()
        self._done_callbacks.clear()  # type: ignore[attr-defined]
        self._call = None
        if not self.done():
            self.set_exception(error)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error of the work, as any Future; None if it returned."""
        error = super().exception(timeout)
        self.unseen = None
        return error

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

    def end_cancelled(self) -> None:
        """Set the Future cancelled. Called once, when the work has ended."""
        super().cancel()
        self.set_running_or_notify_cancel()


def _kept_traceback(future: Any, error: BaseException) -> TracebackType | None:
    """Return the traceback that the error of a user's Future had when it was first seen.

    The user may wait for it again. Its error then has the frames of the first caller as well, and an asyncio Future
    written in C forgets the traceback with its first ``result()``.
    """
    try:
        kept: TracebackType | None = future._bridge_traceback
    except AttributeError:
        kept = error.__traceback__
        with contextlib.suppress(AttributeError):  # a Future of someone's own that takes no attributes
            future._bridge_traceback = kept
    return kept


async def _await(x: Any) -> Any:
    return await x


def block_on(bridge: Bridge | None, find: Find, x: Any, timeout: float | None, how: str | Strategy | None) -> Any:
    """Wait for x in this thread; :meth:`bridge.Bridge.block_on` has the contract.

    :param find: returns the bridge by the loop that this thread stands in, if none is given.
    """
    running = _get_running_loop()
    if (
        running is not None
        and bridge is None
        and how is None
        and timeout is None
        and x.__class__ is CoroutineType
        and isinstance(running, SwapLoop)
    ):
        # The commonest call on a loop, by the shortest way; the rest of them comes by _block_here.
        try:
            return inline.block_coroutine(running, x)
        finally:
            if running._stacks.interrupted:
                _raise_interrupt(running)
    try:
        kind = kind_of(x)
        if timeout is not None:
            timeout = checked_seconds(timeout, "timeout")
        home_loop = home.loop_of_this_thread()
        if bridge is None:
            if isinstance(running, SwapLoop):
                return _block_here(running, x, kind, timeout, how)
            bridge = find(running or home_loop)
        life = bridge.life()
        if running is life.loop:
            return _block_here(running, x, kind, timeout, how)
        if get_ident() == life.ident:
            raise life.refusal_here(describe(x))
        strategy = bridge.strategy if how is None else resolve(how)
        if isinstance(running, SwapLoop) and strategy.name == "greenlet":
            # The greenlets of a loop's thread are the loop's: none of them runs a hub for others.
            strategy = resolve("auto")
        reason = strategy.unavailable()
        if reason is not None:
            raise refused(strategy, reason)
        before = context = None
        if kind not in _WITHOUT_CONTEXT:
            before = copy_context()
            context = before.copy()
        while True:
            route = life.post if kind not in _ROUTED else _route(life, x, kind)
            waiter = strategy.waiter()
            call = BlockedCall(life, x, kind, route, context, waiter)
            if timeout is not None:
                call.limit = timeout
            if home_loop is life.loop and (route == life.post or kind is Kind.CONCURRENT):
                call.scope = home.scope_of_this_thread()
                if call.scope is not None:
                    call.route = life.post
            try:
                life.open.add(call)
                if life.over is None:
                    break
                life.open.discard(call)
            except BaseException:  # Ctrl-C, before the call was posted
                life.open.discard(call)
                raise
            life = bridge.life()
        if timeout is None:
            if running is not None:
                _deadlock.check(call)
            elif kind is Kind.FUTURE and home_loop is not None:
                try:
                    _deadlock.check_worker(x)
                except BaseException:
                    life.open.discard(call)
                    raise
    except BaseException:
        discard(x)
        raise
    patience = life.shutdown_timeout
    if timeout == 0:
        call.one_turn = True
        limit: float | None = patience
    else:
        limit = timeout
    try:
        if life.unwatched:
            watchdog.wake(life)
        if life.colocation is None or not getattr(waiter, "sleeps", False):
            done = _begin_and_wait(call, limit)
        else:
            done = _wait_together(life.colocation, call, limit)
        if not done:
            call.ask_to_cancel()
            done = waiter.wait(patience if timeout != 0 else 0.0)
    except BaseException as error:
        _interrupted(call, error, patience)
        if before is not None and context is not None:
            take_variables(before, context)
        raise
    try:
        if before is not None and context is not None:
            take_variables(before, context)
        if not done:
            call.give_up()
            life.meter.note("timed_out")
            raise _timed_out(x, timeout, still_runs=True)
        if call.error is None:
            return call.value
        if call.cancel_asked and is_cancellation(call.error):
            life.meter.note("timed_out")
            raise _timed_out(x, timeout, call.still_runs) from call.error
        if isinstance(call.error, BridgeClosed):
            discard(x)
        life.meter.note(_end_of(call.error))
        raise call.error
    finally:
        # The error's traceback holds this frame: with these in it, frame and error would be a reference cycle.
        call.error = None
        del call, x


def _begin_and_wait(call: BlockedCall, limit: float | None) -> bool:
    call.begin()
    if call in call.life.open:
        # One turn for the loop before this thread falls asleep. If both share a core, a short call has ended when it
        # comes back, and neither had to be woken up: two switches of threads instead of six, since a thread that is
        # woken by a lock still has to wait for the GIL, which whoever released the lock holds.
        _give_way()
    return _wait(call, limit)


def _wait(call: BlockedCall, limit: float | None) -> bool:
    """Wait for the call, for so many seconds.

    A signal that arrives after Python has looked for signals and before the thread sleeps is handled when the thread
    wakes. So the main thread, which handles them, looks up now and then: a Ctrl-C is late at the worst.
    """
    waiter = call.waiter
    if (
        (limit is not None and limit <= _LOOK_UP)
        or call.caller != threading.main_thread().ident
        or not getattr(waiter, "sleeps", False)
    ):
        return waiter.wait(limit)
    end = math.inf if limit is None else monotonic() + limit
    while True:
        left = end - monotonic()
        if waiter.wait(max(0.0, min(left, _LOOK_UP))):
            return True
        if left <= _LOOK_UP:
            return False


def _wait_together(colocation: Colocation, call: BlockedCall, limit: float | None) -> bool:
    """Do the same, for a short while on one core with the loop."""
    short = LONGEST if limit is None else min(limit, LONGEST)
    pair = colocation.pair()
    try:
        try:
            pair.join()
            done = _begin_and_wait(call, short)
        finally:
            pair.part()
    finally:
        pair.part()  # once more, should Ctrl-C have ended the first
    return done or _wait(call, None if limit is None else limit - short)


def _block_here(loop: Any, x: Any, kind: Kind, timeout: float | None, how: str | Strategy | None) -> Any:
    """Wait for x on the loop's own thread, where the stack switches."""
    if how is not None and resolve(how).name not in ("auto", "greenlet"):
        raise DeadlockError(
            f"block_on({describe(x)}, strategy={how!r}) was called on the loop's own thread, which cannot wait in that "
            "way for what it has to run itself; leave the strategy out, and the stack switches"
        )
    if not isinstance(loop, SwapLoop):
        lacking = ", ".join(missing())
        raise StrategyUnavailable(
            f"block_on({describe(x)}) was called on the loop's own thread, where only a loop of ours can switch "
            f"stacks, and this is {type(loop).__module__}.{type(loop).__name__}"
            + (f": this Python lacks {lacking}" if lacking else ", from the user's loop_factory")
            + "; write 'await' in a coroutine, or call the blocking code in a thread: await asyncio.to_thread(function)"
        )
    try:
        return inline.block(loop, x, kind, timeout)
    finally:
        if loop._stacks.interrupted:
            _raise_interrupt(loop)


def _raise_interrupt(loop: SwapLoop) -> None:
    """Raise the KeyboardInterrupt of a program that shares its thread with the loop: its wait was cancelled."""
    if asyncio.current_task(loop) is not None:
        loop.interrupted = False
        raise KeyboardInterrupt


def run(bridge: Bridge | None, find: Find, function: Callable[[], Any]) -> Any:
    """Call a function in a task on the loop's thread; :meth:`bridge.Bridge.run` has the contract."""
    running = _get_running_loop()
    if bridge is None and isinstance(running, SwapLoop):
        return function()
    if bridge is None:
        bridge = find(running or home.loop_of_this_thread())
    life = bridge.life()
    if (running is not None and running is life.loop) or (life.calls_here and get_ident() == life.ident):
        return function()
    return block_on(bridge, find, _called(function), None, None)


async def _called(function: Callable[[], Any]) -> Any:
    return function()


def submit(bridge: Bridge | None, find: Find, x: Any) -> WorkFuture:
    """Start x and return its Future; :meth:`bridge.Bridge.submit` has the contract.

    :param find: as for :func:`block_on`.
    """
    try:
        kind = kind_of(x)
        if bridge is None:
            bridge = find(loop_here())
        context = copy_context()
        while True:
            life = bridge.life()
            route = life.post if kind not in _ROUTED else _route(life, x, kind)
            call = SubmittedCall(life, x, kind, route, context)
            future = call.future
            try:
                life.open.add(call)
                if life.over is None:
                    call.origin = origin_of(sys._getframe(2))
                    call.begin()
                    return future
                life.open.discard(call)
            except BaseException:  # Ctrl-C; nobody has the Future
                call.ask_to_cancel()
                life.open.discard(call)
                raise
    except BaseException:
        discard(x)
        raise


def _log_unseen(what: str, error: BaseException, origin: Origin) -> None:
    """Log an error that nobody has asked for. Called when the Future is dropped, in any thread, in a finalizer."""
    text = f"submit({what}) failed, and nobody asked its Future for the error; it was called at:\n{shown(origin)}"
    if log.isEnabledFor(logging.ERROR):
        exc_info = type(error), error, error.__traceback__
        twisted_log.handle(log.makeRecord("bridge", logging.ERROR, __file__, 0, text, (), exc_info))


def is_ours(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether that is a loop of ours that runs."""
    return isinstance(loop, BridgeLoop) and loop.is_running()


def loop_here() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or that this worker thread got its work from."""
    return _get_running_loop() or home.loop_of_this_thread()


def _route(life: Life, x: Any, kind: Kind) -> Callable[[Callable[[], object]], object]:
    """Return what carries a callback to where a Future's callbacks run.

    :raises DeadlockError: the Future is bound to the loop that runs in this thread.
    :raises BridgeError: the Future is bound to a loop that does not run.
    """
    if kind is Kind.CONCURRENT or x.done():
        return _here
    loop: asyncio.AbstractEventLoop = x.get_loop()
    if loop is life.loop:
        return life.post
    if loop is _get_running_loop():
        raise DeadlockError(
            f"{describe(x)} is bound to the loop that runs in this very thread, and that loop stands still while the "
            "thread waits; write 'await' in a coroutine of that loop instead, or let the bridge make it on its own "
            "loop: block_on(coroutine), block_on(lambda: asyncio.gather(...))"
        )
    if loop.is_closed() or not loop.is_running():
        state = "is closed" if loop.is_closed() else "does not run"
        raise BridgeError(
            f"{describe(x)} is bound to a loop that {state}, so it can never finish; let the bridge make "
            "it on its own loop: block_on(coroutine), block_on(lambda: asyncio.gather(...))"
        )
    return loop.call_soon_threadsafe


def _here(callback: Callable[[], object]) -> None:
    callback()


def _end_of(error: BaseException) -> str:
    """Return what a call with this error is counted as."""
    return "cancelled" if isinstance(error, CANCELLATIONS) else "failed"


def _interrupted(call: BlockedCall, error: BaseException, patience: float) -> None:
    """Cancel the work and let it clean up, as the wait was ended by an exception in the caller's thread.

    Another exception meanwhile, such as that of a second Ctrl-C, leaves at once.
    """
    call.limit = patience
    done = call.is_settled  # it came just as the call ended: the notification may have been taken already
    try:
        if not done:
            call.ask_to_cancel()
            done = call.waiter.wait(patience)
    finally:
        call.give_up()
        call.life.meter.note("cancelled")
        if call.work is None:  # never started
            discard(call.x)
    if not done:
        error.add_note(_STILL_RUNS)
    elif call.error is not None and not is_cancellation(call.error) and error.__context__ is None:
        error.__context__ = call.error


def _timed_out(x: Any, timeout: float | None, still_runs: bool) -> TimeoutError:
    error = TimeoutError(f"{describe(x)} did not finish within {timeout} seconds")
    if still_runs:
        error.add_note(_STILL_RUNS)
    return error
