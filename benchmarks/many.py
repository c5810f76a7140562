"""Many bridges, and many tasks that await Deferreds: what each costs beside so many others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from crowds import EACH, race
from loops import opened
from twisted.internet.defer import Deferred

import bridge
from bridge._cli.bench.model import Curves, Host, Measure, Row
from bridge._cli.bench.threads import plain_loop
from bridge._cli.bench.way import Once
from bridge._cli.bench.works import VALUE, at_once

BRIDGES = [1, 2, 4, 8, 16, 32, 64]
TASKS = [1, 10, 100, 1_000, 10_000]

# --- bridges


@contextmanager
def _our_call() -> Iterator[Once]:
    with bridge.Bridge(install_reactor=False) as each:
        yield lambda: each.block_on(at_once())


@contextmanager
def _asyncio_call() -> Iterator[Once]:
    with plain_loop() as loop:
        yield lambda: asyncio.run_coroutine_threadsafe(at_once(), loop).result()


def _all(make: Callable[[], Any], count: int) -> Callable[[], Any]:
    @contextmanager
    def calls() -> Iterator[list[Once]]:
        with ExitStack() as stack:
            yield [stack.enter_context(make()) for _ in range(count)]

    return calls


def _throughput(calls: Callable[[], Any], host: Host) -> Measure:
    """Let each be called by a thread of its own, and return the time divided by all calls."""
    onces: list[Once] = host.shared(calls)
    return lambda times: [race(onces, max(EACH, times // len(onces)))]


def _lives(calls: Callable[[], Any], count: int, host: Host) -> Measure:
    """Start all, call each once, end all, and return the time for each."""
    with calls():
        pass  # the imports, which are not what is measured

    def measure(times: int) -> list[float]:
        took: list[float] = []
        for _ in range(times):
            begin = perf_counter()
            with calls() as onces:
                results = [once() for once in onces]
            took.append((perf_counter() - begin) / count)
            assert results == [VALUE] * count
        return took

    return measure


def bridges() -> list[Curves]:
    ways: list[tuple[str, str, Callable[[], Any]]] = [
        ("run_coroutine_threadsafe", "asyncio.run_coroutine_threadsafe", _asyncio_call),
        ("block_on", "bridge.block_on", _our_call),
    ]
    calls: dict[str, list[tuple[int, Row]]] = {}
    lives: dict[str, list[tuple[int, Row]]] = {}
    for name, label, make in ways:
        for count in BRIDGES:
            every = _all(make, count)
            row = Row(f"bridges_{count}/{name}", f"{label}, {count} loops", f"bridges/{count}/{name}",
                      partial(_throughput, every), per_second=1)  # fmt: skip
            calls.setdefault(label, []).append((count, row))
            row = Row(f"bridges_life_{count}/{name}", f"{label}, {count} loops", f"bridges/life/{name}",
                      partial(_lives, every, count), times=1)  # fmt: skip
            lives.setdefault(label, []).append((count, row))
    words = "bridges, or loops in threads"
    return [
        Curves("A caller thread for each bridge", "growth", words, "calls a second", calls, threads=True),
        Curves("Bridges started, called once, closed", "growth", words, "time for each", lives, threads=True),
    ]


# --- tasks that await Deferreds

Body = Callable[[Any], Coroutine[Any, Any, object]]


async def _awaits(x: Any) -> object:
    return await x


async def _awaits_future_of(deferred: Deferred[object]) -> object:
    return await deferred.asFuture(asyncio.get_running_loop())


def _tasks(
    make: Callable[[], asyncio.AbstractEventLoop], body: Body, is_future: bool, count: int, host: Host
) -> Measure:
    """Let so many tasks await something of their own, fire that in random order, and return the time for each."""
    loop = host.shared(partial(opened, make))

    async def run() -> float:
        begin = perf_counter()
        awaited: list[Any] = [loop.create_future() if is_future else Deferred() for _ in range(count)]
        tasks = [loop.create_task(body(each)) for each in awaited]
        await asyncio.sleep(0)  # after it, each task waits
        random.shuffle(awaited)
        for each in awaited:
            if is_future:
                each.set_result(VALUE)
            else:
                each.callback(VALUE)
        results = [await task for task in tasks]
        took = perf_counter() - begin
        assert results == [VALUE] * count
        return took / count

    async def measure(times: int) -> list[float]:
        return [await run() for _ in range(times)]

    return lambda times: loop.run_until_complete(measure(times))


def deferreds() -> list[Curves]:
    plain, ours = asyncio.SelectorEventLoop, bridge.new_event_loop
    ways: list[tuple[str, str, Callable[[], asyncio.AbstractEventLoop], Body, bool]] = [
        ("futures", "floor: asyncio's tasks that await Futures", plain, _awaits, True),
        ("as_future", "asyncio's tasks that await deferred.asFuture()", plain, _awaits_future_of, False),
        ("bridge", "bridge's tasks that await Deferreds", ours, _awaits, False),
    ]
    lines = {
        label: [
            (count, Row(f"deferreds_{count}/{name}", f"{label}, {count}", f"deferreds/{name}",
                        partial(_tasks, make, body, is_future, count), times=1 if count > 100 else None))
            for count in TASKS
        ]
        for name, label, make, body, is_future in ways
    }  # fmt: skip
    return [Curves("Tasks that await Deferreds at once", "growth", "tasks", "time for each", lines)]
