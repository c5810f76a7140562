"""Many calls blocked at once in the loop's own thread, ended in random order: time and memory for each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import sizes

import bridge
from bridge._cli.bench.model import Curves, Host, Measure, Row, library, missing
from bridge._cli.bench.works import VALUE

NUMBERS = [1, 10, 100, 1_000, 10_000, 100_000]


@dataclass(frozen=True)
class Blocker:
    """A means to block in a task.

    :param body: the body of a task that waits for a Future.
    :param most: calls that it takes at once.
    """

    name: str
    label: str
    body: Callable[[Any], Coroutine[Any, Any, Any]]
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    needs: tuple[str, ...] = ()
    most: int = NUMBERS[-1]


async def _await(future: Any) -> Any:
    return await future


async def _block_on(future: Any) -> Any:
    return bridge.block_on(future)


async def _await_only(future: Any) -> Any:
    util = library("sqlalchemy.util")
    return await util.greenlet_spawn(util.await_only, future)


async def _greenback(future: Any) -> Any:
    greenback = library("greenback")
    await greenback.ensure_portal()
    return greenback.await_(future)


async def _nest_asyncio(future: Any) -> Any:
    return asyncio.get_running_loop().run_until_complete(future)


def _patched_loop(module: str) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    library(module).apply(loop)
    return loop


BLOCKERS = [
    Blocker("await", "floor: await in a coroutine", _await),
    Blocker("await_only", "SQLAlchemy's await_only", _await_only, needs=("sqlalchemy",)),
    Blocker("greenback", "greenback's await_", _greenback, needs=("greenback",)),
    # Each nests the loop once more: a hundred is what Python's recursion limit leaves.
    Blocker(
        "nest_asyncio", "nest_asyncio", _nest_asyncio, partial(_patched_loop, "nest_asyncio"), ("nest_asyncio",), 10
    ),
    Blocker(
        "nest_asyncio2", "nest_asyncio2", _nest_asyncio, partial(_patched_loop, "nest_asyncio2"), ("nest_asyncio2",), 10
    ),
    Blocker("block_on", "bridge.block_on", _block_on, bridge.new_event_loop),
]


def block(blocker: Blocker, count: int) -> tuple[float, float]:
    """Block so many calls, end them, and return the seconds and bytes for each."""
    loop = blocker.make_loop()
    futures: list[asyncio.Future[object]] = []

    async def task() -> object:
        future = loop.create_future()
        futures.append(future)
        return await blocker.body(future)

    async def main() -> tuple[float, float]:
        before = sizes.resident() if sizes.CAN_TELL else 0
        begin = perf_counter()
        tasks = [loop.create_task(task()) for _ in range(count)]
        while len(futures) < count:
            await asyncio.sleep(0)
        blocked = perf_counter() - begin
        held = sizes.resident() - before if sizes.CAN_TELL else 0
        random.shuffle(futures)
        begin = perf_counter()
        for future in futures:
            future.set_result(VALUE)
        results = [await each for each in tasks]
        took = blocked + perf_counter() - begin
        assert results == [VALUE] * count
        return took / count, max(held / count, 1.0)

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


class Runs:
    """Runs of one blocker and number. Each gives a time and a size, which are two rows."""

    def __init__(self, blocker: Blocker, count: int) -> None:
        self._blocker, self._count = blocker, count
        self._left: tuple[list[float], list[float]] = ([], [])
        block(blocker, 1)  # imports what it needs, which is not what is measured

    def next(self, part: int) -> float:
        """Return the time (0) or the size (1) of a run; the other is kept for the other row.

        So a size is one of a fresh process: what one run leaves behind, the next would use.
        """
        if not self._left[part]:
            for left, value in zip(self._left, block(self._blocker, self._count), strict=True):
                left.append(value)
        return self._left[part].pop(0)


def _measure(open_runs: Callable[[], AbstractContextManager[Runs]], part: int, host: Host) -> Measure:
    return lambda times: [host.shared(open_runs).next(part) for _ in range(times)]


def curves() -> list[Curves]:
    times: dict[str, list[tuple[int, Row]]] = {}
    memory: dict[str, list[tuple[int, Row]]] = {}
    for blocker in BLOCKERS:
        if missing(blocker.needs):
            continue
        for count in NUMBERS:
            if count > blocker.most:
                break
            name, process = f"{count}/{blocker.name}", f"blocked/{count}/{blocker.name}"
            label = f"{blocker.label}, {count:,} at once"
            runs = _opening(blocker, count)
            once = count > 10_000
            row = Row(f"blocked_{name}", label, process, partial(_measure, runs, 0), times=1, once=once)
            times.setdefault(blocker.label, []).append((count, row))
            if sizes.CAN_TELL and count >= 1_000:  # below, the size of a page is all that one would see
                row = Row(f"blocked_memory_{name}", label, process, partial(_measure, runs, 1), "B", 1, once=once)
                memory.setdefault(blocker.label, []).append((count, row))
    title = "Calls blocked at once in the loop's thread"
    return [
        Curves(title, "growth", "blocked calls", "time for each", times),
        Curves(title, "blocked", "blocked calls", "memory for each", memory),
    ][: 2 if memory else 1]


def _opening(blocker: Blocker, count: int) -> Callable[[], AbstractContextManager[Runs]]:
    @contextmanager
    def runs() -> Iterator[Runs]:
        yield Runs(blocker, count)

    return runs
