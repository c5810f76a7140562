"""Streams stay whole while a stack is blocked inside a reader's callback; and deferring() and serialized().

The connections are real ones. Every protocol of ours here is as fragile as Twisted's ``IntNStringReceiver``: called
again in the middle of its work, it would parse a message twice.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import datetime
import os
import random
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols import amp, basic
from twisted.python import context as twisted_context
from twisted.python.log import ILogContext
from twisted.spread import pb

from bridge import Bridge, BridgeClosed, BridgeError, WrongThreadError, as_deferred, block_on, deferring, serialized

HOST = "127.0.0.1"

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(scope="module")
def shared() -> Iterator[Bridge]:
    """One bridge for the tests that leave nothing behind."""
    with Bridge("streams", install_reactor=False) as each:
        yield each


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    """Let the loop go on: long enough for whatever is readable to be read."""
    for _ in range(count):
        await asyncio.sleep(0.001)


async def iterations() -> int:
    """Return how often the loop iterates in a fifth of a second, in which nothing happens."""
    selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    select, count = selector.select, 0

    def counting(timeout: float | None = None) -> Any:
        nonlocal count
        count += 1
        return select(timeout)

    selector.select = counting
    try:
        await asyncio.sleep(0.2)
    finally:
        del selector.select
    return count


# --- servers of every kind


class Server:
    """What a server of some kind calls, and what it has been told.

    A message is blocked on while its first byte has a gate, and then echoed.
    """

    def __init__(self) -> None:
        self.gates: dict[bytes, asyncio.Future[None]] = {}
        self.begun: list[bytes] = []
        self.ended: list[bytes] = []
        self.lost = 0
        self.transports: list[Any] = []
        self.errors: list[BaseException] = []

    def close_gate(self, message: bytes) -> asyncio.Future[None]:
        gate = self.gates[message] = asyncio.get_running_loop().create_future()
        return gate

    def handle(self, message: bytes, reply: Callable[[bytes], object]) -> None:
        self.begun.append(message)
        gate = self.gates.get(message)
        if gate is not None:
            try:
                block_on(asyncio.shield(gate))
            except BaseException as error:
                self.errors.append(error)
                raise
        self.ended.append(message)
        reply(message)


def frame(message: bytes) -> bytes:
    return struct.pack("!I", len(message)) + message


class Frames:
    """Parses frames as Twisted's IntNStringReceiver does, which is not made to be re-entered."""

    def __init__(self, receive: Callable[[bytes], object]) -> None:
        self.receive = receive
        self.unprocessed = b""

    def feed(self, data: bytes) -> None:
        data = self.unprocessed + data
        self.unprocessed = data
        at = 0
        while len(data) >= at + 4 and len(data) >= at + 4 + struct.unpack_from("!I", data, at)[0]:
            end = at + 4 + struct.unpack_from("!I", data, at)[0]
            self.receive(data[at + 4 : end])
            at = end
        self.unprocessed = data[at:]


class Listening:
    """A server that listens, and how to speak with it."""

    def __init__(self, bridge: Bridge, server: Server, sockets: Path, ssl_contexts: Any) -> None:
        self.bridge = bridge
        self.server = server
        self.path = str(sockets / f"socket{len(os.listdir(sockets))}")
        self.tls = ssl_contexts
        self.address: Any = None
        self.stop: Callable[[], object] = lambda: None

    encode = staticmethod(frame)
    is_tls = False

    async def start(self) -> None:
        raise NotImplementedError

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        context = self.tls().client if self.is_tls else None
        return await asyncio.open_connection(HOST, self.address, ssl=context)


def twisted_protocol(kind: type, receive_name: str, send_name: str) -> type:
    def __init__(self: Any, server: Server) -> None:
        self.server = server

    def connectionMade(self: Any) -> None:
        self.server.transports.append(self.transport)

    def receive(self: Any, message: bytes) -> None:
        self.server.handle(message, getattr(self, send_name))

    def connectionLost(self: Any, reason: Any = None) -> None:
        self.server.lost += 1

    namespace = {
        "__init__": __init__,
        "connectionMade": connectionMade,
        receive_name: receive,
        "connectionLost": connectionLost,
    }
    return type(f"Echo{kind.__name__}", (kind,), namespace)


class TwistedListening(Listening):
    protocol = twisted_protocol(basic.Int32StringReceiver, "stringReceived", "sendString")

    async def start(self) -> None:
        factory = Factory()
        factory.buildProtocol = lambda address: self.protocol(self.server)  # type: ignore[method-assign]
        port = self.listen(factory)
        self.address = self.path if self.is_unix else port.getHost().port
        self.stop = port.stopListening

    is_unix = False

    def listen(self, factory: Factory) -> Any:
        return self.bridge.reactor.listenTCP(0, factory, interface=HOST)


class Netstrings(TwistedListening):
    protocol = twisted_protocol(basic.NetstringReceiver, "stringReceived", "sendString")

    @staticmethod
    def encode(message: bytes) -> bytes:
        return b"%d:%s," % (len(message), message)


class Lines(TwistedListening):
    protocol = twisted_protocol(basic.LineReceiver, "lineReceived", "sendLine")

    @staticmethod
    def encode(message: bytes) -> bytes:
        return message + b"\r\n"


class TwistedUnix(TwistedListening):
    is_unix = True

    def listen(self, factory: Factory) -> Any:
        return self.bridge.reactor.listenUNIX(self.path, factory)


class TwistedTLS(TwistedListening):
    is_tls = True

    def listen(self, factory: Factory) -> Any:
        from twisted.protocols.tls import TLSMemoryBIOFactory

        reactor = self.bridge.reactor  # listenSSL would take its clock from the installed one
        factory = TLSMemoryBIOFactory(self.tls().twisted, False, factory, clock=reactor)
        return reactor.listenTCP(0, factory, interface=HOST)


class FramesProtocol(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.frames = Frames(lambda message: server.handle(message, self.reply))

    def reply(self, message: bytes) -> None:
        self.transport.write(frame(message))

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.transports.append(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.lost += 1

    def data_received(self, data: bytes) -> None:
        self.frames.feed(data)


class BufferedFrames(asyncio.BufferedProtocol):
    __init__: Any = FramesProtocol.__init__
    reply: Any = FramesProtocol.reply
    connection_made: Any = FramesProtocol.connection_made
    connection_lost: Any = FramesProtocol.connection_lost

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(65536)
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.frames.feed(bytes(self.buffer[:count]))  # type: ignore[attr-defined]


class AsyncioProtocol(Listening):
    protocol: Any = FramesProtocol

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        context = self.tls().server if self.is_tls else None
        server = await loop.create_server(lambda: self.protocol(self.server), HOST, 0, ssl=context)
        self.address = server.sockets[0].getsockname()[1]
        self.stop = server.close


class AsyncioBuffered(AsyncioProtocol):
    protocol = BufferedFrames


class AsyncioTLS(AsyncioProtocol):
    is_tls = True


class AsyncioUnix(AsyncioProtocol):
    async def start(self) -> None:
        server = await asyncio.get_running_loop().create_unix_server(lambda: FramesProtocol(self.server), self.path)
        self.address = self.path
        self.stop = server.close


class AsyncioStreams(Listening):
    """Sync code in the task of each connection, which is no reader's callback."""

    async def start(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.server.transports.append(writer.transport)
            try:
                while True:
                    (size,) = struct.unpack("!I", await reader.readexactly(4))
                    message = await reader.readexactly(size)
                    self.server.handle(message, lambda reply: writer.write(frame(reply)))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                self.server.lost += 1
                writer.close()

        server = await asyncio.start_server(serve, HOST, 0)
        self.address = server.sockets[0].getsockname()[1]
        self.stop = server.close


TWISTED: list[type[Listening]] = [TwistedListening, Netstrings, Lines, TwistedUnix, TwistedTLS]
ASYNCIO: list[type[Listening]] = [AsyncioProtocol, AsyncioBuffered, AsyncioTLS, AsyncioUnix]
KINDS = [*TWISTED, *ASYNCIO, AsyncioStreams]


class TlsContexts:
    """Contexts with a certificate that was made for this run."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("cryptography", reason="it makes the certificate for TLS")
        pytest.importorskip("OpenSSL", reason="Twisted's TLS needs pyOpenSSL")
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from twisted.internet.ssl import DefaultOpenSSLContextFactory

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
        pem = serialization.Encoding.PEM
        key_file.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        certificate_file.write_bytes(certificate.public_bytes(pem))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(certificate_file, key_file)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        self.client.verify_mode = ssl.CERT_NONE
        from OpenSSL import SSL

        self.twisted = DefaultOpenSSLContextFactory(str(key_file), str(certificate_file), SSL.TLS_METHOD)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], TlsContexts]:
    made: list[TlsContexts] = []

    def contexts() -> TlsContexts:
        if not made:
            made.append(TlsContexts(tmp_path_factory.mktemp("tls")))
        return made[0]

    return contexts


@pytest.fixture
def make(shared: Bridge, sockets: Path, tls: Any) -> Callable[[type[Listening]], Any]:
    @contextlib.asynccontextmanager
    async def listening(kind: type[Listening]) -> AsyncIterator[tuple[Server, Listening]]:
        if kind.is_tls:
            tls()
        server = Server()
        it = kind(shared, server, sockets, tls)
        await it.start()
        try:
            yield server, it
        finally:
            stopped = it.stop()
            if isinstance(stopped, Deferred):
                await stopped

    return listening


async def finish(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_in_pieces_arrives_once_while_the_first_is_blocked(
    kind: type[Listening], make: Any, shared: Bridge
) -> None:
    async def main() -> None:
        async with make(kind) as (server, it):
            reader, writer = await it.connect()
            other_reader, other = await it.connect()
            gate = server.close_gate(b"AA")
            second = it.encode(b"BB")
            writer.write(it.encode(b"AA") + second[:2])
            await until(lambda: server.begun == [b"AA"])
            for byte in second[2:] + it.encode(b"CC"):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.001)
            other.write(it.encode(b"other"))
            expected = it.encode(b"other")
            assert await other_reader.readexactly(len(expected)) == expected
            await turns()
            assert server.begun == [b"AA", b"other"]
            gate.set_result(None)
            expected = it.encode(b"AA") + second + it.encode(b"CC")
            assert await reader.readexactly(len(expected)) == expected
            assert server.begun == [b"AA", b"other", b"BB", b"CC"]
            assert server.ended == [b"other", b"AA", b"BB", b"CC"]
            await finish(writer)
            await finish(other)
            await until(lambda: server.lost == 2)

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", KINDS)
def test_the_peer_closes_while_a_message_is_blocked(kind: type[Listening], make: Any, shared: Bridge) -> None:
    async def main() -> None:
        async with make(kind) as (server, it):
            _, writer = await it.connect()
            gate = server.close_gate(b"AA")
            writer.write(it.encode(b"AA"))
            await until(lambda: server.begun)
            writer.write(it.encode(b"BB"))
            await writer.drain()
            if it.is_tls:
                writer.transport.abort()  # TLS says goodbye, and would wait for the answer
            else:
                await finish(writer)
            await turns()
            assert server.begun == [b"AA"]
            gate.set_result(None)
            await until(lambda: server.lost)
            await turns()
            assert server.ended[0] == b"AA"
            assert server.ended.count(b"AA") == 1
            assert server.ended.count(b"BB") <= 1
            assert server.lost == 1

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_the_connection_is_closed_by_others_while_a_message_is_blocked(
    kind: type[Listening], how: str, make: Any, shared: Bridge
) -> None:
    async def main() -> None:
        async with make(kind) as (server, it):
            reader, writer = await it.connect()
            gate = server.close_gate(b"AA")
            writer.write(it.encode(b"AA"))
            await until(lambda: server.begun)
            (transport,) = server.transports
            other_reader, other = await it.connect()
            twisted_name = {"close": "loseConnection", "abort": "abortConnection"}[how]
            (getattr(transport, twisted_name, None) or getattr(transport, how))()
            if how == "abort" or not it.is_tls:
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    assert await reader.read() == b""  # although the stack is blocked
            other.write(it.encode(b"other"))
            expected = it.encode(b"other")
            assert await other_reader.readexactly(len(expected)) == expected
            gate.set_result(None)
            await finish(writer)
            await until(lambda: server.lost)
            await turns(5)
            assert server.begun.count(b"AA") == 1
            assert server.lost == 1
            await finish(other)
            await until(lambda: server.lost == 2)

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (AsyncioTLS, AsyncioStreams)])
def test_others_pause_and_resume_reading_while_a_message_is_blocked(
    kind: type[Listening], make: Any, shared: Bridge
) -> None:
    async def main() -> None:
        async with make(kind) as (server, it):
            reader, writer = await it.connect()
            gate = server.close_gate(b"AA")
            writer.write(it.encode(b"AA") + it.encode(b"BB")[:3])
            await until(lambda: server.begun)
            (transport,) = server.transports
            twisted = hasattr(transport, "pauseProducing")
            pause = transport.pauseProducing if twisted else transport.pause_reading
            resume = transport.resumeProducing if twisted else transport.resume_reading
            for _ in range(3):
                writer.write(it.encode(b"BB")[3:] + it.encode(b"CC") if _ == 0 else b"")
                await turns(5)
                pause()
                await turns(5)
                resume()
                await turns(5)
            assert server.begun == [b"AA"]
            gate.set_result(None)
            expected = b"".join(map(it.encode, [b"AA", b"BB", b"CC"]))
            assert await reader.readexactly(len(expected)) == expected
            assert server.ended == [b"AA", b"BB", b"CC"]
            await finish(writer)
            await until(lambda: server.lost)

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", [TwistedListening, TwistedUnix, AsyncioProtocol, AsyncioUnix])
def test_a_handler_pauses_itself_before_it_blocks(kind: type[Listening], make: Any, shared: Bridge) -> None:
    async def main() -> None:
        async with make(kind) as (server, it):
            reader, writer = await it.connect()
            gate = asyncio.get_running_loop().create_future()
            handle = server.handle

            def pausing(message: bytes, reply: Any) -> None:
                (transport,) = server.transports
                twisted = hasattr(transport, "pauseProducing")
                (transport.pauseProducing if twisted else transport.pause_reading)()
                if message == b"BB":
                    block_on(asyncio.sleep(0.005))
                (transport.resumeProducing if twisted else transport.resume_reading)()
                handle(message, reply)
                if message == b"AA":
                    block_on(gate)

            server.handle = pausing  # type: ignore[method-assign]
            writer.write(it.encode(b"AA"))
            await until(lambda: server.begun)
            writer.write(it.encode(b"BB") + it.encode(b"CC"))
            await turns()
            assert server.begun == [b"AA"]
            gate.set_result(None)
            expected = b"".join(map(it.encode, [b"AA", b"BB", b"CC"]))
            assert await reader.readexactly(len(expected)) == expected
            await finish(writer)
            await until(lambda: server.lost)

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_is_written_to_while_it_is_blocked(kind: type[Listening], make: Any, shared: Bridge) -> None:
    """More than the socket's buffers take, so that it is written as the peer reads."""

    async def main() -> None:
        async with make(kind) as (server, it):
            reader, writer = await it.connect()
            gate = server.close_gate(b"AA")
            writer.write(it.encode(b"AA"))
            await until(lambda: server.begun)
            (transport,) = server.transports
            sent = os.urandom(1_000_000)
            transport.write(sent)
            await turns(5)
            transport.write(sent)
            assert await reader.readexactly(2_000_000) == sent + sent
            assert not server.ended
            gate.set_result(None)
            expected = it.encode(b"AA")
            assert await reader.readexactly(len(expected)) == expected
            await finish(writer)
            await until(lambda: server.lost)

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_connections_are_blocked_and_go_on_in_random_order(
    kind: type[Listening], make: Any, shared: Bridge
) -> None:
    async def main() -> None:
        async with make(kind) as (server, it):
            names = [b"%02d" % number for number in range(50)]
            peers = [await it.connect() for _ in names]
            gates = [server.close_gate(name) for name in names]
            for name, (_, writer) in zip(names, peers, strict=True):
                writer.write(it.encode(name))
            await until(lambda: len(server.begun) == 50)
            for name, (_, writer) in zip(names, peers, strict=True):
                writer.write(it.encode(b"+" + name))
            order = random.Random(1).sample(range(50), 50)
            for number in order:
                gates[number].set_result(None)
                expected = it.encode(names[number]) + it.encode(b"+" + names[number])
                assert await peers[number][0].readexactly(len(expected)) == expected
            assert server.ended == [message for number in order for message in (names[number], b"+" + names[number])]
            for _, writer in peers:
                await finish(writer)
            await until(lambda: server.lost == 50)

    shared.block_on(main(), timeout=40)


# --- the loop's end


@pytest.mark.parametrize("kind", [TwistedListening, AsyncioProtocol])
def test_the_loop_is_closed_while_connections_are_blocked(kind: type[Listening], sockets: Path) -> None:
    server = Server()
    peers: list[socket.socket] = []
    with Bridge("closing", install_reactor=False, shutdown_timeout=1.0) as bridge:

        async def main() -> None:
            it = kind(bridge, server, sockets, None)
            await it.start()
            server.close_gate(b"AA")
            for _ in range(5):
                peers.append(socket.create_connection((HOST, it.address)))
                peers[-1].send(it.encode(b"AA") + it.encode(b"BB"))
            await until(lambda: len(server.begun) == 5)
            it.stop()

        bridge.block_on(main(), timeout=10)
        thread = bridge.thread
        assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert server.begun == [b"AA"] * 5
    assert [type(error) for error in server.errors] == [BridgeClosed] * 5
    for peer in peers:
        peer.close()


# --- descriptors


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


def test_a_reader_is_called_once_for_what_it_has_to_read(shared: Bridge) -> None:
    """Also if the iteration that found it readable was broken off by a callback that blocks."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        errors: list[BaseException] = []
        received: list[bytes] = []
        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(pair()) for _ in range(6)]

            def read(ours: socket.socket) -> None:
                try:
                    received.append(ours.recv(10))
                except BlockingIOError as error:
                    errors.append(error)
                    return
                block_on(asyncio.shield(gate))

            for ours, theirs in pairs:
                loop.add_reader(ours, read, ours)
                theirs.send(b"x")
            await turns()
            assert received == [b"x"] * 6
            for _, theirs in pairs:
                theirs.send(b"y")
            await turns()
            assert received == [b"x"] * 6
            gate.set_result(None)
            await until(lambda: len(received) == 12)
            await turns(3)
            for ours, _ in pairs:
                assert loop.remove_reader(ours)
        assert errors == []
        assert received[6:] == [b"y"] * 6

    shared.block_on(main(), timeout=20)


def test_a_number_that_is_used_again_belongs_to_the_new_stream(shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        second_gate = loop.create_future()
        old: list[bytes] = []
        new: list[bytes] = []

        def read_old() -> None:
            old.append(ours.recv(10))
            block_on(gate)
            block_on(second_gate)

        def read_new() -> None:
            new.append(ours_2.recv(1))
            if new[-1] == b"1":
                block_on(asyncio.shield(new_gate))

        new_gate = loop.create_future()
        with pair() as (ours, theirs), pair() as (spare, theirs_2):
            number = ours.fileno()
            loop.add_reader(number, read_old)
            theirs.send(b"1")
            await until(lambda: old)
            theirs.send(b"2")
            await turns(3)
            assert loop.remove_reader(number)
            ours.close()
            assert os.dup2(spare.fileno(), number) == number
            ours_2 = socket.socket(fileno=number)
            loop.add_reader(number, read_new)
            theirs_2.send(b"0")
            await until(lambda: new == [b"0"])
            theirs_2.send(b"1")
            await until(lambda: new == [b"0", b"1"])
            theirs_2.send(b"2")
            await turns(5)
            gate.set_result(None)  # the old one blocks again, with the new one blocked as well
            await turns(5)
            assert new == [b"0", b"1"]
            second_gate.set_result(None)
            await turns(5)
            assert new == [b"0", b"1"]
            new_gate.set_result(None)
            await until(lambda: new == [b"0", b"1", b"2"])
            assert old == [b"1"]
            assert loop.remove_reader(number)
            ours_2.close()

    shared.block_on(main(), timeout=20)


def test_a_descriptor_that_is_closed_without_being_removed_harms_nobody(shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        received: list[bytes] = []

        def read() -> None:
            received.append(ours.recv(10))
            block_on(gate)

        with pair() as (ours, theirs):
            number = ours.fileno()
            loop.add_reader(number, read)
            theirs.send(b"1")
            await until(lambda: received)
            theirs.send(b"2")
            await turns(3)
            ours.close()
            gate.set_result(None)
            await turns(3)
            loop.remove_reader(number)
        await asyncio.sleep(0)

    shared.block_on(main(), timeout=20)


def test_a_blocked_reader_can_be_removed_and_replaced(shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        received: list[tuple[str, bytes]] = []

        def read(name: str) -> None:
            received.append((name, ours.recv(1)))
            if name == "first":
                block_on(gate)

        with pair() as (ours, theirs):
            loop.add_reader(ours, read, "first")
            theirs.send(b"12")
            await turns(5)
            assert received == [("first", b"1")]
            assert loop.remove_reader(ours)
            assert not loop.remove_reader(ours)
            await turns(3)
            loop.add_reader(ours, read, "second")
            await until(lambda: received == [("first", b"1"), ("second", b"2")])
            gate.set_result(None)
            theirs.send(b"3")
            await until(lambda: received[2:] == [("second", b"3")])
            assert loop.remove_reader(ours)

    shared.block_on(main(), timeout=20)


def test_a_writer_is_not_called_again_while_it_is_blocked(shared: Bridge) -> None:
    """asyncio's transport calls resume_writing() in the writer's callback, with nothing left to write."""

    class Resuming(asyncio.Protocol):
        async_gate: asyncio.Future[None]
        resumed = 0

        def resume_writing(self) -> None:
            self.resumed += 1
            block_on(asyncio.shield(self.async_gate))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        problems: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, problem: problems.append(problem))
        try:
            with pair() as (ours, theirs):
                theirs.setblocking(False)
                transport, protocol = await loop.create_connection(Resuming, sock=ours)
                protocol.async_gate = loop.create_future()
                sent = os.urandom(3_000_000)
                transport.write(sent)
                received = bytearray()
                while len(received) < len(sent):
                    received += await loop.sock_recv(theirs, 1_000_000)
                await turns()
                assert bytes(received) == sent
                assert protocol.resumed == 1
                assert await iterations() < 50  # nothing spins
                transport.write(b"more")
                assert await loop.sock_recv(theirs, 10) == b"more"
                protocol.async_gate.set_result(None)
                await turns(3)
                transport.write(b"end")
                assert await loop.sock_recv(theirs, 10) == b"end"
                transport.close()
                await turns(3)
        finally:
            loop.set_exception_handler(None)
        assert problems == []

    shared.block_on(main(), timeout=20)


def test_a_blocked_reader_costs_no_time(shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        with pair() as (ours, theirs):
            loop.add_reader(ours, lambda: block_on(asyncio.shield(gate)))
            theirs.send(b"1")
            await turns(5)
            assert await iterations() < 50
            loop.remove_reader(ours)
            gate.set_result(None)
            await turns(3)

    shared.block_on(main(), timeout=20)


@pytest.mark.parametrize("kind", ["twisted", "asyncio"])
def test_datagrams_come_one_after_the_other(kind: str, shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = loop.create_future()
        begun: list[bytes] = []
        ended: list[bytes] = []

        def received(data: bytes) -> None:
            begun.append(data)
            if data == b"0":
                block_on(asyncio.shield(gate))
            ended.append(data)

        class Twisted(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                received(datagram)

        class Asyncio(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                received(data)

        if kind == "twisted":
            port = shared.reactor.listenUDP(0, Twisted(), interface=HOST)
            number, stop = port.getHost().port, port.stopListening
        else:
            transport, _ = await loop.create_datagram_endpoint(Asyncio, (HOST, 0))
            number, stop = transport.get_extra_info("sockname")[1], transport.close
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for count in range(5):
                sender.sendto(b"%d" % count, (HOST, number))
                await turns(3)
            if kind == "asyncio":  # which reads one datagram a turn; Twisted has read several
                await until(lambda: begun)
                assert begun == [b"0"]
            gate.set_result(None)
            await until(lambda: len(ended) == 5)
        assert begun == ended == [b"0", b"1", b"2", b"3", b"4"]
        stop()
        await turns(3)

    shared.block_on(main(), timeout=20)


# --- connections that begin


def test_a_server_accepts_while_connections_are_blocked_as_they_begin(shared: Bridge) -> None:
    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        made: list[Protocol] = []

        class Greeting(Protocol):
            def connectionMade(self) -> None:
                made.append(self)
                block_on(asyncio.shield(gate))
                self.transport.write(b"hello")  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

        port = shared.reactor.listenTCP(0, Factory.forProtocol(Greeting), interface=HOST)
        peers = []
        for _ in range(20):
            peers.append(await asyncio.open_connection(HOST, port.getHost().port))
            await asyncio.sleep(0.001)
        await until(lambda: len(made) == 20)
        gate.set_result(None)
        for reader, writer in peers:
            assert await reader.read() == b"hello"
            await finish(writer)
        await port.stopListening()

    shared.block_on(main(), timeout=20)


# --- AMP


class Ask(amp.Command):
    arguments = [(b"number", amp.Integer())]  # noqa: RUF012 - so Twisted wants it
    response = [(b"number", amp.Integer())]  # noqa: RUF012


class AskBack(Ask):
    commandName = b"AskBack"


class Peer(amp.AMP):
    """Doubles a number; when asked "back", it asks its peer to double it once more."""

    def __init__(self, gate: Any = None) -> None:
        super().__init__()
        self.gate = gate
        self.asked: list[int] = []

    @Ask.responder
    def ask(self, number: int) -> dict[str, int]:
        self.asked.append(number)
        if self.gate is not None:
            block_on(asyncio.shield(self.gate))
        return {"number": 2 * number}

    @AskBack.responder
    @deferring
    def ask_back(self, number: int) -> dict[str, int]:
        once = block_on(self.callRemote(Ask, number=number))["number"]
        twice = block_on(self.callRemote(Ask, number=once))["number"]
        return {"number": twice}


class StuckPeer(Peer):
    """Blocks on the answer over the connection that it keeps from being read."""

    @AskBack.responder
    def ask_back(self, number: int) -> dict[str, int]:
        return {"number": block_on(self.callRemote(Ask, number=number), timeout=0.2)["number"]}


@contextlib.asynccontextmanager
async def amp_pair(
    bridge: Bridge, server: Callable[[], amp.AMP], client: Callable[[], amp.AMP] = Peer, count: int = 1
) -> AsyncIterator[tuple[list[Any], list[Any]]]:
    servers: list[Any] = []
    factory = Factory()

    def build(address: Any) -> Any:
        servers.append(server())
        return servers[-1]

    factory.buildProtocol = build  # type: ignore[method-assign]
    port = bridge.reactor.listenTCP(0, factory, interface=HOST)
    endpoint = TCP4ClientEndpoint(bridge.reactor, HOST, port.getHost().port)
    clients = [await connectProtocol(endpoint, client()) for _ in range(count)]
    await until(lambda: len(servers) == count)
    try:
        yield servers, clients
    finally:
        for each in clients:
            each.transport.loseConnection()
        await port.stopListening()
        await turns(5)


def test_amp_responder_that_blocks_is_not_run_twice(shared: Bridge) -> None:
    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        async with amp_pair(shared, lambda: Peer(gate), count=3) as (servers, clients):
            answers = [each.callRemote(Ask, number=1) for each in clients]
            await until(lambda: all(each.asked for each in servers))
            more = [each.callRemote(Ask, number=number) for each in clients for number in (2, 3)]
            await turns()
            assert [each.asked for each in servers] == [[1]] * 3
            gate.set_result(None)
            results = await defer.gatherResults(answers + more)
            assert [each["number"] for each in results] == [2, 2, 2, 4, 6, 4, 6, 4, 6]
            assert [each.asked for each in servers] == [[1, 2, 3]] * 3

    shared.block_on(main(), timeout=20)


def test_amp_responder_on_a_stack_of_its_own_calls_back_over_the_same_connection(shared: Bridge) -> None:
    async def main() -> None:
        async with amp_pair(shared, Peer, count=2) as (_, clients):
            deferreds = [each.callRemote(AskBack, number=number) for each in clients for number in range(20)]
            results = await defer.gatherResults(deferreds)
            assert [each["number"] for each in results] == [4 * number for number in range(20)] * 2

    shared.block_on(main(), timeout=20)


def test_amp_both_ends_may_call_back(shared: Bridge) -> None:
    async def main() -> None:
        async with amp_pair(shared, Peer) as ((server,), (client,)):
            both = [end.callRemote(AskBack, number=number) for number in range(10) for end in (server, client)]
            results = await defer.gatherResults(both)
            assert [each["number"] for each in results] == [4 * (number // 2) for number in range(20)]

    shared.block_on(main(), timeout=20)


def test_amp_without_deferring_the_answer_cannot_come_and_other_connections_go_on(shared: Bridge) -> None:
    async def main() -> None:
        async with amp_pair(shared, StuckPeer, count=2) as (servers, (stuck, free)):
            answer = stuck.callRemote(AskBack, number=1)
            refused = answer.addErrback(lambda failure: failure)
            for number in range(5):
                assert (await free.callRemote(Ask, number=number))["number"] == 2 * number
            with pytest.raises(amp.UnknownRemoteError):
                await refused
            assert [each.asked for each in servers] == [[], [0, 1, 2, 3, 4]]
            stuck.transport.loseConnection()

    from twisted.logger import globalLogPublisher

    logged: list[Any] = []

    def observe(event: Any) -> None:
        if "log_failure" in event:
            logged.append(event["log_failure"].type)

    globalLogPublisher.addObserver(observe)
    try:
        shared.block_on(main(), timeout=20)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert TimeoutError in logged


def test_amp_client_asks_as_its_connection_begins(shared: Bridge) -> None:
    """Twisted calls connectionMade in the writer's callback, so answers are read meanwhile."""
    greeted: list[int] = []

    class Eager(Peer):
        def connectionMade(self) -> None:
            super().connectionMade()
            greeted.append(block_on(self.callRemote(Ask, number=21))["number"])

    async def main() -> None:
        async with amp_pair(shared, Peer, Eager, count=3):
            await until(lambda: len(greeted) == 3)
        assert greeted == [42] * 3

    shared.block_on(main(), timeout=20)


# --- Perspective Broker


class Root(pb.Root):
    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.begun: list[int] = []

    def remote_slow(self, number: int) -> int:
        self.begun.append(number)
        block_on(asyncio.shield(self.gate))
        return 2 * number

    @deferring
    def remote_through(self, other: Any, number: int) -> int:
        """Ask the caller's own object, over the connection that the call came by."""
        return int(block_on(other.callRemote("add_one", number))) * 2

    def remote_quick(self, number: int) -> int:
        return number


class Adder(pb.Referenceable):
    def remote_add_one(self, number: int) -> int:
        return number + 1


def test_perspective_broker_whose_methods_block(shared: Bridge) -> None:
    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        root = Root(gate)
        port = shared.reactor.listenTCP(0, pb.PBServerFactory(root), interface=HOST)
        factories = [pb.PBClientFactory() for _ in range(3)]
        for factory in factories:
            shared.reactor.connectTCP(HOST, port.getHost().port, factory)
        first, second, free = [await factory.getRootObject() for factory in factories]
        answers = [first.callRemote("slow", 1), second.callRemote("slow", 2)]
        await until(lambda: sorted(root.begun) == [1, 2])
        answers += [first.callRemote("quick", 3), second.callRemote("slow", 4)]
        assert await free.callRemote("quick", 5) == 5
        await turns()
        assert sorted(root.begun) == [1, 2]
        gate.set_result(None)
        assert await defer.gatherResults(answers) == [2, 4, 3, 8]
        assert sorted(root.begun) == [1, 2, 4]
        through = [first.callRemote("through", Adder(), number) for number in range(10)]
        assert await defer.gatherResults(through) == [2 * (number + 1) for number in range(10)]
        for factory in factories:
            factory.disconnect()
        await turns(5)
        await port.stopListening()

    shared.block_on(main(), timeout=20)


# --- Twisted's own context


def test_twisted_log_context_is_right_in_every_resumed_stack(shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gates = [loop.create_future() for _ in range(10)]
        seen: list[tuple[str, str, str]] = []

        class Named(Protocol):
            count = 0

            def __init__(self) -> None:
                self.number = Named.count
                self.name = f"protocol {self.number}"
                Named.count += 1

            def logPrefix(self) -> str:
                return self.name

            def dataReceived(self, data: bytes) -> None:
                before = twisted_context.get(ILogContext)["system"]

                def inner() -> None:
                    block_on(gates[self.number])
                    assert twisted_context.get("inner") == self.number

                twisted_context.call({"inner": self.number}, inner)
                assert twisted_context.get("inner") is None
                seen.append((self.name, before, twisted_context.get(ILogContext)["system"]))

        port = shared.reactor.listenTCP(0, Factory.forProtocol(Named), interface=HOST)
        peers = [await asyncio.open_connection(HOST, port.getHost().port) for _ in gates]
        await until(lambda: Named.count == 10)
        for _, writer in peers:
            writer.write(b"x")
        await turns()
        assert twisted_context.get("inner") is None
        for gate in random.Random(2).sample(gates, 10):
            gate.set_result(None)
            await turns(2)
        await until(lambda: len(seen) == 10)
        assert all(before == after and before.startswith(f"{name},") for name, before, after in seen)
        assert len({name for name, _, _ in seen}) == 10
        for _, writer in peers:
            await finish(writer)
        await port.stopListening()

    shared.block_on(main(), timeout=20)


# --- anything, in any order


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    streams=st.lists(
        st.tuples(
            st.sampled_from([TwistedListening, Netstrings, Lines, TwistedUnix, AsyncioProtocol, AsyncioBuffered]),
            st.lists(st.integers(0, 3000), min_size=1, max_size=8),  # sizes of messages
            st.lists(st.integers(1, 2000), min_size=1, max_size=5),  # sizes of chunks, taken in turn
            st.lists(st.sampled_from([None, 0.0, 0.001, 0.004]), min_size=1, max_size=5),  # how long one blocks
        ),
        min_size=1,
        max_size=6,
    )
)
def test_every_message_of_every_stream_arrives_once_and_in_order(streams: Any, make: Any, shared: Bridge) -> None:
    async def one(kind: Any, sizes: list[int], chunks: list[int], blocks: list[float | None]) -> None:
        async with make(kind) as (server, it):
            handle = server.handle

            def blocking(message: bytes, reply: Any) -> None:
                seconds = blocks[len(server.begun) % len(blocks)]
                if seconds is not None:
                    block_on(asyncio.sleep(seconds))
                handle(message, reply)

            server.handle = blocking
            messages = [bytes([65 + index]) * (size + 1) for index, size in enumerate(sizes)]
            data = b"".join(map(it.encode, messages))
            reader, writer = await it.connect()
            rest, at = data, 0
            while rest:
                size = chunks[at % len(chunks)]
                writer.write(rest[:size])
                rest, at = rest[size:], at + 1
                await asyncio.sleep(0)
            assert await reader.readexactly(len(data)) == data
            assert server.begun == server.ended == messages
            await finish(writer)
            await until(lambda: server.lost == 1)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(one(*stream))

    shared.block_on(main(), timeout=10)


# --- deferring


def test_a_deferring_function_returns_a_deferred_at_once_and_blocks_on_a_stack_of_its_own(shared: Bridge) -> None:
    @deferring
    def add(a: int, *, b: int) -> int:
        """Add two numbers."""
        steps.append("begun")
        block_on(asyncio.sleep(0.01))
        return a + b

    steps: list[str] = []

    async def main() -> None:
        deferred = add(1, b=2)
        assert isinstance(deferred, Deferred)
        steps.append("returned")
        assert await deferred == 3
        assert await defer.gatherResults([add(each, b=each) for each in range(20)]) == list(range(0, 40, 2))

    shared.block_on(main(), timeout=10)
    assert steps[:2] == ["returned", "begun"]
    assert add.__name__ == "add"
    assert add.__doc__ == "Add two numbers."


def test_deferring_functions_begin_in_the_order_of_their_calls(shared: Bridge) -> None:
    order: list[int] = []

    @deferring
    def note(number: int) -> None:
        order.append(number)
        block_on(asyncio.sleep(0))

    async def main() -> None:
        await defer.gatherResults([note(each) for each in range(50)])

    shared.block_on(main(), timeout=10)
    assert order == list(range(50))


def test_deferring_serves_methods_and_callers_without_a_task(shared: Bridge) -> None:
    class Thing:
        number = 20

        @deferring
        def plus(self, more: int) -> int:
            block_on(asyncio.sleep(0))
            return self.number + more

        @classmethod
        @deferring
        def of_class(cls, more: int) -> int:
            return cls.number + more

        @staticmethod
        @deferring
        def static(more: int) -> int:
            return more

    async def main() -> None:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: Thing().plus(1).addCallback(done.set_result))
        assert await done == 21
        assert await Thing.of_class(2) == 22
        assert await Thing().static(3) == 3

    shared.block_on(main(), timeout=10)


def test_what_a_deferring_function_raises_is_a_failure(shared: Bridge) -> None:
    @deferring
    def fail(error: BaseException, blocks: bool) -> None:
        if blocks:
            block_on(asyncio.sleep(0))
        raise error

    async def main() -> None:
        for error in (LookupError("no"), SystemExit(3), KeyboardInterrupt()):
            for blocks in (False, True):
                with pytest.raises(type(error)) as raised:
                    await fail(error, blocks)
                assert raised.value is error
        failures: list[Any] = []
        fail(LookupError("no"), True).addErrback(failures.append)
        await until(lambda: failures)
        assert failures[0].check(LookupError)

    shared.block_on(main(), timeout=10)


def test_a_deferring_function_may_return_a_deferred_or_an_awaitable(shared: Bridge) -> None:
    async def value() -> str:
        await asyncio.sleep(0)
        return "value"

    def future() -> Any:
        made: concurrent.futures.Future[str] = concurrent.futures.Future()
        made.set_result("value")
        return made

    async def main() -> None:
        for make_it in (
            lambda: defer.succeed("value"),
            lambda: value(),
            future,
            lambda: asyncio.ensure_future(value()),
        ):
            assert await deferring(make_it)() == "value"

    shared.block_on(main(), timeout=10)


def test_cancelling_the_deferred_cancels_what_the_function_blocks_on(shared: Bridge) -> None:
    steps: list[str] = []

    @deferring
    def waiting(x: Any) -> None:
        steps.append("begun")
        try:
            block_on(x)
        except asyncio.CancelledError:
            block_on(asyncio.sleep(0.005))
            steps.append("cleaned up")
            raise

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        deferred: Deferred[None] = Deferred()
        for x in (future, deferred):
            waits = waiting(x)
            await until(lambda: steps)
            waits.cancel()
            with pytest.raises(defer.CancelledError):
                await waits
            assert steps == ["begun", "cleaned up"]
            steps.clear()
        assert future.cancelled()
        early = waiting(future)
        early.cancel()
        with pytest.raises(defer.CancelledError):
            await early
        assert steps == []

    shared.block_on(main(), timeout=10)


def test_a_deferring_function_sees_the_callers_contexts(shared: Bridge) -> None:
    @deferring
    def look() -> tuple[str, Any]:
        before = variable.get(), twisted_context.get("who")
        block_on(asyncio.sleep(0))
        assert (variable.get(), twisted_context.get("who")) == before
        variable.set("inside")
        return before

    async def main() -> None:
        variable.set("outside")
        deferreds = [twisted_context.call({"who": number}, look) for number in range(3)]
        assert await defer.gatherResults(deferreds) == [("outside", number) for number in range(3)]
        assert variable.get() == "outside"
        assert twisted_context.get("who") is None

    shared.block_on(main(), timeout=10)


def test_deferring_has_to_be_called_on_a_loop_of_ours() -> None:
    @deferring
    def function() -> None: ...

    with pytest.raises(
        WrongThreadError, match=r"deferring\(function .*function\) was called in a thread that runs no loop"
    ):
        function()

    async def foreign() -> None:
        with pytest.raises(BridgeError, match=r"was called on a .*EventLoop"):
            function()

    asyncio.run(foreign())


async def a_coroutine(self: Any) -> None: ...
async def an_asyncgen(self: Any) -> Any:
    yield


def a_generator(self: Any) -> Any:
    yield


@pytest.mark.parametrize("decorate", [deferring, serialized])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (a_coroutine, "takes a sync function, and a_coroutine is async"),
        (an_asyncgen, "takes a sync function, and an_asyncgen is async"),
        (a_generator, "takes a sync function, and a_generator is a generator"),
        (3, "takes a function, not 3 "),
        (property(lambda self: 3), "put it below @classmethod, @staticmethod or @property"),
        (classmethod(lambda cls: 3), "put it below @classmethod, @staticmethod or @property"),
    ],
)
def test_what_is_no_sync_function_is_refused(decorate: Any, wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        decorate(wrong)


# --- serialized


class Account:
    """Reads, waits, writes: what is lost where two calls are mixed."""

    def __init__(self) -> None:
        self.balance = 0
        self.inside = 0
        self.order: list[Any] = []

    @serialized
    def add(self, amount: int, seconds: float = 0.0) -> None:
        assert self.inside == 0
        self.inside += 1
        balance = self.balance
        block_on(asyncio.sleep(seconds))
        self.balance = balance + amount
        self.inside -= 1
        self.order.append(amount)

    @serialized
    def add_twice(self, amount: int) -> None:
        self.add(amount)
        block_on(self.add_later(amount))

    async def add_later(self, amount: int) -> None:
        await asyncio.sleep(0)
        self.add(amount)

    @serialized
    def wait_for(self, x: Any) -> Any:
        self.order.append("waiting")
        return block_on(x)

    @serialized
    def fail(self) -> None:
        block_on(asyncio.sleep(0))
        raise LookupError("no such account")


class Slotted:
    __slots__ = ("balance", "inside", "order")
    __init__ = Account.__init__
    add = Account.add
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")


@pytest.mark.parametrize("kind", [Account, Slotted])
def test_calls_of_one_instance_queue_up_first_come_first_served(kind: Any, shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        account = kind()

        async def call(amount: int) -> None:
            account.add(amount)

        tasks: list[Any] = []
        for amount in range(60):  # from tasks, callbacks, Deferreds' callbacks and stacks of their own
            how = amount % 4
            if how == 0:
                tasks.append(loop.create_task(call(amount)))
            elif how == 1:
                loop.call_soon(account.add, amount)
            elif how == 2:
                deferLater(shared.reactor, 0, lambda: None).addCallback(lambda _, amount=amount: account.add(amount))
            else:
                deferring(account.add)(amount)
        await until(lambda: len(account.order) == 60)
        assert account.balance == sum(range(60))
        account.order.clear()
        await defer.gatherResults([deferring(account.add)(amount) for amount in range(60)])
        assert account.order == list(range(60))

    shared.block_on(main(), timeout=20)


def test_calls_of_other_instances_do_not_wait(shared: Bridge) -> None:
    async def main() -> None:
        one, other = Account(), Account()
        gate = asyncio.get_running_loop().create_future()
        waits = deferring(one.wait_for)(gate)
        queued = deferring(one.add)(1)
        await deferring(other.add)(2)
        assert other.balance == 2
        assert one.order == ["waiting"]
        gate.set_result("open")
        assert await waits == "open"
        await queued
        assert one.balance == 1

    shared.block_on(main(), timeout=10)


def test_the_owner_may_call_again_in_its_stack_and_by_what_it_blocks_on(shared: Bridge) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        account = Account()
        account.add_twice(1)  # in a task
        assert account.balance == 2
        done = loop.create_future()
        loop.call_soon(lambda: (account.add_twice(1), done.set_result(None)))  # in none, so block_on makes one
        await done
        assert account.balance == 4
        done = loop.create_future()
        loop.call_soon(lambda: (account.wait_for(asyncio.ensure_future(account.add_later(1))), done.set_result(None)))
        await done
        account.wait_for(asyncio.ensure_future(account.add_later(1)))
        assert account.balance == 6
        await defer.gatherResults([deferring(account.add_twice)(1) for _ in range(10)])
        assert account.balance == 26

    shared.block_on(main(), timeout=10)


def test_a_turn_ends_with_an_error(shared: Bridge) -> None:
    async def main() -> None:
        account = Account()
        failing = [deferring(account.fail)() for _ in range(3)]
        adding = deferring(account.add)(1)
        for each in failing:
            with pytest.raises(LookupError):
                await each
        await adding
        assert account.balance == 1

    shared.block_on(main(), timeout=10)


def test_a_call_that_is_cancelled_in_the_queue_leaves_it(shared: Bridge) -> None:
    async def main() -> None:
        account = Account()
        gate = asyncio.get_running_loop().create_future()

        async def add(amount: int) -> None:
            account.add(amount)

        owner = deferring(account.wait_for)(gate)
        await until(lambda: account.order)
        queued = [asyncio.create_task(add(amount)) for amount in range(5)]
        limited = asyncio.create_task(add_with_timeout(account))
        await turns(3)
        queued[1].cancel()
        queued[3].cancel()
        with pytest.raises(TimeoutError):
            await limited
        gate.set_result(None)
        await owner
        await asyncio.gather(*queued, return_exceptions=True)
        assert [each.cancelled() for each in queued] == [False, True, False, True, False]
        assert account.order == ["waiting", 0, 2, 4]

    async def add_with_timeout(account: Account) -> None:
        async with asyncio.timeout(0.02):
            account.add(100)

    shared.block_on(main(), timeout=10)


def test_an_owner_that_is_cancelled_hands_its_turn_on(shared: Bridge) -> None:
    async def main() -> None:
        account = Account()
        owner = deferring(account.wait_for)(asyncio.get_running_loop().create_future())
        adding = deferring(account.add)(1)
        await until(lambda: account.order)
        owner.cancel()
        with pytest.raises(defer.CancelledError):
            await owner
        await adding
        assert account.balance == 1

    shared.block_on(main(), timeout=10)


def test_a_call_that_is_cancelled_as_its_turn_comes_hands_it_on(shared: Bridge) -> None:
    async def main() -> None:
        account = Account()
        gate = asyncio.get_running_loop().create_future()

        async def add(amount: int) -> None:
            account.add(amount)

        def own() -> None:
            account.wait_for(gate)
            queued[0].cancel()  # it has the turn, and has not gone on yet

        deferring(own)()
        await until(lambda: account.order)
        queued = [asyncio.create_task(add(amount)) for amount in range(10)]
        await turns(2)
        gate.set_result(None)
        await asyncio.gather(*queued, return_exceptions=True)
        assert account.order[-9:] == list(range(1, 10))

    shared.block_on(main(), timeout=10)


def test_threads_wait_as_for_a_lock_and_in_the_same_queue_as_stacks(bridge: Bridge) -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0
            self.inside = 0

        @serialized
        def add(self, depth: int = 1) -> None:
            self.inside += 1
            assert self.inside == 3 - depth - 0 or depth < 2
            count = self.count
            bridge.block_on(asyncio.sleep(0.0005))
            self.count = count
            if depth:
                self.add(depth - 1)
                self.count += 1
            self.inside -= 1

    counter = Counter()

    async def on_the_loop() -> None:
        await defer.gatherResults([deferring(counter.add)() for _ in range(20)])

    def in_a_thread() -> None:
        for _ in range(10):
            counter.add()

    threads = [threading.Thread(target=in_a_thread) for _ in range(4)]
    for each in threads:
        each.start()
    bridge.block_on(on_the_loop(), timeout=20)
    for each in threads:
        each.join()
    assert counter.count == 60


def test_a_thread_that_owns_the_turn_may_call_again_by_what_it_blocks_on(bridge: Bridge) -> None:
    class Nested:
        calls = 0

        @serialized
        def outer(self) -> None:
            bridge.block_on(self.coroutine())
            bridge.block_on(self.at_once())
            bridge.block_on(self.inner)
            bridge.block_on(lambda: as_deferred(self.coroutine()), timeout=5)

        async def coroutine(self) -> None:
            await asyncio.sleep(0)
            self.inner()

        async def at_once(self) -> None:
            self.inner()
            await asyncio.sleep(0)

        @serialized
        def inner(self) -> None:
            block_on(asyncio.sleep(0))
            self.calls += 1

    class InTask(Nested):
        @serialized
        def outer(self) -> None:
            bridge.block_on(self.coroutine())
            bridge.block_on(self.at_once())
            bridge.block_on(self.inner)

    nested = InTask()
    others = bridge.submit(nested.inner)
    nested.outer()
    others.result(5)
    assert nested.calls == 4
    # Another task is another caller, even where the owner waits for it by way of a Deferred.
    with pytest.raises(TimeoutError):
        Nested().outer.__wrapped__(Impatient(bridge))  # type: ignore[attr-defined]


class Impatient:
    """Owns its turn while another task asks for it."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    async def coroutine(self) -> None: ...

    async def at_once(self) -> None: ...

    def inner(self) -> None:
        raise TimeoutError


def test_the_turn_of_a_loop_that_was_closed_is_free_again() -> None:
    account = Account()
    with Bridge("first", install_reactor=False, shutdown_timeout=0.5) as first:

        async def hold() -> None:
            deferring(account.wait_for)(asyncio.get_running_loop().create_future()).addErrback(lambda _: None)
            queued = deferring(account.add)(5)
            queued.addErrback(lambda _: None)
            await until(lambda: account.order)

        first.block_on(hold(), timeout=5)
    with Bridge("second", install_reactor=False) as second:
        second.block_on(lambda: deferring(account.add)(1), timeout=5)
    assert account.balance == 1


def test_nothing_is_left_of_a_turn(shared: Bridge) -> None:
    from bridge._loop import serialized as module

    async def main() -> None:
        account = Account()
        await defer.gatherResults([deferring(account.add)(amount) for amount in range(10)])
        assert vars(account).keys() == {"balance", "inside", "order"}

    shared.block_on(main(), timeout=10)
    assert not module._queues


def test_serialized_and_deferring_keep_a_responder_apart(shared: Bridge) -> None:
    class Careful(amp.AMP):
        inside = 0

        @AskBack.responder
        @deferring
        @serialized
        def ask_back(self, number: int) -> dict[str, int]:
            self.inside += 1
            assert self.inside == 1
            answer = block_on(self.callRemote(Ask, number=number))["number"]
            self.inside -= 1
            return {"number": answer}

    async def main() -> None:
        async with amp_pair(shared, Careful) as (_, (client,)):
            results = await defer.gatherResults([client.callRemote(AskBack, number=number) for number in range(20)])
            assert [each["number"] for each in results] == [2 * number for number in range(20)]

    shared.block_on(main(), timeout=20)
