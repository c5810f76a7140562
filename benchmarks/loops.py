"""What a loop of ours costs those who never block: its life, its tasks, what they use of it, beside other loops."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
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


def _lives(loop: str, host: Host) -> Measure:
    """Make loops, run a coroutine on each, and close them, as the tests of an asyncio library do.

    In a process of its own, since the one of the rows has imported Twisted, so that each loop would get a reactor.
    """
    command = [sys.executable, str(Path(__file__).with_name("short_lives.py")), loop]

    def measure(times: int) -> list[float]:
        return [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(times)]

    return measure


def _runs(make: Make, host: Host) -> Measure:
    """Run a loop that is there already until a coroutine has ended."""
    loop = host.shared(lambda: opened(make))

    def measure(runs: int) -> list[float]:
        times: list[float] = []
        for _ in range(runs):
            begin = perf_counter()
            result = loop.run_until_complete(at_once())
            times.append(perf_counter() - begin)
            assert result is VALUE
        return times

    return measure


Use = Callable[[asyncio.AbstractEventLoop], Awaitable[object]]


def _uses(make: Make, use: Use, host: Host) -> Measure:
    """Use the loop that runs, again and again."""
    loop = host.shared(lambda: opened(make))

    async def measure(uses: int) -> list[float]:
        clock, times = perf_counter, []
        for _ in range(uses):
            begin = clock()
            await use(loop)
            times.append(clock() - begin)
        return times

    return lambda uses: loop.run_until_complete(measure(uses))


_AT_ONCE = 20  # what takes less than a microsecond is done so often in one measured time


async def timers(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(_AT_ONCE):
        loop.call_later(3600, print).cancel()


async def cancelled_task(loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def posted(loop: asyncio.AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.call_soon_threadsafe(future.set_result, None)
    await future


async def in_a_worker(loop: asyncio.AbstractEventLoop) -> None:
    assert await loop.run_in_executor(None, int) == 0


async def watched(loop: asyncio.AbstractEventLoop) -> None:
    one, other = socket.socketpair()
    with one, other:
        for _ in range(_AT_ONCE):
            loop.add_reader(one, print)
            loop.remove_reader(one)


async def signalled(loop: asyncio.AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, future.set_result, None)
    signal.raise_signal(signal.SIGUSR1)
    await future
    loop.remove_signal_handler(signal.SIGUSR1)


async def connection(_: asyncio.AbstractEventLoop) -> None:
    one, other = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=one)
    far_reader, far_writer = await asyncio.open_connection(sock=other)
    writer.write(b"line\n")
    assert await far_reader.readline() == b"line\n"
    far_writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    for each in (writer, far_writer):
        each.close()
        await each.wait_closed()


async def looked_up(loop: asyncio.AbstractEventLoop) -> None:
    assert await loop.getaddrinfo("127.0.0.1", 80)


async def child(_: asyncio.AbstractEventLoop) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-ISE", "-c", "pass")
    assert await process.wait() == 0


# What the suites of other projects do on a loop, besides making and closing it.
_USES: list[tuple[str, str, Use]] = [
    ("timers", f"{_AT_ONCE} timers set and cancelled", timers),
    ("cancelled_task", "A task made, cancelled and awaited", cancelled_task),
    ("posted", "call_soon_threadsafe in the loop's own thread, and a wait for it", posted),
    ("in_a_worker", "run_in_executor", in_a_worker),
    ("watched", f"A reader added and removed, {_AT_ONCE} times, with its sockets", watched),
    ("signalled", "A signal handler added, called and removed", signalled),
    ("connection", "Two streams on a pair of sockets, a line there and back, closed", connection),
    ("looked_up", "getaddrinfo", looked_up),
    ("child", "A child process", child),
]


def uses() -> list[Table]:
    """Return the tables of a loop's life, and of what others use of a loop."""
    lives = [
        Row("loop_life/plain", LOOPS[0][1], "loop_life", partial(_lives, "plain"), times=1),
        Row("loop_life/bridge", "bridge.new_event_loop", "loop_life", partial(_lives, "bridge"), times=1),
    ]
    runs = [Row(f"loop_run/{loop}", label, f"loop/{loop}/run", partial(_runs, make)) for loop, label, make in LOOPS]
    tables = [
        Table("A loop made, run and closed, by asyncio.Runner", lives, {"of asyncio's": "loop_life/plain"}),
        Table("A loop run until a coroutine has ended", runs, {"of asyncio's": "loop_run/plain"}),
    ]
    for name, title, use in _USES:
        rows = [
            Row(f"use_{name}/{loop}", label, f"loop/{loop}/uses", partial(_uses, make, use))
            for loop, label, make in LOOPS
        ]
        tables.append(Table(title, rows, {"of asyncio's": f"use_{name}/plain"}))
    return tables


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
