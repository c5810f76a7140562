"""bridge.map: many calls of one function, a limited number at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import itertools
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from points import interrupt
from twisted.internet import defer
from twisted.internet.task import deferLater

import bridge as package
from bridge import Bridge, BridgeClosed
from bridge._calls import mapping


class Calls:
    """Calls that end when they are told to, and note what becomes of them."""

    def __init__(self) -> None:
        self.running: set[Any] = set()
        self.most = 0
        self.begun: list[Any] = []
        self.cleaned: list[Any] = []
        self.gates: dict[Any, asyncio.Event] = {}

    async def __call__(self, item: Any) -> Any:
        self.begun.append(item)
        self.running.add(item)
        self.most = max(self.most, len(self.running))
        gate = self.gates.setdefault(item, asyncio.Event())
        try:
            await gate.wait()
            return item
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.cleaned.append(item)
            raise
        finally:
            self.running.discard(item)

    def end(self, bridge: Bridge, *items: Any) -> None:
        async def end() -> None:
            for item in items:
                self.gates.setdefault(item, asyncio.Event()).set()

        bridge.block_on(end())


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge(install_reactor=False) as made:
        yield made


async def double(number: int) -> int:
    await asyncio.sleep(0.001 * (number * 7 % 5))
    return 2 * number


def _plain(number: int) -> int:
    return 2 * number


def _concurrent(number: int) -> concurrent.futures.Future[int]:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    threading.Timer(0.001, future.set_result, (2 * number,)).start()
    return future


@pytest.mark.parametrize("function", [double, _plain, _concurrent, functools.partial(double)])
def test_results_come_in_the_order_of_the_items(bridge: Bridge, function: Callable[..., Any]) -> None:
    assert list(bridge.map(function, range(30), limit=7)) == [2 * number for number in range(30)]


def test_a_function_may_return_deferreds(bridge: Bridge) -> None:
    def later(number: int) -> defer.Deferred[int]:
        return deferLater(bridge.reactor, 0.001, _plain, number)

    assert list(bridge.map(later, range(5))) == [0, 2, 4, 6, 8]


def test_the_shortest_iterable_ends_it(bridge: Bridge) -> None:
    async def join(*items: Any) -> tuple[Any, ...]:
        return items

    assert list(bridge.map(join, "abc", itertools.count(), range(2))) == [("a", 0, 0), ("b", 1, 1)]
    assert list(bridge.map(join, [])) == []


def test_never_more_than_the_limit_run_and_no_fewer_while_there_are_items(bridge: Bridge) -> None:
    calls = Calls()
    results = bridge.map(calls, range(10), limit=3)
    calls.end(bridge, 0)
    assert next(results) == 0
    with concurrent.futures.ThreadPoolExecutor() as threads:
        second = threads.submit(next, results)
        while calls.running != {1, 2, 3}:
            bridge.block_on(asyncio.sleep(0.001))
        calls.end(bridge, *range(1, 10))
        assert second.result(10) == 1
    assert list(results) == list(range(2, 10))
    assert calls.most == 3


def test_a_slow_first_call_does_not_hold_up_the_others(bridge: Bridge) -> None:
    calls = Calls()
    results = bridge.map(calls, range(10), limit=2)
    calls.end(bridge, *range(1, 10))
    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = threads.submit(next, results)
        while len(calls.begun) < 10:
            bridge.block_on(asyncio.sleep(0.001))
        calls.end(bridge, 0)
        assert first.result(10) == 0
    assert list(results) == list(range(1, 10))


def test_unordered_results_come_as_the_calls_end(bridge: Bridge) -> None:
    calls = Calls()
    results = bridge.map(calls, range(4), limit=4, ordered=False)
    for item in (2, 0, 3, 1):
        calls.end(bridge, item)
        assert next(results) == item
    assert list(results) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_leaving_early_cancels_the_rest_and_waits_for_its_cleanup(
    bridge: Bridge, ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls()
    calls.end(bridge, 0)
    for item in bridge.map(calls, itertools.count(), limit=5, ordered=ordered):
        assert item == 0
        break
    assert sorted(calls.cleaned) == [1, 2, 3, 4, 5]
    assert not calls.running
    assert not caplog.records


def test_an_error_is_raised_in_its_turn_and_ends_the_others(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()
    calls.end(bridge, 0)

    async def work(item: int) -> Any:
        if item == 1:
            raise LookupError(item)
        if item == 2:
            raise ValueError("never asked for")
        return await calls(item)

    seen: list[int] = []
    with pytest.raises(LookupError, match="1"):
        for item in bridge.map(work, range(100), limit=4):
            seen.append(item)
    assert seen == [0]
    assert sorted(calls.cleaned) == [each for each in calls.begun if each]
    assert calls.cleaned
    gc.collect()
    bridge.close()
    assert not caplog.records


def test_an_error_in_the_body_ends_the_calls(bridge: Bridge) -> None:
    calls = Calls()
    calls.end(bridge, 0)
    with pytest.raises(ZeroDivisionError):
        for item in bridge.map(calls, range(4)):
            _ = 1 / item
    assert sorted(calls.cleaned) == [1, 2, 3]


def test_an_error_of_an_iterable_ends_the_calls(bridge: Bridge) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    calls = Calls()
    with pytest.raises(LookupError, match="no more"):
        next(bridge.map(calls, items()))
    assert sorted(calls.cleaned) == [0, 1, 2]


def test_close_ends_the_calls(bridge: Bridge) -> None:
    calls = Calls()
    calls.end(bridge, 0)
    results = bridge.map(calls, range(3))
    assert next(results) == 0
    with contextlib.closing(results):
        pass
    assert sorted(calls.cleaned) == [1, 2]
    assert list(results) == []


def test_the_time_limit_is_for_all_results(bridge: Bridge) -> None:
    calls = Calls()
    calls.end(bridge, 0)
    seen: list[int] = []
    with pytest.raises(TimeoutError, match=r"within 0\.05 seconds of the first call"):
        for item in bridge.map(calls, range(3), timeout=0.05):
            seen.append(item)
    assert seen == [0]
    assert sorted(calls.cleaned) == [1, 2]


def test_work_that_ignores_its_cancellation_is_waited_for_the_shutdown_timeout_only() -> None:
    goes_on = threading.Event()

    async def stubborn(_: int) -> None:
        while not goes_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.005)

    with Bridge(install_reactor=False, shutdown_timeout=0.05) as bridge:
        with pytest.raises(TimeoutError):
            next(bridge.map(stubborn, range(2), timeout=0.01))
        goes_on.set()


def test_nothing_begins_before_the_first_result_is_asked_for(bridge: Bridge) -> None:
    calls = Calls()
    results = bridge.map(calls, range(3))
    bridge.block_on(asyncio.sleep(0))
    assert calls.begun == []
    del results


def test_a_result_that_was_yielded_is_not_kept_alive(bridge: Bridge) -> None:
    class Page:
        pass

    async def load(_: int) -> Page:
        return Page()

    results = bridge.map(load, range(3))
    page = weakref.ref(next(results))
    assert page() is None
    results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_the_end_of_the_loop_ends_it(ordered: bool) -> None:
    calls = Calls()
    bridge = Bridge(install_reactor=False)
    calls.end(bridge, 0)
    results = bridge.map(calls, range(3), ordered=ordered)
    assert next(results) == 0
    bridge.close()
    with pytest.raises(BridgeClosed):
        list(results)


def test_on_the_loop_the_stack_switches(bridge: Bridge) -> None:
    async def main() -> list[int]:
        return list(package.map(double, range(10), limit=3))

    assert bridge.block_on(main(), timeout=10) == [2 * number for number in range(10)]


def test_a_task_that_is_cancelled_in_it_ends_the_calls(bridge: Bridge) -> None:
    calls = Calls()

    async def uses() -> None:
        list(package.map(calls, range(3)))

    async def main() -> None:
        task = asyncio.create_task(uses())
        while len(calls.begun) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bridge.block_on(main(), timeout=10)
    assert sorted(calls.cleaned) == [0, 1, 2]


def test_the_plain_function_uses_the_default_bridge() -> None:
    async def where(_: int) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert list(package.map(where, range(2))) == [package.default_bridge().loop] * 2


def test_wrong_arguments_are_refused_at_once(bridge: Bridge) -> None:
    with pytest.raises(TypeError, match=r"map takes a function, .* not \[1\], of type list"):
        bridge.map([1], [1])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="at least one iterable"):
        bridge.map(double)
    with pytest.raises(TypeError, match="not iterable"):
        bridge.map(double, 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="limit is the number of calls that run at once"):
        bridge.map(double, [1], limit=1.5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="at least 1, not 0"):
        bridge.map(double, [1], limit=0)
    with pytest.raises(ValueError, match="timeout is a number of seconds"):
        bridge.map(double, [1], timeout=-1)


_STEPS = [
    mapping.results,
    mapping._cancel,
    *(getattr(mapping._Calls, name) for name in ("__init__", "begin_more", "_begin", "take", "wait", "end")),
]


@pytest.mark.parametrize("function", _STEPS, ids=lambda each: each.__name__)
def test_an_interrupt_at_any_point_leaves_no_call_running(
    bridge: Bridge, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # what is raised inside a finalizer is lost
    earlier = signal.signal(signal.SIGINT, lambda *_: None)  # that the loop's thread sends on; see the test below
    try:
        at, point = 0, "the first"
        while point:
            at += 1
            calls = Calls()
            calls.end(bridge, 0, 1)

            def use(calls: Calls = calls) -> None:
                for item in bridge.map(calls, range(6), limit=3):
                    if item == 1:
                        break

            point = interrupt(use, at, function)
            give_up = time.monotonic() + 10
            while calls.running or bridge.stats().open:
                assert time.monotonic() < give_up, point
                bridge.block_on(asyncio.sleep(0.001))
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert at > 1


def test_an_interrupt_while_a_break_waits_for_the_cleanup_is_not_lost(bridge: Bridge) -> None:
    """Python would print it as ignored, since it comes inside a finalizer."""
    calls = Calls()
    calls.end(bridge, 0)
    is_waiting = threading.Event()

    async def work(item: int) -> Any:
        try:
            return await calls(item)
        except asyncio.CancelledError:
            is_waiting.set()
            await asyncio.sleep(1000)

    def leave() -> None:
        for _ in bridge.map(work, range(3)):
            break

    def interrupt_later() -> None:
        is_waiting.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_later)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        leave()
        time.sleep(10)
    thread.join()


def test_calls_of_a_map_that_a_traceback_keeps_say_nothing(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a progress bar's own generator keeps the map alive, and its calls go on."""
    goes_on = asyncio.Event()

    async def work(item: int) -> int:
        if item:
            await goes_on.wait()
            raise LookupError
        return item

    def bar() -> Iterator[int]:
        for item in bridge.map(work, range(4), limit=3):
            yield item
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        list(bar())

    async def end() -> None:
        goes_on.set()

    bridge.block_on(end())
    while bridge.stats().open:
        bridge.block_on(asyncio.sleep(0.001))
    del raised
    gc.collect()
    bridge.close()
    assert not caplog.records
