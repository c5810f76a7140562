"""A Bridge in a process whose installed reactor is a GUI toolkit's, and idle."""

from __future__ import annotations

import pytest
from guis import BINDINGS, needs_reactor
from isolated import isolated

pytestmark = pytest.mark.process

OPTIONS = ("-W", "ignore:Since version 3.11, calling threads_init:DeprecationWarning")


@pytest.fixture(autouse=True)
def _is_here(toolkit: str, screen: None) -> None:
    needs_reactor(toolkit)


@pytest.mark.parametrize("toolkit", ["gtk"])
@isolated(options=("-W", "error", *OPTIONS))
def test_gtks_reactor_is_adopted_and_leaves_the_main_loop_to_the_windows(toolkit: str) -> None:
    import socket
    import threading

    from guis import make_reactor

    gui, reactor = make_reactor(toolkit)
    from twisted.internet.protocol import Factory, Protocol
    from twisted.internet.task import deferLater
    from twisted.internet.threads import blockingCallFromThread

    from bridge import Bridge

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            note("received")
            self.transport.write(data)

    seen: dict[str, str] = {}

    def note(what: str) -> None:
        seen[what] = threading.current_thread().name

    port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
    reactor.callLater(0.05, note, "soon")
    reactor.callLater(0.1, note, "later")
    reactor.callFromThread(note, "from a thread")
    reactor.callWhenRunning(note, "when running")
    method = reactor.callLater  # as by 'from twisted.internet.reactor import callLater'
    bridge = Bridge("ours")
    bridge.start()
    assert bridge.reactor is reactor
    assert bridge.block_on(lambda: reactor.running) is True

    # Windows live in GTK's main loop, which knows nothing of the reactor any more.
    ticks: list[None] = []
    gui.every(5, lambda: ticks.append(None))
    gui.after(5, gui.show)
    gui.after(300, gui.stop)
    gui.run()
    assert ticks
    assert bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred")) == "deferred"
    bridge.block_on(lambda: method(0.01, note, "old method"))
    bridge.block_on(lambda: deferLater(reactor, 0.05, lambda: None))
    for number in range(3):
        assert blockingCallFromThread(reactor, lambda number=number: number) == number
    with socket.create_connection(("127.0.0.1", port.getHost().port), 10) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
    expected = ["from a thread", "later", "old method", "received", "soon", "when running"]
    assert seen == dict.fromkeys(expected, "ours"), seen
    assert [type(each).__name__ for each in bridge.block_on(reactor.getReaders)].count("_UnixWaker") == 1
    bridge.close()
    assert not reactor.running

    with Bridge("next") as after:
        assert after.reactor is reactor
        assert after.block_on(lambda: deferLater(reactor, 0.01, lambda: "again")) == "again"


@pytest.mark.parametrize("toolkit", ["gtk"])
@isolated(options=("-W", "error", *OPTIONS))
def test_gtks_reactor_is_adopted_after_it_has_run(toolkit: str) -> None:
    import asyncio

    from guis import make_reactor

    _, reactor = make_reactor(toolkit)
    from twisted.internet.task import deferLater

    from bridge import block_on, default_bridge

    reactor.callLater(0.01, reactor.stop)
    reactor.callLater(1000, print, "a timer that is left in GLib's loop")
    reactor.run()
    assert block_on(asyncio.sleep(0.01, "asyncio")) == "asyncio"
    assert block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred")) == "deferred"
    assert default_bridge().reactor is reactor


@pytest.mark.parametrize("toolkit", BINDINGS)
@isolated(options=OPTIONS)
def test_qts_reactor_is_refused_and_works_beside_a_private_one(toolkit: str) -> None:
    import asyncio

    import pytest
    from guis import make_reactor

    gui, reactor = make_reactor(toolkit)
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, ReactorConflict, block_on, configure, install

    reactor.callLater(0, reactor.callLater, 0.01, lambda: None)
    for call in (Bridge().start, install, lambda: block_on(asyncio.sleep(0))):
        with pytest.raises(ReactorConflict) as caught:
            call()
        message = str(caught.value)
        assert "the installed reactor is a QtReactor, which a main loop that is not Twisted's drives" in message
        assert "Bridge.attach(reactor)" in message
        assert "install_reactor=False" in message

    # Both of what the message says.
    configure(install_reactor=False)
    assert block_on(asyncio.sleep(0.1, "asyncio")) == "asyncio"  # while Qt's events run
    attached = Bridge.attach(reactor)

    def work() -> list[str]:
        return [
            attached.block_on(lambda: deferLater(reactor, 0.01, lambda: "deferred")),
            block_on(asyncio.sleep(0.01, "asyncio")),
        ]

    done: list[object] = []
    reactor.callWhenRunning(lambda: deferToThread(work).addBoth(done.append).addBoth(lambda _: reactor.stop()))
    reactor.run()
    assert done == [["deferred", "asyncio"]], done
    assert gui is not None
