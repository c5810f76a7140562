"""Worker threads: a call goes to the loop that the work came from, and into the cancel scope that it was given in."""

from __future__ import annotations

import asyncio
import contextlib
import math
import multiprocessing
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

import bridge as package
from bridge import Bridge, BridgeClosed

PATIENCE = 10.0  # seconds that a test waits for what must come


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """An executor of the user's own, with one thread."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def default() -> Iterator[Bridge]:
    """The default bridge, closed after the test."""
    with package.default_bridge() as bridge:
        yield bridge


@pytest.fixture(params=["default bridge", "another bridge"])
def home(request: pytest.FixtureRequest, default: Bridge) -> Iterator[Bridge]:
    """The bridge on whose loop a worker gets its work, while the default bridge runs as well."""
    if request.param == "default bridge":
        yield default
    else:
        with Bridge("home", install_reactor=False) as bridge:
            yield bridge


def in_executor(bridge: Bridge, function: Callable[[], Any]) -> Awaitable[Any]:
    return bridge.loop.run_in_executor(None, function)


def in_own_pool(bridge: Bridge, function: Callable[[], Any]) -> Awaitable[Any]:
    async def run() -> Any:
        with ThreadPoolExecutor(1) as executor:
            return await bridge.loop.run_in_executor(executor, function)

    return run()


def in_reactors_pool(bridge: Bridge, function: Callable[[], Any]) -> Awaitable[Any]:
    return deferToThreadPool(bridge.reactor, bridge.reactor.getThreadPool(), function)


def in_asyncio_thread(bridge: Bridge, function: Callable[[], Any]) -> Awaitable[Any]:
    return asyncio.to_thread(function)


def in_anyio_thread(bridge: Bridge, function: Callable[[], Any]) -> Awaitable[Any]:
    return anyio.to_thread.run_sync(function)


WORKERS = [in_executor, in_own_pool, in_reactors_pool, in_asyncio_thread, in_anyio_thread]
Worker = Callable[[Bridge, Callable[[], Any]], Awaitable[Any]]


@pytest.fixture(params=WORKERS, ids=lambda worker: worker.__name__)
def worker(request: pytest.FixtureRequest) -> Worker:
    """A way to give work to a worker thread, from the loop."""
    given: Worker = request.param
    return given


async def loop_here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


# --- the loop that the work came from


def test_a_plain_call_goes_to_the_loop_that_the_work_came_from(home: Bridge, worker: Worker) -> None:
    def work() -> list[object]:
        assert threading.current_thread() is not home.thread
        return [
            package.block_on(loop_here()),
            package.block_on(loop_here),
            package.block_on(asyncio.get_running_loop),
            package.submit(loop_here()).result(PATIENCE),
            home.block_on(loop_here()),
        ]

    assert home.block_on(lambda: worker(home, work), timeout=PATIENCE) == [home.loop] * 5


def test_a_bridges_own_call_goes_to_its_loop(home: Bridge, worker: Worker) -> None:
    with Bridge("other", install_reactor=False) as other:

        def call_other() -> object:
            return other.block_on(loop_here())

        def call_from_a_worker_of_the_other() -> object:
            return other.block_on(lambda: worker(other, lambda: package.block_on(loop_here())))

        for work in (call_other, call_from_a_worker_of_the_other):
            assert home.block_on(lambda work=work: worker(home, work), timeout=PATIENCE) is other.loop


def test_workers_may_be_nested(bridge: Bridge) -> None:
    def work(depth: int) -> list[object]:
        if depth == len(WORKERS):
            return [package.block_on(loop_here())]
        inner = package.block_on(lambda: WORKERS[depth](bridge, lambda: work(depth + 1)))
        return [*inner, package.block_on(loop_here())]

    assert bridge.block_on(lambda: asyncio.to_thread(work, 0), timeout=PATIENCE) == [bridge.loop] * 6


def test_many_workers_call_at_once(home: Bridge, worker: Worker) -> None:
    async def square(number: int) -> int:
        await asyncio.sleep(0.001)
        return number * number

    async def main() -> list[int]:
        return await asyncio.gather(*(worker(home, lambda n=n: package.block_on(square(n))) for n in range(30)))

    assert home.block_on(main(), timeout=PATIENCE) == [number * number for number in range(30)]


def test_a_thread_that_serves_two_loops_knows_whose_work_it_does(default: Bridge, pool: ThreadPoolExecutor) -> None:
    def work() -> asyncio.AbstractEventLoop:
        return package.block_on(loop_here())

    with Bridge("first", install_reactor=False) as first, Bridge("second", install_reactor=False) as second:
        for bridge in (first, second, first):
            assert bridge.block_on(lambda bridge=bridge: bridge.loop.run_in_executor(pool, work)) is bridge.loop
            assert pool.submit(work).result(PATIENCE) is default.loop  # given by no loop


def test_a_worker_of_a_loop_of_the_users_own_class_finds_home() -> None:
    with Bridge(install_reactor=False, loop_factory=asyncio.SelectorEventLoop) as bridge:
        for worker in (in_anyio_thread, in_reactors_pool, in_asyncio_thread):
            found = bridge.block_on(lambda worker=worker: worker(bridge, lambda: package.block_on(loop_here())))
            assert found is bridge.loop


def test_a_thread_that_nobody_gave_work_calls_the_default_bridge(bridge: Bridge, default: Bridge) -> None:
    found: list[object] = []

    def work() -> None:
        thread = threading.Thread(target=lambda: found.append(package.block_on(loop_here())))
        thread.start()
        thread.join(PATIENCE)

    bridge.block_on(asyncio.to_thread(work))
    assert found == [default.loop]


def test_a_process_pool_still_gets_what_can_be_pickled(bridge: Bridge) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        result = bridge.block_on(lambda: bridge.loop.run_in_executor(processes, math.factorial, 5), timeout=50)
    assert result == 120


def test_an_error_comes_through_worker_and_loop(home: Bridge, worker: Worker) -> None:
    error = LookupError("no such thing")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(LookupError) as caught:
        home.block_on(lambda: worker(home, lambda: package.block_on(failing())), timeout=PATIENCE)
    assert caught.value is error


def test_a_worker_outlives_its_loop(bridge: Bridge, pool: ThreadPoolExecutor) -> None:
    begun, release = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        begun.set()
        release.wait(PATIENCE)
        for call in (package.block_on, bridge.block_on, package.submit):
            try:
                call(loop_here())
            except BridgeClosed as error:
                errors.append(error)

    bridge.submit(lambda: bridge.loop.run_in_executor(pool, work))
    assert begun.wait(PATIENCE)
    bridge.close()
    release.set()
    pool.shutdown()
    assert len(errors) == 3


# --- the cancel scope that the work was given in


class Custom:
    """An awaitable that is no coroutine."""

    def __init__(self, deferred: Deferred[None]) -> None:
        self.deferred = deferred

    def __await__(self) -> Generator[Any, Any, None]:
        return self.deferred.__await__()


class Endless:
    """Things to block on that never end, which count their cancellations and say when they are waited for."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.cancelled = 0

    def _count(self, _: object = None) -> None:
        self.cancelled += 1

    async def coroutine(self) -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            self._count()
            raise

    def deferred(self) -> Deferred[None]:
        return Deferred(self._count)

    def future(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.bridge.loop.create_future()
        future.add_done_callback(lambda _: self._count() if future.cancelled() else None)
        return future

    def task(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.coroutine())

    def concurrent(self) -> Future[None]:
        future: Future[None] = Future()
        future.add_done_callback(lambda _: self._count() if future.cancelled() else None)
        return future

    def make(self, what: str) -> Any:
        """Return what to block on, made where it has to be made."""
        made = {
            "coroutine": self.coroutine,
            "Deferred": self.deferred,
            "concurrent Future": self.concurrent,
            "awaitable": lambda: Custom(self.deferred()),
            "callable: coroutine": lambda: self.coroutine,
            "callable: Deferred": lambda: self.deferred,
            "callable: Future": lambda: self.future,
            "callable: concurrent Future": lambda: self.concurrent,
        }
        if what in made:
            return made[what]()
        return self.bridge.block_on(lambda: [self.future() if what == "Future" else self.task()])[0]


KINDS = [
    *("coroutine", "Deferred", "Future", "Task", "concurrent Future", "awaitable"),
    *("callable: coroutine", "callable: Deferred", "callable: Future", "callable: concurrent Future"),
]


def end_in(scope: Any, seconds: float) -> None:
    """Set the deadline of a scope. Called on the loop, by the work: a scope that is over before never begins it."""
    scope.deadline = anyio.current_time() + seconds


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("how", ["cancel()", "deadline", "plain call"])
def test_a_cancelled_scope_ends_the_blocked_call(bridge: Bridge, what: str, how: str) -> None:
    endless = Endless(bridge)
    raised: list[BaseException] = []

    def work() -> None:
        x = endless.make(what)
        if how == "deadline":
            anyio.from_thread.run_sync(end_in, scope, 0.01)
        else:
            anyio.from_thread.run_sync(lambda: bridge.loop.call_later(0.01, scope.cancel))
        try:
            (package if how == "plain call" else bridge).block_on(x)
        except BaseException as error:
            raised.append(error)
            raise

    async def main() -> None:
        nonlocal scope
        with anyio.CancelScope() as scope:
            await anyio.to_thread.run_sync(work)

    scope: Any = None
    bridge.block_on(main(), timeout=PATIENCE)
    assert scope.cancelled_caught
    assert [type(error) for error in raised] == [asyncio.CancelledError]
    assert endless.cancelled == 1
    assert not scope._tasks


def test_a_scope_that_is_cancelled_already_ends_the_call_at_its_first_wait(bridge: Bridge) -> None:
    steps: list[str] = []

    async def stepping() -> None:
        steps.append("begun")
        await asyncio.sleep(0)
        await for_ever()

    def work() -> None:
        anyio.from_thread.run_sync(scope.cancel)
        package.block_on(stepping())

    async def main() -> bool:
        nonlocal scope
        with anyio.CancelScope() as scope:
            await anyio.to_thread.run_sync(work)
        return scope.cancelled_caught

    scope: Any = None
    assert bridge.block_on(main(), timeout=PATIENCE) is True
    assert steps == ["begun"]


def test_a_task_group_cancels_the_calls_of_its_workers(bridge: Bridge) -> None:
    begun = threading.Semaphore(0)
    endless = Endless(bridge)

    async def coroutine() -> None:
        begun.release()
        await endless.coroutine()

    def failing() -> None:
        for _ in range(5):
            assert begun.acquire(timeout=PATIENCE)
        raise LookupError("of a sibling")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(anyio.to_thread.run_sync, lambda: package.block_on(coroutine()))
            group.start_soon(anyio.to_thread.run_sync, failing)

    with pytest.raises(ExceptionGroup) as caught:
        bridge.block_on(main(), timeout=PATIENCE)
    assert caught.group_contains(LookupError, match="of a sibling")
    assert endless.cancelled == 5


def test_fail_after_is_a_time_out_of_the_host(bridge: Bridge) -> None:
    async def main() -> None:
        with anyio.fail_after(0.01):
            await anyio.to_thread.run_sync(lambda: package.block_on(for_ever()))

    with pytest.raises(TimeoutError):
        bridge.block_on(main(), timeout=PATIENCE)


def test_a_calls_own_timeout_leaves_the_scope_alone(bridge: Bridge) -> None:
    async def main() -> str:
        with anyio.CancelScope() as scope:
            with contextlib.suppress(TimeoutError):
                await anyio.to_thread.run_sync(lambda: package.block_on(for_ever(), timeout=0.01))
            await anyio.sleep(0)
            return f"cancelled: {scope.cancel_called}"
        raise AssertionError("the scope was cancelled")

    assert bridge.block_on(main(), timeout=PATIENCE) == "cancelled: False"


def test_a_shield_keeps_the_call(bridge: Bridge) -> None:
    async def finishing() -> str:
        outer.cancel()
        await anyio.sleep(0.01)
        return "finished"

    async def main() -> bool:
        nonlocal outer
        with anyio.CancelScope() as outer:
            with anyio.CancelScope(shield=True):
                results.append(await anyio.to_thread.run_sync(lambda: package.block_on(finishing())))
            await anyio.sleep(0)
        return outer.cancelled_caught

    outer: Any = None
    results: list[str] = []
    assert bridge.block_on(main(), timeout=PATIENCE) is True
    assert results == ["finished"]


def test_the_awaited_code_sees_the_scopes_deadline_and_may_open_its_own(bridge: Bridge) -> None:
    async def inner() -> tuple[float, bool]:
        with anyio.move_on_after(0.001) as own:
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return anyio.current_effective_deadline(), own.cancelled_caught

    async def main() -> tuple[float, tuple[float, bool]]:
        with anyio.fail_after(1000) as scope:
            return scope.deadline, await anyio.to_thread.run_sync(lambda: package.block_on(inner()))

    deadline, seen = bridge.block_on(main(), timeout=PATIENCE)
    assert seen == (deadline, True)


@pytest.mark.parametrize("late", [False, True])
def test_an_abandoned_worker_does_not_stay_blocked(bridge: Bridge, late: bool) -> None:
    ended = threading.Event()
    left = threading.Event()

    def work() -> None:
        anyio.from_thread.run_sync(end_in, scope, 0.01)
        if late:  # it blocks when its host has left the scope already
            left.wait(PATIENCE)
        try:
            package.block_on(for_ever())
        except asyncio.CancelledError:
            ended.set()

    async def main() -> bool:
        nonlocal scope
        with anyio.CancelScope() as scope:
            await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        left.set()
        return scope.cancelled_caught

    scope: Any = None
    assert bridge.block_on(main(), timeout=PATIENCE) is True
    assert ended.wait(PATIENCE)


def test_a_call_to_another_bridge_is_outside_of_the_scope(bridge: Bridge) -> None:
    async def other_work() -> str:
        assert anyio.current_effective_deadline() == math.inf
        bridge.loop.call_soon_threadsafe(scope.cancel)
        while not scope.cancel_called:
            await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        return "value"

    async def main() -> bool:
        nonlocal scope
        with anyio.CancelScope() as scope:
            results.append(await anyio.to_thread.run_sync(lambda: other.block_on(other_work())))
        return scope.cancel_called

    scope: Any = None
    results: list[str] = []
    with Bridge("other", install_reactor=False) as other:
        assert bridge.block_on(main(), timeout=PATIENCE) is True
    assert results == ["value"]


def test_anyios_own_way_back_works_beside_ours(bridge: Bridge) -> None:
    def work() -> list[object]:
        anyio.from_thread.check_cancelled()
        return [anyio.from_thread.run(loop_here), package.block_on(loop_here())]

    assert bridge.block_on(lambda: anyio.to_thread.run_sync(work), timeout=PATIENCE) == [bridge.loop] * 2
