"""The page by aiohttp: ``aiohttp_web.py DESCRIPTOR await|block_on asyncio|bridge``; the last is the loop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from aiohttp import web
from store import PORT, Store, connect, page

import bridge


def blocking(store: Store) -> bytes:
    """Stand for sync code below the handler."""
    return bridge.block_on(store.get())


async def main(descriptor: int, way: str) -> None:
    store = await connect(int(os.environ[PORT]))

    async def awaits(request: web.Request) -> web.Response:
        return web.Response(body=page(await store.get()), content_type="text/html")

    async def blocks(request: web.Request) -> web.Response:
        return web.Response(body=page(blocking(store)), content_type="text/html")

    application = web.Application()
    application.router.add_get("/", {"await": awaits, "block_on": blocks}[way])
    runner = web.AppRunner(application, access_log=None, handle_signals=True)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=descriptor), backlog=4096).start()
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        store.close()


if __name__ == "__main__":
    _, descriptor, way, loop = sys.argv
    factory = {"asyncio": asyncio.new_event_loop, "bridge": bridge.new_event_loop}[loop]
    try:
        asyncio.Runner(loop_factory=factory).run(main(int(descriptor), way))
    except web.GracefulExit:
        pass
