"""A configuration of twistd's: a service that calls from a thread, writes the result to a file, and ends all."""

import os

from twisted.application import service
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bridge import Bridge

bridge = Bridge.attach(reactor)  # as the file is read: before twistd forks, and before the reactor runs


async def coroutine():
    return await deferLater(reactor, 0.001, lambda: "coroutine")


def work():
    return [
        type(reactor).__name__,
        bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "deferred")),
        bridge.block_on(coroutine()),
    ]


def ended(result):
    with open("result.new", "w") as file:
        print(result, file=file)
    os.rename("result.new", "result")
    reactor.stop()


class Client(service.Service):
    def startService(self):
        deferToThread(work).addBoth(ended)


application = service.Application("client")
Client().setServiceParent(application)
