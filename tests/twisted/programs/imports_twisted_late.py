"""Blocks on a coroutine, and only then imports Twisted. ``python -m bridge run`` runs it."""

import asyncio
import sys

import bridge

assert bridge.block_on(asyncio.sleep(0, 1)) == 1
assert "twisted" not in sys.modules
from twisted.internet import reactor  # noqa: E402 - not before
from twisted.internet.task import deferLater  # noqa: E402

assert reactor.running
assert bridge.block_on(deferLater(reactor, 0.01, lambda: 2)) == 2
assert bridge.default_bridge().reactor is reactor
