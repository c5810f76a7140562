"""Blocked stacks beside SQLAlchemy and greenback, and blocked calls inside of their greenlets."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import greenlet as greenlets
import httpx
import pytest
from greenlet import getcurrent, greenlet
from servers import UVICORN

from bridge import Bridge, block_on
from bridge._loop.switching import SwitchingLoop

pytest.importorskip("greenback", reason="needs greenback: pip install --group real")
pytest.importorskip("sqlalchemy", reason="needs sqlalchemy: pip install --group real")

import greenback
from sqlalchemy import Integer, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeDecorator
from sqlalchemy.util import await_only

# How long the stress test runs.
SECONDS = float(os.environ.get("BRIDGE_STRESS_SECONDS", "10"))

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(SECONDS + 120),
    # From CPython 3.13 on, of a connection of aiosqlite's that was cancelled as it began; on asyncio's own loop, too.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge("test", install_reactor=False) as each:
        yield each
    gc.collect()
    assert greenlets.gettrace() is None


@pytest.fixture(params=["aiosqlite", "asyncpg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database."""
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/database"
    return request.getfixturevalue("postgres").url  # type: ignore[no-any-return]


@asynccontextmanager
async def engine_on(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url, pool_size=5, max_overflow=5)
    try:
        yield engine
    finally:
        await engine.dispose()


async def value(of: Any, seconds: float = 0.001) -> Any:
    await asyncio.sleep(seconds)
    return of


async def query(engine: AsyncEngine, number: int) -> Any:
    async with engine.connect() as connection:
        for _ in range(3):
            result = (await connection.execute(text(f"select {number}"))).scalar()
        return result


# --- SQLAlchemy


def test_queries_beside_blocked_queries(bridge: Bridge, url: str) -> None:
    async def main() -> list[Any]:
        async with engine_on(url) as engine:

            async def blocked(number: int) -> Any:
                return block_on(query(engine, number))

            each = [*map(blocked, range(10)), *(query(engine, number) for number in range(10, 20))]
            return await asyncio.gather(*each)

    assert bridge.block_on(main(), timeout=30) == list(range(20))


def test_blocked_calls_inside_of_its_greenlets(bridge: Bridge, url: str) -> None:
    """In run_sync(), in a hook of the engine's and in a type of the user's: wherever its sync code calls the user's."""

    class Doubled(TypeDecorator[int]):
        impl = Integer
        cache_ok = True

        def process_result_value(self, value: Any, dialect: Any) -> int:
            return block_on(_doubled(value))  # type: ignore[no-any-return]

    async def _doubled(number: int) -> int:
        await asyncio.sleep(0.001)
        return 2 * number

    async def main() -> list[Any]:
        async with engine_on(url) as engine:
            statements: list[str] = []

            @event.listens_for(engine.sync_engine, "before_cursor_execute")
            def before(_: Any, __: Any, statement: str, *___: Any) -> None:
                statements.append(block_on(value(statement)))

            def inside(connection: Any, number: int) -> int:
                doubled = text(f"select {number} as n").columns(n=Doubled)
                assert connection.execute(doubled).scalar() == 2 * number
                assert await_only(value(number)) == number
                assert block_on(value(number)) == number
                assert block_on(query(engine, number)) == number
                with pytest.raises(TimeoutError):
                    block_on(asyncio.sleep(10), timeout=0.001)
                return number

            async def one(number: int) -> Any:
                async with engine.connect() as connection:
                    return await connection.run_sync(inside, number)

            numbers = await asyncio.gather(*map(one, range(4)), *[query(engine, 4)])
            assert len(statements) == 4 * 4 + 3
            return numbers

    assert bridge.block_on(main(), timeout=30) == list(range(5))


def test_a_cancelled_query_beside_blocked_stacks(bridge: Bridge, url: str) -> None:
    async def main() -> None:
        async with engine_on(url) as engine:

            def inside(_: Any) -> None:
                block_on(asyncio.sleep(10))

            async def one() -> None:
                async with engine.connect() as connection:
                    await connection.run_sync(inside)

            async def blocked() -> None:
                for _ in range(5):
                    block_on(asyncio.sleep(0.001))

            for _ in range(3):
                tasks = [asyncio.create_task(one()) for _ in range(3)]
                await asyncio.gather(blocked(), blocked())
                for task in tasks:
                    task.cancel()
                assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [
                    asyncio.CancelledError
                ] * 3
            assert await query(engine, 1) == 1

    bridge.block_on(main(), timeout=30)


# --- greenback


async def in_a_portal_of_its_own(function: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return function()

    return await greenback.with_portal_run(main)


async def in_a_sync_portal(function: Callable[[], Any]) -> Any:
    return await greenback.with_portal_run_sync(function)


async def in_the_tasks_portal(function: Callable[[], Any]) -> Any:
    await greenback.ensure_portal()
    assert greenback.has_portal()
    return function()


async def in_a_portal_that_was_bestowed(function: Callable[[], Any]) -> Any:
    async def other() -> Any:
        await bestowed.wait()
        return function()

    bestowed = asyncio.Event()
    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    greenback.bestow_portal(task)
    bestowed.set()
    return await task


PORTALS = [in_a_portal_of_its_own, in_a_sync_portal, in_the_tasks_portal, in_a_portal_that_was_bestowed]
portals = pytest.mark.parametrize("portal", PORTALS, ids=lambda each: each.__name__)

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


@portals
def test_in_a_portal(bridge: Bridge, portal: Callable[..., Awaitable[Any]]) -> None:
    def function(n: int) -> int:
        for step in range(3):
            variable.set((n, step))
            assert greenback.await_(value(n)) == n
            assert block_on(value(n)) == n
            with pytest.raises(TimeoutError):
                block_on(asyncio.sleep(10), timeout=0.001)
            with pytest.raises(LookupError):
                greenback.await_(failing())
            assert variable.get() == (n, step)
        return n

    async def failing() -> None:
        await asyncio.sleep(0.001)
        raise LookupError

    async def blocked(n: int) -> int:
        for _ in range(5):
            assert block_on(value(n)) == n
        return n

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(portal(functools.partial(function, n))) for n in range(10)]  # type: ignore[arg-type]
        return await asyncio.gather(*tasks, *map(blocked, range(10, 20)))

    assert bridge.block_on(main(), timeout=30) == list(range(20))


@portals
def test_a_query_in_a_portal(bridge: Bridge, url: str, portal: Callable[..., Awaitable[Any]]) -> None:
    async def main() -> list[Any]:
        async with engine_on(url) as engine:

            def inside(_: Any, n: int) -> int:
                assert await_only(value(n)) == n
                assert block_on(value(n)) == n
                return n

            async def sync(n: int) -> Any:
                async with engine.connect() as connection:
                    assert await connection.run_sync(inside, n) == n
                return await query(engine, n)

            def function(n: int) -> Any:
                assert greenback.await_(sync(n)) == n
                return block_on(sync(n))

            tasks = [asyncio.create_task(portal(functools.partial(function, n))) for n in range(6)]  # type: ignore[arg-type]
            return await asyncio.gather(*tasks)

    assert bridge.block_on(main(), timeout=30) == list(range(6))


def test_no_portal_no_await(bridge: Bridge) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="must create a greenback portal"):
            greenback.await_(value(1))
        assert block_on(value(1)) == 1

    bridge.block_on(main(), timeout=30)


# --- a server


def test_a_server_with_an_endpoint_of_sqlalchemys_and_one_that_blocks(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-", dir="/tmp") as folder:
        address = os.path.join(folder, "socket")
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = {"SERVED_DATABASE": url, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with (
            tempfile.TemporaryFile("w+") as printed,
            subprocess.Popen(
                [*UVICORN, "served:app", "--loop", "bridge:new_event_loop", "--uds", address],
                env=os.environ | environment,
                stdout=printed,
                stderr=printed,
            ) as server,
        ):
            try:
                give_up = time.monotonic() + 30
                while not os.path.exists(address):
                    assert server.poll() is None
                    assert time.monotonic() < give_up
                    time.sleep(0.02)
                with httpx.Client(transport=httpx.HTTPTransport(uds=address), base_url="http://server") as client:

                    def get(path: str) -> Any:
                        response = client.get(path, timeout=20)
                        response.raise_for_status()
                        return response.json()

                    numbers = [n for n in range(60) for _ in range(3)]
                    paths = [f"/{kind}/{n}" for n in range(60) for kind in ("query", "blocks", "both")]
                    with ThreadPoolExecutor(12) as pool:
                        assert list(pool.map(get, paths)) == numbers
                    assert get("/query/7") == 7
                server.send_signal(signal.SIGINT)
                server.wait(20)
            finally:
                server.kill()
                printed.seek(0)
                text = printed.read()
            assert not re.search("Traceback|Error|Warning|Cannot|does not match|without the end", text), text
            assert server.returncode in (0, -signal.SIGINT)


# --- everything at once


class Stress:
    """Work of every kind, each of which knows what must come out."""

    def __init__(self, rng: random.Random, engines: list[AsyncEngine], until: float) -> None:
        self.rng = rng
        self.engines = engines
        self.until = until
        self.done: dict[str, int] = {}

    def note(self, name: str) -> None:
        self.done[name] = self.done.get(name, 0) + 1

    def pause(self) -> float:
        return self.rng.choice([0.0, 0.0, 0.001, 0.002, 0.01])

    def number(self) -> int:
        return self.rng.randrange(10**6)

    def waited(self, waits: Callable[[Any], Any]) -> None:
        """Wait in sync code, by a function that does so, for something that is right, wrong, late or cancelled."""
        n = self.number()
        how = self.rng.randrange(6)
        if how == 0:
            with pytest.raises(LookupError):
                waits(self.failing(n))
        elif how == 1:
            with pytest.raises(TimeoutError):
                waits(asyncio.wait_for(asyncio.sleep(10), self.pause()))
        elif how == 2:
            with pytest.raises(asyncio.CancelledError):
                waits(self.cancelled())
        else:
            assert waits(value(n, self.pause())) == n
        self.note("a wait")

    async def failing(self, n: int) -> None:
        await asyncio.sleep(self.pause())
        raise LookupError(n)

    async def cancelled(self) -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        asyncio.get_running_loop().call_later(self.pause(), task.cancel)
        await task

    # What one task does once.

    async def blocks(self) -> None:
        """Block; sometimes one stack above another."""
        for _ in range(self.rng.randrange(1, 4)):
            self.waited(block_on)
        if self.rng.randrange(4) == 0:
            block_on(self.blocks())
        self.note("blocked")

    async def queries(self) -> None:
        """Ask a database, and sync code with it, which blocks too."""

        def inside(connection: Any) -> int:
            for _ in range(self.rng.randrange(3)):
                self.waited(self.rng.choice([await_only, block_on]))
            return connection.execute(text(f"select {n}")).scalar()  # type: ignore[no-any-return]

        n = self.number()
        engine = self.rng.choice(self.engines)
        connection: AsyncConnection
        async with engine.connect() as connection:
            assert (await connection.execute(text(f"select {n}"))).scalar() == n
            if self.rng.randrange(2):
                assert await connection.run_sync(inside) == n
            assert (await connection.execute(text(f"select {n + 1}"))).scalar() == n + 1
        self.note(f"a query of {engine.dialect.driver}")

    async def blocks_on_a_query(self) -> None:
        """Block on it."""
        block_on(self.queries())
        self.note("blocked on a query")

    async def uses_a_portal(self) -> None:
        """Use greenback's, of any kind."""
        token = self.number()

        def function() -> int:
            for _ in range(self.rng.randrange(1, 4)):
                variable.set(token)
                self.waited(self.rng.choice([greenback.await_, block_on]))
                assert variable.get() == token
            if self.rng.randrange(4) == 0:
                self.rng.choice([greenback.await_, block_on])(self.queries())
            return token

        portal = self.rng.choice(PORTALS)
        assert await asyncio.create_task(portal(function)) == token  # type: ignore[arg-type]
        self.note(portal.__name__)

    async def runs_a_greenlet(self) -> None:
        """Run one of its own, with others above it, as libraries do that nobody has heard of."""

        def wait(x: Any) -> Any:
            return getcurrent().parent.switch(x)  # type: ignore[union-attr]

        def wait_by_name(x: Any) -> Any:
            return home.switch(x)

        def work(depth: int) -> int:
            for _ in range(self.rng.randrange(1, 4)):
                self.waited(self.rng.choice([waits, block_on]))
            if depth and self.rng.randrange(2):
                above = greenlet(lambda: block_on(value(n, self.pause())))
                assert above.switch() == n
            if depth and self.rng.randrange(2):
                self.rng.choice([waits, block_on])(self.runs_a_greenlet())
            if self.rng.randrange(4) == 0:
                raise KeyError(n)
            return n

        n = self.number()
        home = getcurrent()
        waits = self.rng.choice([wait, wait_by_name])
        inner = greenlet(work)
        try:
            result = inner.switch(self.rng.randrange(3))
            while not inner.dead:
                try:
                    got = await result
                except BaseException as error:
                    result = inner.throw(error)
                else:
                    result = inner.switch(got)
        except KeyError as error:
            result = error.args[0]
        assert result == n
        self.note("a greenlet")

    async def drops_a_greenlet(self) -> None:
        """Leave one that waits to the collector."""
        ended = []

        def work() -> None:
            try:
                getcurrent().parent.switch("waits")  # type: ignore[union-attr]
            finally:
                ended.append(True)

        inner = greenlet(work)
        assert inner.switch() == "waits"
        await asyncio.sleep(self.pause())
        block_on(asyncio.sleep(self.pause()))
        del inner
        assert ended == [True]
        self.note("a dropped greenlet")

    async def is_cancelled(self) -> None:
        """Cancel some other work, wherever it is."""
        kinds = (self.blocks, self.queries, self.uses_a_portal, self.runs_a_greenlet)
        task = asyncio.create_task(self.rng.choice(kinds)())
        await asyncio.sleep(self.pause())
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            self.note("cancelled")

    async def goes_on(self, kinds: list[Callable[[], Awaitable[None]]]) -> None:
        while time.monotonic() < self.until:
            await self.rng.choice(kinds)()
            await asyncio.sleep(0)


def test_everything_at_once(bridge: Bridge, postgres: Any, tmp_path: Path) -> None:
    seed = int(os.environ.get("BRIDGE_STRESS_SEED", "0")) or random.randrange(1, 10**6)
    print(f"BRIDGE_STRESS_SEED={seed}")

    async def main() -> dict[str, int]:
        loop: Any = asyncio.get_running_loop()
        async with engine_on(postgres.url) as first, engine_on(f"sqlite+aiosqlite:///{tmp_path}/database") as second:
            stress = Stress(random.Random(seed), [first, second], time.monotonic() + SECONDS)
            others = [stress.queries, stress.uses_a_portal, stress.runs_a_greenlet, stress.drops_a_greenlet]
            others += [stress.is_cancelled]
            most = 0
            async with asyncio.TaskGroup() as group:
                for _ in range(200):
                    group.create_task(stress.goes_on([stress.blocks, stress.blocks, stress.blocks_on_a_query]))
                for _ in range(40):
                    group.create_task(stress.goes_on(others))
                while time.monotonic() < stress.until:
                    most = max(most, len(loop.waits))
                    await asyncio.sleep(0.01)
            assert isinstance(loop, SwitchingLoop)
            assert not loop.waits
            assert not loop.stacks.inside
            stress.done["stacks blocked at a time"] = most
            return stress.done

    began = time.monotonic()
    done = bridge.block_on(main(), timeout=SECONDS + 60)
    print(f"{time.monotonic() - began:.0f} s", done)
    assert done["stacks blocked at a time"] >= 100
    assert {"a query of asyncpg", "a query of aiosqlite", "a greenlet", "cancelled"} <= done.keys()
