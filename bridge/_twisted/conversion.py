"""On the loop: from one async world to the other, and to a worker thread and back."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar, cast

import anyio
import anyio.from_thread
import anyio.to_thread
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python import context as twisted_context

from .._errors import BridgeError, WrongThreadError
from .._loop.base import BridgeLoop, start_task
from .._loop.task import Contained, drive
from .._loop.workers import has_real_threads
from .._private.cpython import get_running_loop
from .._values.kinds import Kind, describe, discard, returned_kind
from .._values.outcomes import trim

T = TypeVar("T")


def as_deferred(x: Any) -> Deferred[Any]:
    """Return the awaitable as a Deferred; :func:`bridge.as_deferred` has the contract."""
    try:
        kind = _kind(x, "as_deferred")
        if kind is Kind.DEFERRED:
            deferred: Deferred[Any] = x
            return deferred
        loop = _loop_for(x, kind, "as_deferred")
        if kind is Kind.CONCURRENT:
            future: asyncio.Future[Any] = asyncio.wrap_future(x, loop=loop)
        elif kind is Kind.FUTURE:
            future = x
        else:
            coro = x if kind is Kind.COROUTINE else _await(x)
            future = start_task(loop, coro, copy_context(), now=False)
    except BaseException:
        discard(x)
        raise
    return _Mirror(future).deferred


def deferred_result(function: Callable[..., Any], args: Any, kwargs: Any) -> Deferred[Any]:
    """Call a function and return what it returns or raises as a Deferred."""
    try:
        result = function(*args, **kwargs)
    except Exception:
        return fail()
    return succeed(result) if returned_kind(result) is None else as_deferred(result)


def as_future(x: Any) -> asyncio.Future[Any]:
    """Return the awaitable as an asyncio Future; :func:`bridge.as_future` has the contract."""
    try:
        kind = _kind(x, "as_future")
        loop = _loop_for(x, kind, "as_future")
        if kind is Kind.FUTURE:
            future: asyncio.Future[Any] = x
            return future
        if kind is Kind.CONCURRENT:
            return asyncio.wrap_future(x, loop=loop)
        coro = x if kind is Kind.COROUTINE else _await(x)
        # On a loop of ours create_task does this; here it may be any asyncio loop, with any task factory.
        return loop.create_task(drive(coro, loop))
    except BaseException:
        discard(x)
        raise


def future_result(function: Callable[..., Any], args: Any, kwargs: Any) -> asyncio.Future[Any]:
    """Call a function and return what it returns or raises as a Future."""
    loop = _loop_for(function, Kind.CALLABLE, "as_future")
    try:
        result = function(*args, **kwargs)
    except Exception as error:
        failed: asyncio.Future[Any] = loop.create_future()
        failed.set_exception(error)
        return failed
    if returned_kind(result) is not None:
        return as_future(result)
    done: asyncio.Future[Any] = loop.create_future()
    done.set_result(result)
    return done


class _Mirror:
    """A Deferred that fires when a Future is done, and that cancels it and waits for its end when it is cancelled.

    ``Deferred.cancel()`` fires a Deferred at once, unless its canceller does. So the canceller fires it with a mark,
    for which its first callback returns another Deferred. Twisted waits for that one, and a second ``cancel()`` goes
    on to it. (Twisted's own ``Deferred.fromFuture`` uses such a mark, too.)
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
        # Nothing is fired in an except block: what a callback raises would have our error as its context.
        if error is not None:
            waiting.errback(error)
        elif type(value) is Contained:
            waiting.errback(value.error)
        elif isinstance(value, Deferred):
            value.chainDeferred(waiting)
        else:
            waiting.callback(value)


def mirrored(canceller: Any) -> Any:
    """Return the Future that a Deferred with this canceller stands for, None if it is not of our making."""
    owner = getattr(canceller, "__self__", None)
    return owner._future if isinstance(owner, _Mirror) else None


def deferring(function: Callable[..., Any], args: Any, kwargs: Any) -> Deferred[Any]:
    """Call a function in a task and return its result as a Deferred; :func:`bridge.deferring` has the contract."""
    loop = _loop_for(function, Kind.CALLABLE, "deferring")
    if not isinstance(loop, BridgeLoop):
        raise BridgeError(
            f"deferring({describe(function)}) was called on a {type(loop).__name__}, where nothing can block on the "
            "loop's thread; run the program on a loop of ours: asyncio.Runner(loop_factory=bridge.new_event_loop), "
            "bridge.install(), or bridge.run(function)"
        )
    tracker = cast(Any, twisted_context.theContextTracker).currentContext()
    call = partial_of(function, args, kwargs)
    coro = _called(functools.partial(tracker.callWithContext, tracker.contexts[-1], call))
    return _Mirror(start_task(loop, coro, copy_context(), now=False)).deferred


async def _called(function: Callable[[], Any]) -> Any:
    result = function()
    kind = returned_kind(result)
    if kind is None:
        return result
    return await (asyncio.wrap_future(result) if kind is Kind.CONCURRENT else result)


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a worker thread of anyio's; :func:`bridge.in_thread` has the contract."""
    outcome: list[Any] = []
    if not has_real_threads(asyncio.get_running_loop()):
        raise BridgeError(
            "gevent has patched this process, so that anyio's worker threads are greenlets on any loop that is not a "
            "bridge's own; run this code on one: block_on(coroutine)"
        )

    async def work() -> None:
        try:
            outcome.append(await anyio.to_thread.run_sync(function))
        except BaseException as error:
            outcome.append(Contained(error))
            if isinstance(error, asyncio.CancelledError):
                raise

    # A group, because a plain task.cancel() ends the wait for anyio's worker at once and tells the worker nothing. Of
    # the group it cancels the scope, in which the calls stand that the function blocks on; and the group waits.
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
    except asyncio.CancelledError:
        if not outcome or type(outcome[0]) is not Contained or isinstance(outcome[0].error, asyncio.CancelledError):
            raise
        # Else the cleanup has failed, and its error goes on, as around any await.
    result = outcome.pop()
    if type(result) is Contained:
        try:
            raise result.error
        finally:
            del result
    value: T = result
    return value


async def open_portal() -> anyio.from_thread.BlockingPortal:
    """Return a BlockingPortal on the running loop, which serves until the loop shuts down."""
    opened: asyncio.Future[anyio.from_thread.BlockingPortal] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with anyio.from_thread.BlockingPortal() as portal:
            if not opened.done():  # else Ctrl-C came first, and nobody has the portal
                opened.set_result(portal)
                await portal.sleep_until_stopped()

    task = asyncio.get_running_loop().create_task(serve(), name="bridge portal")
    _portal_tasks.add(task)  # the loop itself keeps a weak reference only
    task.add_done_callback(_portal_tasks.discard)
    return await opened


_portal_tasks: set[asyncio.Task[None]] = set()


async def _await(x: Any) -> Any:
    return await x


def _kind(x: Any, verb: str) -> Kind:
    kind = returned_kind(x)
    if kind is None:
        raise TypeError(
            f"{verb} takes an awaitable (a coroutine, a Deferred, a Future), or a function whose result it turns into "
            f"one; not {describe(x)}, of type {type(x).__name__}"
        )
    return kind


def _loop_for(x: Any, kind: Kind, verb: str) -> asyncio.AbstractEventLoop:
    loop = get_running_loop()
    if loop is None:
        raise WrongThreadError(
            f"{verb}({describe(x)}) was called in a thread that runs no loop; write block_on({describe(x)}) to wait "
            f"for the result here, or call it on the loop's thread: block_on(lambda: {verb}(...))"
        )
    if kind is Kind.FUTURE and x.get_loop() is not loop:
        raise BridgeError(
            f"{describe(x)} is bound to another loop than the one that runs here; submit(x) gives a Future that any "
            f"loop can take: {verb}(submit(x))"
        )
    return loop


def partial_of(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], T]:
    """Return the function with its arguments, to be called without any."""
    return functools.partial(function, *args, **kwargs) if args or kwargs else function
