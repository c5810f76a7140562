"""bridge.call: a coroutine on another asyncio loop awaits a bridge's work."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from isolated import isolated
from twisted.internet import defer
from twisted.internet.task import deferLater

import bridge as package
from bridge import Bridge, BridgeClosed, DeadlockError


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge(install_reactor=False) as made:
        yield made


class Work:
    """Work that waits until it is cancelled, and cleans up slowly."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.begun = threading.Event()
        self.cancels = 0
        self.is_cleaned = False

    async def __call__(self) -> Any:
        self.begun.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            self.cancels += 1
            await asyncio.sleep(0.05)
            self.is_cleaned = True
            if self.answer is not None:
                return self.answer
            raise


async def _until_begun(work: Work) -> None:
    while not work.begun.is_set():
        await asyncio.sleep(0.001)


async def where() -> tuple[asyncio.AbstractEventLoop, int]:
    return asyncio.get_running_loop(), threading.get_ident()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, package.new_event_loop])
def test_the_work_runs_on_the_loop_of_the_bridge(
    bridge: Bridge, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop, ident = runner.run(bridge.call(where()))
        assert loop is bridge.loop
        assert ident != threading.get_ident()


def test_everything_that_submit_takes_is_taken(bridge: Bridge) -> None:
    async def main() -> None:
        assert await bridge.call(asyncio.sleep(0, 1)) == 1
        assert await bridge.call(lambda: asyncio.sleep(0, 2)) == 2
        assert await bridge.call(lambda: deferLater(bridge.reactor, 0, lambda: 3)) == 3
        assert await bridge.call(lambda: defer.succeed(4)) == 4
        assert await bridge.call(lambda: 5) == 5

    asyncio.run(main())


def test_the_plain_function_uses_the_default_bridge_or_the_loop_of_ours_that_runs(bridge: Bridge) -> None:
    loop, _ = asyncio.run(_plain_call())
    assert loop is package.default_bridge().loop
    loop, _ = bridge.block_on(_plain_call())
    assert loop is bridge.loop


async def _plain_call() -> tuple[asyncio.AbstractEventLoop, int]:
    return await package.call(where())


def test_the_other_loop_goes_on(bridge: Bridge) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await bridge.call(asyncio.sleep(0.1))
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 5


@isolated
def test_a_bridge_starts_without_holding_up_the_other_loop() -> None:
    import asyncio
    import time

    import bridge

    async def main() -> None:
        longest, last = 0.0, time.monotonic()
        is_over = False

        async def tick() -> None:
            nonlocal longest, last
            while not is_over:
                await asyncio.sleep(0)
                now = time.monotonic()
                longest, last = max(longest, now - last), now

        def slow_factory() -> asyncio.AbstractEventLoop:
            time.sleep(0.5)
            return bridge.new_event_loop()

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        with_slow_start = bridge.Bridge(loop_factory=slow_factory, install_reactor=False)
        assert await with_slow_start.call(asyncio.sleep(0, "value")) == "value"
        is_over = True
        await ticking
        await asyncio.to_thread(with_slow_start.close)
        assert longest < 0.4, longest

    asyncio.run(main())


def test_the_work_sees_the_context_of_the_caller_and_keeps_what_it_sets(bridge: Bridge) -> None:
    variable = contextvars.ContextVar[str]("variable")

    async def work() -> str:
        seen = variable.get()
        variable.set("the work's")
        return seen

    async def main() -> None:
        variable.set("the caller's")
        assert await bridge.call(work()) == "the caller's"
        assert variable.get() == "the caller's"

    asyncio.run(main())


def test_a_cancellation_waits_for_the_cleanup(bridge: Bridge) -> None:
    work = Work()

    async def main() -> None:
        task = asyncio.create_task(bridge.call(work))
        await _until_begun(work)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert work.is_cleaned
        assert task.cancelled()

    asyncio.run(main())
    assert work.cancels == 1


def test_a_result_that_comes_all_the_same_is_returned(bridge: Bridge) -> None:
    work = Work("all the same")

    async def main() -> Any:
        task = asyncio.create_task(bridge.call(work))
        await _until_begun(work)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "all the same"


def test_time_outs_and_scopes_of_anyio_work_around_it(bridge: Bridge) -> None:
    """A scope of anyio's repeats its cancellation for as long as the task awaits. The work is cancelled once."""
    timed, scoped = Work(), Work()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await bridge.call(timed)
        with anyio.move_on_after(0.02) as scope:
            await bridge.call(scoped)
        assert scope.cancelled_caught

    asyncio.run(main())
    assert (timed.cancels, timed.is_cleaned) == (1, True)
    assert (scoped.cancels, scoped.is_cleaned) == (1, True)


def test_an_error_is_the_very_object_with_the_frames_of_both_sides(bridge: Bridge) -> None:
    error = LookupError("lost")

    async def fails() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(LookupError) as raised:
            await bridge.call(fails())
        assert raised.value is error
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names == ["main", "fails"]

    asyncio.run(main())


def test_an_error_leaves_no_reference_cycle(bridge: Bridge) -> None:
    class Token:
        pass

    async def fails(_: Token) -> None:
        raise LookupError

    async def main() -> weakref.ref[Token]:
        token = Token()
        try:
            await bridge.call(fails(token))
        except LookupError:
            pass
        return weakref.ref(token)

    gc.collect()
    gc.disable()
    try:
        token = asyncio.run(main())
        give_up = time.monotonic() + 5
        while token() is not None and time.monotonic() < give_up:
            time.sleep(0.001)
        assert token() is None
    finally:
        gc.enable()


def test_the_end_of_the_bridge_ends_it() -> None:
    bridge, work = Bridge(install_reactor=False), Work()

    async def main() -> None:
        task = asyncio.create_task(bridge.call(work))
        await _until_begun(work)
        await asyncio.to_thread(bridge.close)
        with pytest.raises(BridgeClosed):
            await task
        with pytest.raises(BridgeClosed):
            await bridge.call(asyncio.sleep(0))

    asyncio.run(main())


def test_what_cannot_be_awaited_is_refused(bridge: Bridge) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="block_on takes a coroutine"):
            await bridge.call(3)  # type: ignore[call-overload]
        own = asyncio.get_running_loop().create_future()
        with pytest.raises(DeadlockError, match="write 'await' in a coroutine of that loop"):
            await bridge.call(own)

    asyncio.run(main())
