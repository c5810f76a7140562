"""Loops that the program runs itself: run(), new_event_loop(), install(), and Bridge.attach() to a loop of any kind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from isolated import isolated
from places import in_a_thread, usable
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import bridge as package
from bridge import Bridge, BridgeClosed, BridgeError, StrategyUnavailable, block_on, new_event_loop
from bridge._runs import factories


async def value() -> str:
    await asyncio.sleep(0.001)
    return "value"


async def where() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


# --- new_event_loop


@isolated(options=())  # in which asyncio's own loop, left open as this one is, says nothing
def test_a_loop_that_is_never_closed_lets_the_interpreter_end() -> None:
    import asyncio

    import __main__
    import bridge

    __main__.left_open = loop = bridge.new_event_loop()  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.sleep(0))


# --- run


def test_run_calls_a_sync_function_on_the_loops_thread(bridge: Bridge) -> None:
    def main(first: str, *, second: str) -> list[Any]:
        assert threading.current_thread() is bridge.thread
        assert asyncio.current_task() is not None
        inner = bridge.run(lambda: asyncio.current_task())  # on that thread already: just called
        assert inner is asyncio.current_task()
        delayed = block_on(deferLater(bridge.reactor, 0.001, lambda: "deferred"))  # safe as written
        return [first, second, bridge.block_on(value()), delayed]

    assert bridge.run(main, "a", second="b") == ["a", "b", "value", "deferred"]
    with pytest.raises(ZeroDivisionError):
        bridge.run(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        bridge.run(exit, 3)
    assert bridge.running


def test_two_runs_at_once_go_on_beside_each_other(bridge: Bridge) -> None:
    meeting: Deferred[None] = Deferred()

    def first() -> str:
        return block_on(_await(meeting, "first"))

    def second() -> str:
        block_on(value())
        meeting.callback(None)
        return "second"

    waiting = bridge.submit(lambda: asyncio.ensure_future(_called(first)))
    assert bridge.run(second) == "second"
    assert waiting.result(5) == "first"


async def _await(deferred: Deferred[None], result: str) -> str:
    await deferred
    return result


async def _called(function: Callable[[], str]) -> str:
    return function()


# --- a single thread


def test_a_runner_on_a_loop_of_ours() -> None:
    async def main() -> list[Any]:
        blocked = block_on(value())
        from_thread = await asyncio.to_thread(lambda: (block_on(where()), block_on(value())))
        assert from_thread[0] is asyncio.get_running_loop()
        return [blocked, from_thread[1], await _deferred(), threading.current_thread()]

    async def _deferred() -> str:
        deferred: Deferred[str] = Deferred()
        asyncio.get_running_loop().call_later(0.001, deferred.callback, "deferred")
        return await deferred

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        for _ in range(2):
            assert runner.run(main()) == ["value", "value", "deferred", threading.current_thread()]


@isolated
def test_a_runner_gets_the_installed_reactor_when_it_starts() -> None:
    import asyncio
    import threading

    from twisted.internet.task import deferLater

    import bridge

    async def main() -> str:
        from twisted.internet import reactor

        assert reactor.running
        assert reactor._asyncioEventloop is asyncio.get_running_loop()
        reactor.addSystemEventTrigger("before", "shutdown", done.append, "shut down")
        assert threading.active_count() == 1
        return bridge.block_on(deferLater(reactor, 0.001, lambda: "deferred"))

    done: list[str] = []
    for _ in range(3):
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            assert runner.run(main()) == "deferred"
    assert done == ["shut down"] * 3
    from twisted.internet import reactor

    assert bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "default")) == "default"
    assert bridge.default_bridge().reactor is reactor


@isolated
def test_install_and_run_the_reactor_in_the_main_thread() -> None:
    import asyncio
    import threading

    import pytest
    from twisted.internet.task import deferLater

    import bridge

    reactor = bridge.install()
    from twisted.internet import reactor as imported

    assert imported is reactor
    with pytest.raises(bridge.ReactorConflict):
        bridge.install()
    seen: list[object] = []

    def main() -> None:
        seen.append(bridge.block_on(deferLater(reactor, 0.001, lambda: "deferred")))
        seen.append(bridge.block_on(asyncio.sleep(0.001, "asyncio")))
        reactor.callInThread(in_thread)

    def in_thread() -> None:
        seen.append(bridge.block_on(where()) is reactor._asyncioEventloop)
        seen.append(threading.current_thread() is threading.main_thread())
        reactor.callFromThread(reactor.stop)

    async def where() -> object:
        return asyncio.get_running_loop()

    reactor.callWhenRunning(main)
    reactor.run()
    assert seen == ["deferred", "asyncio", True, False]


# --- attach


@pytest.fixture(params=["ours", "asyncio's"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that somebody else runs in a thread."""
    loop = new_event_loop() if request.param == "ours" else asyncio.SelectorEventLoop()
    running = threading.Event()
    loop.call_soon(running.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running.wait(5)
    yield loop
    if loop.is_running():
        loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("strategy", usable())
def test_an_attached_bridge_has_the_verbs(loop: asyncio.AbstractEventLoop, strategy: str) -> None:
    with Bridge.attach(loop, strategy=strategy) as attached:
        assert Bridge.attach(loop) is attached
        assert attached.loop is loop
        assert attached.running
        assert attached.thread is None
        assert attached.block_on(where()) is loop
        assert in_a_thread(lambda: attached.block_on(where())) is loop
        assert attached.submit(value()).result(5) == "value"
        assert attached.run(lambda: asyncio.get_running_loop()) is loop
        assert attached.portal.call(value) == "value"
        deferred: Deferred[str] = Deferred()
        loop.call_soon_threadsafe(deferred.callback, "deferred")
        assert attached.block_on(deferred) == "deferred"
        assert attached.block_on(_awaiting()) == "deferred"
        with pytest.raises(TimeoutError):
            attached.block_on(asyncio.sleep(10), timeout=0.01)
    assert loop.is_running()
    with pytest.raises(BridgeClosed, match="attach another"):
        attached.block_on(value())


async def _awaiting() -> str:
    deferred: Deferred[str] = Deferred()
    asyncio.get_running_loop().call_later(0.001, deferred.callback, "deferred")
    return await deferred


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, new_event_loop])
def test_after_a_detach_the_plain_functions_work_as_before(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    places: list[Callable[[Callable[[], str]], Any]] = [asyncio.to_thread, anyio.to_thread.run_sync]

    async def main() -> None:
        attached = Bridge.attach()
        attached.close()
        assert block_on(value()) == "value"  # in the loop's own thread
        for place in places:
            assert await place(lambda: block_on(value())) == "value"
        again = Bridge.attach()
        assert again is not attached
        assert await asyncio.to_thread(again.block_on, where()) is asyncio.get_running_loop()
        again.close()
        with pytest.raises(BridgeClosed, match="attach another"):
            await asyncio.to_thread(attached.submit, Deferred)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


def test_attach_in_a_coroutine(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> Any:
        attached = Bridge.attach()
        assert attached.loop is loop
        try:
            return await asyncio.to_thread(attached.block_on, value())
        finally:
            attached.close()

    assert asyncio.run_coroutine_threadsafe(main(), loop).result(5) == "value"


def test_on_the_loops_own_thread(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        attached = Bridge.attach()
        if isinstance(loop, asyncio.SelectorEventLoop) and type(loop) is asyncio.SelectorEventLoop:
            coroutine = value()
            with pytest.raises(
                StrategyUnavailable,
                match=r"only a loop of ours can switch stacks.*or make the loop by bridge.new_event_loop",
            ):
                attached.block_on(coroutine)
            assert coroutine.cr_frame is None
        else:
            assert attached.block_on(value()) == "value"
        attached.close()

    asyncio.run_coroutine_threadsafe(main(), loop).result(5)


def test_a_loop_that_stops_fails_the_open_calls(loop: asyncio.AbstractEventLoop) -> None:
    attached = Bridge.attach(loop)
    future = attached.submit(asyncio.Event().wait())
    attached.block_on(value())
    loop.call_soon_threadsafe(loop.stop)
    with pytest.raises(BridgeClosed, match="attached to has stopped"):
        future.result(5)
    with pytest.raises(BridgeError, match="does not run"):
        attached.block_on(value())
    thread = threading.Thread(target=loop.run_forever)
    while loop.is_running():  # its old thread is on the way out
        pass
    thread.start()
    asyncio.run_coroutine_threadsafe(value(), loop).result(5)
    assert attached.block_on(value()) == "value"  # it serves again
    attached.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_the_end_of_one_run_leaves_the_next_alone() -> None:
    """The thread of the first still tells of its end when another runs the loop again."""
    loop: Any = new_event_loop()
    tells, told = threading.Event(), threading.Event()

    def tell() -> None:
        tells.set()
        told.wait(10)

    def runs() -> threading.Thread:
        running = threading.Event()
        loop.call_soon(running.set)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        assert running.wait(10)
        return thread

    loop.at_stop.append(tell)
    first = runs()
    loop.call_soon_threadsafe(loop.stop)
    assert tells.wait(10)
    second = runs()
    attached = Bridge.attach(loop)
    assert attached.block_on(value()) == "value"
    future = attached.submit(asyncio.Event().wait())
    told.set()
    first.join()
    assert attached.block_on(value()) == "value"
    assert not future.done()
    loop.call_soon_threadsafe(loop.stop)
    second.join()
    with pytest.raises(BridgeClosed):
        future.result(10)
    loop.close()


def test_what_cannot_be_attached_to() -> None:
    with pytest.raises(BridgeError, match="no loop and no reactor runs in this thread"):
        Bridge.attach()

    class Reactor:
        def callFromThread(self) -> None: ...

    for thing in (1, Reactor()):
        with pytest.raises(TypeError, match="takes an asyncio loop or a Twisted reactor"):
            Bridge.attach(thing)
    closed = asyncio.new_event_loop()
    closed.close()
    with pytest.raises(BridgeError, match="is closed"):
        Bridge.attach(closed)

    idle = asyncio.new_event_loop()
    attached = Bridge.attach(idle)
    with pytest.raises(BridgeError, match="does not run"):
        attached.block_on(value())
    attached.close()
    idle.close()


def test_attaching_to_a_bridges_own_loop_is_that_bridge(bridge: Bridge) -> None:
    assert Bridge.attach(bridge.loop) is bridge
    assert Bridge.attach(bridge.reactor) is bridge
    assert package.block_on(value()) == "value"


def test_workers_whose_first_calls_come_at_once_share_one_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 4
    barrier = threading.Barrier(count)
    attach = factories.AttachedRuns._attach

    def slowly(self: Any) -> Any:
        time.sleep(0.05)  # until all of them have found none
        return attach(self)

    monkeypatch.setattr(factories.AttachedRuns, "_attach", slowly)

    def work(number: int) -> object:
        barrier.wait(30)
        return package.submit(asyncio.sleep(0.2, number)).result(30)

    async def main() -> list[object]:
        return await asyncio.gather(*[asyncio.to_thread(work, number) for number in range(count)])

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) == list(range(count))


def test_a_loop_that_stops_as_a_bridge_attaches_again_hears_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome: list[str] = []
    stopped = threading.Event()
    attach = factories.AttachedRuns._attach

    def late(self: Any) -> Any:
        stopped.wait(10)
        return attach(self)

    def call() -> None:
        begun.set()
        try:
            package.block_on(asyncio.sleep(0))
        except BridgeError as error:
            outcome.append(str(error))

    async def first() -> None:
        await asyncio.to_thread(lambda: package.block_on(asyncio.sleep(0)))

    async def second() -> None:
        asyncio.get_running_loop().run_in_executor(None, call)
        await asyncio.to_thread(begun.wait, 10)
        await asyncio.sleep(0.05)

    begun = threading.Event()
    loop = new_event_loop()
    try:
        loop.run_until_complete(first())
        monkeypatch.setattr(factories.AttachedRuns, "_attach", late)
        loop.run_until_complete(second())
        stopped.set()
        deadline = time.monotonic() + 10
        while not outcome and time.monotonic() < deadline:
            time.sleep(0.01)
        assert outcome
        assert "does not run" in outcome[0]
    finally:
        loop.close()
