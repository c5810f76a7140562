"""The other verbs, each against the simplest way to the same end; and what context variables cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from time import perf_counter
from typing import Any

from bridge import Bridge
from bridge._calls import block_on
from bridge._cli.bench.model import Host, Measure, Row, Table, library, missing
from bridge._cli.bench.threads import plain_loop
from bridge._cli.bench.works import VALUE, at_once

ITEMS = 10_000


@contextmanager
def own_bridge() -> Iterator[Bridge]:
    with Bridge(install_reactor=False) as each:
        yield each


async def numbers() -> AsyncIterator[int]:
    for number in range(ITEMS):
        yield number


def _calls(prepare: Callable[[Bridge], Callable[[], object]], host: Host) -> Measure:
    once = prepare(host.shared(own_bridge))

    def measure(calls: int) -> list[float]:
        clock, times = perf_counter, []
        for _ in range(calls):
            begin = clock()
            result = once()
            times.append(clock() - begin)
            assert result is VALUE
        return times

    return measure


def _block_on(owner: Bridge) -> Callable[[], object]:
    return lambda: owner.block_on(at_once())


def _blocking(owner: Bridge) -> Callable[[], object]:
    return owner.blocking(at_once)


# --- context variables

_NAMES = [ContextVar[int](f"benchmark_of_verbs_{number}") for number in range(30)]


def _with_variables(owner: Bridge) -> Callable[[], object]:
    for variable in _NAMES:
        variable.set(1)
    return _block_on(owner)


def _without_writing_back(owner: Bridge) -> Callable[[], object]:
    assert block_on._take_variables
    block_on._take_variables = lambda call: None
    return _with_variables(owner)


def _setting_one(owner: Bridge) -> Callable[[], object]:
    for variable in _NAMES:
        variable.set(1)

    async def sets() -> object:
        _NAMES[0].set(_NAMES[0].get() + 1)
        return VALUE

    return lambda: owner.block_on(sets())


# --- iterate


def _items(iterate: Callable[[Host], Callable[[], Iterator[int]]], host: Host) -> Measure:
    """Take all items; a value is the time for one."""
    start = iterate(host)

    def measure(times: int) -> list[float]:
        took: list[float] = []
        for _ in range(times):
            begin = perf_counter()
            total = sum(start())
            took.append((perf_counter() - begin) / ITEMS)
            assert total == ITEMS * (ITEMS - 1) // 2
        return took

    return measure


def _iterate(prefetch: int, host: Host) -> Callable[[], Iterator[int]]:
    owner = host.shared(own_bridge)
    return lambda: iter(owner.iterate(numbers(), prefetch=prefetch))


def _one_by_one(host: Host) -> Callable[[], Iterator[int]]:
    loop = host.shared(plain_loop)

    def items() -> Iterator[int]:
        iterator = numbers()

        async def following() -> int:
            return await anext(iterator, -1)

        while (number := asyncio.run_coroutine_threadsafe(following(), loop).result()) != -1:
            yield number

    return items


def _synchronicity(host: Host) -> Callable[[], Iterator[int]]:
    synchronizer: Any = library("synchronicity").Synchronizer()
    start: Callable[[], Iterator[int]] = synchronizer.create_blocking(numbers, "items", __name__)
    return start


def tables() -> list[Table]:
    views = Table(
        "A call of a sync view",
        [
            Row("view/block_on", "bridge.block_on(f())", "verbs/block_on", partial(_calls, _block_on)),
            Row("view/blocking", "bridge.blocking(f)()", "verbs/blocking", partial(_calls, _blocking)),
        ],
        {"of block_on": "view/block_on"},
    )
    variables = Table(
        "block_on with 30 context variables set",
        [
            Row("context/not_out", "bridge, nothing written back", "verbs/not_out",
                partial(_calls, _without_writing_back)),
            Row("context/none_set", "bridge, the work sets none", "verbs/none_set", partial(_calls, _with_variables)),
            Row("context/one_set", "bridge, the work sets one", "verbs/one_set", partial(_calls, _setting_one)),
        ],
        {"of the first": "context/not_out"},
    )  # fmt: skip
    ways: list[tuple[str, str, Callable[[Host], Callable[[], Iterator[int]]]]] = [
        ("one_by_one", "asyncio.run_coroutine_threadsafe(anext(...))", _one_by_one),
        ("prefetch_0", "bridge.iterate(prefetch=0)", partial(_iterate, 0)),
        ("prefetch_64", "bridge.iterate(prefetch=64)", partial(_iterate, 64)),
    ]
    if not missing(["synchronicity"]):
        ways.insert(1, ("synchronicity", "synchronicity", _synchronicity))
    items = [
        Row(f"iterate/{name}", label, f"iterate/{name}", partial(_items, way), times=1) for name, label, way in ways
    ]
    title = f"An item of an async generator of {ITEMS:,}"
    return [views, variables, Table(title, items, {"of asyncio's": "iterate/one_by_one"}, threads=True)]
