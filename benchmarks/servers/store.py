"""What the page asks for: a value out of Redis, over one connection that all requests share.

The smallest client that does so, since the servers are what is measured: requests are answered in their order.
"""

from __future__ import annotations

import asyncio
from collections import deque

PORT = "BRIDGE_REDIS_PORT"
"""The variable of the environment that has the port of Redis on the loopback interface."""

GET = b"*2\r\n$3\r\nGET\r\n$4\r\nname\r\n"


def page(name: bytes) -> bytes:
    return b"<!doctype html><title>hello</title><p>Hello, %s!</p>\n" % name


class Replies:
    """The strings in the data that come from Redis."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        r"""Return those that are complete: ``$3\r\nann\r\n`` is ``ann``."""
        data = self._rest + data
        found: list[bytes] = []
        begin = 0
        while (end := data.find(b"\r\n", begin)) >= 0:
            if data[begin : begin + 1] != b"$":
                raise ValueError(f"no string: {data[begin:end]!r}")
            first = end + 2
            last = first + int(data[begin + 1 : end])
            if len(data) < last + 2:
                break
            found.append(data[first:last])
            begin = last + 2
        self._rest = data[begin:]
        return found


class Store(asyncio.Protocol):
    """A connection to Redis, for coroutines."""

    def __init__(self) -> None:
        self._replies = Replies()
        self._waiting: deque[asyncio.Future[bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        for each in self._replies.feed(data):
            self._waiting.popleft().set_result(each)

    async def get(self) -> bytes:
        future = self._loop.create_future()
        self._waiting.append(future)
        self._transport.write(GET)
        return await future

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Store:
    _, store = await asyncio.get_running_loop().create_connection(Store, "127.0.0.1", port)
    return store
