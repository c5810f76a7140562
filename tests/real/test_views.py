"""blocking(wrap=True) on asyncpg and aiohttp, whose calls are both awaited and entered."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import Bridge, BridgeError, enter

pytestmark = pytest.mark.process  # the database

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")
asyncpg = pytest.importorskip("asyncpg")


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge() as made:
        yield made


@pytest.fixture
def pool(bridge: Bridge, postgres: Any) -> Iterator[Any]:
    views = bridge.blocking(asyncpg, wrap=True, timeout=20)
    pool = views.create_pool(host=postgres.folder, user=postgres.user, database="postgres", min_size=1, max_size=1)
    yield pool
    pool.close()


def test_a_connection_of_a_pool_in_a_with_statement(pool: Any) -> None:
    for _ in range(3):
        with pool.acquire(timeout=10) as connection:
            assert connection.fetchval("select 1") == 1
            with connection.transaction():
                assert connection.fetchval("select 2") == 2
        assert pool.get_idle_size() == 1
    with pytest.raises(BridgeError, match="was left before, and serves one 'with' statement only"), connection:
        pass
    with pytest.raises(ZeroDivisionError), pool.acquire():
        raise ZeroDivisionError
    assert pool.get_idle_size() == 1


def test_a_connection_of_a_pool_by_a_call(pool: Any) -> None:
    connection = pool.acquire()
    assert connection.fetchval("select 1") == 1
    pool.release(connection)
    assert pool.get_idle_size() == 1
    for _ in range(3):  # of one that is dropped, the pool gets back its only connection
        assert pool.acquire(timeout=10).fetchval("select 1") == 1
    statement = pool.acquire().prepare("select 5")  # which keeps its connection from the pool
    assert statement.fetchval() == 5
    assert pool.get_idle_size() == 0
    del connection, statement
    gc.collect()
    with pool.acquire(timeout=10) as connection:
        assert [row[0] for row in connection.fetch("select generate_series(1, 3)")] == [1, 2, 3]


def test_a_pool_in_a_with_statement(bridge: Bridge, postgres: Any) -> None:
    views = bridge.blocking(asyncpg, wrap=True, timeout=20)
    with views.create_pool(host=postgres.folder, user=postgres.user, database="postgres", min_size=1) as pool:
        assert pool.acquire().fetchval("select 1") == 1
    with pytest.raises(asyncpg.InterfaceError, match="pool is closed"):
        pool.acquire()


@pytest.fixture
def url(bridge: Bridge) -> Iterator[str]:
    async def hello(_: Any) -> Any:
        return web.Response(text="hello")

    async def start() -> Any:
        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = bridge.block_on(start())
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    bridge.block_on(runner.cleanup())


def test_a_session_and_its_requests(bridge: Bridge, url: str) -> None:
    with bridge.blocking(aiohttp, wrap=True, timeout=20).ClientSession() as session:
        with session.get(url) as response:
            assert response.status == 200
            assert response.text() == "hello"
        assert response.closed
        assert session.get(url).text() == "hello"
        response = session.get(url)
        assert response.read() == b"hello"
        with response:
            assert response.ok
        assert response.closed


def test_a_session_that_was_made_on_another_loop(bridge: Bridge, url: str) -> None:
    async def main() -> str:
        session = aiohttp.ClientSession()
        with pytest.raises(BridgeError, match=r"pass a function.*enter\(lambda: ClientSession\(\.\.\.\)\)"):
            enter(session).__enter__()
        await session.close()
        with bridge.enter(aiohttp.ClientSession) as session:
            return bridge.block_on(bridge.block_on(session.get(url)).text())  # type: ignore[no-any-return]

    assert asyncio.run(main()) == "hello"
