"""as_deferred, as_future, in_thread and the portal: the ways between the worlds, in any order."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import sniffio
from isolated import isolated
from places import usable
from twisted.internet import defer
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

import bridge as package
from bridge import Bridge, BridgeError, WrongThreadError, as_deferred, as_future, block_on, in_thread

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(params=usable())
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies."""
    with Bridge("border", strategy=request.param, install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


async def value() -> str:
    await asyncio.sleep(0)
    return "value"


async def failing() -> None:
    await asyncio.sleep(0)
    raise LookupError("no such thing")


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


# --- as_deferred


def test_everything_becomes_a_deferred(bridge: Bridge) -> None:
    def all_of_them() -> Deferred[list[Any]]:
        future = asyncio.get_running_loop().create_future()
        future.set_result("value")
        fired = defer.succeed("value")
        assert as_deferred(fired) is fired
        each = [value(), future, bridge.submit(value()), fired]
        return defer.gatherResults([as_deferred(x) for x in each])

    assert bridge.block_on(all_of_them) == ["value"] * 4


def test_an_error_becomes_a_failure(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    async def main() -> None:
        failures: list[Failure] = []
        deferred = as_deferred(failing())
        deferred.addErrback(failures.append)
        await deferred
        assert failures[0].check(LookupError)
        with pytest.raises(SystemExit):
            await as_deferred(exiting())

    async def exiting() -> None:
        raise SystemExit(3)

    bridge.block_on(main())
    gc.collect()
    assert unhandled == []


def test_a_failure_that_nobody_handles_is_logged_by_twisted(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    async def main() -> None:
        as_deferred(failing())
        for _ in range(20):
            await asyncio.sleep(0)
        gc.collect()

    bridge.block_on(main())
    assert [event["log_failure"].type for event in unhandled] == [LookupError]


def test_cancelling_the_deferred_cancels_the_work_and_waits_for_its_cleanup(bridge: Bridge) -> None:
    steps: list[str] = []

    async def cleaning() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            steps.append("cleaned")
            raise

    async def main() -> None:
        deferred = as_deferred(cleaning())
        await asyncio.sleep(0)
        deferred.cancel()
        deferred.addBoth(lambda result: steps.append("fired") or result)
        assert steps == []
        with pytest.raises(defer.CancelledError):
            await deferred

    bridge.block_on(main())
    assert steps == ["cleaned", "fired"]


def test_a_second_cancel_reaches_the_cleanup(bridge: Bridge) -> None:
    async def twice() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            try:
                await for_ever()
            except asyncio.CancelledError:
                return "cancelled twice"
        return "not cancelled"

    async def main() -> object:
        deferred = as_deferred(twice())
        for _ in range(2):
            await asyncio.sleep(0.001)
            deferred.cancel()
        return await deferred

    assert bridge.block_on(main()) == "cancelled twice"


def test_a_coroutine_may_return_a_deferred(bridge: Bridge) -> None:
    async def returning() -> Deferred[str]:
        return defer.succeed("value")

    assert bridge.block_on(lambda: as_deferred(returning())) == "value"


@isolated
def test_a_coroutine_awaits_deferreds_on_any_loop() -> None:
    import asyncio

    from twisted.internet.defer import Deferred

    import bridge

    async def awaits() -> str:
        deferred: Deferred[str] = Deferred()
        asyncio.get_running_loop().call_soon(deferred.callback, "value")
        return await deferred

    async def main() -> None:  # no loop of ours has started in this process
        fired: list[object] = []
        bridge.as_deferred(awaits()).addBoth(fired.append)
        while not fired:
            await asyncio.sleep(0)
        assert fired == ["value"]

    asyncio.run(main())


def test_as_deferred_decorates_functions(bridge: Bridge) -> None:
    @as_deferred
    async def add(first: int, second: int = 2) -> int:
        """Add two numbers."""
        await asyncio.sleep(0)
        return first + second

    @as_deferred
    def plain() -> str:
        return "plain"

    @as_deferred
    def raising() -> str:
        raise LookupError("at once")

    assert add.__name__ == "add"
    assert add.__doc__ == "Add two numbers."

    def check() -> Deferred[int]:
        assert plain().result == "plain"
        error: list[Failure] = []
        raising().addErrback(error.append)
        assert error[0].check(LookupError)
        return add(1, second=4)

    assert bridge.block_on(check) == 5


# --- as_future


def test_everything_becomes_a_future(bridge: Bridge) -> None:
    async def main() -> list[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_result("value")
        assert as_future(future) is future
        deferred = deferLater(bridge.reactor, 0, lambda: "value")
        each = [as_future(x) for x in (value(), future, bridge.submit(value()), deferred, defer.succeed("value"))]
        assert all(isinstance(future, asyncio.Future) for future in each)
        done, pending = await asyncio.wait(each)
        assert not pending
        assert deferred.result == "value"  # not consumed
        return [future.result() for future in done]

    assert bridge.block_on(main()) == ["value"] * 5


def test_cancelling_the_future_cancels_the_deferred(bridge: Bridge) -> None:
    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        future = as_future(deferred)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert deferred.called

    bridge.block_on(main())


def test_as_future_decorates_functions(bridge: Bridge) -> None:
    @as_future
    @inlineCallbacks
    def inline(result: str) -> Generator[Deferred[Any], Any, str]:
        yield deferLater(bridge.reactor, 0, lambda: None)
        return result

    @as_future
    def raising() -> str:
        raise LookupError("at once")

    @as_future
    def plain() -> str:
        return "plain"

    async def main() -> str:
        assert await plain() == "plain"
        with pytest.raises(LookupError):
            await raising()
        return await asyncio.wait_for(inline("value"), 5)

    assert bridge.block_on(main()) == "value"


def test_a_coroutine_on_any_loop_awaits_a_deferred_by_as_future() -> None:
    async def main() -> str:
        deferred: Deferred[str] = Deferred()
        asyncio.get_running_loop().call_soon(deferred.callback, "value")
        return await as_future(deferred)

    assert asyncio.run(main()) == "value"


@pytest.mark.parametrize("convert", [as_deferred, as_future])
def test_bad_input(bridge: Bridge, convert: Callable[[Any], Any]) -> None:
    coroutine = value()
    with pytest.raises(WrongThreadError, match=r"in a thread that runs no loop; write block_on\("):
        convert(coroutine)
    assert coroutine.cr_frame is None
    for x in (1, None, [value]):
        with pytest.raises(TypeError, match="takes an awaitable"):
            convert(x)

    async def main() -> None:
        loop = asyncio.new_event_loop()
        with pytest.raises(BridgeError, match=r"is bound to another loop.*submit\(x\)"):
            convert(loop.create_future())
        loop.close()

    bridge.block_on(main())


# --- in any order


def test_everything_calls_everything(bridge: Bridge) -> None:
    """inlineCallbacks, coroutines and callbacks call each other, with the sleep of both worlds in each."""
    reactor = bridge.reactor

    async def coroutine(depth: int) -> int:
        await asyncio.sleep(0.001)
        await deferLater(reactor, 0.001, lambda: None)
        return depth if depth == 0 else 1 + await inline(depth - 1)

    @inlineCallbacks
    def inline(depth: int) -> Generator[Deferred[Any], Any, int]:
        yield deferLater(reactor, 0.001, lambda: None)
        yield as_deferred(asyncio.sleep(0.001))
        rest = yield as_deferred(coroutine(depth - 1)) if depth else defer.succeed(-1)
        return 1 + rest

    def chain(depth: int) -> Deferred[int]:
        waiting = as_deferred(asyncio.sleep(0.001)).addCallback(lambda _: deferLater(reactor, 0.001, lambda: None))
        return waiting.addCallback(lambda _: as_deferred(coroutine(depth)))

    assert bridge.block_on(lambda: chain(6)) == 6
    assert bridge.block_on(lambda: inline(6)) == 6
    assert bridge.block_on(coroutine(6)) == 6


@pytest.mark.filterwarnings("ignore:Using readBody with a transport:DeprecationWarning")  # of Twisted's own client
def test_a_twisted_resource_runs_coroutines(bridge: Bridge) -> None:
    """twisted/twisted#11841: ``await asyncio.ensure_future(...)`` behind a Resource."""

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: Request) -> int:
            as_deferred(self.answer(request)).addErrback(request.processingFailed)
            return NOT_DONE_YET

        async def answer(self, request: Request) -> None:
            request.write(await asyncio.ensure_future(self.background()))
            request.write(await deferLater(bridge.reactor, 0, lambda: b"twisted"))
            request.finish()

        async def background(self) -> bytes:
            await asyncio.sleep(0.001)
            return b"asyncio and "

    async def main() -> bytes:
        port = bridge.reactor.listenTCP(0, Site(Page(), reactor=bridge.reactor), interface="127.0.0.1")
        try:
            url = f"http://127.0.0.1:{port.getHost().port}/".encode()
            response = await Agent(bridge.reactor).request(b"GET", url)
            return await readBody(response)
        finally:
            await port.stopListening()

    assert bridge.block_on(main(), timeout=10) == b"asyncio and twisted"


def test_a_task_yields_a_deferred_of_a_library(bridge: Bridge) -> None:
    """scrapy/scrapy#6638 and twisted/twisted#9806: "Task got bad yield" from a crawl awaited in an asyncio program."""

    @inlineCallbacks
    def crawl() -> Generator[Deferred[Any], Any, str]:
        yield deferLater(bridge.reactor, 0.001, lambda: None)
        return "crawled"

    async def program() -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run()) for _ in range(3)]
        return [task.result() for task in tasks]

    async def run() -> str:
        return await crawl()

    assert bridge.block_on(program()) == ["crawled"] * 3


# --- in_thread


def test_in_thread_returns_and_raises(bridge: Bridge) -> None:
    main_thread = bridge.block_on(threading.get_ident)

    def work(first: int, *, second: int) -> int:
        assert threading.get_ident() != main_thread
        assert variable.get() == "from the task"
        variable.set("from the thread")
        return first + second

    async def main() -> int:
        variable.set("from the task")
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)
        result = await in_thread(work, 1, second=2)
        assert variable.get() == "from the task"
        return result

    assert bridge.block_on(main()) == 3


def test_block_on_in_the_thread_comes_back_to_this_loop(bridge: Bridge) -> None:
    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def main() -> None:
        here = asyncio.get_running_loop()
        assert await in_thread(lambda: block_on(where())) is here
        assert await in_thread(lambda: block_on(lambda: in_thread(lambda: block_on(where())))) is here

    bridge.block_on(main(), timeout=10)


class Blocked:
    """A sync function that blocks on something that never ends, and says how it was left."""

    def __init__(self, x: Callable[[], Any]) -> None:
        self.x = x
        self.started = threading.Event()
        self.left: type[BaseException] | None = None

    async def signalled(self) -> None:
        self.started.set()
        await self.x()

    def __call__(self) -> None:
        try:
            block_on(self.signalled())
        except BaseException as error:
            self.left = type(error)
            raise

    async def wait_started(self) -> None:
        while not self.started.is_set():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("endless", [for_ever, Deferred], ids=["coroutine", "deferred"])
def test_cancelling_the_awaiting_task_makes_the_blocked_call_raise(bridge: Bridge, endless: Callable[[], Any]) -> None:
    blocked = Blocked(endless)

    async def main() -> None:
        task = asyncio.create_task(in_thread(blocked))
        await blocked.wait_started()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert blocked.left is asyncio.CancelledError  # the thread had ended before the task did

    bridge.block_on(main(), timeout=10)


def test_a_cancelled_scope_makes_the_blocked_call_raise(bridge: Bridge) -> None:
    blocked = Blocked(for_ever)

    async def main() -> None:
        async def cancel() -> None:
            await blocked.wait_started()
            scope.cancel()

        task = asyncio.create_task(cancel())
        with anyio.CancelScope() as scope:
            await in_thread(blocked)
        assert scope.cancelled_caught
        await task
        assert blocked.left is asyncio.CancelledError
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_thread(Blocked(for_ever))

    bridge.block_on(main(), timeout=10)


def test_an_error_of_the_threads_cleanup_goes_on(bridge: Bridge) -> None:
    blocked = Blocked(for_ever)

    def work() -> None:
        try:
            blocked()
        finally:
            raise LookupError("in the cleanup")

    async def main() -> None:
        task = asyncio.create_task(in_thread(work))
        await blocked.wait_started()
        task.cancel()
        with pytest.raises(LookupError, match="in the cleanup"):
            await task

    bridge.block_on(main(), timeout=10)


def test_in_thread_on_a_loop_that_is_not_ours() -> None:
    async def main() -> tuple[object, object]:
        return await in_thread(lambda: block_on(running())), asyncio.get_running_loop()

    async def running() -> object:
        return asyncio.get_running_loop()

    there, here = asyncio.run(main())
    assert there is here


# --- anyio


def test_anyio_works_in_what_the_bridge_runs(bridge: Bridge) -> None:
    async def main() -> list[object]:
        seen: list[object] = [sniffio.current_async_library()]
        send, receive = anyio.create_memory_object_stream[str](1)

        async def produce() -> None:
            async with send:
                await send.send("streamed")

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            async with receive:
                seen.extend([item async for item in receive])
        with anyio.CancelScope() as scope:
            scope.cancel()
            await deferLater(bridge.reactor, 10, lambda: None)
        seen.append(scope.cancelled_caught)
        seen.append(await anyio.to_thread.run_sync(anyio.from_thread.run, value))
        seen.append(await anyio.to_thread.run_sync(block_on, value()))
        return seen

    assert bridge.block_on(main(), timeout=10) == ["asyncio", "streamed", True, "value", "value"]


def test_anyio_sockets(bridge: Bridge) -> None:
    async def main() -> bytes:
        async def echo(stream: Any) -> None:
            async with stream:
                await stream.send(await stream.receive())

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            async with await anyio.connect_tcp(*address[:2]) as stream:
                await stream.send(b"echoed")
                answer = await stream.receive()
            group.cancel_scope.cancel()
        return answer

    assert bridge.block_on(main(), timeout=10) == b"echoed"


def test_a_worker_thread_of_anyio_is_used_again(bridge: Bridge) -> None:
    """anyio keeps its workers for as long as the root task runs, which is the loop's and not each call's."""

    async def worker() -> int:
        return await anyio.to_thread.run_sync(threading.get_ident)

    assert len({bridge.block_on(worker()) for _ in range(5)}) == 1


def test_the_portal_is_a_real_one(bridge: Bridge) -> None:
    portal = bridge.portal
    assert isinstance(portal, anyio.from_thread.BlockingPortal)
    assert bridge.portal is portal
    assert portal.call(value) == "value"
    assert portal.start_task_soon(value).result(5) == "value"

    class Manager:
        async def __aenter__(self) -> str:
            await asyncio.sleep(0)
            return "entered"

        async def __aexit__(self, *args: object) -> None: ...

    with portal.wrap_async_context_manager(Manager()) as entered:
        assert entered == "entered"
    with Bridge(install_reactor=False) as other:
        assert other.block_on(lambda: other.portal) is other.portal  # on the loop's own thread


def test_each_life_has_a_portal_of_its_own(bridge: Bridge) -> None:
    first = bridge.portal
    with pytest.raises(package.BridgeClosed):
        bridge.block_on(_stop_and_wait())
    assert bridge.portal is not first
    assert bridge.portal.call(value) == "value"


async def _stop_and_wait() -> None:
    asyncio.get_running_loop().stop()
    await for_ever()


def test_sync_async_sync_and_so_on(bridge: Bridge) -> None:
    def sync(depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + block_on(coroutine(depth - 1))

    async def coroutine(depth: int) -> int:
        return await in_thread(sync, depth)

    call: Coroutine[Any, Any, int] = coroutine(10)
    assert bridge.block_on(call, timeout=20) == 10


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        as_deferred(self.answer(data)).addErrback(lambda failure: failure.printTraceback())

    async def answer(self, data: bytes) -> None:
        await asyncio.sleep(0.001)
        assert self.transport is not None
        self.transport.write(await in_thread(data.upper))


def test_a_twisted_protocol_answers_from_a_thread_by_way_of_a_coroutine(bridge: Bridge) -> None:
    async def main() -> bytes:
        port = bridge.reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.getHost().port)
            writer.write(b"echo")
            answer = await reader.readexactly(4)
            writer.close()
            await writer.wait_closed()
            return answer
        finally:
            await port.stopListening()

    assert bridge.block_on(main(), timeout=10) == b"ECHO"
