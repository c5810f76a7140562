"""What users expect of tests and fixtures that wait."""

import asyncio
import contextvars
import logging
import threading

import anyio
import pytest
from asgiref.sync import sync_to_async
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater

import bridge

var = contextvars.ContextVar("var", default=0)


def raises():
    raise ValueError("of a Failure")


@given(st.integers())
@settings(max_examples=5)
async def test_property(x):
    await asyncio.sleep(0)
    assert isinstance(x, int)


@given(st.integers())
@settings(max_examples=5)
@defer.inlineCallbacks
def test_property_of_callbacks(x):
    same = yield deferLater(reactor, 0, lambda: x)
    assert same == x


@pytest.mark.asyncio
@given(st.integers())
@settings(max_examples=5)
async def test_property_of_pytest_asyncio(x):
    assert await deferLater(reactor, 0, lambda: x) == x


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(st.integers())
@settings(max_examples=5)
async def test_property_of_anyio(x):
    assert await deferLater(reactor, 0, lambda: x) == x


@pytest.mark.parametrize("x", [1, 2])
async def test_capture(x, capsys, caplog):
    print("said")
    logging.getLogger("any").warning("logged")
    assert capsys.readouterr().out == "said\n"
    assert "logged" in caplog.text


class TestMethods:
    @pytest.fixture
    async def awaited(self):
        self.by_coroutine = 1
        return self

    @pytest.fixture
    async def yielded(self):
        self.by_generator = 2
        yield self

    @pytest.fixture
    def fired(self):
        self.by_deferred = 3
        return deferLater(reactor, 0, lambda: self)

    async def test_async(self, awaited, yielded, fired):
        assert awaited is yielded is fired is self
        assert (self.by_coroutine, self.by_generator, self.by_deferred) == (1, 2, 3)

    def test_sync(self, awaited, yielded, fired):
        assert awaited is yielded is fired is self


async def test_skipped():
    await asyncio.sleep(0)
    pytest.skip("a reason")


@defer.inlineCallbacks
def test_skipped_in_callbacks():
    yield deferLater(reactor, 0, lambda: 0)
    pytest.skip("a reason")


@pytest.mark.xfail(strict=True)
async def test_expected_failure():
    raise AssertionError


async def test_raises_of_a_failure():
    with pytest.raises(ValueError, match="of a Failure"):
        await deferLater(reactor, 0, raises)


def test_raises_of_a_blocked_failure():
    with pytest.raises(ValueError, match="of a Failure"):
        bridge.block_on(deferLater(reactor, 0, raises))


@pytest.fixture
async def variable():
    token = var.set(1)
    yield
    assert var.get() == 1
    var.reset(token)


async def test_variable_of_a_fixture(variable):
    assert var.get() == 1


def test_variable_is_reset():
    assert var.get() == 0


@pytest.fixture
async def group():
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def test_task_group_of_a_fixture(group):
    group.start_soon(anyio.sleep, 100)


@pytest.fixture
def yields_a_deferred():
    yield deferLater(reactor, 0, lambda: "fired")
    bridge.block_on(asyncio.sleep(0))


@pytest.fixture(params=["one", "two"])
async def parameter(request):
    yield request.param


async def test_parameters(parameter, yields_a_deferred, request):
    assert parameter in ("one", "two")
    assert yields_a_deferred == "fired"
    assert request.getfixturevalue("late") == 3  # blocks on the loop's own thread


@pytest.fixture
async def late():
    await asyncio.sleep(0)
    return 3


async def test_thread_sensitive_work_runs_in_the_main_thread():
    assert await sync_to_async(threading.current_thread)() is threading.main_thread()
    assert await sync_to_async(lambda: bridge.block_on(asyncio.sleep(0, 1)))() == 1


def test_thread_that_is_joined():
    results = []
    thread = threading.Thread(target=lambda: results.append(bridge.block_on(asyncio.sleep(0, 4))))
    thread.start()
    thread.join()
    assert results == [4]
    bridge.default_bridge().close()


async def test_thread_beside_the_loop():
    def call():
        loop = bridge.block_on(running_loop())
        here.call_soon_threadsafe(found.set_result, loop)

    here = asyncio.get_running_loop()
    found = here.create_future()
    thread = threading.Thread(target=call)
    thread.start()
    assert await found is here
    thread.join()


async def running_loop():
    return asyncio.get_running_loop()


@pytest.mark.bridge(in_thread=True)
def test_in_thread():
    assert threading.current_thread() is not threading.main_thread()
    assert bridge.block_on(asyncio.sleep(0, 5)) == 5


def test_views(late):
    async def numbers():
        for number in range(3):
            yield await deferLater(reactor, 0, lambda number=number: number)

    assert list(bridge.iterate(numbers())) == [0, 1, 2]
    futures = [bridge.submit(asyncio.sleep(0, number)) for number in range(3)]
    assert [each.result() for each in bridge.wait(futures).done]
    with pytest.raises(TimeoutError):
        bridge.block_on(asyncio.sleep(100), timeout=0.01)
    with bridge.Bridge("another", install_reactor=False) as another:
        assert another.block_on(running_loop()) is not bridge.block_on(running_loop())


async def test_value_is_ignored():
    return 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": asyncio.SelectorEventLoop})])
async def test_loop_of_the_users_choice(anyio_backend):
    assert type(asyncio.get_running_loop()) is asyncio.SelectorEventLoop


def test_another_loop_runs_here():
    future = bridge.submit(asyncio.sleep(0))

    async def main():
        future.result()

    with pytest.raises(bridge.DeadlockError, match="cannot run in this thread"):
        asyncio.run(main())
    future.result()
