"""What a loop of ours costs those who never block: its tasks and its iterations, beside other loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import bridge
from bridge._cli.bench.model import Host, Measure, Row, Table, library, missing
from bridge._cli.bench.works import VALUE, at_once, suspends_once

Make = Callable[[], asyncio.AbstractEventLoop]


async def suspends_five_times() -> object:
    for _ in range(5):
        await asyncio.sleep(0)
    return VALUE


def loop_of_a_bridge() -> asyncio.AbstractEventLoop:
    """Return a new loop of the class that a bridge runs."""
    with bridge.Bridge(install_reactor=False) as owner:
        loop_class = type(owner.loop)
    return loop_class()


def uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = library("uvloop").new_event_loop()
    return loop


LOOPS: list[tuple[str, str, Make]] = [
    ("plain", "floor: asyncio's SelectorEventLoop", asyncio.SelectorEventLoop),
    ("bridge", "bridge's loop", loop_of_a_bridge),
]
if not missing(["uvloop"]):
    LOOPS.append(("uvloop", "uvloop", uvloop))


@contextmanager
def opened(make: Make) -> Iterator[asyncio.AbstractEventLoop]:
    loop = make()
    try:
        yield loop
    finally:
        loop.close()


def _tasks(make: Make, work: Callable[[], Coroutine[Any, Any, object]], host: Host) -> Measure:
    """Create a task and await it, then the next."""
    loop = host.shared(lambda: opened(make))

    async def measure(calls: int) -> list[float]:
        clock, times, create = perf_counter, [], loop.create_task
        for _ in range(calls):
            begin = clock()
            result = await create(work())
            times.append(clock() - begin)
            assert result is VALUE
        return times

    return lambda calls: loop.run_until_complete(measure(calls))


def _iterations(make: Make, host: Host) -> Measure:
    """Run iterations of the loop that have one callback each, which schedules the next.

    The time is from the first one to the last: it is no part of them to begin to run the loop, and to stop.
    """
    loop = host.shared(lambda: opened(make))

    def measure(iterations: int) -> list[float]:
        left = iterations
        times: list[float] = []

        def first() -> None:
            loop.call_soon(turn)
            times.append(perf_counter())

        def turn() -> None:
            nonlocal left
            left -= 1
            if left > 0:
                loop.call_soon(turn)
            else:
                times.append(perf_counter())
                loop.stop()

        loop.call_soon(first)
        loop.run_forever()
        begin, end = times
        assert left == 0
        return [(end - begin) / iterations]

    return measure


def tables() -> list[Table]:
    works: list[tuple[str, str, Callable[[], Coroutine[Any, Any, object]]]] = [
        ("task_at_once", "A task that returns at once, created and awaited", at_once),
        ("task_suspends_once", "A task that suspends once, created and awaited", suspends_once),
        ("task_suspends_five_times", "A task that suspends five times, created and awaited", suspends_five_times),
    ]
    found = [
        Table(
            title,
            [
                Row(f"{name}/{loop}", label, f"loop/{loop}/{name}", partial(_tasks, make, work))
                for loop, label, make in LOOPS
            ],
            {"of asyncio's": f"{name}/plain"},
        )
        for name, title, work in works
    ]
    iterations = [
        Row(f"iteration/{loop}", label, f"loop/{loop}/iteration", partial(_iterations, make))
        for loop, label, make in LOOPS
    ]
    return [
        *found,
        Table("An iteration of the loop, with one callback", iterations, {"of asyncio's": "iteration/plain"}),
    ]
