"""Blocking in tasks that are not ours: of a task factory of the user's, and of ``asyncio.Task`` called by a library."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from aiohttp import web
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from bridge import Bridge, as_future, block_on

Coro = Coroutine[Any, Any, Any]
Start = Callable[[Coro], "asyncio.Task[Any]"]
HOST = "127.0.0.1"


class OwnTask(asyncio.Task[Any]):
    """A task of a class of the user's."""


def as_c_task(coro: Coro) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=asyncio.get_running_loop())


def as_eager_c_task(coro: Coro) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=asyncio.get_running_loop(), eager_start=True)
    return task


def as_own_task(coro: Coro) -> asyncio.Task[Any]:
    return OwnTask(coro, loop=asyncio.get_running_loop())


def as_python_task(coro: Coro) -> asyncio.Task[Any]:
    """Make a task of the class that stands in where there is no C."""
    task: asyncio.Task[Any] = asyncio.tasks._PyTask(coro, loop=asyncio.get_running_loop())  # type: ignore[attr-defined]
    return task


def from_factory(coro: Coro) -> asyncio.Task[Any]:
    """Make a task by a factory that the loop has for as long as it takes."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    try:
        return loop.create_task(coro)
    finally:
        loop.set_task_factory(None)


# From CPython 3.14 on asyncio.current_task() does not know tasks of the class in Python beside those in C. What needs
# the current task, such as asyncio.timeout(), fails in them on asyncio's own loop too, and block_on() takes them for
# none: test_tasks_in_python_are_current_tasks_before_cpython_3_14.
STARTS = [as_c_task, as_own_task, *([as_python_task] if sys.version_info < (3, 14) else []), from_factory]
needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


@pytest.fixture(params=STARTS, ids=lambda start: start.__name__)
def start(request: pytest.FixtureRequest) -> Start:
    return request.param  # type: ignore[no-any-return]


def in_plain_task(bridge: Bridge, start: Start, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function in a plain task that nobody cancels, and return its result."""

    async def main() -> Any:
        async def called() -> Any:
            return await work()

        return await start(called())

    return bridge.block_on(main(), timeout=20)


async def while_blocked(task: asyncio.Task[Any], entered: list[str]) -> None:
    """Return when the task has said that it is about to block, and has blocked."""
    while not entered:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()


def test_tasks_in_python_are_current_tasks_before_cpython_3_14(bridge: Bridge) -> None:
    async def current() -> bool:
        return asyncio.current_task() is task

    async def on_asyncio() -> bool:
        nonlocal task
        task = as_python_task(current())
        return bool(await task)

    async def blocks() -> Any:
        return block_on(asyncio.sleep(0, "value"))

    task: Any = None
    with asyncio.Runner() as runner:
        assert runner.run(on_asyncio()) is (sys.version_info < (3, 14))
    assert in_plain_task(bridge, as_python_task, blocks) == "value"


def test_blocks_on_everything(bridge: Bridge, start: Start) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def child() -> str:
        await asyncio.sleep(0)
        variable.set("set")
        assert asyncio.current_task() is tasks[-1]
        return "coroutine"

    tasks: list[Any] = []

    async def work() -> list[Any]:
        tasks.append(asyncio.current_task())
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        results = [
            block_on(child()),
            variable.get(),
            block_on(future),
            block_on(deferLater(bridge.reactor, 0, lambda: "deferred")),
            block_on(as_future(deferLater(bridge.reactor, 0, lambda: "deferred"))),
            await asyncio.sleep(0, "awaited"),
        ]
        with pytest.raises(ZeroDivisionError):
            block_on(deferLater(bridge.reactor, 0, lambda: 1 // 0))
        assert asyncio.current_task() is tasks[-1]
        return results

    assert in_plain_task(bridge, start, work) == ["coroutine", "set", "future", "deferred", "deferred", "awaited"]
    assert not {"cancel", "cancelling", "uncancel"} & vars_of(tasks[-1])


def vars_of(task: Any) -> set[str]:
    """Return which methods the task has of its own; a C task shows no __dict__."""
    return {name for name in ("cancel", "cancelling", "uncancel") if getattr(task, name).__name__.startswith("_")}


def test_a_time_out_around_a_blocked_call(bridge: Bridge, start: Start) -> None:
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                block_on(asyncio.Event().wait())
        with pytest.raises(TimeoutError):
            block_on(asyncio.Event().wait(), timeout=0.001)
        with pytest.raises(TimeoutError):
            block_on(Deferred(), timeout=0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), asyncio.timeout(10):
                block_on(asyncio.Event().wait())
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            block_on(asyncio.Event().wait())
        with anyio.move_on_after(0.001) as scope:
            block_on(asyncio.Event().wait())
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            block_on(asyncio.wait_for(asyncio.Event().wait(), 0.001))
        assert task.cancelling() == 0
        return "goes on"  # and returns, without another await

    assert in_plain_task(bridge, start, work) == "goes on"


def test_an_await_after_a_blocked_call_that_timed_out_is_not_cancelled(bridge: Bridge, start: Start) -> None:
    async def work() -> str:
        with pytest.raises(TimeoutError):
            block_on(asyncio.Event().wait(), timeout=0.001)
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return block_on(asyncio.sleep(0, "goes on"))

    assert in_plain_task(bridge, start, work) == "goes on"


def test_task_groups_around_blocked_calls(bridge: Bridge, start: Start) -> None:
    seen: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0.001)
        raise LookupError("of the child")

    async def waits() -> None:
        try:
            block_on(asyncio.Event().wait())
        except asyncio.CancelledError:
            seen.append("the other child")
            raise

    async def work() -> str:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                group.create_task(waits())
                try:
                    block_on(asyncio.Event().wait())
                except asyncio.CancelledError:
                    seen.append("the parent")
                    raise
        assert [str(error) for error in caught.value.exceptions] == ["of the child"]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with anyio.create_task_group() as others:
            others.start_soon(waits)
            block_on(asyncio.sleep(0.001))
            others.cancel_scope.cancel()
        await asyncio.sleep(0)
        return "goes on"

    assert in_plain_task(bridge, start, work) == "goes on"
    assert sorted(seen) == ["the other child", "the other child", "the parent"]


@pytest.mark.parametrize("ends", ["cancelled", "swallows", "uncancels"])
def test_cancel_while_blocked(bridge: Bridge, start: Start, ends: str) -> None:
    async def main() -> None:
        entered: list[str] = []

        async def work() -> str:
            task = asyncio.current_task()
            assert task is not None
            entered.append("block")
            try:
                block_on(asyncio.Event().wait())
            except asyncio.CancelledError as error:
                assert error.args == ("the message",)  # noqa: PT017
                assert task.cancelling() == 1
                await asyncio.sleep(0)  # a cleanup is not cancelled once more
                block_on(asyncio.sleep(0))
                if ends == "cancelled":
                    raise
                if ends == "uncancels":
                    assert task.uncancel() == 0
            assert task.cancelling() == (0 if ends == "uncancels" else 1)
            return "goes on"

        task = start(work())
        await while_blocked(task, entered)
        assert task.cancelling() == 0
        assert task.cancel("the message")
        await asyncio.wait([task])
        assert task.cancelled() == (ends == "cancelled")
        if ends != "cancelled":
            assert task.result() == "goes on"
        assert task.cancel() is False

    bridge.block_on(main(), timeout=20)


def test_each_cancel_is_one_cancellation(bridge: Bridge, start: Start) -> None:
    async def main() -> list[Any]:
        entered: list[str] = []
        seen: list[Any] = []

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            for number in range(4):
                entered.append(str(number))
                try:
                    if number % 2:
                        await asyncio.Event().wait()
                    else:
                        block_on(asyncio.Event().wait())
                except asyncio.CancelledError as error:
                    seen.append((error.args, task.cancelling()))
            seen.append([task.uncancel() for _ in range(5)])

        task = start(work())
        for number in range(4):
            await while_blocked(task, entered)
            entered.clear()
            task.cancel(number)
            await asyncio.sleep(0)
        await task
        return seen

    counted = [((number,), number + 1) for number in range(4)]
    assert bridge.block_on(main(), timeout=20) == [*counted, [3, 2, 1, 0, 0]]


def test_a_cancel_between_the_end_of_the_wait_and_its_resumption(bridge: Bridge, start: Start) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        entered: list[str] = []

        async def work() -> None:
            entered.append("block")
            block_on(gate)

        task = start(work())
        await while_blocked(task, entered)
        gate.set_result(None)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    bridge.block_on(main(), timeout=20)


def test_who_awaits_a_blocked_task_and_is_cancelled_cancels_it(bridge: Bridge, start: Start) -> None:
    async def main() -> list[str]:
        entered: list[str] = []
        seen: list[str] = []

        async def work() -> None:
            entered.append("block")
            try:
                block_on(asyncio.Event().wait())
            finally:
                seen.append("ended")

        async def outer(task: asyncio.Task[None]) -> None:
            await task

        task = start(work())
        awaiting = asyncio.create_task(outer(task))
        await while_blocked(task, entered)
        awaiting.cancel()
        await asyncio.wait([awaiting])
        assert task.cancelled()
        assert awaiting.cancelled()
        return seen

    assert bridge.block_on(main(), timeout=20) == ["ended"]


def test_a_task_that_cancels_itself_and_blocks(bridge: Bridge, start: Start) -> None:
    """Before 3.13 C's task cannot be made to forget it, and its next await raises it once more, and says so."""

    async def main() -> list[Any]:
        seen: list[Any] = []

        async def work() -> str:
            task = asyncio.current_task()
            assert task is not None
            task.cancel("by itself")
            try:
                block_on(asyncio.Event().wait())
            except asyncio.CancelledError as error:
                seen.append((error.args, task.cancelling()))
            block_on(asyncio.sleep(0))
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                seen.append(str(error.args[0]).partition(";")[0])
            return block_on(asyncio.sleep(0, "goes on"))

        assert await start(work()) == "goes on"
        return seen

    once = [(("by itself",), 1)]
    again = ["this cancellation was raised by block_on already"]
    assert bridge.block_on(main(), timeout=20) == (once if sys.version_info >= (3, 13) else once + again)


def test_a_deferred_is_awaited_in_every_way(bridge: Bridge, start: Start) -> None:
    def deferred() -> Any:
        return deferLater(bridge.reactor, 0, lambda: "deferred")

    async def work() -> list[Any]:
        async def awaiting() -> Any:
            return await deferred()

        return [
            await deferred(),
            await as_future(deferred()),
            block_on(deferred()),
            block_on(awaiting()),
            await asyncio.create_task(awaiting()),
        ]

    assert in_plain_task(bridge, start, work) == ["deferred"] * 5
    assert in_plain_task(bridge, from_factory, deferred) == "deferred"


def test_the_loop_ends_while_plain_tasks_are_blocked(start: Start) -> None:
    seen: list[str] = []
    with Bridge("test", install_reactor=False) as bridge:

        async def main() -> asyncio.Task[Any]:
            entered: list[str] = []

            async def work() -> None:
                entered.append("block")
                try:
                    block_on(asyncio.Event().wait())
                except BaseException as error:
                    seen.append(type(error).__name__)

            task = start(work())
            await while_blocked(task, entered)
            return task

        task = bridge.block_on(main(), timeout=20)
    assert seen == ["BridgeClosed"]
    assert task.done()


# --- tasks that start eagerly


@needs_eager
def test_blocks_in_an_eager_first_step(bridge: Bridge) -> None:
    async def work() -> str:
        async def child() -> str:
            result: str = block_on(asyncio.sleep(0.001, "blocked"))
            with pytest.raises(TimeoutError):
                block_on(Deferred(), timeout=0.001)
            return result

        task = as_eager_c_task(child())
        assert task.done()  # its whole work was done in the constructor
        return await task

    async def awaiting() -> Any:
        return await deferLater(bridge.reactor, 0, lambda: "deferred")

    async def both() -> list[Any]:
        return await asyncio.gather(work(), awaiting())

    assert in_plain_task(bridge, as_eager_c_task, work) == "blocked"
    bridge.loop.set_task_factory(asyncio.eager_task_factory)
    try:
        assert bridge.block_on(both(), timeout=20) == ["blocked", "deferred"]
    finally:
        bridge.loop.set_task_factory(None)


@needs_eager
@pytest.mark.parametrize("outer_start", [as_c_task, as_own_task, asyncio.create_task])
@pytest.mark.parametrize("awaits", [True, False])
def test_a_task_that_stands_still_under_an_eager_one_is_cancelled(
    bridge: Bridge, outer_start: Start, awaits: bool
) -> None:
    """Its stack is blocked as well, so that the blocked call ends; and it is cancelled itself in any case."""

    async def main() -> list[str]:
        entered: list[str] = []
        seen: list[str] = []

        async def inner() -> None:
            entered.append("block")
            try:
                block_on(asyncio.Event().wait())
            except asyncio.CancelledError:
                seen.append("inner")
                raise

        async def outer() -> None:
            task = as_eager_c_task(inner())
            try:
                await (task if awaits else asyncio.Event().wait())
            except asyncio.CancelledError:
                seen.append("outer")
                raise
            finally:
                assert task.cancelled()

        task = outer_start(outer())
        await while_blocked(task, entered)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return seen

    assert bridge.block_on(main(), timeout=20) == ["inner", "outer"]


# --- aiohttp, whose handlers run in such tasks


@asynccontextmanager
async def server(handler: Any, **options: Any) -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_get("/{name}", handler)
    runner = web.AppRunner(application, access_log=None, **options)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def get(port: int, name: str) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET /{name} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n")[0].split()[1] + b" " + answer.partition(b"\r\n\r\n")[2]


def test_an_aiohttp_handler_answers_after_a_time_out(bridge: Bridge) -> None:
    async def handler(request: web.Request) -> web.Response:
        try:
            if request.match_info["name"] == "ours":
                block_on(asyncio.Event().wait(), timeout=0.001)
            else:
                async with asyncio.timeout(0.001):
                    block_on(Deferred())
        except TimeoutError:
            return web.Response(status=504, text="too late")
        return web.Response(text="never")

    async def main() -> list[bytes]:
        async with server(handler) as port:
            return [await get(port, "ours"), await get(port, "theirs")]

    assert bridge.block_on(main(), timeout=20) == [b"504 too late"] * 2


def test_a_client_that_hangs_up_cancels_what_its_handler_is_blocked_in(bridge: Bridge) -> None:
    """With aiohttp's handler_cancellation; the handler cleans up by awaiting and by blocking."""
    ended: list[str] = []

    @inlineCallbacks
    def cleanup() -> Any:
        yield deferLater(bridge.reactor, 0.001, lambda: None)
        return "cleaned up"

    async def main() -> None:
        entered = asyncio.Event()

        async def handler(request: web.Request) -> web.Response:
            entered.set()
            try:
                block_on(asyncio.Event().wait())
            except asyncio.CancelledError:
                ended.append("cancelled")
                await asyncio.sleep(0.001)
                ended.append(block_on(cleanup()))
                raise
            return web.Response(text="never")

        async with server(handler, handler_cancellation=True) as port:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET /leaves HTTP/1.1\r\nHost: here\r\n\r\n")
            await entered.wait()
            writer.close()
            await writer.wait_closed()
            async with asyncio.timeout(10):
                while len(ended) < 2:
                    await asyncio.sleep(0.001)

    bridge.block_on(main(), timeout=20)
    assert ended == ["cancelled", "cleaned up"]
