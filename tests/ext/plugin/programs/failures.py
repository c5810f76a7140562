"""Failures, each to be shown in the user's own lines."""

import asyncio

import pytest
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater

from bridge import block_on


async def inner():
    await asyncio.sleep(0)
    raise ValueError("deep")


async def test_async():
    await inner()


@defer.inlineCallbacks
def test_callbacks():
    yield deferLater(reactor, 0, lambda: 0)
    assert 1 == 2


def test_blocked():
    block_on(inner())


@pytest.fixture
async def setting_up():
    await inner()


def test_set_up(setting_up):
    pass


@pytest.fixture
async def tearing_down():
    yield
    await inner()


def test_torn_down(tearing_down):
    pass


@pytest.fixture
async def yielding_twice():
    yield 1
    yield 2


def test_two_yields(yielding_twice):
    pass


@pytest.fixture
async def yielding_never():
    if yielding_never is None:
        yield


def test_no_yield(yielding_never):
    pass


async def test_stops_the_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(100)


def test_stops_the_reactor():
    reactor.stop()


async def test_gets_a_new_loop():
    await deferLater(reactor, 0, lambda: None)


def test_returned():
    return defer.fail(LookupError("gone"))


@pytest.fixture
def returning():
    return defer.fail(LookupError("gone"))


def test_returned_by_a_fixture(returning):
    pass
