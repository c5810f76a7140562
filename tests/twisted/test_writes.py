"""A Twisted connection writes in the loop's next turn, and its descriptor is watched for what is left only."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.logger import LogEvent

from bridge import Bridge, WrongThreadError

PATIENCE = 10.0  # seconds that a test waits for what must come
LARGE = b"0123456789abcdef" * 1_000_000


class Caller(Protocol):
    transport: Any


class Connection:
    """Both ends: the transport on the reactor, and the socket that it is connected to."""

    def __init__(self, bridge: Bridge, transport: Any, peer: socket.socket) -> None:
        self.bridge = bridge
        self.transport = transport
        self.peer = peer
        peer.settimeout(PATIENCE)

    def is_watched(self) -> bool:
        """Return whether the loop asks the system whether it can write."""
        loop: Any = self.bridge.loop
        key = loop._selector.get_map().get(self.transport.fileno())
        return key is not None and bool(key.events & selectors.EVENT_WRITE)

    def is_writer(self) -> bool:
        """Return whether the reactor has something to write here."""
        return self.transport in self.bridge.reactor.getWriters()

    def receive(self, count: int) -> bytes:
        """Return the next so many bytes."""
        received = bytearray()
        while len(received) < count:
            received += self.peer.recv(count - len(received))
        return bytes(received)


@pytest.fixture
def connection(bridge: Bridge) -> Iterator[Connection]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = TCP4ClientEndpoint(bridge.reactor, *server.getsockname())
        caller: Any = bridge.block_on(lambda: connectProtocol(endpoint, Caller()), timeout=PATIENCE)
        peer = server.accept()[0]
    with peer:
        yield Connection(bridge, caller.transport, peer)
        bridge.block_on(caller.transport.abortConnection)


def test_a_message_is_written_in_the_next_turn_and_never_watched(connection: Connection) -> None:
    async def write() -> list[tuple[bool, bool]]:
        connection.transport.write(b"a message")
        states = [(connection.is_writer(), connection.is_watched())]
        await asyncio.sleep(0)
        states.append((connection.is_writer(), connection.is_watched()))
        return states

    assert connection.bridge.block_on(write()) == [(True, False), (False, False)]
    assert connection.receive(9) == b"a message"


def test_what_the_system_does_not_take_is_watched_and_comes_whole(connection: Connection) -> None:
    async def write() -> list[tuple[bool, bool]]:
        connection.transport.write(LARGE)
        states = [(connection.is_writer(), connection.is_watched())]
        await asyncio.sleep(0)
        states.append((connection.is_writer(), connection.is_watched()))
        return states

    assert connection.bridge.block_on(write()) == [(True, False), (True, True)]
    connection.bridge.block_on(lambda: connection.transport.write(b"the end"))
    assert connection.receive(len(LARGE)) == LARGE
    assert connection.receive(7) == b"the end"
    connection.bridge.block_on(lambda: connection.transport.write(b"and more"))
    assert connection.receive(8) == b"and more"


def test_a_connection_that_is_aborted_before_its_turn_writes_nothing(
    connection: Connection, unhandled: list[LogEvent]
) -> None:
    async def write() -> bool:
        connection.transport.write(b"a message")
        connection.transport.abortConnection()
        is_writer = connection.is_writer()
        await asyncio.sleep(0)
        return is_writer or connection.is_writer()

    assert connection.bridge.block_on(write()) is False
    with pytest.raises(ConnectionResetError):
        connection.peer.recv(1)
    assert unhandled == []


def test_a_writer_that_is_taken_back_and_added_again_writes_once(connection: Connection) -> None:
    async def write() -> list[bool]:
        reactor = connection.bridge.reactor
        connection.transport.write(b"a message")
        reactor.removeWriter(connection.transport)
        states = [connection.is_writer()]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reactor.addWriter(connection.transport)
        reactor.removeWriter(connection.transport)
        reactor.addWriter(connection.transport)
        states.append(connection.is_writer())
        await asyncio.sleep(0)
        states.append(connection.is_writer())
        return states

    assert connection.bridge.block_on(write()) == [False, True, False]
    connection.bridge.block_on(connection.transport.loseConnection)
    assert connection.receive(9) == b"a message"
    assert connection.peer.recv(1) == b""


def test_a_producer_that_blocks_goes_on_writing(connection: Connection) -> None:
    class Producer:
        left = 3

        def resumeProducing(self) -> None:
            self.left -= 1
            if not self.left:
                connection.transport.unregisterProducer()
            connection.bridge.block_on(asyncio.sleep(0.001))
            connection.transport.write(b"a part ")

        def stopProducing(self) -> None:
            raise AssertionError

    connection.bridge.block_on(lambda: connection.transport.registerProducer(Producer(), False))
    assert connection.receive(21) == b"a part a part a part "


def test_other_threads_are_refused(connection: Connection) -> None:
    reactor = connection.bridge.reactor
    refused: list[str] = []

    def from_another_thread() -> None:
        for method in (reactor.addWriter, reactor.removeWriter):
            with pytest.raises(WrongThreadError):
                method(connection.transport)
            refused.append(method.__name__)

    async def write() -> None:
        await asyncio.to_thread(from_another_thread)  # nothing waits to be written
        connection.transport.write(b"a message")
        thread = threading.Thread(target=from_another_thread)
        thread.start()
        thread.join()  # before the turn in which it is written
        assert connection.is_writer()

    connection.bridge.block_on(write())
    assert refused == ["addWriter", "removeWriter"] * 2
    assert connection.receive(9) == b"a message"
