"""Works, which a caller waits for. Each has a form for asyncio, one for Twisted, or both."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from .model import Host

VALUE = object()
MEGABYTE = 1 << 20
MESSAGE = b"x" * 64
_PAYLOAD = bytes(MEGABYTE)
HOST = "127.0.0.1"


class Refused(Exception):
    """The error of the work that raises."""


@dataclass(frozen=True)
class Forms:
    """A prepared work, which can be called any number of times.

    :param coroutine: makes a coroutine for an asyncio loop.
    :param deferred: makes a Deferred on a reactor. Called in the reactor's thread.
    """

    coroutine: Callable[[], Coroutine[Any, Any, Any]] | None
    deferred: Callable[[Any], Deferred[Any]] | None


@dataclass(frozen=True)
class Work:
    """A work.

    :param twisted: whether a bridge between both worlds gets the Deferred.
    :param raises: whether the caller gets :class:`Refused`.
    """

    name: str
    title: str
    prepare: Callable[[Host], Forms]
    is_right: Callable[[Any], bool]
    twisted: bool = False
    raises: bool = False


# --- the forms


async def at_once() -> object:
    """Return at once."""
    return VALUE


async def suspends_once() -> object:
    """Suspend for one iteration of the loop."""
    await asyncio.sleep(0)
    return VALUE


async def a_megabyte() -> bytes:
    """Return 1 MB, always the same object: to make it would take longer than the call."""
    return _PAYLOAD


async def refuses() -> object:
    """Raise."""
    raise Refused


async def _after(deferred: Deferred[Any]) -> Any:
    return await deferred.asFuture(asyncio.get_running_loop())


def _at_once(host: Host) -> Forms:
    return Forms(at_once, lambda reactor: Deferred.fromCoroutine(at_once()))


def _suspends_once(host: Host) -> Forms:
    return Forms(suspends_once, lambda reactor: deferLater(reactor, 0, lambda: VALUE))


def _a_megabyte(host: Host) -> Forms:
    return Forms(a_megabyte, lambda reactor: Deferred.fromCoroutine(a_megabyte()))


def _refuses(host: Host) -> Forms:
    return Forms(refuses, lambda reactor: Deferred.fromCoroutine(refuses()))


def _deferred(host: Host) -> Forms:
    # Tasks of asyncio cannot await Deferreds.
    return Forms(lambda: _after(succeed(VALUE)), lambda reactor: succeed(VALUE))


def _asyncio_socket(host: Host) -> Forms:
    address = host.shared(echo_server)
    # Bound to no loop: some peers make a new loop for every call.
    client = host.shared(lambda: closing(socket.create_connection(address)))
    client.setblocking(False)

    async def round_trip() -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, MESSAGE)
        return await loop.sock_recv(client, len(MESSAGE))

    return Forms(round_trip, None)


def _twisted_socket(host: Host) -> Forms:
    address = host.shared(echo_server)
    connections: dict[int, _Asker] = {}

    def ask(reactor: Any) -> Deferred[bytes]:
        asker = connections.get(id(reactor))
        if asker is not None:
            return asker.ask()
        asker = connections[id(reactor)] = _Asker()
        connected: Deferred[bytes] = asker.made.addCallback(lambda _: asker.ask())
        reactor.connectTCP(*address, _Once(asker))
        return connected

    return Forms(None, ask)


class _Asker(Protocol):
    """Asks the echo server one thing at a time."""

    def __init__(self) -> None:
        self.made: Deferred[Any] = Deferred()
        self._answer: Deferred[bytes] = Deferred()

    def makeConnection(self, transport: Any) -> None:
        """Fire ``made``."""
        super().makeConnection(transport)  # type: ignore[no-untyped-call]
        self._write: Callable[[bytes], object] = transport.write
        self.made.callback(None)

    def ask(self) -> Deferred[bytes]:
        """Send the message and return its echo."""
        self._answer = Deferred()
        self._write(MESSAGE)
        return self._answer

    def dataReceived(self, data: bytes) -> None:
        """Take the echo, which comes in one piece on the loopback interface."""
        self._answer.callback(data)


class _Once:
    """A client factory of one protocol."""

    noisy = False

    def __init__(self, protocol: _Asker) -> None:
        self._protocol = protocol

    def doStart(self) -> None:
        """Start nothing."""

    def doStop(self) -> None:
        """Stop nothing."""

    def startedConnecting(self, connector: object) -> None:
        """Do nothing."""

    def buildProtocol(self, address: object) -> Protocol:
        """Return the protocol."""
        return self._protocol

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        """Fire the protocol's ``made`` with the failure."""
        self._protocol.made.errback(reason)

    def clientConnectionLost(self, connector: object, reason: object) -> None:
        """Do nothing: the benchmark ends."""


_ECHO = """
import os, socket, threading
def serve(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def accept():
    while True:
        connection = server.accept()[0]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=[connection], daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
os.read(0, 1)
"""


@contextmanager
def echo_server() -> Generator[tuple[str, int]]:
    """Run an echo server in a process of its own, which does not contend for our GIL."""
    command = [sys.executable, "-I", "-S", "-c", _ECHO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield HOST, int(process.stdout.readline())


def _is_value(result: object) -> bool:
    return result is VALUE


def _is_megabyte(result: Any) -> bool:
    return len(result) == MEGABYTE


def _is_refused(result: object) -> bool:
    return type(result) is Refused


def _is_message(result: Any) -> bool:
    return bool(result == MESSAGE)


AT_ONCE = Work("at_once", "A coroutine that returns at once", _at_once, _is_value)
SUSPENDS_ONCE = Work("suspends_once", "A coroutine that suspends once", _suspends_once, _is_value)
DEFERRED = Work("deferred", "A Deferred that has fired, from a function", _deferred, _is_value, twisted=True)
ASYNCIO_SOCKET = Work("asyncio_socket", "One round trip on an asyncio socket", _asyncio_socket, _is_message)
TWISTED_SOCKET = Work(
    "twisted_socket", "One round trip on a Twisted connection", _twisted_socket, _is_message, twisted=True
)
MEGABYTES = Work("megabyte", "A coroutine that returns 1 MB", _a_megabyte, _is_megabyte)
RAISES = Work("raises", "A coroutine that raises", _refuses, _is_refused, raises=True)
WORKS = [AT_ONCE, SUSPENDS_ONCE, DEFERRED, ASYNCIO_SOCKET, TWISTED_SOCKET, MEGABYTES, RAISES]


@contextmanager
def resting(host: Host) -> Generator[None]:
    """Do nothing meanwhile."""
    yield


@contextmanager
def computing(host: Host) -> Generator[None]:
    """Compute in Python in another thread meanwhile, which contends for the GIL."""
    over = False

    def compute() -> None:
        number = 0
        while not over:
            number = (number * 31 + 7) % 1_000_003

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over = True
        thread.join()


@contextmanager
def sharing(host: Host) -> Generator[None]:
    """Keep another process busy meanwhile, on the last core that we may use."""
    busy = host.shared(_busy_process)
    os.kill(busy, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(busy, signal.SIGSTOP)


@contextmanager
def _busy_process() -> Generator[int]:
    """Start a stopped process that computes once continued, pinned to a core, and return its id."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        try:
            yield process.pid
        finally:
            process.kill()
