"""What every task does, whichever engine runs it: it blocks on a client of asyncio's, or on one of Twisted's.

As users write it: a process has one session of aiohttp's, made with its first use and closed at
its end, and treq keeps its own connections.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
from typing import Any

import aiohttp

from bridge import block_on

SERVER = os.environ["ENGINES_SERVER"]
# A child that was forked has its parent's, too, which belongs to a loop of the parent's.
_sessions: dict[int, aiohttp.ClientSession] = {}


async def by_asyncio(number: int | str) -> int:
    """Get the number from the server, by the session of this process."""
    session = _sessions.get(os.getpid())
    if session is None:
        session = _sessions[os.getpid()] = aiohttp.ClientSession()
        atexit.register(lambda: block_on(session.close))
    async with session.get(f"{SERVER}/{number}") as answer:
        return int(await answer.text())


def by_twisted(number: int | str) -> Any:
    """The same by treq. The Deferred is made on the loop's thread, where this is called."""
    import treq

    return treq.get(f"{SERVER}/{number}").addCallback(treq.text_content).addCallback(int)


def either(number: int) -> int:
    """Block on the client of asyncio's for even numbers, and on that of Twisted's for odd ones."""
    if number % 2:
        return int(block_on(lambda: by_twisted(number)))
    return block_on(by_asyncio(number))


def meets(number: int, together: int) -> int:
    """Block on both clients until as many tasks as ``together`` do so.

    When an engine that runs so many at once has run so many of these, all that runs tasks has begun, and has a
    connection of each client.
    """
    assert block_on(by_asyncio(f"meet/{together}/{number}")) == number
    return int(block_on(lambda: by_twisted(f"meet/{together}/{number}")))


def held(number: int, key: str) -> int:
    """Block until somebody asks the server for /open/key/0."""
    path = f"held/{key}/{number}"
    return int(block_on(lambda: by_twisted(path)) if number % 2 else block_on(by_asyncio(path)))


def is_killed_once(number: int, mark: str) -> int:
    """Kill this process while it blocks, the first time that this is called; the file at mark says that it was."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return either(number)

    async def kill() -> None:
        await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(60)

    block_on(kill())
    raise AssertionError("killed, and it goes on")
