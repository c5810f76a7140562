"""Stops at a breakpoint, at the place that is named, beside a task that goes on for as long as the loop does."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bridge
from bridge import block_on, in_thread, submit

ticks = 0


async def tick() -> None:
    global ticks
    while True:
        await asyncio.sleep(0.001)
        ticks += 1


async def query(seconds: float = 0.05) -> str:
    await asyncio.sleep(seconds)
    return "a row"


def failing() -> Any:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("no row")

    return fail()


def stop() -> str:
    before = "before"
    breakpoint()
    row = block_on(query())
    after = f"{row} {before}"
    return after


async def task() -> str:
    return stop()


async def beside(work: Any) -> Any:
    other = asyncio.create_task(tick())
    try:
        return await work()
    finally:
        other.cancel()


def fired() -> Any:
    from twisted.internet.defer import succeed

    return succeed(None).addCallback(lambda _: stop())


def main(place: str) -> str:
    if place == "task":
        return block_on(beside(task))
    if place == "task-of-the-main-thread":
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            return runner.run(beside(task))
    if place == "task-of-another-loop":
        submit(tick())
        return asyncio.run(task())
    if place == "worker":
        return block_on(beside(lambda: in_thread(stop)))
    if place == "deferred":
        submit(tick())
        return block_on(fired)
    submit(tick())
    if place == "thread":
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(stop).result()
    return stop()


print("ended:", main(sys.argv[1]))
