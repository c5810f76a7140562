"""What fixtures of the session make while tests run: it is theirs, and goes on."""

import asyncio

import pytest
from twisted.internet import protocol, reactor
from twisted.internet.task import LoopingCall, deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site

fixture = pytest.fixture(scope="session")


@fixture
async def site():
    port = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")  # sets a timer each second
    yield
    await port.stopListening()


async def test_while_the_timer_of_a_server_comes(site):
    await deferLater(reactor, 1.05)


@fixture
async def turns():
    counted = []
    looping = LoopingCall(lambda: counted.append(1))
    looping.start(0.03)
    yield counted
    looping.stop()


async def until_two_more(counted):
    wanted = len(counted) + 2
    while len(counted) < wanted:
        await asyncio.sleep(0.01)


async def test_looping_call(turns):
    await until_two_more(turns)


async def test_looping_call_goes_on(turns):
    await until_two_more(turns)


@fixture
async def jobs():
    done = []

    async def child():
        await asyncio.sleep(0.03)
        done.append(1)

    async def work():
        while True:
            await asyncio.create_task(child())

    worker = asyncio.create_task(work())
    yield done
    worker.cancel()


async def test_tasks_of_a_task(jobs):
    await until_two_more(jobs)


async def test_tasks_of_a_task_go_on(jobs):
    await until_two_more(jobs)


@fixture
async def ticks():
    counted = []

    def tick():
        nonlocal timer
        counted.append(1)
        timer = asyncio.get_running_loop().call_later(0.03, tick)

    timer = asyncio.get_running_loop().call_later(0.03, tick)
    yield counted
    timer.cancel()


async def test_timer_that_is_set_again(ticks):
    await until_two_more(ticks)


async def test_timer_goes_on(ticks):
    await until_two_more(ticks)


@fixture
async def server():
    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()


class Client:
    """Connects when it is first used, and then has a task and a timer, as clients with a pool do."""

    streams = None

    async def ask(self, line):
        if self.streams is None:
            self.streams = await asyncio.open_connection(*self.address)
            self.keeper = asyncio.create_task(self.keep())
            self.later = reactor.callLater(100, self.expire)
            self.soon = asyncio.get_running_loop().call_later(100, self.expire)
        self.streams[1].write(line)
        return await asyncio.wait_for(self.streams[0].readline(), 5)

    async def keep(self):
        while True:
            await asyncio.sleep(0.02)
            await asyncio.create_task(asyncio.sleep(0.02))

    def expire(self):
        pass

    def close(self):
        self.streams[1].close()
        self.keeper.cancel()
        self.later.cancel()
        self.soon.cancel()


@fixture
async def client(server):
    client = Client()
    client.address = server
    yield client
    client.close()


async def test_first_use_of_a_client(client):
    assert await client.ask(b"a\n") == b"a\n"


async def test_second_use(client):
    assert await client.ask(b"b\n") == b"b\n"
    assert client.later.active()
    assert not client.soon.cancelled()
    assert not client.keeper.done()


class Echo(protocol.Protocol):
    timer = None

    def dataReceived(self, data):
        self.timer = self.timer or reactor.callLater(100, Client.expire, self)
        self.transport.write(data)

    def connectionLost(self, reason):
        self.factory.timers.append(self.timer)
        self.timer.cancel()


@fixture
async def echoing():
    factory = protocol.Factory.forProtocol(Echo)
    factory.timers = []
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    yield port
    await port.stopListening()
    while not factory.timers:
        await asyncio.sleep(0.01)


@fixture
async def asking(echoing):
    client = Client()
    client.address = "127.0.0.1", echoing.getHost().port
    yield client
    client.close()


async def test_connection_of_a_server_of_twisteds(asking):
    assert await asking.ask(b"a\n") == b"a\n"


async def test_that_connection_again(asking):
    assert await asking.ask(b"b\n") == b"b\n"


async def leave_a_timer():
    reactor.callLater(100, Client.expire, None)


async def test_leaves_things(client, jobs, turns):
    asyncio.create_task(leave_a_timer())
    asyncio.create_task(asyncio.Event().wait(), name="waiter")
