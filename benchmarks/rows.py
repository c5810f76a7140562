"""What is measured: tables of rows, built from the registry of strategies and a table of peers, and the targets.

A row opens what it needs, a loop thread for instance, and then measures as often as it is asked to. Every result is
compared with the one expected. Nothing here knows how rows are run, ordered or shown.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import blockingCallFromThread

import bridge

Measure = Callable[[int], list[int]]
"""Make so many calls and return the nanoseconds that each took."""

Once = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One thing measured, in a process of its own."""

    name: str
    label: str
    open: Callable[[], AbstractContextManager[Measure]]


@dataclass(frozen=True)
class Table:
    """Rows that are shown together, the baseline first.

    :param references: the rows that the others are given as multiples of, by the words that say so.
    :param threads: whether a call crosses threads, so that it matters on which cores they run.
    """

    title: str
    rows: list[Row]
    references: dict[str, str]
    threads: bool = False
    plotted: bool = False


@dataclass(frozen=True)
class Target:
    """At most so many times the reference's time, on one core."""

    row: str
    reference: str
    at_most: float


# --- calls from a thread

VALUE = object()


@dataclass(frozen=True)
class Work:
    """What is waited for; ``start`` returns a Deferred if ``is_deferred``, else a coroutine."""

    name: str
    title: str
    start: Callable[[], Any]
    is_deferred: bool = False


async def at_once() -> object:
    return VALUE


async def suspends_once() -> object:
    await asyncio.sleep(0)
    return VALUE


def fired() -> Deferred[object]:
    return succeed(VALUE)


AT_ONCE = Work("at_once", "A coroutine that returns at once", at_once)
SUSPENDS_ONCE = Work("suspends_once", "A coroutine that suspends once", suspends_once)
DEFERRED = Work("deferred", "A Deferred that has fired, from a function", fired, is_deferred=True)
WORKS = [AT_ONCE, SUSPENDS_ONCE, DEFERRED]

# What a caller's context holds in a program of any size; those that copy it copy these.
_VARIABLES = [ContextVar[str](f"benchmark_{number}") for number in range(3)]


@contextmanager
def floor(work: Work) -> Iterator[Once]:
    """Make the least that a call from a thread can be: a callback on the loop, and a lock for its end."""
    lock = threading.Lock()
    lock.acquire()
    with loop_thread() as loop:

        def once() -> object:
            loop.call_soon_threadsafe(lock.release)
            lock.acquire()
            return VALUE

        yield once


@contextmanager
def run_coroutine_threadsafe(work: Work) -> Iterator[Once]:
    with loop_thread() as loop:

        async def deferred() -> object:  # asyncio's tasks do not await Deferreds
            return await work.start().asFuture(loop)

        start = deferred if work.is_deferred else work.start
        yield lambda: asyncio.run_coroutine_threadsafe(start(), loop).result()


@contextmanager
def blocking_call_from_thread(work: Work) -> Iterator[Once]:
    with twisted_thread() as reactor:
        if work is SUSPENDS_ONCE:  # by asyncio's means, which only a task of asyncio's understands

            def start() -> Deferred[object]:
                return Deferred.fromFuture(asyncio.ensure_future(suspends_once()))
        elif work.is_deferred:
            start = work.start
        else:

            def start() -> Deferred[object]:
                return Deferred.fromCoroutine(work.start())

        call: Callable[..., object] = blockingCallFromThread
        yield lambda: call(reactor, start)


@contextmanager
def block_on(work: Work) -> Iterator[Once]:
    """Call the function itself: the default bridge, the default strategy."""
    try:
        yield _blocking(bridge.block_on, work)
    finally:
        bridge.default_bridge().close()


@contextmanager
def block_on_by(strategy: str, work: Work) -> Iterator[Once]:
    with bridge.Bridge(strategy=strategy, install_reactor=False) as owner:
        yield _blocking(owner.block_on, work)


def _blocking(block: Callable[[Any], object], work: Work) -> Once:
    start = work.start
    return (lambda: block(start)) if work.is_deferred else (lambda: block(start()))


Adapter = Callable[[Work], AbstractContextManager[Once]]

PEERS: dict[str, Adapter] = {
    "run_coroutine_threadsafe": run_coroutine_threadsafe,
    "blockingCallFromThread": blocking_call_from_thread,
}


@contextmanager
def loop_thread() -> Iterator[asyncio.SelectorEventLoop]:
    """Run a plain asyncio loop in a thread of its own."""
    loop = asyncio.SelectorEventLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def twisted_thread() -> Iterator[Any]:
    """Run Twisted's reactor on a plain asyncio loop, in a thread of its own; it is not installed."""
    loop = asyncio.SelectorEventLoop()
    reactor: Any = AsyncioSelectorReactor(loop)
    thread = threading.Thread(target=reactor.run, args=(False,))  # without signal handlers
    running = threading.Event()
    reactor.callWhenRunning(running.set)
    thread.start()
    running.wait()
    try:
        yield reactor
    finally:
        reactor.callFromThread(reactor.stop)
        thread.join()
        reactor.removeAll()
        loop.close()


@contextmanager
def _timed(adapter: Adapter, work: Work) -> Iterator[Measure]:
    def measure(calls: int) -> list[int]:
        clock, times = perf_counter_ns, []
        for _ in range(calls):
            begin = clock()
            result = once()
            times.append(clock() - begin)
            _check(result)
        return times

    context = copy_context()
    for variable in _VARIABLES:
        context.run(variable.set, "value")
    with adapter(work) as once:
        yield lambda calls: context.run(measure, calls)


def _check(result: object) -> None:
    if result is not VALUE:
        raise AssertionError(f"a call returned {result!r}")


def _calls() -> list[Table]:
    base = Row("floor", "floor: call_soon_threadsafe(lock.release)", partial(_timed, floor, AT_ONCE))
    strategies = bridge.strategies()
    usable = [name for name, strategy in strategies.items() if strategy.unavailable() is None and name != "auto"]
    tables = []
    for work in WORKS:
        rows = [base]
        for peer, adapter in PEERS.items():
            rows.append(Row(f"{work.name}/{peer}", peer, partial(_timed, adapter, work)))
        rows.append(Row(f"{work.name}/block_on", "block_on", partial(_timed, block_on, work)))
        for name in usable:
            row = f"{work.name}/block_on[{name}]"
            rows.append(Row(row, f"block_on, strategy {name}", partial(_timed, partial(block_on_by, name), work)))
        references = {"of asyncio's": f"{work.name}/run_coroutine_threadsafe", "of floor": base.name}
        tables.append(Table(work.title, rows, references, threads=True, plotted=True))
    return tables


# --- tasks on a loop


async def suspends_five_times() -> object:
    for _ in range(5):
        await asyncio.sleep(0)
    return VALUE


def _bridge_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of the class that a bridge runs."""
    with bridge.Bridge(install_reactor=False) as owner:
        loop_class = type(owner.loop)
    return loop_class()


@contextmanager
def _tasks(
    make_loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Coroutine[Any, Any, object]]
) -> Iterator[Measure]:
    """Create a task and await it, then the next."""
    loop = make_loop()

    async def measure(calls: int) -> list[int]:
        clock, times, create = perf_counter_ns, [], loop.create_task
        for _ in range(calls):
            begin = clock()
            result = await create(work())
            times.append(clock() - begin)
            _check(result)
        return times

    try:
        yield lambda calls: loop.run_until_complete(measure(calls))
    finally:
        loop.close()


def _task_tables() -> list[Table]:
    works: list[tuple[str, str, Callable[[], Coroutine[Any, Any, object]]]] = [
        ("task_at_once", "returns at once", at_once),
        ("task_suspends_once", "suspends once", suspends_once),
        ("task_suspends_five_times", "suspends five times", suspends_five_times),
    ]
    return [
        Table(
            f"A task that {what}, created and awaited",
            [
                Row(f"{name}/plain", "asyncio's SelectorEventLoop", partial(_tasks, asyncio.SelectorEventLoop, work)),
                Row(f"{name}/bridge", "a bridge's loop", partial(_tasks, _bridge_loop, work)),
            ],
            {"of asyncio's": f"{name}/plain"},
        )
        for name, what, work in works
    ]


# --- imports


@contextmanager
def _processes(code: str) -> Iterator[Measure]:
    """Start Python, run the code, and end."""
    # Without the current directory on the path: an installed bridge shall not lose to a checkout that we stand in.
    command = [sys.executable, "-P", "-c", code]

    def measure(calls: int) -> list[int]:
        times = []
        for _ in range(calls):
            begin = perf_counter_ns()
            subprocess.run(command, check=True)
            times.append(perf_counter_ns() - begin)
        return times

    yield measure


def _import_table() -> Table:
    first_call = "import asyncio, bridge; assert bridge.block_on(asyncio.sleep(0, 42)) == 42"
    codes = [
        ("import/nothing", "nothing", "pass"),
        ("import/parts", "twisted.internet.asyncioreactor, anyio", "import twisted.internet.asyncioreactor, anyio"),
        ("import/bridge", "bridge", "import bridge; assert bridge.block_on"),
        ("import/first_call", "bridge, and a first call", first_call),
    ]
    rows = [Row(name, label, partial(_processes, code)) for name, label, code in codes]
    return Table("A whole process that imports", rows, {"of its parts": "import/parts"})


# --- all of them


def groups() -> dict[str, list[Table]]:
    """Return the tables by group; the rows of a group are measured in turns, so that their ratios hold."""
    return {"calls": _calls(), "tasks": _task_tables(), "imports": [_import_table()]}


def rows_of(tables: list[Table]) -> list[Row]:
    """Return the rows of some tables, each once."""
    return list({row.name: row for table in tables for row in table.rows}.values())


def targets() -> list[Target]:
    """Return what has to be reached on this Python."""
    call = 0.55 if sys.version_info >= (3, 12) else 0.75  # 3.11 has no eager tasks
    return [
        Target("at_once/block_on", "at_once/run_coroutine_threadsafe", call),
        Target("at_once/block_on", "floor", 1.60),
        Target("task_at_once/bridge", "task_at_once/plain", 1.25),
        Target("task_suspends_once/bridge", "task_suspends_once/plain", 1.20),
        Target("task_suspends_five_times/bridge", "task_suspends_five_times/plain", 1.10),
        Target("import/bridge", "import/parts", 1.05),
    ]
