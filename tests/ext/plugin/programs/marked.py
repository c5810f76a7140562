"""Some tests have the mark, and others do not; without a setting in the ini file."""

import asyncio

import pytest

import bridge

loops = {}


async def running_loop():
    return asyncio.get_running_loop()


def test_plain():
    assert bridge.block_on(running_loop()) is bridge.default_bridge().loop
    bridge.default_bridge().close()


@pytest.mark.bridge
async def test_marked():
    loops["session"] = asyncio.get_running_loop()


@pytest.mark.bridge
def test_marked_sync():
    assert bridge.block_on(running_loop()) is loops["session"]


@pytest.mark.asyncio
async def test_of_pytest_asyncio():
    assert asyncio.get_running_loop() is not loops["session"]


@pytest.mark.bridge
@pytest.mark.asyncio
async def test_marked_of_pytest_asyncio():
    assert asyncio.get_running_loop() is loops["session"]


@pytest.mark.bridge(loop_scope="function")
async def test_function():
    loops["function"] = asyncio.get_running_loop()
    assert loops["function"] is not loops["session"]


@pytest.mark.bridge(loop_scope="function")
async def test_another_function():
    assert asyncio.get_running_loop() not in loops.values()
    assert loops["function"].is_closed()
    assert not loops["session"].is_closed()


@pytest.mark.bridge(loop_scope="class")
class TestClass:
    async def test_one(self):
        loops["class"] = asyncio.get_running_loop()
        assert loops["class"] is not loops["session"]

    async def test_two(self):
        assert asyncio.get_running_loop() is loops["class"]


@pytest.fixture(scope="module")
async def for_the_module():
    return 1


@pytest.mark.bridge(loop_scope="function")
def test_fixture_outlives_the_loop(for_the_module):
    pass


async def test_async_without_the_mark():
    pass
