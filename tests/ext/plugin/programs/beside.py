"""Tests whose code has a default bridge, a loop, threads and options of its own, beside the loop of the session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from twisted.internet import protocol, reactor

import bridge


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[int]:
    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    listening = reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1")
    yield listening.getHost().port
    await listening.stopListening()


async def connects(port: int) -> bool:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    return True


@pytest.mark.parametrize("strategy", ["lock", "event", "queue"])
def test_a_strategy_is_named(strategy: str) -> None:
    assert bridge.block_on(asyncio.sleep(0.01, 4), strategy=strategy) == 4


async def test_options_are_those_of_the_default_bridge() -> None:
    bridge.configure(strategy="event")


def test_waits_after_that() -> None:
    assert bridge.block_on(asyncio.sleep(0.01, 4)) == 4


async def test_the_default_bridge_is_closed(server: int) -> None:
    assert await connects(server)
    bridge.default_bridge().close()


async def test_the_loop_goes_on(server: int) -> None:
    assert await connects(server)


def test_another_loop_runs(port: int) -> None:
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))


async def test_the_port_is_there(port: int) -> None:
    assert await connects(port)


def test_a_thread_calls(port: int) -> None:
    caller = threading.Thread(target=lambda: bridge.block_on(asyncio.sleep(0)))
    caller.start()
    caller.join()


async def test_the_port_is_still_there(port: int) -> None:
    assert await connects(port)


def test_a_function_of_crochet() -> None:
    from bridge.ext import crochet

    crochet.setup()

    @crochet.wait_for(timeout=5)
    def function() -> int:
        return 1

    assert function() == 1
