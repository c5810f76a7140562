import asyncio
import contextvars
import threading
import time

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater


async def agen(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


async def bad():
    await asyncio.sleep(0)
    raise LookupError("bad" + "ly")


def later(value, seconds=0.01):
    return deferLater(reactor, seconds, lambda: value)
