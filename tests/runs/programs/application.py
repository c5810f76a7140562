"""An application of WSGI that blocks on a Deferred in each request."""

import asyncio
import os
import signal

from bridge import block_on, configure  # first: the process has its reactor

# isort: split
from twisted.internet import reactor
from twisted.internet.task import deferLater

master = os.getpid()
configure(dump_signal=signal.SIGUSR2)
assert block_on(asyncio.sleep(0.001, "preloaded")) == "preloaded"  # in the master, before it forks


def application(environ, start_response):
    waited = block_on(deferred)
    assert (os.getpid() != master) is bool(os.environ["PRELOADED"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{waited} {os.getpid()}".encode()]


def deferred():
    return deferLater(reactor, 0.005, lambda: "deferred")
