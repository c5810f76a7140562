"""Tests of every kind, of which each awaits both worlds, on one loop."""

import asyncio
import unittest

import anyio
import pytest
import pytest_asyncio
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater
from twisted.trial import unittest as trial

import bridge

loops = set()
runner = asyncio.Runner


async def both():
    loops.add(asyncio.get_running_loop())
    await asyncio.sleep(0)
    return await deferLater(reactor, 0.001, lambda: "fired")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_session():
    yield await both()


@pytest_asyncio.fixture
async def of_pytest_asyncio():
    yield await both()


@pytest.fixture(scope="module")
async def whole_module():
    yield await both()


async def test_async(whole_session, whole_module):
    assert await both() == whole_session == whole_module == "fired"


@defer.inlineCallbacks
def test_inline_callbacks(whole_session):
    fired = yield deferLater(reactor, 0.001, lambda: "fired")
    assert fired == whole_session
    yield bridge.as_deferred(both())


def test_deferred(whole_session):
    return deferLater(reactor, 0.001, lambda: loops.add(asyncio.get_running_loop()))


def test_sync(whole_session):
    assert bridge.block_on(both()) == "fired"
    assert bridge.submit(both()).result() == "fired"
    assert asyncio.run(asyncio.sleep(0, "a loop of its own")) == "a loop of its own"


@pytest.mark.asyncio
async def test_of_pytest_asyncio(of_pytest_asyncio, whole_session):
    assert await both() == of_pytest_asyncio == whole_session


@pytest.mark.asyncio(loop_scope="module")
async def test_of_pytest_asyncio_for_a_module(whole_session):
    assert await both() == whole_session


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_of_anyio(whole_session):
    with anyio.CancelScope():
        assert await both() == whole_session


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_of_trio(anyio_backend):
    await anyio.sleep(0)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


class OfUnittest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.fired = await both()

    async def test_it(self):
        self.assertEqual(await both(), self.fired)
        self.assertTrue(asyncio.get_running_loop().get_debug())
        self.assertIs(asyncio.Runner, runner)  # what the test itself makes is asyncio's own

    def test_sync(self):
        self.assertEqual(bridge.block_on(both()), self.fired)


class OfTrial(trial.TestCase):
    def setUp(self):
        return deferLater(reactor, 0.001, lambda: None)

    def test_deferred(self):
        return deferLater(reactor, 0.001, lambda: loops.add(asyncio.get_running_loop()))

    @defer.inlineCallbacks
    def test_inline_callbacks(self):
        fired = yield bridge.as_deferred(both())
        self.assertEqual(fired, "fired")

    async def test_async(self):
        self.assertEqual(await both(), "fired")
        async with asyncio.timeout(10):
            self.assertEqual(await anyio.to_thread.run_sync(lambda: 1), 1)

    def test_sync(self):
        self.assertEqual(bridge.block_on(both()), "fired")


class OfTrialSynchronous(trial.SynchronousTestCase):
    def test_it(self):
        self.assertEqual(self.successResultOf(defer.succeed(1)), 1)


def test_there_was_one_loop(request):
    assert not asyncio._get_running_loop()
    if not hasattr(request.config, "workerinput"):
        assert len(loops) == 1
    (loop, *_) = loops
    assert not loop.get_debug()
