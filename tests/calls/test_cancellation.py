"""Time-outs and cancellation, both ways over the border: the work ends once, cleans up first, and nothing hangs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import anyio
import pytest
from places import usable
from told import Told
from twisted.internet import defer
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.task import deferLater
from twisted.logger import LogEvent
from twisted.web.client import Agent

from bridge import Bridge, as_deferred, as_future, in_thread


@pytest.fixture(params=usable(), scope="module")
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies; no test here ends its loop."""
    with Bridge("cancellation", strategy=request.param, install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def wait_for_it(x: Any) -> Any:
    return await x


# --- coroutines that suppress their cancellation


class Suppressing:
    """Suppresses a number of cancellations, each after the other, and counts them."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.cancelled = 0
        self.started = threading.Event()
        self.was_cancelled = threading.Event()

    async def __call__(self) -> str:
        self.started.set()
        while self.cancelled < self.times:
            try:
                await for_ever()
            except asyncio.CancelledError:
                self.cancelled += 1
                self.was_cancelled.set()
        return "all the same"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_result_after_a_suppressed_cancellation_is_returned(bridge: Bridge, timeout: float) -> None:
    work = Suppressing(1)
    assert bridge.block_on(work(), timeout=timeout) == "all the same"
    assert work.cancelled == 1


@pytest.mark.parametrize("times", [2, 3])
def test_a_time_out_cancels_once_and_leaves_behind_what_goes_on(bridge: Bridge, times: int) -> None:
    work = Suppressing(times)
    with pytest.raises(TimeoutError) as caught:
        bridge.block_on(work(), timeout=5, strategy=Told(work.started, work.was_cancelled))
    assert "it still runs" in caught.value.__notes__[0]
    bridge.block_on(asyncio.sleep(0.001))
    assert work.cancelled == 1
    gc.collect()  # the task and the Future that it waits for refer to each other, and nothing else to either
    (task,) = [task for task in asyncio.all_tasks(bridge.loop) if "Suppressing" in repr(task)]
    for _ in range(times - 1):
        bridge.block_on(lambda: task.cancel() and None)
        bridge.block_on(asyncio.sleep(0))  # it has seen that one
    assert bridge.block_on(task) == "all the same"
    life: Any = bridge.last_run
    assert not life.left


def test_every_cancel_of_a_submitted_future_is_one_cancellation(bridge: Bridge) -> None:
    work = Suppressing(3)
    future = bridge.submit(work())
    assert work.started.wait(5)
    for number in range(3):
        assert not future.done()
        assert future.cancel()
        bridge.block_on(asyncio.sleep(0.001))
        assert work.cancelled == number + 1
    assert future.result(5) == "all the same"
    assert future.cancel() is False


def test_the_cleanup_of_a_cancelled_coroutine_runs_to_its_end(bridge: Bridge) -> None:
    steps: list[str] = []

    async def cleaning() -> None:
        try:
            await for_ever()
        finally:
            for step in ("first", "second"):
                await asyncio.sleep(0.001)
                await deferLater(bridge.reactor, 0.001, lambda: None)
                steps.append(step)

    for timeout in (0, 0.01):
        steps.clear()
        with pytest.raises(TimeoutError) as caught:
            bridge.block_on(cleaning(), timeout=timeout)
        assert steps == ["first", "second"]
        assert not hasattr(caught.value, "__notes__")


# --- Deferreds, timed out


def timed_out(bridge: Bridge, x: Any) -> TimeoutError:
    with pytest.raises(TimeoutError) as caught:
        bridge.block_on(x, timeout=0.01)
    return caught.value


def test_a_deferred_without_a_canceller(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    deferred: Deferred[Any] = Deferred()
    error = timed_out(bridge, deferred)
    assert not hasattr(error, "__notes__")
    assert isinstance(error.__cause__, defer.CancelledError)
    deferred.callback("too late, and ignored by Twisted's own rule")
    del deferred
    gc.collect()
    assert unhandled == []


def test_a_deferred_whose_canceller_fires_it_later(bridge: Bridge) -> None:
    def fire_later(deferred: Deferred[Any]) -> None:
        # Twisted's own rule: what a canceller has not fired when it returns, cancel() itself fires with CancelledError.
        bridge.reactor.callLater(0.01, deferred.callback, "ignored")

    assert isinstance(timed_out(bridge, Deferred(fire_later)).__cause__, defer.CancelledError)
    bridge.block_on(asyncio.sleep(0.02))


def test_a_deferred_whose_canceller_fires_a_value_or_an_error(bridge: Bridge) -> None:
    assert bridge.block_on(Deferred(lambda each: each.callback("all the same")), timeout=0.01) == "all the same"
    with pytest.raises(LookupError, match="by the canceller"):
        bridge.block_on(Deferred(lambda each: each.errback(LookupError("by the canceller"))), timeout=0.01)


def test_a_deferred_whose_canceller_raises(bridge: Bridge) -> None:
    def canceller(_: object) -> None:
        raise LookupError("in the canceller")

    for start in (lambda: Deferred(canceller), lambda: wait_for_it(Deferred(canceller))):
        with pytest.raises((LookupError, TimeoutError)):
            bridge.block_on(start, timeout=0.01)
    future = bridge.submit(Deferred(canceller))
    bridge.block_on(value())
    future.cancel()
    with pytest.raises(LookupError, match="in the canceller"):
        future.result(5)
    assert bridge.block_on(value()) == "value"


def test_a_chained_deferred_is_cancelled_where_it_waits(bridge: Bridge) -> None:
    inner: Deferred[Any] = Deferred()
    outer = defer.succeed(None).addCallback(lambda _: inner)
    assert isinstance(timed_out(bridge, outer).__cause__, defer.CancelledError)
    assert inner.called


def test_a_paused_deferred_is_left_behind(bridge: Bridge) -> None:
    """It has fired, so there is nothing left to cancel."""
    deferred: Deferred[Any] = defer.succeed("value")
    deferred.pause()
    up = threading.Event()
    up.set()
    with pytest.raises(TimeoutError) as caught:
        bridge.block_on(deferred, timeout=5, strategy=Told(up, up))
    assert "it still runs" in caught.value.__notes__[0]
    bridge.block_on(deferred.unpause)
    assert bridge.block_on(deferred) == "value"


def test_inline_callbacks_clean_up_by_yields(bridge: Bridge) -> None:
    steps: list[str] = []

    @inlineCallbacks
    def cleaning(endless: Callable[[], Deferred[Any]]) -> Generator[Deferred[Any], Any, None]:
        try:
            yield endless()
        finally:
            yield deferLater(bridge.reactor, 0.001, lambda: None)
            yield as_deferred(asyncio.sleep(0.001))
            steps.append("cleaned")

    timed_out(bridge, lambda: cleaning(Deferred))
    timed_out(bridge, lambda: cleaning(lambda: cleaning(Deferred)))
    timed_out(bridge, lambda: wait_for_it(cleaning(lambda: as_deferred(for_ever()))))
    assert steps == ["cleaned"] * 4


def test_inline_callbacks_that_survive_their_cancellation(bridge: Bridge) -> None:
    @inlineCallbacks
    def surviving() -> Generator[Deferred[Any], Any, str]:
        try:
            yield Deferred()
        except defer.CancelledError:
            yield deferLater(bridge.reactor, 0.001, lambda: None)
        return "all the same"

    assert bridge.block_on(surviving, timeout=0.01) == "all the same"
    assert bridge.block_on(lambda: wait_for_it(surviving()), timeout=0.01) == "all the same"


# --- races


def test_a_result_that_races_with_the_time_out(bridge: Bridge) -> None:
    """Each call has exactly one outcome, by whoever wins, and the next call is not disturbed.

    The one that has won has less time for the next, so that it stays a race, however fast the machine is just now.
    """
    choose = random.Random(3)
    patience = 1.0
    outcomes: Counter[str] = Counter()

    async def sleeping(seconds: float, number: int) -> int:
        await asyncio.sleep(seconds)
        return number

    def deferring(seconds: float, number: int) -> Deferred[int]:
        return deferLater(bridge.reactor, seconds, lambda: number)

    for number in range(500):
        seconds = choose.uniform(0, 0.0004)
        timeout = choose.uniform(0, 0.0006) * patience
        start = sleeping if number % 2 else deferring
        try:
            assert bridge.block_on(lambda: start(seconds, number), timeout=timeout) == number  # noqa: B023
            outcomes["value"] += 1
            patience /= 1.1
        except TimeoutError as error:
            assert not hasattr(error, "__notes__")  # noqa: PT017 - a value is as good
            outcomes["timed out"] += 1
            patience *= 1.1
        if number % 10 == 0:
            assert bridge.block_on(value()) == "value"
    assert outcomes["value"]
    assert outcomes["timed out"]
    assert not bridge.current_run().open


def test_callers_of_many_threads_race_with_their_time_outs(bridge: Bridge) -> None:
    future_value = bridge.submit(value())
    assert future_value.result(5) == "value"

    def work(seed: int) -> Counter[str]:
        choose = random.Random(seed)
        outcomes: Counter[str] = Counter()
        for number in range(100):
            own = (seed, number)
            try:
                x = asyncio.sleep(choose.uniform(0, 0.001), own)
                assert bridge.block_on(x, timeout=choose.uniform(0, 0.002)) == own
                outcomes["value"] += 1
            except TimeoutError:
                outcomes["timed out"] += 1
        return outcomes

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        total = sum(pool.map(work, range(5)), Counter())
    assert total.total() == 500
    assert not bridge.current_run().open


# --- submit(...).cancel()


def test_cancel_before_the_start(bridge: Bridge) -> None:
    """The coroutine is closed, or cancelled at its first wait; no "never awaited" is heard of."""
    started: list[object] = []

    async def work() -> None:
        started.append(None)
        await for_ever()

    busy, release = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        release.wait(5)

    bridge.loop.call_soon_threadsafe(hold)
    assert busy.wait(5)
    futures = [bridge.submit(work()), bridge.submit(work), bridge.submit(lambda: Deferred()), bridge.submit(Deferred())]
    for future in futures:
        assert future.cancel() is True
        assert not future.done()  # a request: the loop has not seen it
    release.set()
    for future in futures:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(5)
        assert future.cancelled()
        assert future.cancel() is False


def test_cancel_twice_and_after_the_end(bridge: Bridge) -> None:
    future = bridge.submit(for_ever())
    assert future.cancel() is True
    assert isinstance(future.cancel(), bool)
    concurrent.futures.wait([future], 5)
    assert future.cancelled()
    assert future.cancel() is False
    done = bridge.submit(value())
    assert done.result(5) == "value"
    assert done.cancel() is False
    assert done.result() == "value"


def test_cancel_from_many_threads_at_once(bridge: Bridge) -> None:
    for start in (for_ever, Deferred):
        cleaned: list[object] = []

        async def work() -> None:
            try:
                await start()  # noqa: B023
            finally:
                await asyncio.sleep(0)
                cleaned.append(None)  # noqa: B023

        future = bridge.submit(work)
        ready = threading.Barrier(8)

        def cancel() -> None:
            ready.wait(5)  # noqa: B023
            future.cancel()  # noqa: B023

        threads = [threading.Thread(target=cancel) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(5)
        assert future.cancelled()
    assert bridge.block_on(value()) == "value"


def test_cancel_races_with_the_end(bridge: Bridge) -> None:
    """Whoever wins, the Future is done once, and is never cancelled after it has had its result."""
    outcomes: Counter[str] = Counter()
    choose = random.Random(5)
    expected: list[tuple[list[object], list[object]]] = []
    for number in range(500):
        future = bridge.submit(asyncio.sleep(choose.choice([0, 0, 0.0002]), number))
        told: list[object] = []
        future.add_done_callback(told.append)
        for _ in range(choose.randrange(200)):
            pass
        future.cancel()
        try:
            assert future.result(5) == number
            outcomes["value"] += 1
            assert not future.cancelled()
        except concurrent.futures.CancelledError:
            outcomes["cancelled"] += 1
            assert future.cancelled()
        expected.append(([future], told))
    bridge.block_on(value())  # a Future calls its callbacks when it has woken up whoever waits for it
    assert all(told == futures for futures, told in expected)
    assert outcomes["cancelled"]


def test_a_future_is_not_cancelled_while_its_work_still_runs(bridge: Bridge) -> None:
    """python/cpython#105836: run_coroutine_threadsafe's Future is cancelled at once, whatever the task then does."""
    cancelled, release = threading.Event(), threading.Event()

    async def cleaning() -> str:
        try:
            await for_ever()
        finally:
            cancelled.set()
            await asyncio.to_thread(release.wait, 5)

    async def surviving() -> str:
        try:
            await cleaning()
        except asyncio.CancelledError:
            return "all the same"
        return "never cancelled"

    for work, result in ((cleaning, None), (surviving, "all the same")):
        cancelled.clear()
        release.clear()
        future = bridge.submit(work)
        bridge.block_on(value())
        assert future.cancel()
        assert cancelled.wait(5)
        assert future.running()
        assert not future.done()
        assert not future.cancelled()
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.01)
        release.set()
        if result is None:
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(5)
        else:
            assert future.result(5) == result
            assert not future.cancelled()


def test_an_awaiter_of_a_submitted_future_cancels_the_work(bridge: Bridge) -> None:
    cleaned = threading.Event()

    async def cleaning() -> None:
        try:
            await for_ever()
        finally:
            cleaned.set()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(bridge.submit(cleaning())), 0.01)

    bridge.block_on(main())
    assert cleaned.wait(5)


# --- cancelled from outside while a caller waits


def test_a_task_cancelled_by_others_raises_asyncios_error_in_the_caller(bridge: Bridge) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        asyncio.get_running_loop().call_soon(task.cancel, "by somebody else")
        await for_ever()

    for timeout in (None, 5):
        with pytest.raises(asyncio.CancelledError, match="by somebody else"):
            bridge.block_on(work(), timeout=timeout)
        assert tasks[-1].cancelled()
    assert isinstance(bridge.submit(work()).exception(5), asyncio.CancelledError)


def test_a_deferred_cancelled_by_others_raises_twisteds_error_in_the_caller(bridge: Bridge) -> None:
    def start() -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        bridge.reactor.callLater(0.001, deferred.cancel)
        return deferred

    for timeout in (None, 5):
        with pytest.raises(defer.CancelledError):
            bridge.block_on(start, timeout=timeout)
        with pytest.raises(defer.CancelledError):
            bridge.block_on(lambda: wait_for_it(start()), timeout=timeout)
    assert isinstance(bridge.submit(start).exception(5), defer.CancelledError)


def test_a_future_cancelled_by_others_raises_its_own_worlds_error(bridge: Bridge) -> None:
    future = bridge.loop.create_future()
    bridge.loop.call_soon_threadsafe(future.cancel, "by somebody else")
    with pytest.raises(asyncio.CancelledError):
        bridge.block_on(future)
    concurrent_: concurrent.futures.Future[Any] = concurrent.futures.Future()
    threading.Timer(0.01, concurrent_.cancel).start()
    with pytest.raises(concurrent.futures.CancelledError):
        bridge.block_on(concurrent_)


# --- round trips


def round_trip(bridge: Bridge, innermost: Callable[[], Awaitable[Any]], seen: list[type[BaseException]]) -> Any:
    """Return a coroutine: a task that awaits a Deferred of a task that awaits a Deferred of the innermost."""

    async def inner_task() -> Any:
        try:
            return await as_deferred(innermost())
        except BaseException as error:
            seen.append(type(error))
            raise

    @inlineCallbacks
    def inline() -> Generator[Deferred[Any], Any, Any]:
        try:
            result = yield as_deferred(inner_task())
        except BaseException as error:
            seen.append(type(error))
            raise
        return result

    async def outer_task() -> Any:
        try:
            return await inline()
        except BaseException as error:
            seen.append(type(error))
            raise

    return outer_task()


def test_a_round_trip_cancelled_from_the_outer_end(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    """Each border gives the error of its own world, and the task that was cancelled sees asyncio's."""
    for innermost in (for_ever, lambda: Deferred[Any]()):
        seen: list[type[BaseException]] = []

        async def main() -> None:
            task = asyncio.create_task(round_trip(bridge, innermost, seen))  # noqa: B023
            await asyncio.sleep(0.002)
            task.cancel("from the outer end")
            with pytest.raises(asyncio.CancelledError, match="from the outer end"):
                await task
            assert task.cancelled()

        bridge.block_on(main())
        assert seen == [asyncio.CancelledError, defer.CancelledError, asyncio.CancelledError]
    gc.collect()
    assert unhandled == []


def test_a_round_trip_cancelled_from_the_inner_end(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    """Somebody else has cancelled what it waits for: that is an error like any other, and not the task's own end."""
    seen: list[type[BaseException]] = []
    innermost: list[Any] = []

    async def keep() -> None:
        innermost.append(asyncio.current_task())
        await for_ever()

    def deferred() -> Deferred[Any]:
        innermost.append(Deferred())
        return innermost[-1]  # type: ignore[no-any-return]

    async def main(start: Callable[[], Any]) -> None:
        task = asyncio.create_task(round_trip(bridge, start, seen))
        while not innermost:
            await asyncio.sleep(0)
        innermost.pop().cancel()
        with pytest.raises(defer.CancelledError):
            await task
        assert not task.cancelled()
        assert task.cancelling() == 0

    for start in (keep, deferred):
        seen.clear()
        bridge.block_on(main(start))
        assert seen == [defer.CancelledError] * 3
    gc.collect()
    assert unhandled == []


def test_a_round_trip_under_a_time_out(bridge: Bridge) -> None:
    for innermost in (for_ever, lambda: Deferred[Any]()):
        seen: list[type[BaseException]] = []
        is_there = threading.Event()

        def noted(innermost: Callable[[], Any] = innermost, is_there: threading.Event = is_there) -> Any:
            is_there.set()
            return innermost()

        with pytest.raises(TimeoutError):
            bridge.block_on(round_trip(bridge, noted, seen), timeout=5, strategy=Told(is_there))
        assert seen == [asyncio.CancelledError, defer.CancelledError, asyncio.CancelledError]


def test_a_value_goes_all_the_way_round(bridge: Bridge) -> None:
    assert bridge.block_on(round_trip(bridge, value, [])) == "value"


# --- time-outs, groups and scopes of asyncio's and anyio's


def around(bridge: Bridge) -> list[Callable[[], Any]]:
    """Return functions that start what never ends, in every way over the border."""
    return [
        Deferred,
        lambda: as_deferred(for_ever()),
        lambda: as_future(Deferred()),
        lambda: round_trip(bridge, for_ever, []),
        lambda: asyncio.wrap_future(bridge.submit(for_ever())),
    ]


def test_asyncio_timeout_and_wait_for(bridge: Bridge) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        for start in around(bridge):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.002):
                    await start()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(start(), 0.002)
            with pytest.raises(TimeoutError):  # the inner one's, by the outer one's time
                async with asyncio.timeout(0.002):
                    async with asyncio.timeout(5):
                        await start()
            assert task.cancelling() == 0
        await asyncio.sleep(0)

    bridge.block_on(main(), timeout=10)


def test_task_groups_cancel_what_awaits_deferreds(bridge: Bridge) -> None:
    ended: list[type[BaseException]] = []

    async def watched(start: Callable[[], Any]) -> None:
        try:
            await start()
        except BaseException as error:
            ended.append(type(error))
            raise

    async def fail() -> None:
        await asyncio.sleep(0.002)
        raise LookupError

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for start in around(bridge):
                    group.create_task(watched(start))
                group.create_task(fail())
        assert [type(each) for each in caught.value.exceptions] == [LookupError]
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as scope:
                for start in around(bridge):
                    scope.start_soon(watched, start)
                scope.start_soon(fail)
        assert [type(each) for each in caught.value.exceptions] == [LookupError]
        # Before 3.13 asyncio's own group leaves its one cancellation of the parent in the count.
        assert task.cancelling() == (0 if sys.version_info >= (3, 13) else 1)

    bridge.block_on(main(), timeout=10)
    assert ended == [asyncio.CancelledError] * 2 * len(around(bridge))


def test_anyio_scopes(bridge: Bridge) -> None:
    async def main() -> None:
        for start in around(bridge):
            with anyio.move_on_after(0.002) as scope:
                await start()
            assert scope.cancelled_caught
            with anyio.CancelScope() as outer:
                with anyio.CancelScope(shield=True), anyio.move_on_after(0.002) as inner:
                    outer.cancel()
                    await start()
                assert inner.cancelled_caught
            with pytest.raises(TimeoutError), anyio.fail_after(0.002):
                await start()
        await anyio.sleep(0)

    bridge.block_on(main(), timeout=10)


def test_uncancel_and_the_count_work_around_an_awaited_deferred(bridge: Bridge) -> None:
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        for number in (1, 2):
            try:
                await Deferred[Any]()
            except asyncio.CancelledError as error:
                assert error.args == (f"number {number}",)  # noqa: PT017
                assert task.cancelling() == 1
                assert task.uncancel() == 0
        return await deferLater(bridge.reactor, 0, lambda: "all the same")  # type: ignore[no-any-return]

    async def main() -> Any:
        task = asyncio.create_task(work())
        for number in (1, 2):
            await asyncio.sleep(0.001)
            assert task.cancel(f"number {number}")
        return await task

    assert bridge.block_on(main()) == "all the same"


def test_a_task_that_waits_for_a_cleaning_deferred_counts_each_cancellation(bridge: Bridge) -> None:
    """A second cancel() while the Deferred still cleans up reaches the cleanup, and is counted, too."""
    reached: list[str] = []

    @inlineCallbacks
    def cleaning() -> Generator[Deferred[Any], Any, None]:
        try:
            yield Deferred()
        finally:
            try:
                yield Deferred()
            finally:
                reached.append("the cleanup")

    async def main() -> None:
        task = asyncio.create_task(wait_for_it(cleaning()))
        for number in (1, 2):
            await asyncio.sleep(0.001)
            assert not task.done()
            task.cancel(f"number {number}")
            assert task.cancelling() == number
        with pytest.raises(asyncio.CancelledError, match="number 2"):
            await task

    bridge.block_on(main())
    assert reached == ["the cleanup"]


def test_the_message_of_a_cancellation_is_kept(bridge: Bridge) -> None:
    async def main() -> None:
        for start in (for_ever, Deferred, lambda: as_deferred(for_ever()), lambda: as_future(Deferred())):
            task = asyncio.create_task(wait_for_it(start()))
            await asyncio.sleep(0.001)
            task.cancel("the message")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.args == ("the message",)

    bridge.block_on(main())


def test_a_shield_keeps_the_deferred(bridge: Bridge) -> None:
    async def main() -> object:
        deferred: Deferred[Any] = Deferred()
        future = as_future(deferred)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0.001)
        assert not deferred.called
        deferred.callback("value")
        return await future

    assert bridge.block_on(main()) == "value"


def test_cancelling_a_task_in_a_thread_ends_the_blocked_call_with_asyncios_error(bridge: Bridge) -> None:
    left: list[type[BaseException]] = []
    started = threading.Event()

    async def signalling(start: Callable[[], Any]) -> None:
        started.set()
        await start()

    def blocking(start: Callable[[], Any]) -> None:
        try:
            bridge.block_on(signalling(start))
        except BaseException as error:
            left.append(type(error))
            raise

    async def main() -> None:
        for start in (for_ever, Deferred, lambda: as_deferred(for_ever())):
            started.clear()
            task = asyncio.create_task(in_thread(blocking, start))
            await asyncio.to_thread(started.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    bridge.block_on(main(), timeout=10)
    assert left == [asyncio.CancelledError] * 3


def test_an_iteration_that_is_cancelled_closes_its_generator(bridge: Bridge) -> None:
    closed = threading.Event()

    async def generate() -> Any:
        try:
            while True:
                yield await deferLater(bridge.reactor, 0, lambda: "item")
        finally:
            await deferLater(bridge.reactor, 0, lambda: None)
            closed.set()

    async def consume() -> None:
        generator = generate()
        try:
            async for _ in generator:
                await asyncio.sleep(0)
        finally:
            await generator.aclose()

    timed_out(bridge, consume())
    assert closed.is_set()


# --- a cancellation that Twisted calls by another name


@pytest.fixture(params=["silent", "full"])
def request_that_takes_for_ever(request: pytest.FixtureRequest, bridge: Bridge) -> Iterator[Callable[[], Any]]:
    """A request of a web client's: of a server that never answers, or of one that never accepts."""
    address = "127.0.0.1"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((address, 0), backlog=0))
        waiting = [stack.enter_context(socket.socket()) for _ in range(4 if request.param == "full" else 0)]
        for each in waiting:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(server.getsockname())
        agent = Agent(bridge.reactor)
        yield lambda: agent.request(b"GET", f"http://{address}:{server.getsockname()[1]}/".encode())


def test_a_request_that_timed_out_is_a_timeout_error(
    bridge: Bridge, request_that_takes_for_ever: Callable[[], Any], unhandled: list[LogEvent]
) -> None:
    with pytest.raises(TimeoutError, match=r"did not finish within 0\.03 seconds") as caught:
        bridge.block_on(request_that_takes_for_ever, timeout=0.03)
    # By how far it has come: to the answer, to the connection, or on a busy machine to the look-up of the address.
    names = ("ResponseNeverReceived", "ConnectingCancelledError", "DNSLookupError")
    assert type(caught.value.__cause__).__name__ in names
    with pytest.raises(TimeoutError) as caught:
        bridge.block_on(request_that_takes_for_ever, timeout=0)
    assert type(caught.value.__cause__).__name__ in names

    async def limited() -> None:
        async with asyncio.timeout(0.03):
            await request_that_takes_for_ever()

    with pytest.raises(TimeoutError):
        bridge.block_on(limited())
    with pytest.raises(TimeoutError):
        bridge.run(lambda: bridge.block_on(request_that_takes_for_ever, timeout=0.03))
    assert unhandled == []


def test_submitted_requests_and_those_of_a_task_group_are_cancelled(
    bridge: Bridge, request_that_takes_for_ever: Callable[[], Any], unhandled: list[LogEvent]
) -> None:
    future = bridge.submit(request_that_takes_for_ever)
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_it(request_that_takes_for_ever()))
            await asyncio.sleep(0.05)
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        bridge.block_on(group())
    assert [type(each) for each in caught.value.exceptions] == [LookupError]
    assert unhandled == []


def test_what_was_not_asked_to_cancel_keeps_the_name_that_it_has(bridge: Bridge) -> None:
    error = ConnectingCancelledError(None)
    with pytest.raises(ConnectingCancelledError) as caught:
        bridge.block_on(lambda: defer.fail(error), timeout=10)
    assert caught.value is error
    with pytest.raises(ConnectingCancelledError):
        bridge.block_on(wait_for_it(defer.fail(error)))


def test_nothing_is_left_running(bridge: Bridge) -> None:
    """The last test here: after all of the above no call is open, and no task but the loop's own."""

    def others() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if "_serve" not in repr(task)]

    for _ in range(1000):  # turns, which what has just been cancelled may need to end
        bridge.block_on(asyncio.sleep(0))
    assert not bridge.current_run().open
    assert bridge.block_on(others) == []


# --- a first step that blocks by a switch of the stack, so that the start of the call has not returned


@pytest.mark.parametrize("kind", ["a coroutine", "a callable", "a callable in a coroutine"])
@pytest.mark.parametrize("end", ["timeout", "submit"])
def test_work_that_blocks_in_its_first_step_is_cancelled_and_cleans_up(bridge: Bridge, kind: str, end: str) -> None:
    began = threading.Event()
    ended: list[BaseException] = []

    def work() -> None:
        began.set()
        try:
            bridge.block_on(asyncio.sleep(60))
        except BaseException as error:
            ended.append(error)
            bridge.block_on(asyncio.sleep(0))
            ended.append(error)
            raise

    async def coroutine() -> None:
        work()

    async def called() -> None:
        bridge.run(work)

    x: Any = {"a coroutine": coroutine, "a callable": lambda: work, "a callable in a coroutine": called}[kind]()
    if end == "timeout":
        with pytest.raises(TimeoutError):
            bridge.block_on(x, timeout=0.05)
    else:
        future = bridge.submit(x)
        began.wait()
        future.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2


@pytest.mark.parametrize("on_loop", [False, True])
@pytest.mark.parametrize("context_out", [True, False])
def test_a_time_out_names_what_was_waited_for(bridge: Bridge, on_loop: bool, context_out: bool) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    async def scheduled() -> asyncio.Future[None]:
        return asyncio.ensure_future(slow())

    task = bridge.block_on(scheduled())
    future = bridge.submit(slow)
    deferred: Deferred[None] = Deferred()
    awaited: list[tuple[Any, str]] = [
        (slow(), "coroutine .*slow"),
        (slow, "function .*slow"),
        (task, "coroutine .*slow"),
        (future, f"<{type(future).__name__} at 0x[0-9a-f]+>"),
        (deferred, "<Deferred at 0x[0-9a-f]+>"),
    ]

    def call() -> None:
        for x, name in awaited:
            with pytest.raises(TimeoutError, match=f"^{name} did not finish within 0.01 seconds$"):
                bridge.block_on(x, timeout=0.01, context_out=context_out)

    async def called() -> None:
        call()

    if on_loop:
        bridge.block_on(called())
    else:
        call()


def test_a_time_out_of_the_code_itself_is_left_alone(bridge: Bridge) -> None:
    async def limited() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    async def called() -> None:
        bridge.block_on(limited(), timeout=60)

    with pytest.raises(TimeoutError, match=r"^$"):
        bridge.block_on(called())
