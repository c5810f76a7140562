"""Clients of asyncio's that a program keeps for longer than the loop: the error says so, and what to do works."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socketserver
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
from lives_of_loops import in_lives
from pages import Pages, pages

pytest.importorskip("redis", reason="needs redis: pip install --group real")

from redis.asyncio import Redis

Use = Callable[[Any], Awaitable[Any]]
ENDS = ["close", "loop.stop", "runners"]


class _Redis(socketserver.StreamRequestHandler):
    """Says OK to every command: an array of strings, each with its length before it."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # a client that was never closed is collected
            while line := self.rfile.readline():
                for _ in range(int(line[1:])):
                    self.rfile.read(int(self.rfile.readline()[1:]) + 2)
                self.wfile.write(b"+OK\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture(scope="module")
def server() -> Iterator[Pages]:
    with pages() as each:
        yield each


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with _Server(("127.0.0.1", 0), _Redis) as each:
        thread = threading.Thread(target=each.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield each.server_address[1]
        each.shutdown()
        thread.join()


@pytest.fixture(params=["httpx", "aiohttp", "redis"])
def client(request: pytest.FixtureRequest, server: Pages, redis_port: int) -> tuple[Callable[[], Any], Use, Use]:
    """What makes a client, uses it, and closes it."""

    async def by_aiohttp(each: Any) -> Any:
        async with each.get(server.url) as response:
            return await response.text()

    async def by_httpx(each: Any) -> Any:
        return (await each.get(server.url)).text

    async def by_redis(each: Any) -> Any:
        return await each.execute_command("SET", "name", "value")

    return {
        "httpx": (httpx.AsyncClient, by_httpx, lambda each: each.aclose()),
        "aiohttp": (aiohttp.ClientSession, by_aiohttp, lambda each: each.close()),
        "redis": (lambda: Redis(port=redis_port), by_redis, lambda each: each.aclose()),
    }[request.param]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("end", ENDS)
def test_a_client_of_an_earlier_loop_says_so(end: str, client: Any) -> None:
    make, use, _ = client
    kept: list[Any] = []

    async def request() -> Any:
        if not kept:
            kept.append(make())
        return await use(kept[0])

    lives = in_lives(end, 2)
    assert next(lives)(request)
    with pytest.raises(RuntimeError, match=r"^Event loop is closed") as caught:
        next(lives)(request)
    (note,) = caught.value.__notes__
    assert "belongs to an earlier loop" in note
    assert "weakref.WeakKeyDictionary" in note
    assert list(lives) == []
    kept.clear()
    del caught
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("end", ENDS)
def test_one_client_for_each_loop(end: str, client: Any) -> None:
    make, use, _ = client
    clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    async def request() -> Any:
        loop = asyncio.get_running_loop()
        if loop not in clients:
            clients[loop] = make()
        return await use(clients[loop])

    for call in in_lives(end, 3):
        for _ in range(2):
            assert call(request)
    clients.clear()
    gc.collect()
