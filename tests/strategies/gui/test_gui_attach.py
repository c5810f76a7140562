"""Bridge.attach() on the reactors of GUI toolkits, whose own loop carries them, and on one that carries Tk."""

from __future__ import annotations

import pytest
from guis import REACTORS, needs, needs_reactor
from isolated import isolated

pytestmark = pytest.mark.process

# What gireactor itself calls; qtpy and PyQt6 have warnings of their own.
OPTIONS = ("-W", "ignore:Since version 3.11, calling threads_init:DeprecationWarning")

on_every_reactor = pytest.mark.parametrize("toolkit", REACTORS)


@pytest.fixture(autouse=True)
def _is_here(request: pytest.FixtureRequest, screen: None) -> None:
    if "toolkit" in request.fixturenames:
        needs_reactor(request.getfixturevalue("toolkit"))


@on_every_reactor
@isolated(options=OPTIONS)
def test_worker_threads_block_with_every_strategy(toolkit: str) -> None:
    import asyncio
    from contextvars import ContextVar

    from guis import make_reactor

    gui, reactor = make_reactor(toolkit)
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, BridgeError, StrategyUnavailable, strategies

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    early = Bridge.attach(reactor)

    async def coroutine(value: str) -> str:
        variable.set(value)
        return await deferLater(reactor, 0.01, lambda: value)

    async def by_asyncio() -> None:
        await asyncio.sleep(0.01)

    def work(bridge: Bridge) -> list[str]:
        names = [name for name, strategy in strategies().items() if strategy.unavailable() is None]
        for name in names:
            # The window's own timers go on while this thread waits for one of them.
            ticked: Deferred[None] = Deferred()
            waiting.append(ticked)
            assert bridge.block_on(ticked, strategy=name, timeout=15) is None
            deferred = bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred"), strategy=name)
            assert deferred == "deferred"
            assert bridge.block_on(coroutine(name), strategy=name) == name
            assert variable.get() == name
            cancelled: list[object] = []
            try:
                bridge.block_on(Deferred(cancelled.append), timeout=0.01, strategy=name)
            except TimeoutError:
                assert len(cancelled) == 1
            else:
                raise AssertionError(name)
            try:
                bridge.block_on(by_asyncio(), strategy=name)
            except BridgeError as error:
                assert "by_asyncio needs asyncio" in str(error), error
                assert f"the {type(reactor).__name__} that the bridge is attached to has no asyncio loop" in str(error)
            else:
                raise AssertionError(name)
        return names

    def tick() -> None:
        if waiting:
            waiting.pop().callback(None)

    def start() -> None:
        gui.show()
        gui.every(5, tick)
        late = Bridge.attach()  # to the reactor that runs here
        for bridge in (early, late):
            for x in (coroutine("refused"), Deferred(), lambda: coroutine("refused")):
                try:
                    bridge.block_on(x)
                except StrategyUnavailable as error:
                    refusals.append(str(error))
        calls = deferToThread(work, early)
        calls.addCallback(lambda names: (done.append(names), deferToThread(work, late))[1])
        calls.addBoth(done.append).addBoth(lambda _: reactor.stop())

    waiting: list[Deferred[None]] = []
    refusals: list[str] = []
    done: list[list[str]] = []
    reactor.callWhenRunning(start)
    reactor.run()
    assert len(refusals) == 6
    assert all(f"on the thread of the {type(reactor).__name__}" in each for each in refusals), refusals
    assert len(done) == 2, done[0].getTraceback()
    assert done[0] == done[1], done
    assert {"auto", "event", "greenlet", "lock", "queue"} <= set(done[0])


@on_every_reactor
@pytest.mark.parametrize("by", ["reactor.stop()", "Ctrl-C"])
@isolated(options=OPTIONS)
def test_the_reactor_stops_while_threads_are_blocked(toolkit: str, by: str) -> None:
    import os
    import signal

    from guis import make_reactor

    gui, reactor = make_reactor(toolkit)
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater

    from bridge import Bridge, BridgeClosed

    bridge = Bridge.attach(reactor)
    seen: list[str] = []

    async def cleans_up() -> None:
        try:
            begun.append(None)
            await Deferred()
        except BaseException as error:
            await deferLater(reactor, 0.01, lambda: None)
            seen.append(f"cleaned up after {type(error).__name__}")
            raise

    def work(x: object) -> None:
        try:
            bridge.block_on(x)
        except BridgeClosed as error:
            assert f"the {type(reactor).__name__} that the bridge is attached to has stopped" in str(error), error
            seen.append("closed")
        try:
            bridge.block_on(Deferred())
        except BridgeClosed:
            seen.append("closed")

    def stop_when_blocked() -> None:
        if len(bridge.last_run.open) < 3 or not begun:
            reactor.callLater(0.01, stop_when_blocked)
        elif by == "Ctrl-C":  # for which the reactor has a handler
            reactor.callInThread(os.kill, os.getpid(), signal.SIGINT)
        else:
            reactor.stop()

    begun: list[None] = []
    gui.show()
    for x in (Deferred(), cleans_up(), Deferred):
        reactor.callInThread(work, x)
    reactor.callWhenRunning(stop_when_blocked)
    reactor.run()  # which joins the threads of its pool
    assert sorted(seen) == ["cleaned up after CancelledError"] + ["closed"] * 6, seen
    assert not bridge.running


@pytest.mark.parametrize("toolkit", ["gtk"])  # an application of Qt's belongs to the main thread
@isolated(options=("-W", "error", *OPTIONS))
def test_ctrl_c_in_the_main_thread_beside_the_reactor_cancels_the_work(toolkit: str) -> None:
    import signal
    import threading

    from guis import make_reactor

    _, reactor = make_reactor(toolkit)
    from twisted.internet.defer import Deferred

    from bridge import Bridge

    bridge = Bridge.attach(reactor)
    thread = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
    started = threading.Event()
    reactor.callWhenRunning(started.set)
    thread.start()
    started.wait()
    main = threading.main_thread().ident
    cancelled: list[object] = []

    def work() -> Deferred[None]:
        reactor.callLater(0.05, signal.pthread_kill, main, signal.SIGINT)
        return Deferred(cancelled.append)

    try:
        bridge.block_on(work)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    assert len(cancelled) == 1
    assert bridge.block_on(lambda: "goes on") == "goes on"
    reactor.callFromThread(reactor.stop)
    thread.join()


def test_tk_on_a_reactor() -> None:
    needs("tk")
    in_a_process_with_tk()


@isolated
def in_a_process_with_tk() -> None:
    import tkinter

    from twisted.internet import reactor, tksupport
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge

    root = tkinter.Tk()
    tksupport.install(root)
    bridge = Bridge.attach(reactor)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        root.after(5, tick)

    def work() -> str:
        value = ""
        while len(ticks) <= 5:
            value = bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred"))
        return value

    done: list[object] = []
    tick()
    reactor.callWhenRunning(lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop()))
    reactor.run()
    assert done == ["deferred"]
    tksupport.uninstall()
    root.destroy()
