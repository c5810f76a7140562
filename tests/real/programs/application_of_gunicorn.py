"""A WSGI application that has called before gunicorn forks, if it preloads; its workers keep one client each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any

import httpcore  # noqa: F401 - of httpx; with trio, which starts a process as it is imported, by gevent's subprocess
import httpx

from bridge import BridgeClosed, block_on

parent = block_on(asyncio.sleep(0, os.getpid()))
TOGETHER = 4  # requests that wait for each other


clients: list[httpx.AsyncClient] = []  # none in the parent, so that each worker makes its own


async def page(path: str) -> str:
    if not clients:  # on the loop, where one thread asks at a time
        clients.append(httpx.AsyncClient(base_url=os.environ["PAGES"], limits=httpx.Limits(max_connections=2)))
    return (await clients[0].get(path)).text


class Meeting:
    """Lets nobody go on before so many requests are here at once."""

    come = 0
    all_there = asyncio.Event()

    @classmethod
    async def wait(cls) -> None:
        cls.come += 1
        if cls.come % TOGETHER == 0:
            cls.all_there.set()
            cls.all_there = asyncio.Event()
        else:
            await cls.all_there.wait()


async def wait_for_the_end() -> None:
    print("waits for the end", flush=True)
    await asyncio.Event().wait()


def answer(path: str) -> str:
    if path == "/meet":
        block_on(Meeting.wait(), timeout=20)
        return "met"
    if path == "/end":
        try:
            block_on(wait_for_the_end())
        except BridgeClosed:
            print("the loop has ended", flush=True)
            raise
    return block_on(page(path), timeout=20)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    text = answer(environ["PATH_INFO"])
    start_response("200 OK", [("X-Worker", f"{os.getpid()} {parent}")])
    return [text.encode()]
