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

THREADS = [1, 8, 64, 512, 4_096]
OPEN = [1, 10, 100, 1_000, 10_000, 100_000]
# Calls of each thread, at the least. With three, half of the time is that of the barrier which lets all threads go.
EACH = 16
WAITING = 512  # threads
STACK = 256 * 1024  # bytes of a caller thread's stack, of which it uses a part: 4,096 usual ones are 32 GB of addresses
# Seconds after which no caller begins a further call. 4,096 threads on one core may take milliseconds for each.
PATIENCE = 3.0
# The others take a minute and more with 4,096 threads.
_OF_4096 = {"run_coroutine_threadsafe", "blockingCallFromThread_epoll", "block_on"}
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

    return lambda calls: [race([once] * count, max(EACH, calls // count))]


def race(onces: list[Once], each: int) -> float:
    """Let each function be called in a thread of its own, so many times, and return the seconds for each call."""
    began = 0.0
    ends: list[float] = []
    made: list[int] = []
    wrong: list[object] = []

    def go() -> None:
        nonlocal began
        began = perf_counter()

    def caller(once: Once) -> None:
        barrier.wait()
        until = began + PATIENCE
        results: list[object] = []
        for _ in range(each):
            results.append(once())
            end = perf_counter()
            if end > until:
                break
        ends.append(end)
        made.append(len(results))
        wrong.extend(result for result in results if result is not VALUE)

    barrier = threading.Barrier(len(onces), go)
    before = threading.stack_size(STACK)
    try:
        callers = [threading.Thread(target=caller, args=[once]) for once in onces]
        for thread in callers:
            thread.start()
    finally:
        threading.stack_size(before)
    for thread in callers:
        thread.join()
    assert len(ends) == len(onces)
    assert not wrong
    return (max(ends) - began) / sum(made)


def throughput() -> list[Curves]:
    lines = {
        peer.label: [
            (count, Row(f"threads_{count}/{peer.name}", f"{peer.label}, {count} threads", f"thread/{peer.name}",
                        partial(_throughput, peer, count), times=1 if count > WAITING else None, per_second=1,
                        once=count > WAITING))
            for count in THREADS
            if count <= _AT_MOST.get(peer.name, count) and (count <= WAITING or peer.name in _OF_4096)
        ]
        for peer in _peers()
    }  # fmt: skip
    return [Curves("Calls a second", "growth", "caller threads", "calls a second", lines, threads=True)]


# --- open calls

CALLS = 300  # beside the open ones

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


class Crowd:
    """Calls by submit that are open at once. A run gives the times of calls beside them, and the time for each of them.

    These are two rows; what a run gives to the other row is kept for it.
    """

    def __init__(self, submit: Submit, call: Callable[[Any], Any], count: int) -> None:
        self._submit, self._call, self._count = submit, call, count
        self._beside: list[float] = []
        self._each: list[float] = []

    def beside(self, calls: int) -> list[float]:
        """Return the times of so many calls while the others are open."""
        while len(self._beside) < calls:
            self._run(calls)
        found, self._beside = self._beside[:calls], self._beside[calls:]
        return found

    def each(self, times: int) -> list[float]:
        """Return the time for each of them: to submit it, to end it, and to take its result."""
        while len(self._each) < times:
            self._run(CALLS)
        found, self._each = self._each[:times], self._each[times:]
        return found

    def _run(self, calls: int) -> None:
        waits = Waits()
        began = perf_counter()
        others = [self._submit(waits.coroutine()) for _ in range(self._count)]
        waits.until(self._count)
        took = perf_counter() - began
        for _ in range(calls):
            begin = perf_counter()
            result = self._call(at_once)
            self._beside.append(perf_counter() - begin)
            assert result is VALUE
        began = perf_counter()
        waits.release()
        results = [other.result() for other in others]
        took += perf_counter() - began
        assert results == [VALUE] * self._count
        self._each.append(took / self._count)


def _crowd(make: Callable[[], Any], count: int) -> Callable[[], Any]:
    @contextmanager
    def crowd() -> Iterator[Crowd]:
        with make() as (submit, call):
            yield Crowd(submit, call, count)

    return crowd


def submitted() -> list[Curves]:
    ways: list[tuple[str, str, Callable[[], Any]]] = [
        ("run_coroutine_threadsafe", "asyncio.run_coroutine_threadsafe", _asyncio),
        ("portal", "anyio's BlockingPortal", _portal),
        ("block_on", "bridge.block_on", _our_own),
    ]
    beside: dict[str, list[tuple[int, Row]]] = {}
    each: dict[str, list[tuple[int, Row]]] = {}
    for name, label, make in ways:
        for count in OPEN:
            if name == "portal" and count > 10_000:
                break  # it takes half a minute
            crowd, process, once = _crowd(make, count), f"open/{name}", count > 10_000
            row = Row(f"open_{count}/{name}", f"{label}, {count} open", process, partial(_of_crowd, crowd, "beside"),
                      times=CALLS, once=once)  # fmt: skip
            beside.setdefault(label, []).append((count, row))
            row = Row(f"submit_{count}/{name}", f"{label}, {count} submitted", process,
                      partial(_of_crowd, crowd, "each"), times=1, once=once)  # fmt: skip
            each.setdefault(label, []).append((count, row))
    return [
        Curves("A call while others are open", "growth", "open calls", "time of a call", beside, threads=True),
        Curves("Calls by submit, all open at once", "growth", "open calls", "time for each", each, threads=True),
    ]


def _of_crowd(crowd: Callable[[], Any], method: str, host: Host) -> Measure:
    measure: Measure = getattr(host.shared(crowd), method)
    return measure


# --- memory


class Waits:
    """A work that waits until it is released, in both worlds."""

    def __init__(self) -> None:
        self._releases: list[Callable[[], object]] = []
        self._wanted = 0
        self._reached = threading.Event()

    async def coroutine(self) -> object:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._add(partial(loop.call_soon_threadsafe, future.set_result, VALUE))
        return await future

    def deferred(self, reactor: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self._add(partial(reactor.callFromThread, deferred.callback, VALUE))
        return deferred

    def _add(self, release: Callable[[], object]) -> None:
        self._releases.append(release)
        if len(self._releases) == self._wanted:
            self._reached.set()

    def prepare(self, host: Host) -> Forms:
        return Forms(self.coroutine, self.deferred)

    def until(self, count: int) -> None:
        """Wait until so many wait."""
        self._wanted = count
        if len(self._releases) < count:
            self._reached.wait()

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
