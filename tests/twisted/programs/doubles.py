"""A server of AMP's that doubles numbers. It prints its port."""

from __future__ import annotations

import os

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, Command, Integer

reactor: object = installed


class Double(Command):
    arguments = ((b"number", Integer()),)
    response = ((b"number", Integer()),)


class Doubles(AMP):
    @Double.responder
    def double(self, number: int) -> dict[str, int]:
        return {"number": 2 * number}


port = reactor.listenTCP(0, Factory.forProtocol(Doubles), interface="127.0.0.1")  # type: ignore[attr-defined]
os.write(1, b"%d\n" % port.getHost().port)
reactor.run()  # type: ignore[attr-defined]
