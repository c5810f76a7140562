"""Programs that are not ours, with sync code inside: it blocks on the loop that serves it, and everybody is served.

The sync code knows nothing of where it runs. It is a library as one would write it for a script, on top of
``block_on``: an HTTP client, and a database session in the manner of SQLAlchemy's over an async driver.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import treq
from aiohttp import web
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from bridge import Bridge, block_on

HOST = "127.0.0.1"
AT_A_TIME = 200


# --- a sync HTTP client, on transports of three kinds


class SyncClient:
    """Get pages, as a sync library does."""

    def __init__(self, transport: Callable[[str], bytes]) -> None:
        self._transport = transport

    def get(self, url: str) -> bytes:
        return self._transport(url)


def by_streams(url: str) -> bytes:
    """Speak HTTP over asyncio's streams, each step of it a call that blocks."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    reader, writer = block_on(asyncio.open_connection(host, int(port)))
    try:
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        block_on(writer.drain())
        status = block_on(reader.readline())
        assert b" 200 " in status, status
        size = 0
        while (line := block_on(reader.readline())) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        return block_on(reader.readexactly(size))
    finally:
        writer.close()
        block_on(writer.wait_closed())


class ByHttpx:
    """One AsyncClient for all."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            timeout=30, trust_env=False, limits=httpx.Limits(max_connections=AT_A_TIME, max_keepalive_connections=0)
        )

    def __call__(self, url: str) -> bytes:
        return block_on(self._client.get(url)).content

    async def close(self) -> None:
        await self._client.aclose()


class ByTreq:
    """Twisted's agent by way of treq."""

    def __init__(self, reactor: Any) -> None:
        self._pool = HTTPConnectionPool(reactor, persistent=False)
        self._client = treq.client.HTTPClient(Agent(reactor, pool=self._pool))

    def __call__(self, url: str) -> bytes:
        response = block_on(self._client.get(url))
        return bytes(block_on(response.content()))


@asynccontextmanager
async def clients(bridge: Bridge) -> AsyncIterator[dict[str, SyncClient]]:
    by_httpx = ByHttpx()
    transports = {"streams": by_streams, "httpx": by_httpx, "treq": ByTreq(bridge.reactor)}
    try:
        yield {name: SyncClient(transport) for name, transport in transports.items()}
    finally:
        await by_httpx.close()


# --- servers on the loop of the bridge


@asynccontextmanager
async def aiohttp_server(handler: Any) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{name}", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, backlog=1000)
    await site.start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def twisted_server(bridge: Bridge, resource: Resource) -> AsyncIterator[str]:
    site = Site(resource, reactor=bridge.reactor)
    site.noisy = False  # type: ignore[misc]
    port = bridge.reactor.listenTCP(0, site, backlog=1000, interface=HOST)
    try:
        yield f"http://{HOST}:{port.getHost().port}"
    finally:
        await port.stopListening()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def slow_server(at_a_time: int) -> AsyncIterator[str]:
    """Answer nobody before so many have asked: whoever asks one after the other waits for ever."""
    asked = 0
    all_have_asked = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == at_a_time:
            all_have_asked.set()
        await all_have_asked.wait()
        return web.Response(text=f"slow {request.match_info['name']}")

    async with aiohttp_server(answer) as url:
        yield url


async def ask_all(url: str, paths: list[str]) -> list[bytes]:
    """Get all pages at a time, over a connection each."""

    async def ask(path: str) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
        writer.write(f"GET /{path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.partition(b"\r\n")[0], head
        return body

    return list(await asyncio.gather(*map(ask, paths)))


@pytest.mark.parametrize("transport", ["streams", "httpx", "treq"])
def test_sync_client_in_handlers_of_aiohttp(transport: str, bridge: Bridge) -> None:
    async def main() -> None:
        async with clients(bridge) as by_name, slow_server(AT_A_TIME) as slow:
            client = by_name[transport]

            async def handler(request: web.Request) -> web.Response:
                return web.Response(body=client.get(f"{slow}/{request.match_info['name']}"))

            async with aiohttp_server(handler) as url:
                pages = await ask_all(url, [str(number) for number in range(AT_A_TIME)])
        assert pages == [b"slow %d" % number for number in range(AT_A_TIME)]

    bridge.block_on(main(), timeout=50)


@pytest.mark.parametrize("transport", ["streams", "httpx", "treq"])
def test_sync_client_in_resources_of_twisted(transport: str, bridge: Bridge) -> None:
    async def main() -> None:
        async with clients(bridge) as by_name, slow_server(AT_A_TIME) as slow:
            client = by_name[transport]

            class Page(Resource):
                isLeaf = True

                def render_GET(self, request: Request) -> bytes:
                    return client.get(slow + request.path.decode())

            async with twisted_server(bridge, Page()) as url:
                pages = await ask_all(url, [str(number) for number in range(AT_A_TIME)])
        assert pages == [b"slow %d" % number for number in range(AT_A_TIME)]

    bridge.block_on(main(), timeout=50)


def test_both_servers_and_their_sync_clients_ask_each_other(bridge: Bridge) -> None:
    """A page of Twisted's server is made of one of aiohttp's, which is made of one of Twisted's, ..."""

    async def main() -> None:
        urls: dict[str, str] = {}
        async with clients(bridge) as by_name:

            def page(name: str, other: str, client: SyncClient) -> bytes:
                depth = int(name)
                return name.encode() + (b" " + client.get(f"{urls[other]}/{depth - 1}") if depth else b"")

            async def handler(request: web.Request) -> web.Response:
                return web.Response(body=page(request.match_info["name"], "twisted", by_name["treq"]))

            class Page(Resource):
                isLeaf = True

                def render_GET(self, request: Request) -> bytes:
                    return page(request.path.decode()[1:], "aiohttp", by_name["httpx"])

            async with aiohttp_server(handler) as urls["aiohttp"], twisted_server(bridge, Page()) as urls["twisted"]:
                pages = await ask_all(urls["twisted"], ["10"] * 10)
        assert pages == [b"10 9 8 7 6 5 4 3 2 1 0"] * 10

    bridge.block_on(main(), timeout=50)


def test_others_are_served_while_every_handler_is_blocked(bridge: Bridge) -> None:
    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        blocked: list[str] = []

        async def handler(request: web.Request) -> web.Response:
            if request.match_info["name"] != "quick":
                blocked.append(request.match_info["name"])
                block_on(asyncio.shield(gate))
            return web.Response(text=request.match_info["name"])

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> bytes:
                if request.path != b"/quick":
                    blocked.append(request.path.decode())
                    block_on(deferLater(bridge.reactor, 0, lambda: None))
                    block_on(asyncio.shield(gate))
                return request.path[1:]

        paths = [str(number) for number in range(AT_A_TIME // 2)]
        async with aiohttp_server(handler) as first, twisted_server(bridge, Page()) as second:
            slow = [asyncio.create_task(ask_all(url, paths)) for url in (first, second)]
            async with asyncio.timeout(20):
                while len(blocked) < AT_A_TIME:
                    await asyncio.sleep(0.01)
            for url in (first, second):
                assert await ask_all(url, ["quick"]) == [b"quick"]
            gate.set_result(None)
            assert [await each for each in slow] == [[path.encode() for path in paths]] * 2

    bridge.block_on(main(), timeout=50)


def test_a_client_that_hangs_up_takes_only_its_own_handler_with_it(bridge: Bridge) -> None:
    """aiohttp cancels the handler, if it is told to, and the blocked call raises CancelledError."""

    async def main() -> None:
        begun: set[str] = set()
        ended: list[str] = []
        gate = asyncio.get_running_loop().create_future()

        async def handler(request: web.Request) -> web.Response:
            name = request.match_info["name"]
            begun.add(name)
            try:
                block_on(asyncio.shield(gate))
            finally:
                ended.append(f"{name} {gate.done()}")
            return web.Response(text=name)

        application = web.Application()
        application.router.add_get("/{name}", handler)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        port = runner.addresses[0][1]
        try:
            stays = asyncio.create_task(ask_all(f"http://{HOST}:{port}", ["stays"]))
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET /leaves HTTP/1.1\r\nHost: here\r\n\r\n")
            async with asyncio.timeout(10):
                while begun != {"stays", "leaves"}:
                    await asyncio.sleep(0.001)
            writer.close()
            await writer.wait_closed()
            async with asyncio.timeout(10):
                while not ended:
                    await asyncio.sleep(0.001)
            assert ended == ["leaves False"]
            gate.set_result(None)
            assert await stays == [b"stays"]
        finally:
            await runner.cleanup()

    bridge.block_on(main(), timeout=30)


# --- a session in the manner of SQLAlchemy's, over an async driver


class AsyncConnection:
    """An async driver: sqlite in a thread of its own, as aiosqlite has it."""

    def __init__(self, path: str) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._path = path
        self._connection: Any = None

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def open(self) -> None:
        def connect() -> Any:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            connection.execute("PRAGMA synchronous=OFF")  # a disk that others write to takes its time
            return connection

        self._connection = await self._call(connect)

    async def execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        def execute() -> list[Any]:
            return list(self._connection.execute(statement, values).fetchall())

        result: list[Any] = await self._call(execute)
        return result

    async def close(self) -> None:
        await self._call(self._connection.close)
        self._thread.shutdown(wait=False)


class AsyncPool:
    """Connections for a few at a time; the others wait."""

    def __init__(self, path: str, size: int) -> None:
        self._free: asyncio.Queue[AsyncConnection] = asyncio.Queue()
        self._all = [AsyncConnection(path) for _ in range(size)]

    async def open(self) -> None:
        for each in self._all:
            await each.open()
            self._free.put_nowait(each)

    async def acquire(self) -> AsyncConnection:
        return await self._free.get()

    def release(self, connection: AsyncConnection) -> None:
        self._free.put_nowait(connection)

    async def close(self) -> None:
        for each in self._all:
            await each.close()


class Session:
    """A sync session: a connection of the pool with a transaction, and objects that load what they lack when asked."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    def __enter__(self) -> Session:
        self._connection = block_on(self._pool.acquire())
        self.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self.execute("COMMIT" if error is None else "ROLLBACK")
        finally:
            self._pool.release(self._connection)

    def execute(self, statement: str, *values: Any) -> list[Any]:
        return block_on(self._connection.execute(statement, values))

    def get(self, name: str) -> Person:
        return Person(self, name)


class Person:
    """A row; an attribute that is not loaded blocks, as SQLAlchemy's lazy loading does."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.name = name

    @property
    def visits(self) -> int:
        ((visits,),) = self._session.execute("SELECT visits FROM person WHERE name = ?", self.name)
        return int(visits)

    @visits.setter
    def visits(self, value: int) -> None:
        self._session.execute("UPDATE person SET visits = ? WHERE name = ?", value, self.name)


@pytest.fixture
def database(tmp_path: Any) -> str:
    path = str(tmp_path / "people.sqlite")
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE person (name TEXT PRIMARY KEY, visits INTEGER)")
    connection.executemany("INSERT INTO person VALUES (?, 0)", [("ann",), ("bob",)])
    connection.commit()
    connection.close()
    return path


def test_sync_session_over_an_async_driver_in_both_servers(database: str, bridge: Bridge) -> None:
    async def main() -> None:
        pool = AsyncPool(database, 4)
        await pool.open()

        def visit(name: str) -> bytes:
            with Session(pool) as session:
                person = session.get(name)
                person.visits += 1
                return b"%s: %d" % (name.encode(), person.visits)

        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=visit(request.match_info["name"]))

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> bytes:
                return visit(request.path.decode()[1:])

        try:
            async with aiohttp_server(handler) as first, twisted_server(bridge, Page()) as second:
                pages = await asyncio.gather(ask_all(first, ["ann"] * 60), ask_all(second, ["bob"] * 60))
        finally:
            await pool.close()
        assert sorted(pages[0]) == sorted(b"ann: %d" % number for number in range(1, 61))
        assert sorted(pages[1]) == sorted(b"bob: %d" % number for number in range(1, 61))

    bridge.block_on(main(), timeout=50)


def test_sync_session_rolls_back_and_gives_its_connection_back(database: str, bridge: Bridge) -> None:
    async def main() -> None:
        pool = AsyncPool(database, 1)
        await pool.open()

        async def spoil() -> None:
            with Session(pool) as session:
                session.get("ann").visits = 1000
                raise LookupError("no")

        async def visit() -> None:
            with Session(pool) as session:
                session.get("ann").visits += 1

        try:
            calls = [visit() if number % 3 else spoil() for number in range(30)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in results if each is not None] == [LookupError] * 10
            waiting = [asyncio.create_task(visit()) for _ in range(10)]
            await asyncio.sleep(0)
            for each in waiting[3:]:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            with Session(pool) as session:
                visits = session.get("ann").visits
            assert 20 <= visits <= 30
        finally:
            await pool.close()

    bridge.block_on(main(), timeout=30)


def test_the_same_session_serves_threads_and_scripts(database: str, bridge: Bridge) -> None:
    """The library's code, word for word, where there is no loop: one thread, several, and on the loop by run()."""
    pools: list[AsyncPool] = []

    async def open_pool() -> AsyncPool:
        pool = AsyncPool(database, 2)
        await pool.open()
        return pool

    pool = bridge.block_on(open_pool())
    pools.append(pool)
    session_on = _session_of(bridge)

    def visit(name: str) -> None:
        with session_on(pool) as session:
            session.get(name).visits += 1

    try:
        visit("ann")
        bridge.run(visit, "ann")
        threads = [threading.Thread(target=visit, args=("ann",)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        async def on_the_loop() -> None:
            calls = [asyncio.get_running_loop().run_in_executor(None, visit, "ann") for _ in range(5)]
            await asyncio.gather(*calls)

        bridge.block_on(on_the_loop(), timeout=20)
        with session_on(pool) as session:
            assert session.get("ann").visits == 15
    finally:
        bridge.block_on(pool.close())


def _session_of(bridge: Bridge) -> Any:
    """Return the session whose calls go to this bridge from any thread."""

    class Bound(Session):
        def __enter__(self) -> Session:
            self._connection = bridge.block_on(self._pool.acquire())
            self.execute("BEGIN IMMEDIATE")
            return self

        def execute(self, statement: str, *values: Any) -> list[Any]:
            return bridge.block_on(self._connection.execute(statement, values))

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
            try:
                self.execute("COMMIT" if error is None else "ROLLBACK")
            finally:
                bridge.block_on(lambda: self._pool.release(self._connection))

    return Bound


def test_gathered_deferreds_of_sync_clients(bridge: Bridge) -> None:
    """Sync code that starts several requests of an async library and blocks on all of them."""

    async def main() -> None:
        async with slow_server(20) as slow:
            by_treq = treq.client.HTTPClient(Agent(bridge.reactor, pool=HTTPConnectionPool(bridge.reactor, False)))

            def pages() -> list[bytes]:
                responses = block_on(gatherResults([by_treq.get(f"{slow}/{number}") for number in range(20)]))
                return [block_on(each.content()) for each in responses]

            assert pages() == [b"slow %d" % number for number in range(20)]

    bridge.block_on(main(), timeout=30)
