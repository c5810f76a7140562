"""Nested runs: asyncio.run() where a loop runs, as programs that use nest_asyncio have them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import bridge
from bridge._cli.bench.model import Host, Measure, Row, Table, library, missing

DEEP, MANY = 10, 50

Coro = Coroutine[Any, Any, int]


@dataclass(frozen=True)
class Nester:
    """A means to run a coroutine where a loop runs.

    :param open: gives a loop on which that can be done.
    :param nest: returns the coroutine's result to a coroutine on that loop.
    """

    name: str
    label: str
    open: Callable[[], Any]
    nest: Callable[[Coro], Awaitable[int]]
    needs: tuple[str, ...] = ()


async def _as_task(coro: Coro) -> int:
    return await asyncio.get_running_loop().create_task(coro)


async def _by_run(coro: Coro) -> int:
    return asyncio.run(coro)


@contextmanager
def _plain() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        yield runner.get_loop()


@contextmanager
def _patched(module: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Patch asyncio, for good."""
    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)  # which the patched asyncio asks for
    library(module).apply(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextmanager
def _by_ours(make: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.AbstractEventLoop]:
    from bridge.ext import nest

    bridge.configure(install_reactor=False)
    nest.apply()
    loop = make()
    try:
        yield loop
    finally:
        loop.close()
        nest.undo()
        bridge.default_bridge().close()


NESTERS = [
    Nester("await", "floor: await a task", _plain, _as_task),
    Nester("nest_asyncio", "nest_asyncio", partial(_patched, "nest_asyncio"), _by_run, ("nest_asyncio",)),
    Nester("nest_asyncio2", "nest_asyncio2", partial(_patched, "nest_asyncio2"), _by_run, ("nest_asyncio2",)),
    Nester("nest_on_plain", "bridge.ext.nest, on asyncio's loop", partial(_by_ours, asyncio.SelectorEventLoop),
           _by_run),
    Nester("nest_on_ours", "bridge.ext.nest, on bridge's loop", partial(_by_ours, bridge.new_event_loop), _by_run),
]  # fmt: skip


async def _leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def _one(nester: Nester) -> int:
    return await nester.nest(_leaf(1))


async def _deep(nester: Nester, left: int = DEEP) -> int:
    await asyncio.sleep(0)
    return 1 + await nester.nest(_deep(nester, left - 1)) if left else 0


async def _at_once(nester: Nester) -> int:
    return sum(await asyncio.gather(*(nester.nest(_leaf(1)) for _ in range(MANY))))


def _measure(nester: Nester, make: Callable[[Nester], Coro], count: int, host: Host) -> Measure:
    """Return the time for each of so many nested runs."""
    loop: asyncio.AbstractEventLoop = host.shared(nester.open)

    async def measure(times: int) -> list[float]:
        took: list[float] = []
        for _ in range(times):
            begin = perf_counter()
            result = await make(nester)
            took.append((perf_counter() - begin) / count)
            assert result == count
        return took

    return lambda times: loop.run_until_complete(measure(times))


def tables() -> list[Table]:
    shapes: list[tuple[str, str, Callable[[Nester], Coro], int]] = [
        ("one", "asyncio.run where a loop runs", _one, 1),
        ("deep", f"{DEEP} runs in each other, time for each", _deep, DEEP),
        ("at_once", f"{MANY} tasks with a run each at once, time for each", _at_once, MANY),
    ]
    here = [nester for nester in NESTERS if not missing(nester.needs)]
    found: list[Table] = []
    for shape, title, make, count in shapes:
        rows = [
            Row(f"nested_{shape}/{nester.name}", nester.label, f"nested/{nester.name}",
                partial(_measure, nester, make, count))
            for nester in here
        ]  # fmt: skip
        references = {"of await": f"nested_{shape}/await"}
        if "nest_asyncio" in [nester.name for nester in here]:
            references["of nest_asyncio"] = f"nested_{shape}/nest_asyncio"
        # That of bridge.ext.nest on another loop crosses to a thread.
        found.append(Table(title, rows, references, threads=True))
    return found
