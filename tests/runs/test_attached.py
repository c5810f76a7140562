"""Bridge.attach() on a reactor that someone else runs, and that has no asyncio loop: twistd's, epoll's, a GUI's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from isolated import isolated

import bridge

pytestmark = pytest.mark.process

KINDS = ["epoll", "poll", "select"] if hasattr(__import__("select"), "epoll") else ["poll", "select"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@isolated
def test_worker_threads_block_with_every_strategy(kind: str) -> None:
    import asyncio
    import importlib
    from contextvars import ContextVar

    importlib.import_module(f"twisted.internet.{kind}reactor").install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, fail
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, strategies

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    bridge = Bridge.attach(reactor)  # before it runs
    made = [deferLater, reactor]

    async def later(value: str) -> str:
        variable.set(value)
        return await deferLater(reactor, 0.001, lambda: value)

    async def deep() -> str:
        done: Deferred[str] = Deferred()
        reactor.callLater(0.001, done.callback, "own")
        assert [await done, await done] == ["own", "own"]  # it is not consumed
        await asyncio.sleep(0)
        try:
            await fail(LookupError("in a Deferred"))
        except LookupError as error:
            return f"{await later('deep')} {error}"
        raise AssertionError

    def work() -> None:
        names = [name for name, strategy in strategies().items() if strategy.unavailable() is None]
        assert {"auto", "event", "greenlet", "lock", "queue"} <= set(names)
        for name in names:
            value = bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "deferred"), strategy=name)
            assert value == "deferred"
            assert bridge.block_on(later(name), strategy=name) == name
            assert variable.get() == name
            assert bridge.block_on(lambda: "plain", strategy=name) == "plain"
            try:
                bridge.block_on(Deferred(), timeout=0.01, strategy=name)
            except TimeoutError:
                pass
            else:
                raise AssertionError(name)
        assert bridge.block_on(deep()) == "deep in a Deferred"
        assert bridge.submit(later("submitted")).result(10) == "submitted"
        assert bridge.run(lambda: made[1]) is reactor
        assert bridge.blocking(later)("blocking") == "blocking"
        assert bridge.block_on(lambda: later("from a callable")) == "from a callable"
        try:
            bridge.block_on(lambda: 1 // 0)
        except ZeroDivisionError:
            pass
        assert bridge.block_on(lambda: later("zero"), timeout=5) == "zero"
        assert bridge.reactor is reactor
        assert bridge.running

    done = []
    reactor.callWhenRunning(
        lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop())  # type: ignore[func-returns-value]
    )
    reactor.run()
    assert done == [None], done[0].getTraceback()


@isolated
def test_many_threads_at_once() -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import gatherResults
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThreadPool
    from twisted.python.threadpool import ThreadPool

    from bridge import Bridge

    async def add(number: int) -> int:
        return number + await deferLater(reactor, 0.001, lambda: 1)

    def work(first: int) -> int:
        return sum(bridge.block_on(add(number)) for number in range(first, first + 20))

    def start() -> None:
        global bridge
        bridge = Bridge.attach()  # to the reactor that runs here
        calls = [deferToThreadPool(reactor, pool, work, first) for first in range(50)]
        gatherResults(calls).addBoth(done.append).addBoth(lambda _: reactor.stop())

    done = []
    pool = ThreadPool(50, 50)
    reactor.callWhenRunning(pool.start)
    reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
    reactor.callWhenRunning(start)
    reactor.run()
    assert done == [[sum(range(first + 1, first + 21)) for first in range(50)]]


@isolated
def test_a_coroutine_that_needs_asyncio_says_so() -> None:
    import asyncio
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import anyio
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, BridgeError

    bridge = Bridge.attach(reactor)

    async def by_asyncio() -> None:
        await deferLater(reactor, 0, lambda: None)
        await asyncio.sleep(0.01)

    async def by_anyio() -> None:
        await anyio.sleep(0.01)

    async def by_a_future_of_another_loop() -> None:
        await asyncio.Future(loop=loop)

    async def of_its_own() -> None:
        raise RuntimeError("no luck")

    async def numbers() -> AsyncIterator[int]:
        yield 1

    @asynccontextmanager
    async def manager() -> AsyncIterator[int]:
        yield 1

    loop = asyncio.new_event_loop()

    def work() -> None:
        for function in (by_asyncio, by_anyio, by_a_future_of_another_loop):
            try:
                bridge.block_on(function())
            except BridgeError as error:
                assert f"{function.__name__} needs asyncio" in str(error), error
                assert "has no asyncio loop" in str(error)
                assert isinstance(error.__cause__, RuntimeError)
            else:
                raise AssertionError(function)
        for call in (
            lambda: bridge.block_on(lambda: asyncio.get_running_loop().create_task(of_its_own())),
            lambda: list(bridge.iterate(numbers())),
            lambda: bridge.enter(manager()).__enter__(),
        ):
            try:
                call()
            except BridgeError as error:
                assert "has no asyncio loop" in str(error), error
            else:
                raise AssertionError(call)
        with Bridge(install_reactor=False) as beside:
            assert beside.block_on(asyncio.sleep(0.001, "as the message says")) == "as the message says"
        try:
            bridge.block_on(of_its_own())
        except RuntimeError as error:
            assert type(error) is RuntimeError
        for name in ("loop", "portal"):
            try:
                getattr(bridge, name)
            except BridgeError as error:
                assert "asyncio loop" in str(error)
            else:
                raise AssertionError(name)

    done = []
    reactor.callWhenRunning(lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop()))
    reactor.run()
    loop.close()
    assert done == [None], done[0].getTraceback()


@isolated
def test_on_the_reactors_own_thread() -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, StrategyUnavailable

    early = Bridge.attach(reactor)

    def refused(bridge: Bridge) -> None:
        waiting: Deferred[None] = Deferred()

        async def coroutine() -> None: ...

        for x in (waiting, coroutine(), lambda: waiting):
            try:
                bridge.block_on(x)
            except StrategyUnavailable as error:
                assert f"thread of the {type(reactor).__name__}" in str(error)
                assert "deferToThread" in str(error)
            else:
                raise AssertionError(x)
        assert bridge.run(lambda: "called") == "called"

    def start() -> None:
        bridges.extend([early, Bridge.attach(), Bridge.attach(reactor)])
        for each in bridges:
            refused(each)
            deferToThread(each.submit(lambda: "submitted").result, 10).addBoth(seen.append).addBoth(stop_after_three)

    def stop_after_three(_: object) -> None:
        if len(seen) == 3:
            reactor.stop()

    seen: list[object] = []
    bridges: list[Bridge] = []  # one that is dropped detaches
    reactor.callWhenRunning(start)
    reactor.run()
    assert seen == ["submitted"] * 3, seen


@every_kind
@isolated
def test_the_reactor_stops_while_threads_are_blocked(kind: str) -> None:
    import importlib

    importlib.import_module(f"twisted.internet.{kind}reactor").install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater

    from bridge import Bridge, BridgeClosed

    bridge = Bridge.attach(reactor)
    seen: list[str] = []

    async def cleans_up() -> None:
        try:
            began.append(True)
            await Deferred()
        except BaseException as error:
            await deferLater(reactor, 0.01, lambda: None)
            seen.append(f"cleaned up after {type(error).__name__}")
            raise

    def work(x: object) -> None:
        try:
            bridge.block_on(x)
        except BridgeClosed as error:
            assert "has stopped" in str(error)
            seen.append("closed")
        entered.append("again")
        try:
            bridge.block_on(Deferred())
        except BridgeClosed:
            seen.append("closed")

    def stop_when_blocked() -> None:
        if began and len(bridge.last_run.open) == 3:  # a call is open before it is posted
            reactor.stop()
        else:
            reactor.callLater(0.01, stop_when_blocked)

    entered: list[str] = []
    began: list[bool] = []
    for x in (Deferred(), cleans_up(), Deferred):
        reactor.callInThread(work, x)
    reactor.callWhenRunning(stop_when_blocked)
    reactor.run()  # which joins the threads of its pool
    assert sorted(seen) == ["cleaned up after CancelledError"] + ["closed"] * 6
    assert not bridge.running


@isolated
def test_the_reactor_crashes_while_a_thread_is_blocked() -> None:
    import threading

    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from bridge import Bridge, BridgeClosed, BridgeError

    bridge = Bridge.attach(reactor)
    seen: list[str] = []

    def work() -> None:
        try:
            bridge.block_on(Deferred())
        except BridgeClosed:
            seen.append("closed")
        try:
            bridge.block_on(Deferred())
        except BridgeError as error:
            assert "does not run" in str(error)
            seen.append("refused")

    def crash_when_blocked() -> None:
        if bridge.last_run.open:
            reactor.crash()
        else:
            reactor.callLater(0.01, crash_when_blocked)

    thread = threading.Thread(target=work)
    reactor.callWhenRunning(thread.start)
    reactor.callWhenRunning(crash_when_blocked)
    reactor.run()
    thread.join()
    assert seen == ["closed", "refused"]


@isolated
def test_before_the_reactor_runs_and_after_a_close() -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, BridgeClosed, BridgeError

    async def coroutine() -> None: ...

    bridge = Bridge.attach(reactor)
    try:
        bridge.block_on(coroutine())
    except BridgeError as error:
        assert "does not run" in str(error)
    else:
        raise AssertionError

    def work() -> list[str]:
        seen = []
        future = bridge.submit(Deferred())
        bridge.close()
        for call in (future.result, lambda: bridge.block_on(coroutine())):
            try:
                call()
            except BridgeClosed:
                seen.append("closed")
        another = Bridge.attach(reactor)
        seen.append(another.block_on(lambda: "served"))
        return seen

    done: list[object] = []
    reactor.callWhenRunning(lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop()))
    reactor.run()
    assert done == [["closed", "closed", "served"]], done[0].getTraceback()


@isolated
def test_a_thread_that_attaches_while_a_shutdown_trigger_blocks_hears_of_the_end() -> None:
    import threading
    import time

    from twisted.internet import reactor

    import bridge

    heard: list[str] = []
    attached = threading.Event()

    def call() -> None:
        stops.wait(10)
        own = bridge.Bridge.attach(reactor)
        attached.set()
        try:
            own.block_on(lambda: "value")
        except bridge.BridgeClosed as error:
            heard.append(type(error).__name__)

    def trigger() -> None:
        stops.set()
        attached.wait(10)
        time.sleep(0.1)  # in which it calls

    stops = threading.Event()
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    reactor.addSystemEventTrigger("before", "shutdown", trigger)
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    thread.join(10)
    assert heard == ["BridgeClosed"]


@isolated
def test_ctrl_c_in_a_thread_that_is_blocked_cancels_the_work() -> None:
    import signal
    import threading

    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from bridge import Bridge

    bridge = Bridge.attach(reactor)
    cancelled: list[object] = []
    thread = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
    started = threading.Event()
    reactor.callWhenRunning(started.set)
    thread.start()
    started.wait()
    main = threading.main_thread().ident

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


@isolated(options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))
def test_in_a_forked_child() -> None:
    import os

    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, BridgeError

    bridge = Bridge.attach(reactor)

    def work() -> int:
        assert bridge.block_on(lambda: "parent") == "parent"
        child = os.fork()
        if not child:
            try:
                bridge.block_on(lambda: "child")
            except BridgeError as error:
                os._exit(7 if "forked" in str(error) else 8)
            os._exit(9)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert bridge.block_on(lambda: "parent") == "parent"
        return status

    done: list[object] = []
    reactor.callWhenRunning(lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop()))
    reactor.run()
    assert done == [7]


# --- twistd

PROGRAMS = Path(__file__).with_name("programs")
TWISTD = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()"]


@pytest.mark.any_python
@pytest.mark.parametrize("kind", [*KINDS, "asyncio"])
def test_twistd(kind: str, tmp_path: Path) -> None:
    result = twistd(tmp_path, "--nodaemon", "--reactor", kind)
    assert result.returncode == 0, result.stdout + result.stderr
    shown = (tmp_path / "result").read_text()
    assert "'deferred', 'coroutine'" in shown
    assert kind == "asyncio" or f"{kind}reactor" in shown.lower()


@pytest.mark.any_python
def test_twistd_as_a_daemon(tmp_path: Path) -> None:
    result = twistd(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    wait_for(tmp_path / "result")
    assert "'deferred', 'coroutine'" in (tmp_path / "result").read_text()


def twistd(directory: Path, *options: str) -> Any:
    shutil.copy(PROGRAMS / "client.py", directory / "client.tac")
    path = os.pathsep.join([str(Path(bridge.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [*TWISTD, *options, "--no_save", "--logfile", "log", "--python", "client.tac"]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=40)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, "the daemon wrote no result"
        time.sleep(0.02)
