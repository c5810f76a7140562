"""Ways to call async code in a task that are compared: each gets a number from the server by aiohttp."""

from __future__ import annotations

import asyncio
import logging
import threading

import aiohttp
import work

from bridge import block_on

logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what the other ways never close

_kept = threading.local()
_on_loops: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}


async def _get(session: aiohttp.ClientSession, number: int) -> int:
    async with session.get(f"{work.SERVER}/{number}") as answer:
        return int(await answer.text())


def by_block_on(number: int) -> int:
    """One loop and one session for the process."""
    return block_on(work.by_asyncio(number))


def by_asyncio_run(number: int) -> int:
    """A loop and a session for the task."""

    async def main() -> int:
        async with aiohttp.ClientSession() as session:
            return await _get(session, number)

    return asyncio.run(main())


async def on_loop_of_worker(number: int) -> int:
    """As a task of an engine that runs coroutine functions on a loop of its own."""
    loop = asyncio.get_running_loop()
    if loop not in _on_loops:
        _on_loops[loop] = aiohttp.ClientSession()
    return await _get(_on_loops[loop], number)


def by_runner(number: int) -> int:
    """A loop and a session for each thread that runs tasks."""

    async def main() -> int:
        if not hasattr(_kept, "session"):
            _kept.session = aiohttp.ClientSession()
        return await _get(_kept.session, number)

    if not hasattr(_kept, "runner"):  # nothing tells when the thread ends, so they stay open
        _kept.runner = asyncio.Runner()
    return int(_kept.runner.run(main()))
