"""Many threads, many open calls: calls a second, the time of one more, and the memory for each."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred

from bridge import Bridge
from bridge._cli.bench import threads
from bridge._cli.bench.model import Curves, Host, Measure, Row, Table
from bridge._cli.bench.threads import plain_loop
from bridge._cli.bench.way import Once, Peer
from bridge._cli.bench.works import AT_ONCE, VALUE, Forms, Work, at_once

THREADS = [1, 8, 64, 512]
OPEN = [1, 10, 100, 1_000, 10_000]
# Calls of each thread, at the least. With three, half of the time is that of the barrier which lets all threads go.
EACH = 16
WAITING = 512  # threads
# A loop, with its descriptors, and a thread more for each caller: too many for a usual limit of descriptors.
_AT_MOST = {"async_to_sync": 64}
_SHOWN = {"block_on", "block_on[uvloop]"}


def _peers() -> list[Peer]:
    ours = [peer for peer in threads.ours() if peer.name in _SHOWN]
    return [peer for peer in [*threads.PEERS, *ours] if peer.contender and peer.lacks() is None]


def _once(peer: Peer, work: Work, host: Host) -> Once:
    once = host.shared(peer.open).once(work.prepare(host), work)
    assert once is not None
    return once


# --- calls a second


def _throughput(peer: Peer, count: int, host: Host) -> Measure:
    """Return the time divided by the calls, from when all threads go until the last has made its calls."""
    once = _once(peer, AT_ONCE, host)

    def measure(calls: int) -> list[float]:
        each = max(EACH, calls // count)
        began = 0.0
        ends: list[float] = []
        wrong: list[object] = []

        def go() -> None:
            nonlocal began
            began = perf_counter()

        def caller() -> None:
            barrier.wait()
            results = [once() for _ in range(each)]
            ends.append(perf_counter())
            wrong.extend(result for result in results if result is not VALUE)

        barrier = threading.Barrier(count, go)
        callers = [threading.Thread(target=caller) for _ in range(count)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        assert len(ends) == count
        assert not wrong
        return [(max(ends) - began) / (each * count)]

    return measure


def throughput() -> list[Curves]:
    lines = {
        peer.label: [
            (count, Row(f"threads_{count}/{peer.name}", f"{peer.label}, {count} threads", f"thread/{peer.name}",
                        partial(_throughput, peer, count), per_second=1))
            for count in THREADS
            if count <= _AT_MOST.get(peer.name, count)
        ]
        for peer in _peers()
    }  # fmt: skip
    return [Curves("Calls a second", "growth", "caller threads", "calls a second", lines, threads=True)]


# --- one more call

Submit = Callable[[Any], Future[Any]]


@contextmanager
def _our_own() -> Iterator[tuple[Submit, Callable[[Any], Any]]]:
    with Bridge(install_reactor=False) as each:
        yield each.submit, lambda make: each.block_on(make())


@contextmanager
def _asyncio() -> Iterator[tuple[Submit, Callable[[Any], Any]]]:
    with plain_loop() as loop:
        submit = partial(asyncio.run_coroutine_threadsafe, loop=loop)
        yield submit, lambda make: submit(make()).result()


@contextmanager
def _portal() -> Iterator[tuple[Submit, Callable[[Any], Any]]]:
    from anyio.from_thread import start_blocking_portal

    async def wait(coro: Any) -> Any:
        return await coro

    with start_blocking_portal() as portal:
        yield lambda coro: portal.start_task_soon(wait, coro), portal.call


def _one_more(make: Callable[[], Any], count: int, host: Host) -> Measure:
    """Return the times of calls while so many others are open."""
    submit, call = host.shared(make)

    def measure(calls: int) -> list[float]:
        waits = Waits()
        others = [submit(waits.coroutine()) for _ in range(count)]
        times: list[float] = []
        waits.until(count)
        for _ in range(calls):
            begin = perf_counter()
            result = call(at_once)
            times.append(perf_counter() - begin)
            assert result is VALUE
        waits.release()
        assert all(other.result() is VALUE for other in others)
        return times

    return measure


def latency() -> list[Curves]:
    ways: list[tuple[str, str, Callable[[], Any]]] = [
        ("run_coroutine_threadsafe", "asyncio.run_coroutine_threadsafe", _asyncio),
        ("portal", "anyio's BlockingPortal", _portal),
        ("block_on", "bridge.block_on", _our_own),
    ]
    lines = {
        label: [
            (count, Row(f"open_{count}/{name}", f"{label}, {count} open", f"open/{name}",
                        partial(_one_more, make, count), times=300))
            for count in OPEN
        ]
        for name, label, make in ways
    }  # fmt: skip
    return [Curves("A call while others are open", "growth", "open calls", "time of a call", lines, threads=True)]


# --- memory


class Waits:
    """A work that waits until it is released, in both worlds."""

    def __init__(self) -> None:
        self._releases: list[Callable[[], object]] = []

    async def coroutine(self) -> object:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._releases.append(partial(loop.call_soon_threadsafe, future.set_result, VALUE))
        return await future

    def deferred(self, reactor: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self._releases.append(partial(reactor.callFromThread, deferred.callback, VALUE))
        return deferred

    def prepare(self, host: Host) -> Forms:
        return Forms(self.coroutine, self.deferred)

    def until(self, count: int) -> None:
        """Wait until so many wait."""
        turn = threading.Event()
        while len(self._releases) < count:
            turn.wait(0.001)

    def release(self) -> None:
        for release in self._releases:
            release()


def _memory(peer: Peer, host: Host) -> Measure:
    """Return the bytes that each open call allocates in a thread which has made a call before."""

    def measure(times: int) -> list[float]:
        first, waits = _once(peer, AT_ONCE, host), Waits()
        work = Work("waits", "", waits.prepare, lambda result: result is VALUE)
        wait = _once(peer, work, host)
        ready, go = threading.Barrier(WAITING + 1), threading.Event()
        results: list[object] = []

        def caller() -> None:
            first()
            ready.wait()
            go.wait()
            results.append(wait())

        callers = [threading.Thread(target=caller) for _ in range(WAITING)]
        # Not the resident set: what ended calls have freed, open ones use again.
        tracemalloc.start()
        try:
            for thread in callers:
                thread.start()
            ready.wait()
            before = _traced()
            go.set()
            waits.until(WAITING)
            after = _traced()
            waits.release()
            for thread in callers:
                thread.join()
        finally:
            tracemalloc.stop()
        assert results == [VALUE] * WAITING
        return [max((after - before) / WAITING, 1.0)]

    return measure


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def memory() -> list[Table]:
    rows = [
        Row(f"memory/{peer.name}", peer.label, f"memory/{peer.name}", partial(_memory, peer), unit="B", times=1)
        for peer in _peers()
        if _AT_MOST.get(peer.name, WAITING) >= WAITING
    ]
    title = f"Memory for each of {WAITING} open calls, beyond its thread"
    return [Table(title, rows, {"of asyncio's": "memory/run_coroutine_threadsafe"})]
