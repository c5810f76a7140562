"""Calls that could never end are refused as they are made, and none that could."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from bridge import Bridge, DeadlockError, block_on, in_thread
from bridge.strategies import strategies

FACTORIES: list[Callable[[], asyncio.AbstractEventLoop] | None] = [None, asyncio.SelectorEventLoop]


async def value() -> str:
    await asyncio.sleep(0)
    return "value"


@pytest.fixture(params=FACTORIES, ids=["ours", "selector"])
def two(request: pytest.FixtureRequest) -> Iterator[tuple[Bridge, Bridge]]:
    """Two bridges, on loops of ours and on loops that cannot switch stacks."""
    with (
        Bridge("one", install_reactor=False, loop_factory=request.param, shutdown_timeout=0.2) as one,
        Bridge("two", install_reactor=False, loop_factory=request.param, shutdown_timeout=0.2) as other,
    ):
        yield one, other


def test_the_names_that_this_stands_on() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        assert loop._thread_id == threading.get_ident()
        timer = loop.call_later(60, loop.stop)
        assert loop._scheduled == [timer]
        handle = loop.call_soon(loop.stop)
        assert handle in loop._ready
        handle.cancel()
        assert timer._callback == loop.stop
        assert timer._cancelled is False
        timer.cancel()

    asyncio.run(main())


# --- threads of loops


def test_two_loops_that_block_on_each_other(two: tuple[Bridge, Bridge]) -> None:
    one, other = two
    caught: list[str] = []

    async def on_other() -> str:
        try:
            one.block_on(value())  # which needs the loop of one, whose thread stands still below
        except DeadlockError as error:
            caught.append(str(error))
        return "goes on"

    async def on_one() -> str:
        return other.block_on(on_other())

    assert one.block_on(on_one()) == "goes on"
    (text,) = caught
    assert "needs the loop of one, but the thread of one stands still in block_on(coroutine" in text
    assert "on_other), which needs the loop of two, and that needs this very thread" in text
    assert "wrap_future" in text
    assert one.block_on(value()) == other.block_on(value()) == "value"
    assert (one.stats().open, other.stats().open) == (0, 0)


def test_three_loops_in_a_circle() -> None:
    bridges = [Bridge(name, install_reactor=False) for name in ("a", "b", "c")]
    a, b, c = bridges

    async def third() -> str:
        with pytest.raises(
            DeadlockError, match=r"thread of a .* needs the loop of b, .* the loop of c, .* very thread"
        ):
            a.block_on(value())
        return "ended"

    async def second() -> str:
        return c.block_on(third())

    async def first() -> str:
        return b.block_on(second())

    try:
        assert a.block_on(first()) == "ended"
    finally:
        for bridge in bridges:
            bridge.close()


def test_the_same_from_callables_and_callbacks(two: tuple[Bridge, Bridge]) -> None:
    one, other = two

    def on_other() -> str:
        with pytest.raises(DeadlockError):
            one.block_on(lambda: "never")
        return "goes on"

    assert one.block_on(lambda: other.block_on(on_other)) == "goes on"


def test_coroutine_that_is_refused_is_closed(two: tuple[Bridge, Bridge]) -> None:
    one, other = two

    async def on_other() -> None:
        refused = value()
        with pytest.raises(DeadlockError):
            one.block_on(refused)
        assert refused.cr_frame is None

    one.block_on(lambda: other.block_on(on_other()))


def test_inner_time_limit_is_no_deadlock(two: tuple[Bridge, Bridge]) -> None:
    one, other = two

    async def on_other() -> str:
        with pytest.raises(TimeoutError):
            one.block_on(value(), timeout=0.05)
        return "goes on"

    assert one.block_on(lambda: other.block_on(on_other())) == "goes on"


def test_outer_time_limit_is_no_deadlock(two: tuple[Bridge, Bridge]) -> None:
    one, other = two
    results: list[str] = []

    async def on_other() -> None:
        results.append(one.block_on(value()))  # as soon as the thread of one goes on

    def on_one() -> None:
        with pytest.raises(TimeoutError):
            other.block_on(on_other(), timeout=0.1)

    one.block_on(on_one)
    deadline = threading.Event()
    for _ in range(1000):
        if results:
            break
        deadline.wait(0.01)
    assert results == ["value"]


def test_a_third_thread_that_waits_is_no_deadlock(two: tuple[Bridge, Bridge]) -> None:
    one, other = two
    release, entered = threading.Event(), threading.Event()

    async def on_other() -> str:
        entered.set()
        while not release.is_set():
            await asyncio.sleep(0.01)
        return "other"

    thread = threading.Thread(target=lambda: one.block_on(lambda: other.block_on(on_other())))
    thread.start()
    assert entered.wait(30)
    waiting = threading.Thread(target=lambda: one.block_on(value()))  # the thread of one stands still, for a while
    waiting.start()
    assert other.block_on(value()) == "value"
    release.set()
    thread.join(30)
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_future_that_somebody_else_sets_is_no_deadlock(two: tuple[Bridge, Bridge]) -> None:
    one, other = two
    with ThreadPoolExecutor(1) as pool:
        release = threading.Event()
        future = pool.submit(release.wait, 30)

        async def on_other() -> bool:
            threading.Timer(0.05, release.set).start()
            return one.block_on(future)  # needs no loop

        assert one.block_on(lambda: other.block_on(on_other())) is True


@pytest.mark.parametrize("name", ["greenlet"])
def test_way_of_waiting_in_which_the_thread_goes_on_is_no_deadlock(name: str) -> None:
    assert name in strategies()

    async def main() -> str:
        with Bridge("own", install_reactor=False) as own:

            async def inner() -> str:
                return "inner"

            return own.block_on(inner(), strategy=name)

    assert asyncio.run(main()) == "inner"


def test_many_threads_close_and_open_circles_and_none_hangs(two: tuple[Bridge, Bridge]) -> None:
    one, other = two
    counts = {"refused": 0, "ended": 0}

    def crossing(first: Bridge, second: Bridge) -> None:
        for _ in range(30):
            try:
                assert first.block_on(lambda: second.block_on(value())) == "value"
                counts["ended"] += 1
            except DeadlockError:
                counts["refused"] += 1

    threads = [threading.Thread(target=crossing, args=pair) for pair in [(one, other), (other, one)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not any(thread.is_alive() for thread in threads)
    assert counts["ended"] + counts["refused"] <= 120
    assert counts["ended"]


# --- tasks of one loop


def test_two_stacks_that_block_on_each_others_task(bridge: Bridge) -> None:
    tasks: dict[str, asyncio.Task[Any]] = {}
    errors: list[DeadlockError] = []

    async def work(other: str) -> str:
        await asyncio.sleep(0)  # until both are there
        try:
            return block_on(tasks[other])
        except DeadlockError as error:
            errors.append(error)
            return "first"

    async def main() -> list[str]:
        tasks["a"] = asyncio.create_task(work("b"), name="task a")
        tasks["b"] = asyncio.create_task(work("a"), name="task b")
        return await asyncio.gather(*tasks.values())

    assert bridge.block_on(main()) == ["first", "first"]
    (error,) = errors
    assert "that task waits for the one that was about to block" in str(error)


def test_task_that_awaits_what_blocks_on_it(bridge: Bridge) -> None:
    async def main() -> str:
        async def inner() -> str:
            await others_wait.wait()
            with pytest.raises(DeadlockError):
                block_on(outer)
            return "inner"

        others_wait = asyncio.Event()
        inside = asyncio.create_task(inner())

        async def between() -> str:
            asyncio.get_running_loop().call_soon(others_wait.set)
            return await inside

        async def waiting() -> str:
            return await asyncio.create_task(between())

        outer = asyncio.create_task(waiting())
        return await outer

    assert bridge.block_on(main()) == "inner"


def test_task_that_blocks_on_itself(bridge: Bridge) -> None:
    async def main() -> None:
        with pytest.raises(DeadlockError, match="await on itself"):
            block_on(asyncio.current_task())  # type: ignore[type-var, arg-type]

    bridge.block_on(main())


@pytest.mark.parametrize("limit", ["block_on", "asyncio", "anyio"])
def test_circle_of_tasks_that_not_even_a_time_limit_would_end(bridge: Bridge, limit: str) -> None:
    async def main() -> str:
        async def waiting() -> str:
            asyncio.get_running_loop().call_soon(outer_waits.set)
            return await blocking

        async def blocks() -> str:
            await outer_waits.wait()
            with pytest.raises(DeadlockError):
                if limit == "block_on":
                    block_on(outer, timeout=5)
                elif limit == "asyncio":
                    async with asyncio.timeout(5):
                        block_on(outer)
                else:
                    with anyio.fail_after(5):
                        block_on(outer)
            return "goes on"

        outer_waits = asyncio.Event()
        blocking = asyncio.create_task(blocks())
        outer = asyncio.create_task(waiting())
        return await outer

    assert bridge.block_on(main()) == "goes on"


def test_task_that_waits_for_a_third_is_no_deadlock(bridge: Bridge) -> None:
    async def main() -> str:
        event = asyncio.Event()

        async def first() -> str:
            await event.wait()
            return "first"

        task = asyncio.create_task(first())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, event.set)
        return block_on(task)

    assert bridge.block_on(main()) == "first"


# --- worker threads


@pytest.mark.parametrize("how", ["to_thread", "own executor"])
def test_worker_that_blocks_on_the_task_that_awaits_it(bridge: Bridge, how: str) -> None:
    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None

        def worker() -> str:
            waiting.wait(30)
            with pytest.raises(DeadlockError, match="worker thread that this very task waits for"):
                block_on(task)
            return "worker"

        waiting = threading.Event()
        asyncio.get_running_loop().call_soon(waiting.set)
        if how == "to_thread":
            return await asyncio.to_thread(worker)
        with ThreadPoolExecutor(1) as pool:
            return await asyncio.get_running_loop().run_in_executor(pool, worker)

    assert bridge.block_on(main()) == "worker"


def test_worker_that_blocks_on_another_task_is_no_deadlock(bridge: Bridge) -> None:
    async def main() -> str:
        task = asyncio.create_task(value())
        return await asyncio.to_thread(lambda: block_on(task))

    assert bridge.block_on(main()) == "value"


def test_worker_whose_task_has_a_time_limit_is_no_deadlock(bridge: Bridge) -> None:
    async def main() -> str:
        outcome: list[str] = []
        runs, has_limit, done = threading.Event(), threading.Event(), threading.Event()

        async def waits_for_worker() -> None:
            await asyncio.to_thread(worker)

        def worker() -> None:
            runs.set()
            has_limit.wait(30)
            try:
                block_on(task)
            except DeadlockError:
                outcome.append("refused")
            except asyncio.CancelledError:
                outcome.append("cancelled")
            done.set()

        task = asyncio.create_task(waits_for_worker())
        await in_thread(runs.wait, 30)  # a worker that does not run yet is cancelled together with its task
        asyncio.get_running_loop().call_later(0.2, task.cancel)
        has_limit.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await in_thread(done.wait, 30)
        return outcome[0]

    assert bridge.block_on(main()) == "cancelled"
