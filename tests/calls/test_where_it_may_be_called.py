"""The table "Where it may be called", one row after the other: which loop a plain call goes to, or what refuses it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
import anyio.to_thread
import pytest
from isolated import isolated
from twisted.internet.defer import succeed

import bridge as package
from bridge import Bridge, BridgeError, DeadlockError, block_on, in_thread, new_event_loop, run, submit

PATIENCE = 20.0

Where = Callable[[], Any]
Worker = Callable[[Where], Awaitable[Any]]


async def running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture
def default() -> Iterator[Bridge]:
    """The default bridge, which ends with the test."""
    yield package.default_bridge()
    package.default_bridge().close()


@pytest.fixture(autouse=True)
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not reported a worker of an unknown loop yet."""
    monkeypatch.setattr("bridge._api.default._has_reported", False)


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    caplog.set_level(logging.WARNING, "bridge")
    return lambda: sum("worker thread of a loop that is not a bridge's" in each.getMessage() for each in caplog.records)


def every_way() -> set[Any]:
    """Return the loops that the plain functions go to from here."""
    return {
        block_on(running()),
        block_on(running(), timeout=PATIENCE),
        submit(running()).result(PATIENCE),
        run(asyncio.get_running_loop),
        package.blocking(running)(),
    }


# --- the workers


async def by_asyncio(function: Where) -> Any:
    return await asyncio.to_thread(function)


async def by_default_executor(function: Where) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function)


async def by_own_executor(function: Where) -> Any:
    with ThreadPoolExecutor(1) as pool:
        # Once the loop has its Future, so that the thread can see that it works for a loop.
        has_future = threading.Event()

        def work() -> Any:
            assert has_future.wait(PATIENCE)
            return function()

        future = asyncio.get_running_loop().run_in_executor(pool, work)
        has_future.set()
        return await future


async def by_anyio(function: Where) -> Any:
    return await anyio.to_thread.run_sync(function)


async def by_in_thread(function: Where) -> Any:
    return await in_thread(function)


async def nested(function: Where) -> Any:
    """A thread of asyncio's that blocks on the same loop, for a worker of anyio's."""
    return await by_asyncio(lambda: block_on(by_anyio(function)))


OF_EXECUTORS = [by_asyncio, by_default_executor, by_own_executor]
OF_ANYIO = [by_anyio, by_in_thread]

# --- the loops, as context managers that give a function which runs a coroutine function on the loop


class Runner:
    """A loop that the program runs in the main thread, attached or not."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop], *, attach: bool) -> None:
        self.factory = factory
        self.attach = attach

    def __call__(self, main: Callable[[], Awaitable[Any]]) -> Any:
        async def attached() -> Any:
            with Bridge.attach() if self.attach else nullcontext():
                return await main()

        with asyncio.Runner(loop_factory=self.factory) as runner:
            return runner.run(attached())


def of_a_bridge(factory: Any = None) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    def run_on(main: Callable[[], Awaitable[Any]]) -> Any:
        with Bridge("served", install_reactor=False, loop_factory=factory) as bridge:
            return bridge.block_on(main, timeout=2 * PATIENCE)

    return run_on


def uvloop() -> asyncio.AbstractEventLoop:
    found: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return found


LOOPS = {
    "a bridge's own": of_a_bridge(),
    "a bridge's own, of the user's class": of_a_bridge(asyncio.SelectorEventLoop),
    "the program's, of ours": Runner(new_event_loop, attach=False),
    "the program's, of ours, attached": Runner(new_event_loop, attach=True),
    "attached": Runner(asyncio.SelectorEventLoop, attach=True),
    "uvloop's, attached": Runner(uvloop, attach=True),
}
OTHERS = {
    "nobody's": Runner(asyncio.SelectorEventLoop, attach=False),
    "uvloop's": Runner(uvloop, attach=False),
}


@pytest.mark.parametrize("worker", [*OF_EXECUTORS, *OF_ANYIO, nested])
@pytest.mark.parametrize("of", LOOPS)
def test_a_worker_goes_back_to_its_loop(of: str, worker: Worker, reports: Callable[[], int]) -> None:
    async def main() -> tuple[set[Any], Any]:
        return await worker(every_way), asyncio.get_running_loop()

    found, loop = LOOPS[of](main)
    assert found == {loop}
    assert not reports()


@pytest.mark.parametrize("worker", OF_ANYIO)
@pytest.mark.parametrize("of", OTHERS)
def test_anyios_worker_goes_back_to_any_loop(of: str, worker: Worker, reports: Callable[[], int]) -> None:
    async def main() -> tuple[set[Any], Any]:
        first = await worker(every_way)
        assert await worker(every_way) == first
        return first, asyncio.get_running_loop()

    found, loop = OTHERS[of](main)
    assert found == {loop}
    assert not reports()


@pytest.mark.parametrize(
    ("of", "worker"),
    # The threads of uvloop's own executor have no name of asyncio's. Whether the loop has the Future in time is a race.
    [*(("nobody's", worker) for worker in OF_EXECUTORS), ("uvloop's", by_own_executor)],
)
def test_another_worker_goes_to_the_default_bridge_with_one_report(
    of: str, worker: Worker, default: Bridge, reports: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[set[Any]]:
        return [await worker(every_way) for _ in range(3)]

    assert OTHERS[of](main) == [{default.loop}] * 3
    assert reports() == 1
    (report,) = [each.getMessage() for each in caplog.records if "worker thread" in each.getMessage()]
    assert "Bridge.attach()" in report
    assert "bridge.new_event_loop" in report
    place, _, address = report.splitlines()[-3:]
    assert place.endswith("in every_way")  # the caller's own line, not one of ours
    assert address == "[bridge: worker-of-another-loop]"


def test_an_anyio_worker_of_any_loop_works_in_its_cancel_scope(default: Bridge) -> None:
    ended: list[BaseException] = []

    def work() -> None:
        try:
            block_on(asyncio.sleep(60))
        except BaseException as error:
            ended.append(error)
            raise

    async def main() -> bool:
        with anyio.move_on_after(0.05) as scope:
            await anyio.to_thread.run_sync(work)
        return scope.cancelled_caught

    assert asyncio.run(main())
    assert [type(each) for each in ended] == [asyncio.CancelledError]
    assert not default.running


# --- Deferreds


@pytest.mark.parametrize("is_deferred", [True, False])
@pytest.mark.parametrize("worker", ["asyncio", "anyio"])
@pytest.mark.parametrize("attach", [True, False])
@isolated(stderr="(?s).*")
def test_a_deferred_goes_to_the_loop_of_its_reactor(attach: bool, worker: str, is_deferred: bool) -> None:
    import asyncio
    import contextlib
    import threading

    import anyio.to_thread
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, succeed
    from twisted.internet.threads import blockingCallFromThread

    from bridge import Bridge, block_on, default_bridge

    made: list[int] = []

    def later() -> Deferred[int]:
        made.append(threading.get_ident())
        deferred: Deferred[int] = Deferred()
        reactor.callLater(0.01, deferred.callback, 1)
        return deferred

    def work() -> object:
        block_on(lambda: succeed(None))  # starts the reactor
        return block_on(blockingCallFromThread(reactor, lambda: [later()])[0] if is_deferred else later)

    async def main() -> object:
        with Bridge.attach() if attach else contextlib.nullcontext():
            return await (asyncio.to_thread(work) if worker == "asyncio" else anyio.to_thread.run_sync(work))

    assert asyncio.run(main()) == 1
    assert default_bridge().thread is not None
    assert made == [default_bridge().thread.ident]


@pytest.mark.parametrize("close", [False, True])
@isolated(stderr="(?s).*")
def test_a_thread_of_an_attached_reactors_pool_goes_to_the_reactor(close: bool) -> None:
    import threading

    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, ReactorConflict, block_on, submit

    attached = Bridge.attach(reactor)

    async def thread() -> int:
        return threading.get_ident()

    def work() -> list[int]:
        return [block_on(thread()), submit(threading.get_ident).result(20)]

    def start() -> None:
        if close:
            attached.close()
        deferToThread(work).addBoth(found.append).addBoth(lambda _: reactor.stop())

    found: list[Any] = []
    reactor.callWhenRunning(start)
    reactor.run()
    if close:  # as without attach(): the default bridge, whose reactor cannot be the one that runs
        found[0].trap(ReactorConflict)
    else:
        assert found == [[threading.get_ident()] * 2], found


# --- threads that are no workers


def test_a_thread_without_a_loop_goes_to_the_default_bridge(default: Bridge, reports: Callable[[], int]) -> None:
    assert every_way() == {default.loop}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(every_way).result(PATIENCE) == {default.loop}
    assert not reports()


@pytest.mark.parametrize("where", ["a task", "a callback", "a Deferred's callback"])
def test_on_the_loops_own_thread_the_stack_switches(bridge: Bridge, where: str) -> None:
    found: concurrent.futures.Future[set[Any]] = concurrent.futures.Future()

    def here(_: object = None) -> None:
        try:
            found.set_result(every_way())
        except BaseException as error:
            found.set_exception(error)

    async def main() -> None:
        if where == "a task":
            here()
        elif where == "a callback":
            asyncio.get_running_loop().call_soon(here)
        else:
            succeed(None).addCallback(here)

    bridge.block_on(main())
    assert found.result(PATIENCE) == {bridge.loop}
    with pytest.raises(DeadlockError, match="leave the strategy out"):
        bridge.block_on(lambda: block_on(running(), strategy="event"))


def test_in_a_thread_that_runs_another_loop_the_default_bridge_serves(
    default: Bridge, reports: Callable[[], int]
) -> None:
    async def main() -> set[Any]:
        await anyio.to_thread.run_sync(lambda: block_on(running()))  # which gives the workers a bridge, and only them
        return every_way()

    assert asyncio.run(main()) == {default.loop}
    assert not reports()


def test_x_that_is_bound_to_another_loop(bridge: Bridge) -> None:
    async def main() -> None:
        with pytest.raises(DeadlockError, match="in this very thread"):
            block_on(asyncio.get_running_loop().create_future())

    asyncio.run(main())
    elsewhere = bridge.submit(asyncio.sleep(0.01, "elsewhere"))
    assert block_on(elsewhere) == "elsewhere"
    closed = asyncio.new_event_loop()
    future = closed.create_future()
    with pytest.raises(BridgeError, match="does not run"):
        block_on(future)
    closed.close()
    with pytest.raises(BridgeError, match="is closed"):
        block_on(future)


# --- after attach() and close()


@pytest.mark.parametrize("ours", [True, False])
def test_after_attach_and_close_the_plain_functions_work_as_before(ours: bool, default: Bridge) -> None:
    factory = new_event_loop if ours else asyncio.SelectorEventLoop

    def run_on(main: Callable[[], Awaitable[Any]], attached: AbstractContextManager[Any] | None) -> list[Any]:
        async def body() -> list[Any]:
            if attached is not None:
                with Bridge.attach():
                    pass
            loop = asyncio.get_running_loop()
            workers: list[Worker] = [by_anyio, by_in_thread, by_asyncio, by_own_executor]
            places = [every_way(), *[await each(every_way) for each in workers]]
            return [place == {loop} for place in places]

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(body())

    before = run_on(running, None)
    assert run_on(running, nullcontext()) == before
    assert before == ([True] * 5 if ours else [False, True, True, False, False])


def test_a_loop_may_be_attached_after_its_workers_have_found_it(default: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await by_anyio(lambda: block_on(running())) is loop
        with Bridge.attach() as attached:
            with pytest.raises(package.StrategyUnavailable):
                block_on(asyncio.sleep(0))
            assert await by_asyncio(lambda: block_on(running())) is loop
            assert await by_anyio(lambda: attached.block_on(running())) is loop
        assert block_on(running()) is default.loop

    asyncio.run(main())
