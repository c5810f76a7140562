"""For code that runs on the loop: as_deferred, as_future, in_thread and in_caller, deferring and serialized.

This module has only signatures and contracts, so that ``import bridge`` imports neither Twisted nor asyncio.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from .._errors import at
from .._runs.runs import bridge_of_loop, run_of_this_thread
from .._threads.interrupts import Undo
from .._values.outcomes import trim
from .default import block_on

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

    from twisted.internet.defer import Deferred

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


@overload
def as_deferred(x: Awaitable[T]) -> Deferred[T]: ...
@overload
def as_deferred(x: concurrent.futures.Future[T]) -> Deferred[T]: ...
@overload
def as_deferred(x: Callable[P, Awaitable[T]]) -> Callable[P, Deferred[T]]: ...
@overload
def as_deferred(x: Callable[P, T]) -> Callable[P, Deferred[T]]: ...
def as_deferred(x: Any) -> Any:
    """Return an awaitable as a Deferred, on the loop; or, as a decorator, a function that returns one.

    A coroutine runs as a task. So it may await asyncio's Futures as well as Deferreds, unlike under ``ensureDeferred``
    (twisted/twisted#11841). ``cancel()`` of the Deferred cancels the work. The Deferred then fires when the work has
    cleaned up, with Twisted's ``CancelledError`` if the work was cancelled. If a decorated function raises, or returns
    another value, the Deferred fires with that.

    ::

        class Page(Resource):
            def render_GET(self, request):
                as_deferred(self.answer(request)).addErrback(request.processingFailed)
                return NOT_DONE_YET

        @as_deferred
        async def sleep(seconds):      # for callers that want a Deferred, such as inlineCallbacks
            await asyncio.sleep(seconds)

    :param x: a coroutine, an awaitable, a Future of this loop, a concurrent Future, a Deferred (which is returned as it
        is), or a function to decorate.
    :raises WrongThreadError: no loop runs in this thread.
    :raises BridgeError: x is a Future of another loop, or a coroutine that was awaited before.
    :raises TypeError: x is none of these.
    """
    if _is_function(x):

        @functools.wraps(x)
        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            from .._twisted import conversion

            return conversion.deferred_result(x, args, kwargs)

        return call
    from .._twisted import conversion

    return conversion.as_deferred(x)


@overload
def as_future(x: Awaitable[T]) -> asyncio.Future[T]: ...
@overload
def as_future(x: concurrent.futures.Future[T]) -> asyncio.Future[T]: ...
@overload
def as_future(x: Callable[P, Awaitable[T]]) -> Callable[P, asyncio.Future[T]]: ...
@overload
def as_future(x: Callable[P, T]) -> Callable[P, asyncio.Future[T]]: ...
def as_future(x: Any) -> Any:
    """Return an awaitable as an asyncio Future, on the loop; or, as a decorator, a function that returns one.

    A Deferred keeps its result for its other callbacks. Cancelling the Future cancels the work, also a Deferred. On a
    loop that is not ours a coroutine awaits a Deferred by ``await as_future(deferred)``.

    ::

        done, pending = await asyncio.wait([as_future(deferred), as_future(coroutine)])

    :param x: as for :func:`as_deferred`; a Future of this loop is returned as it is.
    :raises WrongThreadError: no loop runs in this thread.
    :raises BridgeError: x is a Future of another loop, or a coroutine that was awaited before.
    :raises TypeError: x is none of these.
    """
    if _is_function(x):

        @functools.wraps(x)
        def call(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            from .._loop import conversion

            return conversion.future_result(x, args, kwargs)

        return call
    from .._loop import conversion

    return conversion.as_future(x)


async def in_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function in a worker thread and return its result. ``block_on`` in it uses this loop.

    The thread is one of anyio's workers. The work that the function blocks on runs inside the cancel scope around
    ``in_thread``: cancelling that scope, or the task that awaits ``in_thread``, makes the blocked call raise. The
    function itself cannot be stopped, so ``in_thread`` waits for its end. The function sees the caller's context
    variables. Values that it sets in them stay in the thread.

    ::

        async def handler(request):
            return await in_thread(legacy_view, request)    # which may call block_on

    The loop may be any asyncio loop.

    :param fn: the function, with its arguments after it.
    :raises BaseException: what the function raised.
    :raises BridgeError: gevent has patched the process, and the loop is not a bridge's own.
    """
    from .._loop import conversion

    return await conversion.in_thread(conversion.partial_of(fn, args, kwargs))


async def in_caller(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function in the thread that waits for this work, and return its result.

    Use it for objects that belong to the caller's thread: a connection of sqlite3, Django's ORM in its transaction, a
    GUI's objects. The function runs in the thread that blocks in :func:`block_on`, :func:`blocking`, :func:`iterate` or
    :func:`enter` for the work that this coroutine is part of. Tasks that the work starts are part of it. The function
    may block again, and the thread then runs other such functions meanwhile. It sees the context variables of the
    coroutine. Values that it sets in them are set for the coroutine afterwards, as with a function call. ::

        connection = sqlite3.connect("urls.db")             # refuses to be used in another thread

        async def crawl():
            for url in await in_caller(pending, connection):
                await in_caller(save, connection, await fetch(url))

        block_on(crawl())

    A time-out of the call does not end a function that runs. Ctrl-C in the function, or its ``SystemExit``, ends the
    call as Ctrl-C in the wait does. If the awaiting task is cancelled, a function that has not begun is not called, and
    one that has begun is waited for. If a stack of the loop's own thread blocks for the coroutine, the function runs in
    that stack.

    :param fn: the function, with its arguments after it.
    :raises BaseException: what the function raised, the very object.
    :raises BridgeError: no thread waits for this work: it was started by :func:`submit` or :func:`map`, or its
        caller has given up, as after a time-out.
    """
    from .._calls import in_caller as engine

    try:
        result: T = await engine.in_caller(engine.partial_of(fn, args, kwargs))
    except BaseException as error:
        trim(error)
        raise
    return result


@overload
def deferring(fn: Callable[P, Deferred[T]]) -> Callable[P, Deferred[T]]: ...
@overload
def deferring(fn: Callable[P, T]) -> Callable[P, Deferred[T]]: ...
def deferring(fn: Callable[..., Any]) -> Callable[..., Deferred[Any]]:
    """Return a function that runs a sync function on a stack of its own, and at once returns a Deferred of its result.

    While a protocol's method blocks, its connection is not read. So a responder that blocks on an answer over the same
    connection would wait for ever. On a stack of its own it does not block the connection::

        class Peer(amp.AMP):
            @Sum.responder
            @deferring
            def sum(self, a, b):
                return {"total": a + block_on(self.callRemote(Offset))["offset"]}

    The function runs in a task, in a copy of the caller's context variables and in its ``twisted.python.context``. The
    tasks begin in the loop's next iterations, in the order of the calls. An exception of the function becomes the
    Deferred's failure. A Deferred or an awaitable that it returns is waited for. ``cancel()`` of the Deferred cancels
    the work that the function blocks on, so the function gets ``asyncio.CancelledError``. The Deferred fires when the
    function has ended. A function that is cancelled before it begins is not called.

    :param fn: a sync function or method.
    :raises TypeError: fn is not a sync function.
    :raises WrongThreadError: by the returned function: no loop runs in this thread.
    :raises BridgeError: by the returned function: the loop that runs here is not one of ours.
    """
    _check_sync(fn, "deferring", "for an async function there is @as_deferred, for a generator @inlineCallbacks")

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
        from .._twisted import conversion

        return conversion.deferring(fn, args, kwargs)

    return call


def serialized(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Return a sync method whose calls on one instance run one after the other.

    While a method blocks on the loop, other code runs, which may call the same instance in the middle of its work. With
    this decorator such calls queue up behind the blocked call, first come, first served. All serialized methods of an
    instance share one queue. ::

        class Account:
            @serialized
            def withdraw(self, amount):
                balance = block_on(self.store.get(self.name))
                block_on(self.store.set(self.name, balance - amount))

    The owner of the queue may call again without waiting: the stack that runs the method, and the coroutine that the
    method blocks on. All other tasks wait, also tasks that the owner has started. So a method that blocks on a
    ``gather`` whose parts call the same instance waits for ever. Callbacks on the loop wait too, also while a call that
    the owner's thread has posted has not begun.

    On the loop's thread a waiting call switches stacks, as ``block_on`` does. In any other thread it waits as for an
    ``RLock``. Both kinds of calls stand in the same queue. A call that is cancelled or interrupted leaves the queue.

    The instance needs neither weak references nor a hash, and nothing is stored in it.

    :param method: a sync method; a class method if ``@classmethod`` stands above. Its first argument is the instance.
    :raises TypeError: method is not a sync function.
    :raises DeadlockError: by the method: it was called on the loop's root stack, where it would have to wait.
    :raises StrategyUnavailable: by the method: it would have to wait on the thread of a loop that is not ours, which
        cannot run meanwhile.
    :raises BaseException: by the method: the exception that ended the wait, as from :func:`block_on`.
    """
    _check_sync(method, "serialized", "an async method has asyncio.Lock for this")

    def refuse(thread: int) -> None:
        """Raise an error instead of a deadlock: the other thread waits for work that only this thread can run.

        This is mostly the thread of a reactor without an asyncio loop. On other loops a stack switches.
        """
        run = run_of_this_thread()
        if run is not None and any(getattr(each, "caller", None) == thread for each in list(run.open)):
            raise run.refusal_here(f"the serialized method {getattr(method, '__qualname__', method)}")

    @functools.wraps(method)
    def call(instance: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        from .._loop import serialized as engine

        entry = engine.Entry(instance)
        with Undo(entry.leave) as undo, undo:
            entry.enter(block_on, _calls_for, refuse)
            return method(instance, *args, **kwargs)

    return call


def _calls_for(thread: int, stack: object) -> bool:
    """Return whether the code that runs on this loop is part of an open call that the thread waits for.

    :param stack: the thread's greenlet that waits for the call. If several wait in one thread, each has its own calls.
    """
    import asyncio

    from .._calls.calling import Calling

    bridge = bridge_of_loop(asyncio.get_running_loop(), for_anyio=True)
    if bridge is None:
        return False
    calls = [call for call in list(bridge.last_run.open) if getattr(call, "caller", None) == thread]
    calls = [call for call in calls if getattr(call.waiter, "owner", stack) in (stack, None)]
    # A posted call that has not begun has None as its work. A callback has None as its task: that is no match.
    task = asyncio.current_task()
    return any(
        call.work.is_here if isinstance(call.work, Calling) else task is not None and call.work is task
        for call in calls
    )


def _check_sync(function: Any, verb: str, instead: str) -> None:
    if not callable(function):
        hint = "; put it below @classmethod, @staticmethod or @property" if hasattr(function, "__get__") else ""
        raise TypeError(f"{verb} takes a function, not {function!r}{hint}" + at("takes-a-function"))
    for is_wrong in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction):
        if is_wrong(function):
            what = "a generator" if is_wrong is inspect.isgeneratorfunction else "async"
            raise TypeError(
                f"{verb} takes a sync function, and {getattr(function, '__qualname__', function)} is {what}; {instead}"
                + at("takes-a-function")
            )


def _is_function(x: Any) -> bool:
    return callable(x) and not hasattr(x, "__await__")
