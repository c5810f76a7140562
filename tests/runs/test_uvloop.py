"""A bridge on uvloop, by ``loop_factory`` and attached: everything works but the switching of stacks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import test_conformance
from conformance import patience_of
from isolated import isolated
from test_conformance import *  # noqa: F403 - the whole suite once more, with the bridge below
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

import bridge as package
from bridge import Bridge, BridgeClosed, StrategyUnavailable, as_deferred, in_thread

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; pip install uvloop")

pytestmark = pytest.mark.any_python
del test_on_the_loops_own_thread_the_stack_switches  # noqa: F821 - the one thing that it cannot do; see below


@pytest.fixture
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge on uvloop whose callers wait by one of the strategies."""
    patience = patience_of(request.function)
    options: Any = {"loop_factory": uvloop.new_event_loop, "install_reactor": False, "shutdown_timeout": patience}
    with Bridge("uvloop", strategy=request.param, **options) as each:
        yield each


@pytest.fixture(autouse=True)
def interrupts_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send Ctrl-C a moment later than the suite does.

    A signal that comes just as a thread gives up the GIL to wait for a lock does not end that wait, in any Python. A
    coroutine on uvloop may send its signal in that very moment.
    """
    send = test_conformance.interrupt_main_thread
    monkeypatch.setattr(test_conformance, "interrupt_main_thread", lambda: threading.Timer(0.02, send).start())


@pytest.fixture
def own() -> Iterator[Bridge]:
    with Bridge("uvloop", loop_factory=uvloop.new_event_loop, install_reactor=False) as each:
        yield each


async def value() -> str:
    return "value"


def test_the_loop_is_uvloops(own: Bridge) -> None:
    assert isinstance(own.loop, uvloop.Loop)


def test_tasks_await_deferreds(own: Bridge) -> None:
    def later(result: str) -> Deferred[str]:
        deferred: Deferred[str] = Deferred()
        own.reactor.callLater(0.01, deferred.callback, result)
        return deferred

    async def child() -> str:
        return await later("child")

    async def main() -> list[Any]:
        with pytest.raises(LookupError):
            await fail(LookupError("no such thing"))
        return [await later("main"), await asyncio.create_task(child()), await as_deferred(value())]

    assert own.block_on(main()) == ["main", "child", "value"]


def test_a_deferred_is_cancelled_with_its_task(own: Bridge) -> None:
    cancelled = threading.Event()
    with pytest.raises(TimeoutError):
        own.block_on(lambda: Deferred(lambda _: cancelled.set()), timeout=0.01)
    assert cancelled.is_set()


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


class Once(Protocol):
    def __init__(self) -> None:
        self.received: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received.callback(data)


def echoed(bridge: Bridge, data: bytes) -> bytes:
    """Return what an echo server of Twisted's on the bridge's reactor sends back to a client of Twisted's."""

    async def main() -> bytes:
        port = bridge.reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        endpoint = TCP4ClientEndpoint(bridge.reactor, "127.0.0.1", port.getHost().port)
        client = await connectProtocol(endpoint, Once())
        client.transport.write(data)  # type: ignore[union-attr]
        received = await client.received
        client.transport.loseConnection()  # type: ignore[union-attr]
        await port.stopListening()
        return received

    return bridge.block_on(main(), timeout=30)


def test_the_reactor_serves_sockets(own: Bridge) -> None:
    assert echoed(own, b"data") == b"data"


def test_the_reactor_has_threads(own: Bridge) -> None:
    def worker() -> str:
        return own.block_on(value())

    assert own.block_on(lambda: deferToThreadPool(own.reactor, own.reactor.getThreadPool(), worker)) == "value"


def test_workers_come_back(own: Bridge) -> None:
    async def from_bridge() -> Any:
        return await in_thread(package.block_on, loop_name())

    async def from_asyncio() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, own.block_on, loop_name())

    async def loop_name() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert own.block_on(from_bridge()) == "uvloop"
    assert own.block_on(from_asyncio()) == "uvloop"


def test_submit(own: Bridge) -> None:
    assert own.submit(value()).result(30) == "value"
    waiting = own.submit(asyncio.sleep(1000))
    assert waiting.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result(30)
    assert waiting.cancelled()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_iterate(own: Bridge, prefetch: int) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0)
            yield number

    with own.iterate(numbers(), prefetch=prefetch) as items:
        assert list(items) == list(range(10))


def test_context_variables_come_back(own: Bridge) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def change() -> None:
        assert variable.get() == "before"
        await asyncio.sleep(0)
        variable.set("after")

    variable.set("before")
    own.block_on(change())
    assert variable.get() == "after"


def test_many_callers(own: Bridge) -> None:
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.extend(own.block_on(value()) for _ in range(50))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["value"] * 800


def test_starts_again_after_its_death(own: Bridge) -> None:
    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(1000)

    with pytest.raises(BridgeClosed, match="the loop was stopped"):
        own.block_on(stop())
    assert own.block_on(value()) == "value"
    assert isinstance(own.loop, uvloop.Loop)
    assert echoed(own, b"again") == b"again"


def test_close_is_final(own: Bridge) -> None:
    loop = own.loop
    own.close()
    assert loop.is_closed()
    with pytest.raises(BridgeClosed):
        own.block_on(value())


def test_run_calls_a_function_on_the_loops_thread(own: Bridge) -> None:
    assert own.run(threading.current_thread) is own.thread


@pytest.mark.parametrize("strategy", [None, "greenlet"])
def test_blocking_on_the_loops_thread_is_refused_and_says_why(own: Bridge, strategy: str | None) -> None:
    refused = pytest.raises(StrategyUnavailable, match=r"only a loop of ours.*this is uvloop\.Loop.*asyncio\.to_thread")
    with refused:
        own.run(lambda: own.block_on(value(), strategy=strategy))
    with refused:
        own.block_on(lambda: own.block_on(value(), strategy=strategy))
    assert own.block_on(value()) == "value"


def test_attached_to_a_loop_of_uvloops() -> None:
    async def main() -> None:
        attached = Bridge.attach()
        assert await asyncio.to_thread(attached.block_on, value()) == "value"
        assert list(await asyncio.to_thread(lambda: list(attached.iterate(numbers())))) == [0, 1, 2]
        with pytest.raises(StrategyUnavailable, match=r"uvloop\.Loop"):
            attached.block_on(value())
        attached.close()
        with pytest.raises(BridgeClosed):
            await asyncio.to_thread(attached.block_on, value())

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_an_attached_loop_that_stops_fails_the_open_calls() -> None:
    errors: list[BaseException] = []
    started = threading.Event()

    async def for_ever() -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    def call(attached: Bridge) -> None:
        try:
            attached.block_on(for_ever())
        except BridgeClosed as error:
            errors.append(error)

    async def main() -> threading.Thread:
        thread = threading.Thread(target=call, args=(Bridge.attach(),))
        thread.start()
        while not started.is_set():
            await asyncio.sleep(0.001)
        return thread

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main()).join(30)
    assert len(errors) == 1


@isolated(forks=True, options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"), stdout="cleaned up")
def test_a_fork_prints_nothing_and_a_forked_child_starts_afresh() -> None:
    import asyncio
    import os
    from collections.abc import Callable

    import uvloop

    from bridge import block_on, configure, submit

    configure(loop_factory=uvloop.new_event_loop)

    async def child() -> object:
        started = await asyncio.create_subprocess_exec("/bin/echo", "child", stdout=-1)  # for which uvloop forks
        return (await started.communicate())[0], started.returncode

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            print("cleaned up", flush=True)  # by the parent only

    def ends_with(status: int) -> int:
        forked = os.fork()
        if not forked:
            assert block_on(asyncio.sleep(0.01, "afresh")) == "afresh"
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])

    submit(work())
    assert block_on(child()) == (b"child\n", 0)
    assert ends_with(3) == 3

    def on_the_loop(end: Callable[[], int]) -> int:
        forked = os.fork()
        if not forked:
            return end()
        return os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])

    assert block_on(lambda: on_the_loop(lambda: os._exit(5))) == 5
    assert block_on(lambda: on_the_loop(lambda: 6)) == 0  # the child's loop has ended as the callback returned
    assert block_on(child()) == (b"child\n", 0)
