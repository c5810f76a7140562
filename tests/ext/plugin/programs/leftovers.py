"""Tests that leave something, and others that do not."""

import asyncio
import signal
import threading
import time

import anyio
import pytest
from twisted.internet import protocol, reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bridge import submit

ended = threading.Event()


async def test_task():
    asyncio.create_task(asyncio.sleep(100), name="sleeper")


@pytest.mark.asyncio
async def test_task_of_pytest_asyncio():
    asyncio.create_task(asyncio.sleep(100), name="sleeper")


def test_submitted():
    submit(asyncio.sleep(100))


def test_delayed_call():
    reactor.callLater(100, late)


def late():
    pass


async def test_timer():
    asyncio.get_running_loop().call_later(100, late)


def test_port():
    reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_server():
    test_server.kept = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def test_signal_handler_is_removed():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, late)  # for the first one, the loop gets a pair of sockets
    loop.remove_signal_handler(signal.SIGUSR1)


def test_thread():
    threading.Thread(target=ended.wait, name="lingering").start()


def test_fails_and_leaves():
    ended.set()
    reactor.callLater(100, late)
    raise AssertionError


@pytest.mark.bridge(leftovers="ignore")
def test_may_leave():
    test_may_leave.call = reactor.callLater(100, late)


def test_knows_what_was_left():
    test_may_leave.call.cancel()


@pytest.fixture(scope="module")
async def server():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        task = asyncio.create_task(asyncio.sleep(100))
        yield server.sockets[0].getsockname()
        task.cancel()


async def test_with_a_server(server):
    reader, writer = await asyncio.open_connection(*server)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


def test_ends_soon():
    threading.Thread(target=time.sleep, args=(0.02,)).start()
    reactor.callLater(0.02, late)
    submit(asyncio.sleep(0.02))


async def test_workers_of_pools(server):
    await asyncio.to_thread(late)
    await deferToThread(late)
    await anyio.to_thread.run_sync(late)
    await deferLater(reactor, 0, late)


@pytest.fixture(scope="module")
async def forgetful():
    yield reactor.callLater(100, late)


def test_last(forgetful):
    assert forgetful.active()
