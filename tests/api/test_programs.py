"""Programs that are not ours, on one loop: treq, aiohttp, httpx, twisted.web, a LineReceiver, asyncio's streams.

Servers and clients share the loop of one bridge, everything is started and called by ``block_on`` from this thread, and
what they speak goes through real sockets.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import treq
from aiohttp import web
from isolated import isolated
from twisted.internet.error import ConnectionRefusedError as TwistedConnectionRefused
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from bridge import Bridge, BridgeClosed, default_bridge
from bridge.strategies.lock import LockWaiter

LOOPBACK = "127.0.0.1"
PATIENCE = 10.0  # seconds that a test waits for what must come
LARGE = hashlib.shake_256(b"large").digest(5_000_000)  # nothing that looks alike twice


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """The default bridge, since treq and parts of Twisted (what sends a body) use the installed reactor."""
    with default_bridge() as each:
        assert each.reactor is sys.modules["twisted.internet.reactor"]
        yield each


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a port that nobody listens on."""
    with socket.socket() as bound:  # and that nobody else gets meanwhile
        bound.bind((LOOPBACK, 0))
        yield f"http://{LOOPBACK}:{bound.getsockname()[1]}"


# --- servers


class Counted:
    """What a server counts."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.abandoned = threading.Event()
        self.connections = 0


@pytest.fixture
def counted() -> Counted:
    """What the servers count."""
    return Counted()


@pytest.fixture
def aiohttp_url(bridge: Bridge, counted: Counted) -> Iterator[str]:
    """A server of aiohttp's."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=f"hello {request.query.get('name', '')}")

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def slow(request: web.Request) -> web.Response:
        counted.begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            counted.abandoned.set()
        raise AssertionError

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=2 * len(LARGE))
        app.add_routes([web.get("/", hello), web.get("/large", large), web.post("/", echo), web.get("/slow", slow)])
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        return runner

    runner = bridge.block_on(start(), timeout=PATIENCE)
    yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    bridge.block_on(runner.cleanup(), timeout=PATIENCE)


class Pages(Resource):
    """What the twisted.web server shows: as aiohttp's, some of it later than at once."""

    def __init__(self, bridge: Bridge, counted: Counted) -> None:
        super().__init__()
        self.bridge = bridge
        self.counted = counted

    def getChild(self, path: bytes, request: Any) -> Any:
        return self if path in (b"", b"large", b"slow") else notFound()

    def render_GET(self, request: Any) -> Any:
        if request.path == b"/large":
            return LARGE
        if request.path == b"/slow":
            request.notifyFinish().addErrback(lambda _: self.counted.abandoned.set())
            self.counted.begun.set()
            return NOT_DONE_YET
        self.bridge.reactor.callLater(0.001, self._hello, request)
        return NOT_DONE_YET

    def _hello(self, request: Any) -> None:
        request.write(b"hello " + request.args.get(b"name", [b""])[0])
        request.finish()

    def render_POST(self, request: Any) -> bytes:
        content: bytes = request.content.read()
        return content


class CountingSite(Site):
    """A Site that counts its connections."""

    def __init__(self, resource: Resource, counted: Counted, reactor: Any) -> None:
        super().__init__(resource, reactor=reactor)
        self.counted = counted

    def buildProtocol(self, addr: Any) -> Any:
        self.counted.connections += 1
        return super().buildProtocol(addr)


@pytest.fixture
def twisted_url(bridge: Bridge, counted: Counted) -> Iterator[str]:
    """A server of twisted.web's."""
    site = CountingSite(Pages(bridge, counted), counted, bridge.reactor)
    port = bridge.block_on(lambda: bridge.reactor.listenTCP(0, site, interface=LOOPBACK))
    yield f"http://{LOOPBACK}:{port.getHost().port}"
    bridge.block_on(port.stopListening, timeout=PATIENCE)


class Shouting(LineReceiver):
    """Answers every line in capitals; ``quit`` ends the connection."""

    MAX_LENGTH = 1000

    def lineReceived(self, line: bytes) -> None:
        if line == b"quit":
            assert self.transport is not None
            self.transport.loseConnection()
        else:
            self.sendLine(line.upper())


@pytest.fixture
def line_port(bridge: Bridge) -> Iterator[int]:
    """The port of a Twisted server that speaks in lines."""
    factory = Factory.forProtocol(Shouting)
    port = bridge.block_on(lambda: bridge.reactor.listenTCP(0, factory, interface=LOOPBACK))
    yield port.getHost().port
    bridge.block_on(port.stopListening, timeout=PATIENCE)


# --- clients


class OnceBegun:
    """A strategy whose callers' time begins when the server has begun to answer, however long that takes."""

    name = "once begun"

    def __init__(self, counted: Counted) -> None:
        self.begun = counted.begun

    def unavailable(self) -> None:
        return None

    def waiter(self) -> OnceBegunWaiter:
        return OnceBegunWaiter(self.begun)


class OnceBegunWaiter(LockWaiter):
    def __init__(self, begun: threading.Event) -> None:
        super().__init__()
        self.begun = begun

    def wait(self, timeout: float | None) -> bool:
        assert self.begun.wait(PATIENCE)
        return super().wait(timeout)


@pytest.fixture
def twisted_client(bridge: Bridge) -> Iterator[Any]:
    """A client of treq's on the bridge's reactor."""
    pool = HTTPConnectionPool(bridge.reactor)
    yield treq.client.HTTPClient(Agent(bridge.reactor, connectTimeout=PATIENCE, pool=pool))
    bridge.block_on(pool.closeCachedConnections, timeout=PATIENCE)


@pytest.fixture
def httpx_client(bridge: Bridge) -> Iterator[httpx.AsyncClient]:
    """A client of httpx's, which ignores the proxies of the environment."""
    client = httpx.AsyncClient(trust_env=False, timeout=PATIENCE)
    yield client
    bridge.block_on(client.aclose(), timeout=PATIENCE)


async def say(port: int, *lines: bytes) -> list[bytes]:
    """Send lines by asyncio's streams and return the answers."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.writelines(line + b"\r\n" for line in (*lines, b"quit"))
        await writer.drain()
        return (await reader.read()).split(b"\r\n")[:-1]
    finally:
        writer.close()
        await writer.wait_closed()


# --- treq and aiohttp


def test_treq_gets_from_aiohttp(bridge: Bridge, twisted_client: Any, aiohttp_url: str) -> None:
    response = bridge.block_on(lambda: twisted_client.get(f"{aiohttp_url}/?name=treq"), timeout=PATIENCE)
    assert response.code == 200
    assert bridge.block_on(response.text, timeout=PATIENCE) == "hello treq"


def test_treq_exchanges_large_bodies_with_aiohttp(bridge: Bridge, twisted_client: Any, aiohttp_url: str) -> None:
    response = bridge.block_on(lambda: twisted_client.get(f"{aiohttp_url}/large"), timeout=PATIENCE)
    assert bridge.block_on(response.content, timeout=PATIENCE) == LARGE
    response = bridge.block_on(lambda: twisted_client.post(aiohttp_url, data=LARGE), timeout=PATIENCE)
    assert bridge.block_on(response.content, timeout=PATIENCE) == LARGE


def test_treq_gets_a_404_from_aiohttp(bridge: Bridge, twisted_client: Any, aiohttp_url: str) -> None:
    response = bridge.block_on(lambda: twisted_client.get(f"{aiohttp_url}/missing"), timeout=PATIENCE)
    assert response.code == 404
    assert bridge.block_on(response.text, timeout=PATIENCE) == "404: Not Found"


def test_treq_is_refused_where_nobody_listens(bridge: Bridge, twisted_client: Any, nobody: str) -> None:
    with pytest.raises(TwistedConnectionRefused):
        bridge.block_on(lambda: twisted_client.get(nobody), timeout=PATIENCE)


def test_a_time_out_cancels_treqs_request(
    bridge: Bridge, twisted_client: Any, aiohttp_url: str, counted: Counted
) -> None:
    with pytest.raises(TimeoutError, match=r"did not finish within 0\.2 seconds"):
        bridge.block_on(lambda: twisted_client.get(f"{aiohttp_url}/slow"), timeout=0.2, strategy=OnceBegun(counted))
    assert counted.abandoned.wait(PATIENCE)


def test_many_requests_of_treqs_go_on_at_once(bridge: Bridge, twisted_client: Any, aiohttp_url: str) -> None:
    async def get(number: int) -> str:
        response = await twisted_client.get(f"{aiohttp_url}/?name={number}")
        text: str = await response.text()
        return text

    futures = [bridge.submit(get(number)) for number in range(50)]
    assert [future.result(PATIENCE) for future in futures] == [f"hello {number}" for number in range(50)]


def test_an_upload_that_the_loops_death_ended_does_not_hinder_the_next(bridge: Bridge, twisted_client: Any) -> None:
    with socket.create_server((LOOPBACK, 0)) as deaf:  # takes connections and reads nothing
        url = f"http://{LOOPBACK}:{deaf.getsockname()[1]}"
        upload = bridge.submit(lambda: twisted_client.post(url, data=LARGE))
        connection, _ = deaf.accept()
        with connection:
            connection.recv(1)
            bridge.loop.call_soon_threadsafe(bridge.loop.stop)
            with pytest.raises(BridgeClosed):
                upload.result(PATIENCE)

    async def ask() -> bytes:
        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        runner = web.ServerRunner(web.Server(echo))
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        client = treq.client.HTTPClient(Agent(bridge.reactor))
        response = await client.post(f"http://{LOOPBACK}:{runner.addresses[0][1]}", data=b"an upload")
        content: bytes = await response.content()
        await runner.cleanup()
        return content

    assert bridge.block_on(ask(), timeout=PATIENCE) == b"an upload"


@isolated
def test_treqs_own_functions_use_the_default_bridge() -> None:
    import treq
    from aiohttp import web

    from bridge import block_on, default_bridge

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def start() -> web.AppRunner:
        app = web.Application()
        app.add_routes([web.get("/", hello)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = block_on(start())
    response = block_on(lambda: treq.get(f"http://127.0.0.1:{runner.addresses[0][1]}/"))
    assert block_on(lambda: treq.content(response)) == b"hello"
    block_on(runner.cleanup)
    default_bridge().close()


# --- httpx and twisted.web


def test_httpx_gets_from_twisted_web(bridge: Bridge, httpx_client: httpx.AsyncClient, twisted_url: str) -> None:
    response = bridge.block_on(httpx_client.get(twisted_url, params={"name": "httpx"}), timeout=PATIENCE)
    assert (response.status_code, response.text) == (200, "hello httpx")
    assert response.headers["server"].startswith("TwistedWeb")


def test_httpx_keeps_a_connection_from_call_to_call(
    bridge: Bridge, httpx_client: httpx.AsyncClient, twisted_url: str, counted: Counted
) -> None:
    for _ in range(5):
        assert bridge.block_on(httpx_client.get(twisted_url), timeout=PATIENCE).status_code == 200
    assert counted.connections == 1


def test_httpx_exchanges_large_bodies_with_twisted_web(
    bridge: Bridge, httpx_client: httpx.AsyncClient, twisted_url: str
) -> None:
    assert bridge.block_on(httpx_client.get(f"{twisted_url}/large"), timeout=PATIENCE).content == LARGE
    assert bridge.block_on(httpx_client.post(twisted_url, content=LARGE), timeout=PATIENCE).content == LARGE

    async def streamed() -> bytes:
        async with httpx_client.stream("GET", f"{twisted_url}/large") as response:
            return b"".join([chunk async for chunk in response.aiter_bytes()])

    assert bridge.block_on(streamed(), timeout=PATIENCE) == LARGE


def test_httpx_raises_for_a_404_of_twisted_web(
    bridge: Bridge, httpx_client: httpx.AsyncClient, twisted_url: str
) -> None:
    response = bridge.block_on(httpx_client.get(f"{twisted_url}/missing"), timeout=PATIENCE)
    with pytest.raises(httpx.HTTPStatusError, match="404 Not Found"):
        response.raise_for_status()


def test_httpx_is_refused_where_nobody_listens(bridge: Bridge, httpx_client: httpx.AsyncClient, nobody: str) -> None:
    with pytest.raises(httpx.ConnectError):
        bridge.block_on(httpx_client.get(nobody), timeout=PATIENCE)


def test_a_time_out_cancels_httpxs_request(
    bridge: Bridge, httpx_client: httpx.AsyncClient, twisted_url: str, counted: Counted
) -> None:
    with pytest.raises(TimeoutError):
        bridge.block_on(httpx_client.get(f"{twisted_url}/slow"), timeout=0.2, strategy=OnceBegun(counted))
    assert counted.abandoned.wait(PATIENCE)


def test_many_requests_of_httpxs_go_on_at_once(
    bridge: Bridge, httpx_client: httpx.AsyncClient, twisted_url: str
) -> None:
    futures = [bridge.submit(httpx_client.get(f"{twisted_url}/?name={number}")) for number in range(50)]
    assert [future.result(PATIENCE).text for future in futures] == [f"hello {number}" for number in range(50)]


# --- a LineReceiver and asyncio's streams


def test_streams_speak_with_a_line_receiver(bridge: Bridge, line_port: int) -> None:
    assert bridge.block_on(say(line_port, b"one", b"two"), timeout=PATIENCE) == [b"ONE", b"TWO"]


def test_streams_exchange_many_lines_with_a_line_receiver(bridge: Bridge, line_port: int) -> None:
    lines = [f"line {number} ".encode() + b"x" * 100 for number in range(5000)]
    assert bridge.block_on(say(line_port, *lines), timeout=PATIENCE) == [line.upper() for line in lines]


def test_a_line_receiver_drops_who_sends_too_long_a_line(bridge: Bridge, line_port: int) -> None:
    assert bridge.block_on(say(line_port, b"short", b"x" * 2000), timeout=PATIENCE) == [b"SHORT"]


def test_streams_are_refused_where_nobody_listens(bridge: Bridge, nobody: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        bridge.block_on(say(int(nobody.rpartition(":")[2])), timeout=PATIENCE)


def test_many_streams_speak_at_once(bridge: Bridge, line_port: int) -> None:
    futures = [bridge.submit(say(line_port, f"line {number}".encode())) for number in range(50)]
    assert [future.result(PATIENCE) for future in futures] == [[f"LINE {number}".encode()] for number in range(50)]


# --- all of them


def test_one_coroutine_speaks_with_all_of_them(
    bridge: Bridge,
    twisted_client: Any,
    httpx_client: httpx.AsyncClient,
    aiohttp_url: str,
    twisted_url: str,
    line_port: int,
) -> None:
    async def all_at_once() -> list[Any]:
        response, other, lines = await asyncio.gather(
            twisted_client.get(f"{aiohttp_url}/?name=treq"),
            httpx_client.get(f"{twisted_url}/?name=httpx"),
            say(line_port, b"streams"),
        )
        return [await response.text(), other.text, *lines]

    for _ in range(3):
        assert bridge.block_on(all_at_once(), timeout=PATIENCE) == ["hello treq", "hello httpx", b"STREAMS"]


def test_callers_in_many_threads_speak_with_all_of_them(
    bridge: Bridge,
    twisted_client: Any,
    httpx_client: httpx.AsyncClient,
    aiohttp_url: str,
    twisted_url: str,
    line_port: int,
) -> None:
    async def by_treq(number: int) -> str:
        response = await twisted_client.get(f"{aiohttp_url}/?name={number}")
        text: str = await response.text()
        return text

    async def by_httpx(number: int) -> str:
        return (await httpx_client.get(f"{twisted_url}/?name={number}")).text

    async def by_streams(number: int) -> str:
        (line,) = await say(line_port, f"hello {number}".encode())
        return line.decode().lower()

    def call(client: Callable[[int], Any], number: int) -> None:
        for each in range(number, number + 5):
            results.append((each, bridge.block_on(client(each), timeout=PATIENCE)))

    results: list[tuple[int, str]] = []
    callers = [
        threading.Thread(target=call, args=(client, number))
        for client in (by_treq, by_httpx, by_streams)
        for number in range(0, 50, 5)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert sorted(results) == [(number, f"hello {number}") for number in range(50) for _ in range(3)]
