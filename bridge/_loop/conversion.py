"""Functions to call on the loop's thread: as_future(), in_thread() and open_portal()."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import BridgeError, WrongThreadError, at
from .._private.cpython import get_running_loop
from .._values.deferreds import await_any
from .._values.kinds import Kind, describe, discard, returned_kind
from .gevent import has_real_threads
from .task import Contained

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")


def as_future(x: Any) -> asyncio.Future[Any]:
    """Return the awaitable as an asyncio Future; :func:`bridge.as_future` has the contract."""
    try:
        kind = checked_kind(x, "as_future")
        loop = loop_for(x, kind, "as_future")
        if kind is Kind.FUTURE:
            future: asyncio.Future[Any] = x
            return future
        if kind is Kind.CONCURRENT:
            return asyncio.wrap_future(x, loop=loop)
        return loop.create_task(x if kind is Kind.COROUTINE else await_any(x))
    except BaseException:
        discard(x)
        raise


def future_result(function: Callable[..., Any], args: Any, kwargs: Any) -> asyncio.Future[Any]:
    """Call a function and return what it returns or raises as a Future."""
    loop = loop_for(function, Kind.CALLABLE, "as_future")
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


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in an anyio worker thread; :func:`bridge.in_thread` has the contract."""
    import anyio
    import anyio.to_thread

    outcome: list[Any] = []
    if not has_real_threads(asyncio.get_running_loop()):
        raise BridgeError(
            "gevent has patched this process, so that anyio's worker threads are greenlets on any loop that is not a "
            "bridge's own; run this code on one: block_on(coroutine)" + at("greenlet-threads")
        )

    async def work() -> None:
        try:
            outcome.append(await anyio.to_thread.run_sync(function))
        except BaseException as error:
            outcome.append(Contained(error))
            if isinstance(error, asyncio.CancelledError):
                raise

    # Without a task group, task.cancel() would end the wait for anyio's worker at once and not reach the worker. With
    # one it cancels the group's scope, and with it the calls that the function blocks on; and the group waits for them.
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
    except asyncio.CancelledError:
        if not outcome or type(outcome[0]) is not Contained or isinstance(outcome[0].error, asyncio.CancelledError):
            raise
        # Otherwise the cleanup failed. Its error is raised below, as an await would.
    result = outcome.pop()
    if type(result) is Contained:
        try:
            raise result.error
        finally:
            del result
    value: T = result
    return value


async def open_portal() -> BlockingPortal:
    """Return a BlockingPortal on the running loop, which serves until the loop shuts down."""
    import anyio.from_thread

    opened: asyncio.Future[BlockingPortal] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with anyio.from_thread.BlockingPortal() as portal:
            if not opened.done():  # done: Ctrl-C cancelled the caller, which will not get the portal
                opened.set_result(portal)
                await portal.sleep_until_stopped()

    def ended(task: asyncio.Task[None]) -> None:
        _portal_tasks.discard(task)
        if task.cancelled():
            opened.cancel()
        elif not opened.done() and (error := task.exception()) is not None:  # anyio has refused to open one
            opened.set_exception(error)

    task = asyncio.get_running_loop().create_task(serve(), name="bridge portal")
    _portal_tasks.add(task)  # the loop itself keeps a weak reference only
    task.add_done_callback(ended)
    portal = await opened
    _task_of[portal] = task
    return portal


async def finish_portal(portal: BlockingPortal) -> None:
    """Let a portal take no more work, and wait for what it still runs. Called on its loop."""
    await portal.stop()
    if (task := _task_of.get(portal)) is not None:
        await asyncio.wait([task])


_portal_tasks: set[asyncio.Task[None]] = set()
_task_of: weakref.WeakKeyDictionary[BlockingPortal, asyncio.Task[None]] = weakref.WeakKeyDictionary()


def checked_kind(x: Any, verb: str) -> Kind:
    kind = returned_kind(x)
    if kind is None:
        raise TypeError(
            f"{verb} takes an awaitable (a coroutine, a Deferred, a Future), or a function whose result it turns into "
            f"one; not {describe(x)}, of type {type(x).__name__}" + at("cannot-convert")
        )
    return kind


def loop_for(x: Any, kind: Kind, verb: str) -> asyncio.AbstractEventLoop:
    loop = get_running_loop()
    if loop is None:
        raise WrongThreadError(
            f"{verb}({describe(x)}) was called in a thread that runs no loop; write block_on({describe(x)}) to wait "
            f"for the result here, or call it on the loop's thread: block_on(lambda: {verb}(...))"
            + at("no-loop-in-thread")
        )
    if kind is Kind.FUTURE and x.get_loop() is not loop:
        raise BridgeError(
            f"{describe(x)} is bound to another loop than the one that runs here; submit(x) gives a Future that any "
            f"loop can take: {verb}(submit(x))" + at("bound-to-another-loop")
        )
    return loop


def partial_of(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], T]:
    """Return the function with its arguments, to be called without any."""
    return functools.partial(function, *args, **kwargs) if args or kwargs else function
