"""One client of a kind, shared by the sync calls of a process: from threads, from tasks on the loop, until its end.

It is made and closed twice, and nothing may be left of it. The third one is kept until the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bridge import block_on, blocking, enter

THREADS = 8
FOREVER = 30  # seconds, for the servers
Ask = Callable[[int], Any]
Client = tuple[Ask, Callable[[float], Any]]  # what asks for n + 1, and what takes a time-out and asks for too much


@contextlib.contextmanager
def by_httpx(url: str) -> Iterator[Client]:
    import httpx

    limits = httpx.Limits(max_connections=4)
    with enter(lambda: httpx.AsyncClient(base_url=url, limits=limits)) as client:
        yield (
            lambda n: int(block_on(client.get(f"/after/{n}"), timeout=20).text),
            lambda timeout: block_on(client.get("/slow"), timeout=timeout),
        )


@contextlib.contextmanager
def by_aiohttp(url: str) -> Iterator[Client]:
    import aiohttp

    async def text(path: str) -> str:
        async with session.get(path) as answer:
            return await answer.text()

    with enter(lambda: aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=4))) as session:
        yield (
            lambda n: int(block_on(text(f"/after/{n}"), timeout=20)),
            lambda timeout: block_on(text("/slow"), timeout=timeout),
        )


@contextlib.contextmanager
def by_treq(url: str) -> Iterator[Client]:
    import treq
    from treq.client import HTTPClient
    from twisted.internet import reactor
    from twisted.web.client import Agent, HTTPConnectionPool

    async def make() -> tuple[Any, Any]:
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = THREADS
        return pool, HTTPClient(Agent(reactor, pool=pool))

    async def text(path: str) -> str:
        return await treq.text_content(await client.get(url + path))

    pool, client = block_on(make())
    try:
        yield (
            lambda n: int(block_on(text(f"/after/{n}"), timeout=20)),
            lambda timeout: block_on(text("/slow"), timeout=timeout),
        )
    finally:
        block_on(pool.closeCachedConnections)


@contextlib.contextmanager
def by_websockets(url: str) -> Iterator[Client]:
    from websockets.asyncio.client import connect

    turn = asyncio.Lock()

    async def ask(text: str) -> str:
        async with turn:  # one question at a time, so that each gets its own answer
            await connection.send(text)
            return str(await connection.recv())

    async def listen() -> None:
        async with turn:
            await connection.recv()

    with enter(connect(f"{url}/socket")) as connection:
        yield (
            lambda n: int(block_on(ask(str(n)), timeout=20)),
            lambda timeout: block_on(listen(), timeout=timeout),
        )


@contextlib.contextmanager
def by_autobahn(url: str) -> Iterator[Client]:
    from autobahn.twisted.websocket import create_client_agent
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, DeferredLock

    waiting: list[Any] = []
    turn = DeferredLock()

    async def connect() -> Any:
        socket = await create_client_agent(reactor).open(f"{url}/socket", {})
        socket.on("message", lambda payload, is_binary: waiting.pop().callback(payload))
        await socket.is_open
        return socket

    async def ask(text: str) -> bytes:
        async with turn:
            waiting.append(answer := Deferred())
            socket.sendMessage(text.encode())
            return await answer  # type: ignore[no-any-return]

    async def listen() -> None:
        async with turn:
            waiting.append(message := Deferred())
            try:
                await message
            finally:
                waiting.remove(message)

    async def close() -> None:
        socket.sendClose()
        await socket.is_closed

    socket = block_on(connect())
    try:
        yield lambda n: int(block_on(ask(str(n)), timeout=20)), lambda timeout: block_on(listen(), timeout=timeout)
    finally:
        block_on(close())


@contextlib.contextmanager
def by_asyncpg(dsn: str) -> Iterator[Client]:
    import asyncpg

    with enter(lambda: asyncpg.create_pool(dsn, min_size=1, max_size=4)) as pool:
        yield (
            lambda n: block_on(pool.fetchval("select $1::int + 1", n), timeout=20),
            lambda timeout: block_on(pool.fetchval(f"select pg_sleep({FOREVER})"), timeout=timeout),
        )
        assert pool.get_size() <= 4


@contextlib.contextmanager
def by_sqlalchemy(url: str) -> Iterator[Client]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

    engine = create_async_engine(url, pool_size=4, max_overflow=0)
    sessions = async_sessionmaker(engine)

    def add(n: int) -> Any:
        with enter(sessions()) as session:  # one transaction, over two calls
            block_on(session.execute(text("select set_config('bridge.number', :n, true)"), {"n": str(n)}), timeout=20)
            query = text("select current_setting('bridge.number')::int + 1")
            return block_on(session.execute(query), timeout=20).scalar()

    def slow(timeout: float) -> None:
        with enter(sessions()) as session:
            block_on(session.execute(text(f"select pg_sleep({FOREVER})")), timeout=timeout)

    try:
        yield add, slow
    finally:
        block_on(engine.dispose())


@contextlib.contextmanager
def by_redis(url: str) -> Iterator[Client]:
    from redis.asyncio import BlockingConnectionPool, Redis

    with enter(lambda: Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=4, timeout=20))) as client:
        yield (
            lambda n: block_on(client.eval("return ARGV[1] + 1", 0, n), timeout=20),
            lambda timeout: block_on(client.blpop(["nothing"], FOREVER), timeout=timeout),
        )


@contextlib.contextmanager
def by_mcp(server: str) -> Iterator[Client]:
    from mcp import Client, StdioServerParameters, stdio_client

    transport = stdio_client(StdioServerParameters(command=sys.executable, args=[server, "stdio"]))
    with enter(Client(transport)) as client:
        tools = blocking(client, timeout=20)
        assert sorted(tool.name for tool in tools.list_tools().tools) == ["add", "greet", "wait"]
        yield (
            lambda n: int(tools.call_tool("add", {"first": n, "second": 1}).content[0].text),
            lambda timeout: block_on(client.call_tool("wait", {"seconds": FOREVER}), timeout=timeout),
        )


@contextlib.contextmanager
def by_playwright(program: str) -> Iterator[Client]:
    from playwright.async_api import async_playwright

    async def one_page() -> Any:
        page = await browser.new_page()
        await page.set_content("<p>1</p>")
        return page

    with enter(async_playwright()) as playwright:
        sandbox = os.geteuid() != 0  # Chromium has none for root
        browser = block_on(
            playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox), timeout=FOREVER
        )
        with enter(browser):
            page = block_on(one_page())
            yield (
                lambda n: block_on(page.evaluate("n => n + Number(document.body.innerText)", n), timeout=20),
                lambda timeout: block_on(page.wait_for_selector("#nothing"), timeout=timeout),
            )


def call_it(client: Client, calls: int) -> None:
    """Call from threads, from sync code in tasks on the loop, and for longer than the time-out."""
    ask, slow = client
    with ThreadPoolExecutor(THREADS) as threads:
        late = threads.submit(slow, 0.2)
        assert list(threads.map(ask, range(calls))) == list(range(1, calls + 1))
        assert isinstance(late.exception(), TimeoutError), late.exception()

    async def task(n: int) -> Any:
        return ask(n)  # blocks on the loop's own thread

    async def tasks() -> list[Any]:
        return await asyncio.gather(*map(task, range(calls // 4)))

    assert block_on(tasks(), timeout=FOREVER) == list(range(1, calls // 4 + 1))
    assert ask(7) == 8


async def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


POOLS = ("asyncio_", "PoolThread-")  # the threads of the loop's executor and of the reactor's, which resolve names


def what_is_there() -> tuple[int, int, int]:
    """Count the tasks of the loop, the process's descriptors, and its threads but those of pools, which may grow."""
    gc.collect()
    threads = [each for each in threading.enumerate() if not each.name.startswith(POOLS)]
    return len(block_on(other_tasks())), len(os.listdir("/proc/self/fd")), len(threads)


def more_than(before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    return any(count > at_first for count, at_first in zip(now, before, strict=True))


def main(name: str, address: str, calls: int) -> None:
    make = globals()[f"by_{name}"]
    with make(address) as client:
        call_it(client, calls)
    before = what_is_there()
    with make(address) as client:
        call_it(client, calls // 4)
    give_up = time.monotonic() + 10
    while more_than(before, now := what_is_there()):  # the last descriptors close with their peers'
        assert time.monotonic() < give_up, (before, now, block_on(other_tasks()), threading.enumerate())
        time.sleep(0.02)

    kept = contextlib.ExitStack()
    ask, _ = kept.enter_context(make(address))
    atexit.register(kept.close)
    assert ask(1) == 2
    print("done")


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
