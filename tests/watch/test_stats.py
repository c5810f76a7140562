"""Bridge.stats(): what the calls came to, exactly, whatever the threads do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import math
import threading
import time

import pytest

from bridge import Bridge, BridgeClosed, block_on, default_bridge
from bridge._watch.meter import Meter
from bridge.strategies import strategies


async def value() -> int:
    return 1


async def failing() -> None:
    raise LookupError


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("strategy", [name for name, each in strategies().items() if each.unavailable() is None])
def test_every_call_is_counted_by_how_it_ended(strategy: str) -> None:
    with Bridge(install_reactor=False, strategy=strategy) as bridge:
        for _ in range(3):
            bridge.block_on(value())
        bridge.block_on(lambda: None)
        with pytest.raises(LookupError):
            bridge.block_on(failing())
        for _ in range(2):
            with pytest.raises(TimeoutError):
                bridge.block_on(for_ever(), timeout=0)
        with pytest.raises(asyncio.CancelledError):
            bridge.block_on(cancelled())
        stats = bridge.stats()
        assert (stats.calls, stats.open, stats.failed, stats.timed_out, stats.cancelled) == (8, 0, 1, 2, 1)
        assert sum(stats.latency.values()) == 8


async def cancelled() -> None:
    raise asyncio.CancelledError


def test_submitted_work_counts() -> None:
    with Bridge(install_reactor=False) as bridge:
        assert bridge.submit(value()).result() == 1
        with pytest.raises(LookupError):
            bridge.submit(failing()).result()
        open_one = bridge.submit(for_ever())
        assert (bridge.stats().calls, bridge.stats().open) == (3, 1)
        open_one.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            open_one.result()
        stats = bridge.stats()
        assert (stats.calls, stats.open, stats.failed, stats.cancelled) == (3, 0, 1, 1)


def test_a_call_that_its_caller_gave_up_has_ended() -> None:
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    release = threading.Event()
    with Bridge(install_reactor=False, shutdown_timeout=0.05) as bridge:
        with pytest.raises(TimeoutError):
            bridge.block_on(stubborn(), timeout=0.01)
        stats = bridge.stats()
        release.set()
    assert (stats.calls, stats.open, stats.timed_out) == (1, 0, 1)


def test_many_threads_lose_no_call() -> None:
    each, threads = 750, 6

    def work() -> None:
        for number in range(each):
            if number % 50:
                bridge.block_on(value())
            else:
                with pytest.raises(LookupError):
                    bridge.block_on(failing())

    with Bridge(install_reactor=False) as bridge:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            stats = bridge.stats()  # looking disturbs nobody
            assert stats.open <= threads
            workers[0].join(0.01)
        stats = bridge.stats()
    assert (stats.calls, stats.open) == (each * threads, 0)
    assert stats.failed == len(range(0, each, 50)) * threads
    assert sum(stats.latency.values()) == pytest.approx(each * threads, rel=0.1)


def test_notes_from_many_threads_are_folded_exactly() -> None:
    meter = Meter()

    def work() -> None:
        for _ in range(20_000):
            meter.count()
            meter.note("failed")
            meter.note("cancelled")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stats = meter.stats(0, 0)
    assert (stats.calls, stats.failed, stats.cancelled) == (80_000, 80_000, 80_000)


@pytest.mark.parametrize("seconds", [1e-7, 1.5e-5, 2.0**-10, 0.00097, 0.75, 1.0, 1.999, 3600.0, 1e9])
def test_latency_falls_into_its_power_of_two(seconds: float) -> None:
    meter = Meter()
    meter.measure(seconds)
    assert dict(meter.stats(0, 0).latency) == {2.0 ** math.frexp(seconds)[1]: 1}


def test_the_first_calls_are_measured_and_then_some_of_them() -> None:
    meter = Meter()
    measured = 0
    for number in range(100_000):
        if not meter.count() % meter.every:
            meter.measure(0.75 if number % 10 else 3.0)
            measured += 1
        if not number % 300:
            meter.stats(0, 0)  # looking changes nothing
    stats = meter.stats(0, 0)
    assert stats.calls == 100_000
    assert 4_000 < measured < 5_000
    assert sum(stats.latency.values()) == pytest.approx(100_000, rel=0.01)
    assert stats.latency[4.0] == pytest.approx(10_000, rel=0.1)


def test_latency_is_that_of_the_call() -> None:
    with Bridge(install_reactor=False) as bridge:
        began = time.monotonic()
        bridge.block_on(asyncio.sleep(0.3))
        took = time.monotonic() - began
        ((bound, count),) = bridge.stats().latency.items()
    assert count == 1
    assert 0.3 < bound <= 2 * took


def test_percentiles() -> None:
    meter = Meter()
    assert meter.stats(0, 0).percentile(50) == 0.0
    for seconds in [0.001] * 90 + [0.1] * 9 + [3.0]:
        meter.measure(seconds)
    stats = meter.stats(0, 0)
    assert list(stats.latency) == sorted(stats.latency)
    assert [stats.percentile(percent) for percent in (0, 50, 90, 91, 99, 100)] == [
        *(0.0009765625 * 2, 0.0009765625 * 2, 0.0009765625 * 2),
        *(0.125, 0.125, 4.0),
    ]
    for wrong in (-1, 101, math.nan):
        with pytest.raises(ValueError, match="from 0 to 100"):
            stats.percentile(wrong)


def test_stats_are_frozen() -> None:
    stats = Meter().stats(0, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.calls = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        stats.latency[1.0] = 1  # type: ignore[index]


def test_stats_live_across_lives() -> None:
    bridge = Bridge(install_reactor=False)
    assert bridge.stats().calls == 0
    assert not bridge.running
    with bridge:
        bridge.block_on(value())
        bridge.run(lambda: block_on(asyncio.sleep(0)))
        before = bridge.stats()
        with pytest.raises(BridgeClosed):
            bridge.block_on(lambda: bridge.loop.stop() or for_ever())
        bridge.block_on(value())
        bridge.run(lambda: block_on(asyncio.sleep(0)))
        after = bridge.stats()
    assert (before.calls, before.switches) == (2, 1)
    assert (after.calls, after.failed, after.switches) == (5, 1, 2)
    assert bridge.stats() == after


def test_stats_of_an_attached_bridge() -> None:
    async def main() -> tuple[int, int]:
        bridge = Bridge.attach()
        try:
            await asyncio.to_thread(bridge.block_on, value())
            return bridge.stats().calls, bridge.stats().open
        finally:
            bridge.close()

    assert asyncio.run(main()) == (1, 0)


def test_default_bridge_has_stats() -> None:
    before = default_bridge().stats().calls
    assert block_on(value()) == 1
    assert default_bridge().stats().calls == before + 1
    default_bridge().close()
