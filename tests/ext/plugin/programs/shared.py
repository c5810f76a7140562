"""Tests of pytest-twisted and of pytest-asyncio that await both worlds."""

import asyncio

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater


@pytest_twisted.async_fixture
async def fixture():
    return await deferLater(reactor, 0.001, lambda: 1)


@pytest_twisted.async_yield_fixture
async def yielding():
    yield await deferLater(reactor, 0.001, lambda: 1)


@pytest_twisted.inlineCallbacks
def test_inline_callbacks(fixture, yielding):
    value = yield deferLater(reactor, 0.001, lambda: 1)
    assert value == fixture == yielding


@pytest_twisted.ensureDeferred
async def test_ensure_deferred():
    assert await deferLater(reactor, 0.001, lambda: 1) == 1


@pytest.mark.asyncio
async def test_both():
    await asyncio.sleep(0)
    assert await deferLater(reactor, 0.001, lambda: 1) == 1
