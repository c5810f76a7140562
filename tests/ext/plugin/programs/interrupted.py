"""Time-outs, Ctrl-C, and fixtures that end after it."""

import asyncio
import os
import signal

import pytest
from twisted.internet import defer

from bridge import block_on


@pytest.fixture(scope="session")
async def whole_session():
    yield
    await asyncio.sleep(0)
    print("the session's fixture has ended")


@pytest.fixture(scope="module", autouse=True)
def whole_module(whole_session):
    yield
    block_on(asyncio.sleep(0))
    print("the module's fixture has ended")


async def test_passes():
    await asyncio.sleep(0)


@pytest.mark.timeout(0.2, method="signal", func_only=True)
async def test_async():
    try:
        await asyncio.sleep(100)
    finally:
        await asyncio.sleep(0)
        print("cleaned up after the time-out")


@pytest.mark.timeout(0.2, method="signal", func_only=True)
def test_deferred():
    return defer.Deferred()


@pytest.mark.timeout(0.2, method="signal", func_only=True)
def test_blocked():
    block_on(asyncio.sleep(100))


async def test_interrupted():
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(100)
    finally:
        print("cleaned up after Ctrl-C")


async def test_never_run():
    raise AssertionError
