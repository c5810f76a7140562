"""Conversion of asyncio's awaitables to Deferreds: :func:`bridge.as_deferred`, :func:`bridge.deferring`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from .._errors import BridgeError, at
from .._loop.base import BridgeLoop, start_task
from .._loop.conversion import checked_kind, loop_for, partial_of
from .._loop.task import Contained
from .._values.deferreds import await_any
from .._values.kinds import Kind, describe, discard, returned_kind
from .._values.outcomes import trim
from . import arrival
from . import tracker as trackers


def as_deferred(x: Any) -> Deferred[Any]:
    """Return the awaitable as a Deferred; :func:`bridge.as_deferred` has the contract."""
    try:
        kind = checked_kind(x, "as_deferred")
        if kind is Kind.DEFERRED:
            deferred: Deferred[Any] = x
            return deferred
        loop = loop_for(x, kind, "as_deferred")
        if kind is Kind.CONCURRENT:
            future: asyncio.Future[Any] = asyncio.wrap_future(x, loop=loop)
        elif kind is Kind.FUTURE:
            future = x
        else:
            if not isinstance(loop, BridgeLoop):  # maybe no loop of ours has started
                arrival.begin_awaits(None, None)
            coro = x if kind is Kind.COROUTINE else await_any(x)
            future = start_task(loop, coro, copy_context(), now=False)
    except BaseException:
        discard(x)
        raise
    return _Mirror(future).deferred


def deferred_result(function: Callable[..., Any], args: Any, kwargs: Any) -> Deferred[Any]:
    """Call a function and return a Deferred of its result or error."""
    try:
        result = function(*args, **kwargs)
    except Exception:
        return fail()
    return succeed(result) if returned_kind(result) is None else as_deferred(result)


class _Mirror:
    """Makes a Deferred that fires when a Future is done.

    Cancelling the Deferred cancels the Future and waits for its end. But ``Deferred.cancel()`` fires a Deferred at
    once, unless its canceller has fired it. So the canceller fires it with a marker. The first callback answers the
    marker with another Deferred: Twisted waits for that one, and passes a second ``cancel()`` on to it. (Twisted's own
    ``Deferred.fromFuture`` uses such a marker too.)
    """

    _CANCELLED = object()

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future
        self.deferred = self._waiting = self._make()
        future.add_done_callback(self._done)

    def _make(self) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(self._cancel)
        return deferred.addCallback(self._unless_cancelled)

    def _cancel(self, cancelled: Deferred[Any]) -> None:
        self._future.cancel()
        self._waiting = self._make()
        cancelled.callback(self._CANCELLED)

    def _unless_cancelled(self, result: Any) -> Any:
        return self._waiting if result is self._CANCELLED else result

    def _done(self, future: asyncio.Future[Any]) -> None:
        waiting = self._waiting
        value: Any = None
        error: BaseException | None = None
        try:
            value = future.result()
        except asyncio.CancelledError:
            error = CancelledError()
        except BaseException as raised:
            error = raised
            trim(error)
        # Fire outside `except`, or an error raised by a callback would get ours as its `__context__`.
        if error is not None:
            waiting.errback(error)
        elif type(value) is Contained:
            waiting.errback(value.error)
        elif isinstance(value, Deferred):
            value.chainDeferred(waiting)
        else:
            waiting.callback(value)


def mirrored(canceller: Any) -> Any:
    """Return the Future behind the Deferred that has this canceller; None if as_deferred() has not made it."""
    owner = getattr(canceller, "__self__", None)
    return owner._future if isinstance(owner, _Mirror) else None


def deferring(function: Callable[..., Any], args: Any, kwargs: Any) -> Deferred[Any]:
    """Call a function in a task and return its result as a Deferred; :func:`bridge.deferring` has the contract."""
    loop = loop_for(function, Kind.CALLABLE, "deferring")
    if not isinstance(loop, BridgeLoop):
        raise BridgeError(
            f"deferring({describe(function)}) was called on a {type(loop).__name__}, where nothing can block on the "
            "loop's thread; run the program on a loop of ours: asyncio.Runner(loop_factory=bridge.new_event_loop), "
            "bridge.install(), or bridge.run(function)" + at("cannot-switch-stacks")
        )
    tracker = trackers.here()
    call = partial_of(function, args, kwargs)
    coro = _call_and_await(functools.partial(tracker.callWithContext, tracker.contexts[-1], call))
    return _Mirror(start_task(loop, coro, copy_context(), now=False)).deferred


async def _call_and_await(function: Callable[[], Any]) -> Any:
    result = function()
    kind = returned_kind(result)
    if kind is None:
        return result
    return await (asyncio.wrap_future(result) if kind is Kind.CONCURRENT else result)
