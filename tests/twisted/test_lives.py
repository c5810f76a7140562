"""Clients that a program keeps for longer than one life of the loop, and over a fork: the next request succeeds."""

from __future__ import annotations

import pytest
from isolated import isolated

pytestmark = pytest.mark.any_python  # it is about Twisted's clients
ENDS = ["loop.stop", "reactor.stop", "close", "runners"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", ["get", "post"])
@isolated(stderr="(Exception ignored .*/dev/null.*)?")  # a descriptor that Twisted keeps in reserve
def test_the_connections_of_an_agents_pool(end: str, method: str) -> None:
    import treq
    from lives_of_loops import in_lives
    from pages import pages

    with pages() as server:

        async def request() -> str:
            response = await getattr(treq, method)(server.url + "a")
            return await treq.text_content(response)

        for call in in_lives(end, 3):
            for _ in range(2):
                assert call(request) == f"{method.upper()} /a"
        assert server.connections == 3  # each life has one, and uses it again


@pytest.mark.parametrize("end", ENDS)
@isolated
def test_a_pool_of_a_database(end: str) -> None:
    from lives_of_loops import in_lives
    from twisted.enterprise.adbapi import ConnectionPool

    pools: list[ConnectionPool] = []

    async def query() -> object:
        if not pools:
            pools.append(ConnectionPool("sqlite3", ":memory:", check_same_thread=False))
        return await pools[0].runQuery("SELECT 6 * 7")

    for call in in_lives(end, 3):
        for _ in range(2):
            assert call(query) == [(42,)]


@isolated
def test_a_closed_pool_of_a_database_stays_closed() -> None:
    from lives_of_loops import in_lives
    from twisted.enterprise.adbapi import ConnectionPool

    pools: list[ConnectionPool] = []

    async def query() -> object:
        pools.append(ConnectionPool("sqlite3", ":memory:", check_same_thread=False))
        return await pools[0].runQuery("SELECT 6 * 7")

    async def nothing() -> None: ...

    lives = in_lives("close", 2)
    next(lives)(query)
    life = next(lives)
    pools[0].close()
    life(nothing)
    assert not pools[0].running
    assert list(lives) == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["factory", "service"])
@isolated(stderr="(Exception ignored .*/dev/null.*)?")
def test_a_client_that_reconnects(end: str, kind: str) -> None:
    import asyncio
    import subprocess
    import sys
    from pathlib import Path

    from lives_of_loops import in_lives
    from twisted.application.internet import ClientService
    from twisted.internet.defer import Deferred
    from twisted.internet.endpoints import TCP4ClientEndpoint
    from twisted.internet.protocol import Factory, ReconnectingClientFactory
    from twisted.protocols.amp import AMP, Command, Integer

    class Double(Command):
        arguments = ((b"number", Integer()),)
        response = ((b"number", Integer()),)

    class Client(ReconnectingClientFactory):
        initialDelay = 0.01

        def __init__(self) -> None:
            self.connected: Deferred[AMP] = Deferred()

        def buildProtocol(self, address: object) -> AMP:
            self.resetDelay()
            protocol = AMP()
            self.connected.callback(protocol)
            return protocol

        def clientConnectionLost(self, connector: object, reason: object) -> None:
            self.connected = Deferred()
            super().clientConnectionLost(connector, reason)

    server = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).parent / "programs" / "doubles.py")], stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    clients: list[object] = []

    async def connected() -> AMP:
        from twisted.internet import reactor

        if kind == "factory":
            if not clients:
                clients.append(Client())
                reactor.connectTCP("127.0.0.1", port, clients[0])
            waiting: Deferred[AMP] = Deferred()
            clients[0].connected.addBoth(lambda protocol: waiting.callback(protocol) or protocol)  # type: ignore
            return await waiting
        if not clients:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
            service = ClientService(endpoint, Factory.forProtocol(AMP), retryPolicy=lambda attempts: 0.01)
            service.startService()
            clients.append(service)
        return await clients[0].whenConnected()  # type: ignore

    async def request() -> object:
        protocol = await asyncio.wait_for(connected(), 10)
        return (await protocol.callRemote(Double, number=21))["number"]

    try:
        for call in in_lives(end, 3):
            for _ in range(2):
                assert call(request) == 42
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.mark.parametrize("end", ENDS)
@isolated(stderr="(Exception ignored .*/dev/null.*)?")
def test_what_a_life_leaves_is_told_and_dropped(end: str) -> None:
    import asyncio

    from lives_of_loops import in_lives
    from twisted.internet.error import AlreadyCancelled
    from twisted.internet.protocol import Factory, Protocol

    class Noted(Protocol):
        def connectionMade(self) -> None:
            made.append(self)

        def connectionLost(self, reason: object = None) -> None:
            lost.append(self)

    made: list[Noted] = []
    lost: list[Noted] = []
    timers = []
    fired: list[int] = []

    async def first() -> None:
        from twisted.internet import reactor

        port = reactor.listenTCP(0, Factory.forProtocol(Noted), interface="127.0.0.1")
        factory = Factory.forProtocol(Noted)
        factory.noisy = False
        from twisted.internet.endpoints import TCP4ClientEndpoint

        for _ in range(2):
            await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(factory)
        while len(made) < 4:
            await asyncio.sleep(0.001)
        made[0].transport.pauseProducing()  # it is in neither list of the reactor
        timers.extend(reactor.callLater(seconds, fired.append, 1) for seconds in (0.2, 0.3, 60))

    async def second() -> None:
        from twisted.internet import reactor

        assert not [each for each in reactor.getDelayedCalls() if each in timers]
        assert all(each.active() for each in timers)
        timers[0].reset(0.01)
        timers[1].cancel()
        await asyncio.sleep(0.4)
        assert timers[0].active()
        timers[0].cancel()

    lives = in_lives(end, 2)
    next(lives)(first)
    call = next(lives)
    assert sorted(map(id, lost)) == sorted(map(id, made))
    call(second)
    timers[2].cancel()
    for each in timers:
        assert not each.active()
        try:
            each.cancel()
        except AlreadyCancelled:
            continue
        raise AssertionError
    assert list(lives) == []
    assert not fired


@pytest.mark.parametrize("method", ["get", "post"])
@isolated(forks=True, options=("-W", "error", "-W", "ignore::DeprecationWarning"))
def test_a_forked_child_gets_connections_of_its_own_and_the_parent_keeps_its(method: str) -> None:
    import os

    import treq
    from pages import pages
    from twisted.enterprise.adbapi import ConnectionPool

    from bridge import block_on, default_bridge

    pools: list[ConnectionPool] = []
    lost: list[object] = []

    async def query() -> object:
        from twisted.internet import reactor

        if not pools:
            pools.append(ConnectionPool("sqlite3", ":memory:", check_same_thread=False))
            reactor.callLater(60, lost.append, "fired")
        return await pools[0].runQuery("SELECT 6 * 7")

    with pages() as server:

        async def request() -> str:
            response = await getattr(treq, method)(server.url + "a", persistent=True)
            return await treq.text_content(response)

        expected = f"{method.upper()} /a"
        assert block_on(request()) == expected
        assert block_on(query()) == [(42,)]
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(2):
                    assert block_on(request(), timeout=10) == expected
                    assert block_on(query(), timeout=10) == [(42,)]
                default_bridge().close()  # tells its own connections, and logs no error of a parent's
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert server.connections == 2
        for _ in range(2):
            assert block_on(request(), timeout=10) == expected
            assert block_on(query(), timeout=10) == [(42,)]
        assert server.connections == 2  # the parent's own
        assert not lost
