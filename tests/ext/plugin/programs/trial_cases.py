"""trial's test cases beside a server of the session, which trial must leave alone; and their own faults."""

import asyncio

import pytest
from twisted.internet import defer, protocol, reactor
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import deferLater
from twisted.python import log
from twisted.trial import unittest

kept = []
leaked = []


@pytest.fixture(scope="session", autouse=True)
async def server():
    port = reactor.listenTCP(0, protocol.Factory.forProtocol(protocol.Protocol), interface="127.0.0.1")
    call = reactor.callLater(100, kept.clear)
    kept.append(port)
    yield
    assert call.active()
    call.cancel()
    await defer.maybeDeferred(port.stopListening)


class Good(unittest.TestCase):
    async def setUp(self):
        await asyncio.sleep(0)

    async def tearDown(self):
        await asyncio.sleep(0)

    async def test_connects(self):
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{kept[0].getHost().port}")
        connected = await endpoint.connect(protocol.Factory.forProtocol(protocol.Protocol))
        lost = defer.Deferred()
        connected.connectionLost = lambda reason: lost.callback(None)
        connected.transport.loseConnection()
        await lost
        await deferLater(reactor, 0.01, lambda: None)  # the other end has seen it

    def test_again(self):
        return deferLater(reactor, 0.001, lambda: None)

    def test_logged(self):
        log.err(ValueError("expected"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_thread(self):
        from twisted.internet.threads import deferToThread

        return deferToThread(lambda: 1)

    def test_skipped(self):
        raise unittest.SkipTest("a reason")


class Bad(unittest.TestCase):
    timeout = 0.2

    def test_late(self):
        return defer.Deferred()

    async def test_late_task(self):
        try:
            await asyncio.sleep(100)
        finally:
            print("the task was cancelled")

    async def test_async(self):
        await asyncio.sleep(0)
        self.assertEqual(1, 2)

    def test_delayed_call(self):
        reactor.callLater(100, print)

    def test_port(self):
        leaked.append(reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1"))


async def test_after():
    assert await deferLater(reactor, 0.001, lambda: 1) == 1
    assert kept[0].connected
    leaked.pop().socket.close()  # trial has only taken it off the reactor
