"""Forks while other threads call over real sockets; each child calls too. Arguments: how often, and the seed."""

import asyncio
import os
import random
import signal
import sys
import threading
import time

import psutil

import bridge  # first: the process has its reactor

# isort: split
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

forks, seed = int(sys.argv[1]), int(sys.argv[2])
choose = random.Random(seed)
me = os.getpid()
process = psutil.Process()


class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class Asking(Protocol):
    def ask(self, data):
        self.answer, self.data = Deferred(), b""
        self.wanted = len(data)
        self.transport.write(data)
        return self.answer

    def dataReceived(self, data):
        self.data += data
        if len(self.data) == self.wanted:
            answer, data = self.answer, self.data
            answer.callback(data)


port = bridge.block_on(lambda: TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Echo)))
number = port.getHost().port
own = bridge.Bridge("own", install_reactor=False)
own.start()


def asking():
    return connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", number), Asking())


def exchange(strategy="auto"):
    protocol = bridge.block_on(asking, strategy=strategy)
    for _ in range(3):
        data = os.urandom(random.randrange(1, 30000))
        assert bridge.block_on(lambda: protocol.ask(data), strategy=strategy) == data
    bridge.block_on(protocol.transport.loseConnection)


async def over_streams():
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    for _ in range(3):
        data = os.urandom(random.randrange(1, 30000))
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
    writer.close()
    await writer.wait_closed()


stop = threading.Event()
errors, done = [], [0]


def work(strategy):
    try:
        while not stop.is_set():
            exchange(strategy)
            bridge.block_on(over_streams(), strategy=strategy)
            assert own.block_on(asyncio.sleep(0.001, "own")) == "own"
            done[0] += 1
    except BaseException as error:
        errors.append(error)


async def kept_open():
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        if os.getpid() != me:
            print("cleaned up in the child", flush=True)


open_future = bridge.submit(kept_open())
timers = []
reactor_calls = bridge.block_on(lambda: reactor.callLater(1000, print, "never"))


def child(end):
    signal.alarm(20)
    assert open_future.done()
    assert isinstance(open_future.exception(), bridge.BridgeClosed)
    assert "forked" in str(open_future.exception())
    assert threading.active_count() == 1
    exchange()
    bridge.block_on(over_streams())
    assert own.block_on(asyncio.sleep(0.001, "own")) == "own"
    assert bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "timer")) == "timer"
    assert bridge.default_bridge().reactor is reactor
    assert bridge.block_on(lambda: [call for call in reactor.getDelayedCalls() if call.time > time.time() + 500]) == []
    if end == "closes":
        own.close()
        bridge.default_bridge().close()
        assert process.parent() is not None
    if end == "_exit":
        os._exit(33)
    if end == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(33)


threads = [threading.Thread(target=work, args=(each,)) for each in ("lock", "event", "queue", "auto")]
for thread in threads:
    thread.start()
while done[0] < 2 and not errors:
    time.sleep(0.001)
fds_before, threads_before = None, None


def fork_here(end):
    pid = os.fork()
    if not pid:
        child(end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_in_a_thread(end):
    statuses = []

    def target():
        pid = os.fork()
        if not pid:
            try:
                child("_exit")
            finally:
                os._exit(99)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return statuses[0]


for number_of_fork in range(forks):
    end = choose.choice(["_exit", "exit", "closes", "is killed"])
    way = choose.choice([fork_here, fork_here, fork_in_a_thread])
    time.sleep(choose.random() * 0.01)
    status = way(end)
    expected = -signal.SIGKILL if end == "is killed" and way is fork_here else 33
    assert status == expected, (number_of_fork, end, way, status)
    assert not errors, errors
    assert not open_future.done()
    if number_of_fork == 0:
        threads_before = threading.active_count()
stop.set()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
assert not errors, errors
assert threading.active_count() == threads_before - len(threads), threading.enumerate()
assert not open_future.done()
open_future.cancel()
bridge.block_on(port.stopListening)
own.close()
before = process.num_fds()
exchanges = done[0]
print("done", exchanges > 0, flush=True)
