"""Peers that block in the loop's own thread, and bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from ..._api.bridge import Bridge
from ..._api.default import block_on
from .model import Measure, library
from .way import Once, Peer, Way
from .works import VALUE, Forms, Work


class Inside:
    """A way whose callers run on a loop.

    :param run: calls a function on the loop, where it may wait.
    :param wait: waits for a coroutine in such a function.
    """

    def __init__(self, run: Callable[[Callable[[], Any]], Any], wait: Callable[[Any], Any]) -> None:
        self._run = run
        self._wait = wait

    def once(self, forms: Forms, work: Work) -> Once | None:
        """As :meth:`~bridge._cli.bench.way.Way.once`."""
        make, wait = forms.coroutine, self._wait
        return None if make is None else lambda: wait(make())

    def run(self, function: Callable[[], Any]) -> Any:
        """As :meth:`~bridge._cli.bench.way.Way.run`."""
        return self._run(function)


class Awaited:
    """The floor: await the coroutine in a coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def measure(self, forms: Forms, work: Work) -> Measure:
        """Return a function that times the awaits."""
        make: Any = forms.coroutine
        is_right = work.is_right

        async def measure(calls: int) -> list[float]:
            clock = perf_counter
            times: list[float] = []
            for _ in range(calls):
                begin = clock()
                result = await make()
                times.append(clock() - begin)
                if not is_right(result):
                    raise AssertionError(f"a call returned {result!r}")
            return times

        return lambda calls: self._loop.run_until_complete(measure(calls))


@contextmanager
def _await() -> Generator[Any]:
    with asyncio.Runner() as runner:
        yield Awaited(runner.get_loop())


@contextmanager
def _block_on() -> Generator[Way]:
    with Bridge(install_reactor=False) as bridge:
        yield Inside(bridge.run, block_on)


@contextmanager
def _await_only() -> Generator[Way]:
    util: Any = library("sqlalchemy.util")
    with asyncio.Runner() as runner:
        yield Inside(lambda function: runner.run(util.greenlet_spawn(function)), util.await_only)


@contextmanager
def _greenback() -> Generator[Way]:
    greenback: Any = library("greenback")

    async def call(function: Callable[[], Any]) -> Any:
        await greenback.ensure_portal()
        return function()

    with asyncio.Runner() as runner:
        yield Inside(lambda function: runner.run(call(function)), greenback.await_)


@contextmanager
def _nest_asyncio(module: str) -> Generator[Way]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    library(module).apply(loop)

    async def call(function: Callable[[], Any]) -> Any:
        return function()

    try:
        yield Inside(lambda function: loop.run_until_complete(call(function)), loop.run_until_complete)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class _Spawned:
    """gevent's own spawn().get(). The work is a function that uses gevent, which knows no coroutines."""

    def __init__(self) -> None:
        self._gevent: Any = library("gevent")

    def once(self, forms: Forms, work: Work) -> Once | None:
        """As :meth:`~bridge._cli.bench.way.Way.once`."""
        gevent = self._gevent

        def at_once() -> object:
            return VALUE

        def suspends_once() -> object:
            gevent.sleep(0)
            return VALUE

        function = {"at_once": at_once, "suspends_once": suspends_once}.get(work.name)
        return None if function is None else lambda: gevent.spawn(function).get()

    def run(self, function: Callable[[], Any]) -> Any:
        """Call the function: gevent has a hub in every thread."""
        return function()


@contextmanager
def _gevent() -> Generator[Way]:
    yield _Spawned()


_BOTH = frozenset({"at_once", "suspends_once"})

AWAIT = Peer("await", "floor: await in a coroutine", _await, only=_BOTH, contender=False)
OURS = Peer("block_on", "bridge.block_on", _block_on, only=_BOTH)
PEERS = [
    Peer("await_only", "SQLAlchemy's await_only", _await_only, ["sqlalchemy"], only=_BOTH),
    Peer("greenback", "greenback's await_", _greenback, ["greenback"], only=_BOTH),
    Peer("nest_asyncio", "nest_asyncio", partial(_nest_asyncio, "nest_asyncio"), ["nest_asyncio"], only=_BOTH),
    Peer("nest_asyncio2", "nest_asyncio2", partial(_nest_asyncio, "nest_asyncio2"), ["nest_asyncio2"], only=_BOTH),
    Peer("gevent", "gevent's own spawn().get()", _gevent, ["gevent"], only=_BOTH, contender=False),
]
