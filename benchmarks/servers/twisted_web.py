"""The page by Twisted web: ``twisted_web.py DESCRIPTOR deferred|block_on epoll|bridge``; the last is the reactor."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from typing import Any

from store import GET, PORT, Replies, page

import bridge

if sys.argv[3] == "bridge":
    bridge.install()
else:
    from twisted.internet import epollreactor

    epollreactor.install()

from twisted.internet import endpoints, protocol, reactor
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


class Store(protocol.Protocol):
    """A connection to Redis."""

    def __init__(self) -> None:
        self._replies = Replies()
        self._waiting: deque[Deferred[bytes]] = deque()

    def dataReceived(self, data: bytes) -> None:
        for each in self._replies.feed(data):
            self._waiting.popleft().callback(each)

    def get(self) -> Deferred[bytes]:
        deferred: Deferred[bytes] = Deferred()
        self._waiting.append(deferred)
        self.transport.write(GET)
        return deferred


class Answering(Resource):
    """Answers when the Deferred fires."""

    isLeaf = True

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def render_GET(self, request: Any) -> int:
        def answer(name: bytes) -> None:
            if request.channel is None:  # the client has gone
                return
            body = page(name)
            request.setHeader(b"content-length", b"%d" % len(body))
            request.write(body)
            request.finish()

        self.store.get().addCallback(answer).addErrback(request.processingFailed)
        return NOT_DONE_YET


class Blocking(Answering):
    """Answers when ``block_on`` has returned."""

    def render_GET(self, request: Any) -> bytes:
        return page(bridge.block_on(self.store.get()))


class Silent(Site):
    """Writes no access log, as the other servers don't."""

    def log(self, request: Any) -> None:
        pass


def serve(store: Store, descriptor: int, way: str) -> None:
    resource = {"deferred": Answering, "block_on": Blocking}[way](store)
    with socket.socket(fileno=descriptor) as listening:
        listening.setblocking(False)
        reactor.adoptStreamPort(descriptor, socket.AF_INET, Silent(resource))


if __name__ == "__main__":
    _, descriptor, way, _ = sys.argv
    connected = endpoints.connectProtocol(
        endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(os.environ[PORT])), Store()
    )
    connected.addCallback(serve, int(descriptor), way)
    reactor.run()
