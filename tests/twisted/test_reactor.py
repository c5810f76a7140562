"""The Twisted reactor of a bridge: adopted with all that it was given before, guarded, and bound again after a death.

The reactor of a process is ``sys.modules["twisted.internet.reactor"]``. The fixtures put one there for the length of a
test; what has to begin with ``from twisted.internet import reactor`` runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import twisted.internet
from isolated import isolated
from twisted.internet import threads
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import AlreadyCancelled
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import MemoryReactorClock
from twisted.python import threadable
from zope.interface import implementer

from bridge import Bridge, BridgeClosed, ReactorConflict

NAME = "twisted.internet.reactor"
PATIENCE = 10.0  # seconds that a test waits for what must come

KINDS = ["epoll", "poll", "select", "asyncio"]


@pytest.fixture
def nothing_installed() -> Iterator[None]:
    """Leave this process without an installed reactor, until the test has ended."""
    before, io_thread = sys.modules.pop(NAME, None), threadable.ioThread
    vars(twisted.internet).pop("reactor", None)  # where an import of it looks first
    threadable.ioThread = None
    yield
    threadable.ioThread = io_thread
    sys.modules.pop(NAME, None)
    vars(twisted.internet).pop("reactor", None)
    if before is not None:
        sys.modules[NAME] = twisted.internet.reactor = before


@pytest.fixture
def install(nothing_installed: None) -> Iterator[Callable[[str], Any]]:
    """A function that installs an idle reactor of a kind and returns it."""
    loop = asyncio.new_event_loop()
    reactors = []

    def install_one(kind: str) -> Any:
        module = importlib.import_module(f"twisted.internet.{kind}reactor")
        module.install(*[loop] if kind == "asyncio" else [])
        reactor = sys.modules[NAME]
        reactors.append((reactor, getattr(reactor, "_poller", None)))
        return reactor

    yield install_one
    for reactor, poller in reactors:
        if hasattr(poller, "close"):
            poller.close()
        if reactor.waker is not None:
            reactor.waker.connectionLost(None)
    loop.close()


@pytest.fixture(params=KINDS)
def installed(request: pytest.FixtureRequest, install: Callable[[str], Any]) -> Any:
    """An idle reactor of each kind, installed."""
    return install(request.param)


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Hello(Protocol):
    """Says hello when it is connected, and fires ``answer`` with all that came until the connection closed."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self.received = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.received == b"hello":
            assert self.transport is not None
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.answer.callback(self.received)


def listen(reactor: Any) -> Any:
    return reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")


def ask(port: Any) -> bytes:
    """Say hello to a listening port with a plain socket, from this thread, and return the answer."""
    with socket.create_connection(("127.0.0.1", port.getHost().port), PATIENCE) as connection:
        connection.sendall(b"hello")
        return connection.recv(100)


def say_hello(reactor: Any, port: Any) -> Deferred[bytes]:
    """Say hello with a client of the reactor's own."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    return connectProtocol(endpoint, Hello()).addCallback(lambda protocol: protocol.answer)


# --- an idle reactor is adopted


def test_the_same_object_serves_on(installed: Any) -> None:
    module = installed
    with Bridge() as bridge:
        assert bridge.reactor is module
        assert sys.modules[NAME] is twisted.internet.reactor is module
        assert bridge.block_on(lambda: module.running) is True
        assert bridge.block_on(value()) == "value"
        assert bridge.block_on(threadable.isInIOThread) is True
    assert not module.running


def test_its_pollers_descriptor_is_closed(installed: Any) -> None:
    poller = getattr(installed, "_poller", None)
    with Bridge() as bridge:
        bridge.start()
        assert getattr(poller, "closed", True)  # only epoll's has a descriptor of its own
        assert {type(each).__name__ for each in bridge.reactor.getReaders()} == {"_UnixWaker"}


def test_delayed_calls_fire_when_they_are_due(installed: Any) -> None:
    fired: list[tuple[float, float]] = []
    done = threading.Event()
    begun = time.monotonic()

    def fire(delay: float) -> None:
        fired.append((delay, time.monotonic() - begun))
        if len(fired) == 4:
            done.set()

    calls = {delay: installed.callLater(delay, fire, delay) for delay in (0.3, 0.2, 0.0, 0.1)}
    in_turn = sorted(calls, key=lambda delay: calls[delay].getTime())
    with Bridge() as bridge:
        bridge.start()
        assert done.wait(PATIENCE)
    assert [delay for delay, _ in fired] == in_turn
    for delay, seconds in fired:
        assert delay <= seconds


def test_a_delayed_call_can_be_moved_and_cancelled_after_the_adoption(installed: Any) -> None:
    fired: list[str] = []
    done = threading.Event()
    far = installed.callLater(1000, fired.append, "reset to sooner")
    early = installed.callLater(500, fired.append, "delayed")
    other = installed.callLater(500, fired.append, "cancelled")
    late = installed.callLater(1000, done.set)
    with Bridge() as bridge:

        def change() -> None:
            assert far.active()
            assert {far, early, other, late} <= set(installed.getDelayedCalls())
            far.reset(0.01)
            early.reset(0.02)
            early.delay(0.1)
            other.reset(0.05)
            other.cancel()
            assert not other.active()
            late.reset(1000)
            late.delay(-999.6)

        bridge.block_on(change)
        assert done.wait(PATIENCE)
        assert fired == ["reset to sooner", "delayed"]
        assert not far.active()
        with pytest.raises(AlreadyCancelled):
            other.cancel()


def test_calls_from_threads_before_the_start_run(installed: Any) -> None:
    order: list[object] = []
    done = threading.Event()
    installed.callWhenRunning(order.append, "running")
    thread = threading.Thread(target=lambda: installed.callFromThread(order.append, 1))
    thread.start()
    thread.join()
    installed.callFromThread(order.append, 2)
    installed.callFromThread(done.set)
    with Bridge() as bridge:
        bridge.start()
        assert done.wait(PATIENCE)
        assert order == ["running", 1, 2]


def test_methods_held_since_before_the_adoption_still_work(installed: Any) -> None:
    call_later, call_from_thread, listen_tcp = installed.callLater, installed.callFromThread, installed.listenTCP
    called, timed, sooner, never = (threading.Event() for _ in range(4))
    with Bridge() as bridge:
        bridge.start()
        call_from_thread(called.set)
        assert called.wait(PATIENCE)

        def held() -> Any:
            call_later(0.02, timed.set)
            call_later(1000, never.set)
            call_later(0.01, sooner.set)
            return listen_tcp(0, Factory.forProtocol(Echo), interface="127.0.0.1")

        port = bridge.block_on(held)
        assert timed.wait(PATIENCE)
        assert sooner.wait(PATIENCE)
        assert not never.is_set()
        assert ask(port) == b"hello"


def test_ports_that_listened_before_are_served(installed: Any) -> None:
    class UdpEcho(DatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            assert self.transport is not None
            self.transport.write(datagram, addr)

    port = listen(installed)
    udp_port = installed.listenUDP(0, UdpEcho(), interface="127.0.0.1")
    with Bridge() as bridge:
        bridge.start()
        assert ask(port) == b"hello"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"hello", ("127.0.0.1", udp_port.getHost().port))
            assert client.recv(100) == b"hello"
        assert bridge.block_on(lambda: say_hello(installed, port)) == b"hello"
        address = ("127.0.0.1", port.getHost().port)
        bridge.block_on(port.stopListening)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE)


def test_a_connection_begun_before_is_made(installed: Any) -> None:
    answer = say_hello(installed, listen(installed))
    with Bridge() as bridge:
        assert bridge.block_on(answer, timeout=PATIENCE) == b"hello"


def test_readers_and_writers_serve_on(installed: Any, tmp_path: Path) -> None:
    class End(FileDescriptor):
        """Notes that it can be read or written, once each."""

        def __init__(self, end: Any) -> None:
            super().__init__(installed)
            self.end = end
            self.read, self.written = threading.Event(), threading.Event()

        def fileno(self) -> int:
            number: int = self.end.fileno()
            return number

        def doRead(self) -> None:
            os.read(self.fileno(), 100)
            installed.removeReader(self)
            self.read.set()

        def doWrite(self) -> None:
            installed.removeWriter(self)
            self.written.set()

        def connectionLost(self, reason: Any) -> None:
            raise AssertionError(reason)

    regular = tmp_path / "regular"
    regular.write_text("a file, which epoll does not take")
    here, there = socket.socketpair()
    with here, there, regular.open("r+b", buffering=0) as file:
        for end in (both := End(here), on_disk := End(file)):
            installed.addReader(end)
            installed.addWriter(end)
        reading, writing = installed.getReaders(), installed.getWriters()
        assert both in reading
        assert on_disk in writing
        with Bridge() as bridge:
            bridge.start()
            assert both.written.wait(PATIENCE)
            assert not both.read.is_set()
            there.send(b"hello")
            assert both.read.wait(PATIENCE)
            assert on_disk.read.wait(PATIENCE)
            assert on_disk.written.wait(PATIENCE)
            assert bridge.block_on(installed.getWriters) == []


def test_triggers_given_before_run_in_order(installed: Any) -> None:
    order: list[str] = []

    def finishing(name: str) -> Deferred[None]:
        order.append(name)
        deferred: Deferred[None] = Deferred()
        installed.callLater(0.01, lambda: (order.append(f"{name} has finished"), deferred.callback(None)))
        return deferred

    installed.callWhenRunning(order.append, "running")
    for phase in ("after", "during", "before"):
        installed.addSystemEventTrigger(phase, "startup", order.append, f"{phase} startup")
        installed.addSystemEventTrigger(phase, "shutdown", order.append, f"{phase} shutdown")
    installed.addSystemEventTrigger("before", "shutdown", finishing, "a Deferred")
    with Bridge() as bridge:
        bridge.start()
        assert order == ["before startup", "during startup", "running", "after startup"]
        bridge.block_on(lambda: installed.callWhenRunning(order.append, "at once"))
        order.clear()
    assert order == [
        "before shutdown",
        "a Deferred",
        "a Deferred has finished",
        "during shutdown",
        "after shutdown",
    ]


def test_triggers_given_before_are_removable_by_their_id(installed: Any) -> None:
    order: list[str] = []
    gone = installed.addSystemEventTrigger("before", "shutdown", order.append, "removed")
    methods = [
        installed.addSystemEventTrigger("after", "shutdown", method)
        for method in (installed.crash, installed.stop, installed.disconnectAll)
    ]
    kept = installed.addSystemEventTrigger("before", "shutdown", order.append, "kept")
    never = installed.callWhenRunning(order.append, "never runs")
    installed.removeSystemEventTrigger(never)
    with Bridge() as bridge:
        for trigger in (gone, *methods):
            bridge.block_on(lambda trigger=trigger: installed.removeSystemEventTrigger(trigger))
    assert order == ["kept"]
    with pytest.raises((ValueError, KeyError)):
        installed.removeSystemEventTrigger(kept)  # it has run


def test_work_given_to_its_thread_pool_before_is_done(installed: Any) -> None:
    installed.suggestThreadPoolSize(3)
    pool = installed.getThreadPool()
    before = threads.deferToThread(threading.current_thread)
    with Bridge() as bridge:
        assert bridge.block_on(before, timeout=PATIENCE).name.startswith("PoolThread-twisted.internet.reactor")
        assert bridge.block_on(lambda: threads.deferToThread(lambda: "after"), timeout=PATIENCE) == "after"
        assert installed.getThreadPool() is pool
        assert pool.max == 3
    assert not any(thread.is_alive() for thread in pool.threads)
    assert installed.threadpool is None


def test_its_name_resolver_is_kept(installed: Any) -> None:
    @implementer(IHostnameResolver)
    class Resolver:
        def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *args: Any, **kwargs: Any) -> Any:
            receiver.resolutionBegan(None)
            receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
            receiver.resolutionComplete()
            return receiver

    resolver = Resolver()
    installed.installNameResolver(resolver)
    port = listen(installed)

    def by_name() -> Deferred[bytes]:
        endpoint = HostnameEndpoint(installed, b"nowhere.invalid", port.getHost().port)
        return connectProtocol(endpoint, Hello()).addCallback(lambda protocol: protocol.answer)

    with Bridge() as bridge:
        assert bridge.reactor.nameResolver is resolver
        assert bridge.block_on(by_name, timeout=PATIENCE) == b"hello"


def test_a_default_name_resolver_resolves(installed: Any) -> None:
    with Bridge() as bridge:
        assert bridge.block_on(lambda: installed.resolve("localhost"), timeout=PATIENCE) == "127.0.0.1"


def test_an_asyncio_reactor_is_adopted_from_a_closed_loop(install: Callable[[str], Any]) -> None:
    reactor = install("asyncio")
    fired = threading.Event()
    reactor.callLater(0.01, fired.set)
    port = listen(reactor)
    reactor._asyncioEventloop.close()
    with Bridge() as bridge:
        assert bridge.reactor is reactor
        assert fired.wait(PATIENCE)
        assert ask(port) == b"hello"


def test_an_asyncio_reactor_is_adopted_from_a_loop_that_has_something_else_to_do(install: Callable[[str], Any]) -> None:
    reactor = install("asyncio")
    called = threading.Event()
    reactor._asyncioEventloop.call_soon(print)  # which has no code of Python's
    reactor.callFromThread(called.set)
    with Bridge() as bridge:
        assert bridge.reactor is reactor
        assert called.wait(PATIENCE)


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_script_may_begin_with_the_reactor(kind: str) -> None:
    import importlib

    if kind != "epoll":  # the default where there is epoll
        importlib.import_module(f"twisted.internet.{kind}reactor").install()
    from twisted.internet import reactor

    before = type(reactor).__name__
    assert kind in before.lower(), before

    from twisted.internet.task import deferLater

    import bridge

    assert bridge.block_on(deferLater(reactor, 0.01, lambda: 1)) == 1  # made before the loop runs
    assert bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: 2)) == 2
    assert bridge.default_bridge().reactor is reactor
    from twisted.internet import reactor as again

    assert again is reactor


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_a_reactor_that_has_run_and_stopped_is_adopted(kind: str) -> None:
    import importlib

    if kind != "epoll":
        importlib.import_module(f"twisted.internet.{kind}reactor").install()
    from twisted.internet import reactor

    reactor.callLater(0.01, reactor.stop)
    reactor.run()

    import asyncio
    import socket

    from twisted.internet.protocol import Factory, Protocol

    from bridge import block_on, default_bridge

    assert block_on(asyncio.sleep(0.01, "value")) == "value"
    assert default_bridge().reactor is reactor
    port = block_on(lambda: reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1"))
    socket.create_connection(("127.0.0.1", port.getHost().port), 5).close()
    order = []
    reactor.addSystemEventTrigger("during", "shutdown", order.append, "shutdown")
    default_bridge().close()
    assert order == ["shutdown"]


@isolated
def test_an_installed_reactor_may_not_be_run_beside_the_bridge() -> None:
    from twisted.internet import reactor
    from twisted.internet.error import ReactorAlreadyRunning

    import bridge

    assert bridge.block_on(lambda: reactor.running) is True
    try:
        reactor.run()
    except ReactorAlreadyRunning:
        pass
    else:
        raise AssertionError("it ran")
    assert bridge.block_on(lambda: reactor.running) is True


@isolated
def test_the_bridge_installs_a_reactor_where_there_is_none() -> None:
    import sys

    import bridge

    assert bridge.block_on(lambda: "value") == "value"
    from twisted.internet import reactor

    assert reactor is bridge.default_bridge().reactor is sys.modules["twisted.internet.reactor"]
    assert reactor.running
    bridge.default_bridge().close()
    assert not reactor.running
    assert bridge.block_on(lambda: reactor.running) is True
    assert bridge.default_bridge().reactor is reactor


# --- a reactor that cannot be adopted


@pytest.fixture
def running_elsewhere(install: Callable[[str], Any]) -> Iterator[Any]:
    """The installed reactor, which somebody else runs in a thread."""
    reactor = install("epoll")
    running = threading.Event()
    reactor.callWhenRunning(running.set)
    thread = threading.Thread(target=reactor.run, args=(False,), name="elsewhere")
    thread.start()
    assert running.wait(PATIENCE)
    yield reactor
    if reactor.running:
        reactor.callFromThread(reactor.stop)
    thread.join()


@pytest.mark.parametrize("insist", [None, True])
def test_a_reactor_that_another_main_loop_drives_is_a_conflict(nothing_installed: None, insist: bool | None) -> None:
    class ToolkitReactor(SelectReactor):
        """Has its descriptors watched by a toolkit, which goes on to call it there."""

        def addReader(self, reader: Any) -> None:
            super().addReader(reader)

    reactor = sys.modules[NAME] = ToolkitReactor()  # type: ignore[assignment]
    bridge = Bridge(install_reactor=insist)
    with pytest.raises(ReactorConflict) as caught:
        bridge.start()
    assert "is a ToolkitReactor, which a main loop that is not Twisted's drives" in str(caught.value)
    assert "write Bridge.attach(reactor), or write Bridge(install_reactor=False)" in str(caught.value)
    assert type(reactor) is ToolkitReactor
    assert reactor.getReaders() == [reactor.waker]
    bridge.close()
    with Bridge(install_reactor=False) as beside:
        assert beside.block_on(value()) == "value"
    attached = Bridge.attach(reactor)
    called: list[object] = []
    reactor.callWhenRunning(
        lambda: (
            threads.deferToThread(attached.block_on, lambda: "served")
            .addBoth(called.append)
            .addBoth(lambda _: reactor.stop())
        )
    )
    reactor.run(installSignalHandlers=False)
    assert called == ["served"]


def test_a_kind_of_twisteds_with_more_to_it_is_adopted(nothing_installed: None) -> None:
    class NamedReactor(SelectReactor):
        label = "a reactor of the user's"

    reactor = sys.modules[NAME] = NamedReactor()  # type: ignore[assignment]
    with Bridge() as bridge:
        assert bridge.reactor is reactor


@pytest.mark.parametrize("insist", [None, True])
def test_a_foreign_reactor_that_runs_is_a_conflict(running_elsewhere: Any, insist: bool | None) -> None:
    for call in (Bridge.start, lambda bridge: bridge.block_on(value()), lambda bridge: bridge.submit(value())):
        bridge = Bridge(install_reactor=insist)
        with pytest.raises(ReactorConflict) as caught:
            call(bridge)
        assert "EPollReactor that this package did not start runs" in str(caught.value)
        assert "write Bridge(install_reactor=False)" in str(caught.value)
        assert "bridge.configure(install_reactor=False)" in str(caught.value)
        assert not bridge.running
        bridge.close()
    assert running_elsewhere.running


def test_a_private_reactor_works_beside_one_that_runs(running_elsewhere: Any) -> None:
    reactor = running_elsewhere
    port = threads.blockingCallFromThread(reactor, listen, reactor)
    with Bridge(install_reactor=False) as bridge:
        own = bridge.block_on(lambda: listen(bridge.reactor))
        assert bridge.block_on(lambda: say_hello(bridge.reactor, port)) == b"hello"
        assert threads.blockingCallFromThread(reactor, say_hello, reactor, own) == b"hello"
        assert sys.modules[NAME] is reactor is not bridge.reactor


def test_a_conflict_is_over_when_the_foreign_reactor_has_stopped(running_elsewhere: Any) -> None:
    bridge = Bridge()
    with pytest.raises(ReactorConflict):
        bridge.start()
    stopped, go_on = threading.Event(), threading.Event()
    running_elsewhere.addSystemEventTrigger("after", "shutdown", lambda: (stopped.set(), go_on.wait(PATIENCE)))
    running_elsewhere.callFromThread(running_elsewhere.stop)
    assert stopped.wait(PATIENCE)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "elsewhere"]
    try:
        # Its main loop would go on as soon as ours has started.
        with pytest.raises(
            ReactorConflict, match=r"EPollReactor .* has been stopped, and its run\(\) has not returned"
        ):
            bridge.start()
    finally:
        go_on.set()
    thread.join(PATIENCE)
    with bridge:
        assert bridge.block_on(value()) == "value"
        assert bridge.reactor is running_elsewhere


@pytest.mark.parametrize("insist", [None, True])
def test_a_reactor_that_is_no_posix_reactor_is_a_conflict(
    nothing_installed: None, monkeypatch: pytest.MonkeyPatch, insist: bool | None
) -> None:
    reactor = MemoryReactorClock()
    monkeypatch.setitem(sys.modules, NAME, reactor)
    with pytest.raises(ReactorConflict, match="is a MemoryReactorClock, which is not built on") as caught:
        Bridge(install_reactor=insist).start()
    assert "write Bridge(install_reactor=False)" in str(caught.value)
    with Bridge(install_reactor=False) as bridge:
        assert bridge.block_on(value()) == "value"
    assert sys.modules[NAME] is reactor


def test_an_asyncio_reactor_on_a_loop_that_runs_is_a_conflict(install: Callable[[str], Any]) -> None:
    reactor = install("asyncio")

    async def main() -> None:
        message = r"AsyncioSelectorReactor that this package did not start runs .* Bridge\.attach\(reactor\)"
        with pytest.raises(ReactorConflict, match=message):
            Bridge().start()

    reactor._asyncioEventloop.run_until_complete(main())


@isolated
def test_configure_helps_where_the_first_call_met_a_conflict() -> None:
    import threading

    from twisted.internet import reactor

    running = threading.Event()
    reactor.callWhenRunning(running.set)
    thread = threading.Thread(target=reactor.run, args=(False,))
    thread.start()
    assert running.wait(10)

    from twisted.internet.task import deferLater

    import bridge

    try:
        bridge.block_on(lambda: "value")
    except bridge.ReactorConflict as error:
        said = str(error)
    assert "bridge.configure(install_reactor=False)" in said, said
    bridge.configure(install_reactor=False)
    own = bridge.default_bridge().reactor
    assert own is not reactor
    assert bridge.block_on(lambda: deferLater(own, 0.01, lambda: "value")) == "value"
    reactor.callFromThread(reactor.stop)
    thread.join()


@isolated
def test_an_asyncio_reactor_that_runs_in_the_main_thread_is_a_conflict() -> None:
    import asyncio

    from twisted.internet import asyncioreactor

    asyncioreactor.install(asyncio.new_event_loop())

    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    import bridge

    outcomes = []

    def conflicting() -> None:
        try:
            bridge.block_on(asyncio.sleep(0))
        except bridge.ReactorConflict as error:
            outcomes.append("write Bridge(install_reactor=False)" in str(error))
        with bridge.Bridge(install_reactor=False) as own:
            outcomes.append(own.block_on(asyncio.sleep(0.01, "value")))

    def main() -> None:
        conflicting()  # on the loop of the reactor
        deferToThread(conflicting).addErrback(outcomes.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(main)
    reactor.run()
    reactor._asyncioEventloop.close()
    assert outcomes == [True, "value", True, "value"], outcomes


# --- which reactor a bridge gets


@pytest.mark.parametrize("insist", [None, True])
def test_a_reactor_is_installed_where_there_is_none(nothing_installed: None, insist: bool | None) -> None:
    with Bridge(install_reactor=insist) as bridge:
        assert sys.modules[NAME] is twisted.internet.reactor is bridge.reactor


def test_a_private_reactor_is_not_installed(nothing_installed: None) -> None:
    with Bridge(install_reactor=False) as bridge:
        assert bridge.block_on(lambda: say_hello(bridge.reactor, listen(bridge.reactor))) == b"hello"
        assert NAME not in sys.modules
        assert bridge.block_on(threadable.isInIOThread) is False  # that is for the installed one


def test_beside_another_bridge_the_reactor_is_private(nothing_installed: None) -> None:
    with Bridge("first") as first, Bridge("second") as second:
        assert sys.modules[NAME] is first.reactor is not second.reactor
        with pytest.raises(ReactorConflict, match="belongs to another bridge") as caught:
            Bridge(install_reactor=True).start()
        assert "Bridge(install_reactor=False)" in str(caught.value)
        thread = first.thread
        assert thread is not None
        first.loop.call_soon_threadsafe(first.loop.stop)
        thread.join(PATIENCE)
        with Bridge("third") as third:  # the first will start again, with its reactor
            assert third.reactor is not sys.modules[NAME]
        assert first.block_on(value()) == "value"
        assert first.reactor is sys.modules[NAME]


def test_several_bridges_work_at_once(nothing_installed: None) -> None:
    with Bridge("first") as first, Bridge("second") as second, Bridge("third", install_reactor=False) as third:
        bridges = (first, second, third)
        assert len({id(bridge.loop) for bridge in bridges}) == 3
        assert len({id(bridge.reactor) for bridge in bridges}) == 3
        assert [bridge.block_on(threading.current_thread) for bridge in bridges] == [each.thread for each in bridges]
        ports = [bridge.block_on(lambda bridge=bridge: listen(bridge.reactor)) for bridge in bridges]
        answers = [
            bridge.submit(lambda bridge=bridge, port=port: say_hello(bridge.reactor, port))
            for bridge in bridges
            for port in ports * 3
        ]
        assert {answer.result(PATIENCE) for answer in answers} == {b"hello"}
        second.close()
        assert ask(ports[0]) == ask(ports[2]) == b"hello"


def test_the_installed_reactor_of_a_closed_bridge_is_adopted_by_the_next(nothing_installed: None) -> None:
    lives = []
    with Bridge("first") as first:
        reactor = first.reactor
        first.block_on(lambda: reactor.callLater(1000, lives.append, "of the first life"))
    assert not reactor.running
    for _ in range(3):
        with Bridge("next") as bridge:
            assert bridge.reactor is reactor
            assert bridge.block_on(lambda: say_hello(reactor, listen(reactor))) == b"hello"
            assert bridge.block_on(reactor.getDelayedCalls) == []
            assert bridge.block_on(lambda: threads.deferToThread(lambda: "pool")) == "pool"
    assert lives == []


@pytest.mark.parametrize("state", ["running", "dead"])
def test_the_installed_reactor_of_a_dropped_bridge_is_adopted_by_the_next(nothing_installed: None, state: str) -> None:
    bridges = [Bridge("dropped")]
    reactor, thread = bridges[0].reactor, bridges[0].thread
    assert thread is not None
    if state == "dead":
        kill(bridges[0], "loop.stop")
        thread.join(PATIENCE)
        bridges.clear()
    else:
        with pytest.warns(ResourceWarning, match="unclosed <Bridge 'dropped', running>"):
            bridges.clear()
    thread.join(PATIENCE)
    with Bridge("next", install_reactor=True) as bridge:
        assert bridge.reactor is reactor
        assert bridge.block_on(value()) == "value"


# --- the reactor stops, or its loop dies


def exiting() -> None:
    raise SystemExit("out of a callback")


def interrupted() -> None:
    raise KeyboardInterrupt


async def exiting_task() -> None:
    raise SystemExit("out of a task")


DEATHS: dict[str, tuple[Callable[[Bridge], object], str, type[BaseException] | None]] = {
    "reactor.stop": (lambda bridge: bridge.reactor.stop(), "the reactor was stopped", None),
    "reactor.crash": (lambda bridge: bridge.reactor.crash(), "the reactor was stopped", None),
    "a timed stop": (lambda bridge: bridge.reactor.callLater(0, bridge.reactor.stop), "the reactor was stopped", None),
    "loop.stop": (lambda bridge: bridge.loop.stop(), "the loop was stopped", None),
    "SystemExit": (lambda bridge: exiting(), "the loop ended with SystemExit", SystemExit),
    "KeyboardInterrupt": (lambda bridge: interrupted(), "the loop ended with KeyboardInterrupt", KeyboardInterrupt),
    "a task": (lambda bridge: bridge.loop.create_task(exiting_task()), "the loop ended with SystemExit", SystemExit),
}
deaths = pytest.mark.parametrize("how", DEATHS)


def kill(bridge: Bridge, how: str) -> None:
    bridge.loop.call_soon_threadsafe(DEATHS[how][0], bridge)


@deaths
def test_open_calls_fail_at_once_when_the_loop_dies(bridge: Bridge, how: str) -> None:
    begun = threading.Semaphore(0)
    release = threading.Event()
    errors: list[BaseException] = []

    async def waiting() -> None:
        begun.release()
        await for_ever()

    async def stubborn() -> None:
        """Keep the dying loop from ending until every call has failed."""
        try:
            await for_ever()
        except asyncio.CancelledError:
            while not release.is_set():
                await asyncio.sleep(0.001)

    def call(x: Any) -> None:
        try:
            bridge.block_on(x)
        except BridgeClosed as error:
            errors.append(error)

    task = bridge.block_on(lambda: [asyncio.ensure_future(stubborn())])
    work: list[Callable[[], Any]] = [waiting, lambda: (begun.release(), Deferred())[1], lambda: waiting()]
    callers = [threading.Thread(target=call, args=(x,)) for x in [*work, *work]]
    for caller in callers:
        caller.start()
    submitted = bridge.submit(waiting())
    for _ in range(7):
        assert begun.acquire(timeout=PATIENCE)
    thread = bridge.thread
    assert thread is not None
    kill(bridge, how)
    for caller in callers:
        caller.join(PATIENCE)
    assert thread.is_alive()
    release.set()
    del task
    _, reason, cause = DEATHS[how]
    error = submitted.exception(PATIENCE)
    assert isinstance(error, BridgeClosed)
    errors.append(error)
    assert len(errors) == 7
    for each in errors:
        assert reason in str(each)
        assert each.__cause__ is None if cause is None else isinstance(each.__cause__, cause)


@deaths
def test_the_next_call_starts_a_new_life_with_the_same_reactor(nothing_installed: None, how: str) -> None:
    with Bridge("rounds") as bridge:
        reactor = bridge.reactor
        triggered: list[int] = []
        loops = set()
        for number in range(20):
            loops.add(bridge.loop)
            assert bridge.reactor is reactor
            trigger = functools.partial(triggered.append, number)
            bridge.block_on(functools.partial(reactor.addSystemEventTrigger, "during", "shutdown", trigger))
            port = bridge.block_on(functools.partial(listen, reactor))
            assert bridge.block_on(functools.partial(say_hello, reactor, port)) == b"hello"
            assert bridge.block_on(lambda: threads.deferToThread(lambda: "pool")) == "pool"
            assert bridge.block_on(asyncio.to_thread(lambda: "executor")) == "executor"
            future = bridge.submit(for_ever())
            kill(bridge, how)
            with pytest.raises(BridgeClosed):
                future.result(PATIENCE)
            assert bridge.block_on(value()) == "value"
            assert triggered == list(range(number + 1))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port._realPortNumber or 1), PATIENCE)
        assert len(loops) == 20
        assert sys.modules[NAME] is reactor


def test_a_call_from_a_thread_between_two_lives_waits_for_the_next(bridge: Bridge) -> None:
    reactor, thread = bridge.reactor, bridge.thread
    kill(bridge, "reactor.stop")
    thread.join(PATIENCE)
    called = threading.Event()
    reactor.callFromThread(called.set)
    assert not called.is_set()
    bridge.start()
    assert called.wait(PATIENCE)


def test_a_call_from_a_thread_as_a_loop_is_closed_waits_for_the_next_life(bridge: Bridge) -> None:
    reactor, thread, loop = bridge.reactor, bridge.thread, bridge.loop
    called = threading.Event()
    close = loop.close

    def call_and_close() -> None:
        reactor.callFromThread(called.set)
        close()

    loop.close = call_and_close  # type: ignore[method-assign]
    kill(bridge, "reactor.stop")
    thread.join(PATIENCE)
    assert not called.is_set()
    bridge.start()
    assert called.wait(PATIENCE)


@isolated
def test_a_call_from_a_thread_in_the_last_trigger_waits_for_the_next_life() -> None:
    """The reactor cancels its timers as it stops, and it is by a timer that such a call is made."""
    import asyncio
    import threading

    import bridge

    reactor = bridge.default_bridge().reactor
    called = threading.Event()
    bridge.block_on(
        lambda: reactor.addSystemEventTrigger("after", "shutdown", lambda: reactor.callFromThread(called.set))
    )
    bridge.default_bridge().close()
    assert not called.is_set()
    bridge.block_on(asyncio.sleep(0))
    assert called.wait(10)


def test_triggers_that_a_life_left_over_serve_the_next(bridge: Bridge) -> None:
    reactor, order = bridge.reactor, []
    bridge.block_on(lambda: reactor.addSystemEventTrigger("during", "startup", order.append, "next startup"))
    kill(bridge, "loop.stop")
    thread = bridge.thread
    assert thread is None or thread.join(PATIENCE) is None
    bridge.start()
    assert order == ["next startup"]


def test_private_reactors_give_every_descriptor_back() -> None:
    def lives(count: int) -> int:
        for _ in range(count):
            with Bridge(install_reactor=False) as bridge:
                reactor = bridge.reactor
                port = bridge.block_on(functools.partial(listen, reactor))
                assert bridge.block_on(functools.partial(say_hello, reactor, port)) == b"hello"
                in_pool = functools.partial(threads.deferToThreadPool, reactor, reactor.getThreadPool(), str)
                assert bridge.block_on(in_pool) == ""
                future = bridge.submit(for_ever())
                kill(bridge, "loop.stop")
                assert isinstance(future.exception(PATIENCE), BridgeClosed)
                assert bridge.block_on(value()) == "value"
        gc.collect()
        return psutil.Process().num_fds()

    before = lives(1)
    assert lives(20) == before
