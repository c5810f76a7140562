"""Errors that reach nobody, each in a test that passes but for them."""

import asyncio
import gc

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger

from bridge import block_on, submit


def failing():
    raise ValueError("seen by nobody")


async def failing_later():
    failing()


def test_deferred():
    fail(ValueError("seen by nobody"))


def test_deferred_in_a_circle():
    circle = [Deferred().addCallback(lambda _: failing())]
    circle.append(circle)
    circle[0].callback(None)


async def test_task():
    asyncio.create_task(failing_later())
    await asyncio.sleep(0)


async def test_callback():
    asyncio.get_running_loop().call_soon(failing)
    await asyncio.sleep(0)


async def test_delayed_call():
    reactor.callLater(0, failing)
    await deferLater(reactor, 0.01)


def test_submitted():
    submit(failing_later)
    block_on(asyncio.sleep(0.01))


@pytest.fixture(scope="module")
async def broken():
    asyncio.get_running_loop().call_later(0.01, failing)
    reactor.callLater(0.01, failing)

    async def refusing(reader, writer):
        failing()

    async with await asyncio.start_server(refusing, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


async def test_errors_of_a_fixture_are_not_the_tests(broken):
    _, writer = await asyncio.open_connection(*broken)
    await asyncio.sleep(0.05)
    writer.close()


def test_nor_of_the_next(broken):
    block_on(asyncio.sleep(0.01))


@pytest.mark.bridge(unseen="ignore")
def test_does_not_mind():
    fail(ValueError("seen by nobody"))


def test_fails_beside():
    kept = fail(ValueError("seen by nobody"))
    assert kept is None


def test_comes_after_one_that_fails():
    gc.collect()


async def test_expects_it():
    caught = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: caught.append(context["exception"]))
    loop.call_soon(failing)
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert len(caught) == 1


def test_logs_what_was_caught():
    try:
        failing()
    except ValueError:
        Logger().failure("as expected")


def test_handles_it():
    fail(ValueError("handled")).addErrback(lambda failure: None)
    with pytest.raises(ValueError, match="handled"):
        block_on(fail(ValueError("handled")))
