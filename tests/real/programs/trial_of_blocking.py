"""Tests for trial that block, as other people write them; trial runs them. CHOICE is what the author has written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

from twisted.internet import defer, threads
from twisted.trial import unittest

import bridge
from bridge import as_deferred, block_on

exec(os.environ["CHOICE"])


def later() -> defer.Deferred[int]:
    from twisted.internet import reactor, task

    return task.deferLater(reactor, 0.001, lambda: 3)


class ATestOfSyncCode(unittest.SynchronousTestCase):
    def test_directly(self) -> None:
        assert block_on(asyncio.sleep(0, 1)) == 1


class Tests(unittest.TestCase):
    def test_directly(self) -> None:
        assert block_on(asyncio.sleep(0, 1)) == 1

    def test_in_a_thread(self) -> defer.Deferred[None]:
        return threads.deferToThread(block_on, asyncio.sleep(0, 1)).addCallback(self.assertEqual, 1)

    @defer.inlineCallbacks
    def test_in_a_thread_for_a_deferred(self) -> Iterator[Any]:
        result = yield threads.deferToThread(lambda: block_on(later))
        assert result == 3

    def test_in_a_callback(self) -> defer.Deferred[None]:
        return later().addCallback(lambda _: block_on(later())).addCallback(self.assertEqual, 3)

    async def test_in_a_coroutine(self) -> None:
        await later()
        assert await as_deferred(asyncio.sleep(0, 4)) == 4


class TestsFromThreads(unittest.TestCase):
    """What works beside a reactor that a bridge has attached to."""

    def test_in_a_thread_for_a_deferred(self) -> defer.Deferred[None]:
        from twisted.internet import reactor

        attached = bridge.Bridge.attach(reactor)
        self.addCleanup(attached.close)
        called = threads.deferToThread(lambda: (attached.block_on(later), attached.block_on(asyncio.sleep(0, 4))))
        return called.addCallback(self.assertEqual, (3, 4))
