"""An application of FastAPI's with one pool of asyncpg's, which sync endpoints use from the server's worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import asyncpg
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException

import bridge
from bridge import Bridge, block_on

ours = os.environ["LOOP"] == "bridge:new_event_loop"  # the loop that the server runs
attached = os.environ.get("ATTACHED") == "yes"


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the pool on the server's loop, and attach to it if we are to."""
    app.state.loop = asyncio.get_running_loop()
    app.state.in_background = []
    with contextlib.closing(Bridge.attach()) if attached else contextlib.nullcontext():
        async with asyncpg.create_pool(os.environ["DATABASE"], min_size=1, max_size=5) as pool:
            app.state.pool = pool
            yield


app = FastAPI(lifespan=lifespan)


async def add(number: int) -> Any:
    """Ask the database, on the loop that has made the pool, in one transaction."""
    assert asyncio.get_running_loop() is app.state.loop
    async with app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute("select set_config('bridge.number', $1, true)", str(number))
        return await connection.fetchval("select current_setting('bridge.number')::int + 1")


def dependency(number: int) -> Any:
    """Return what a query returns; FastAPI calls this in a worker thread, too."""
    return block_on(add(number), timeout=30)


@app.get("/sync/{number}")
def sync(number: int) -> Any:
    """Call back into the application's loop."""
    assert threading.current_thread() is not threading.main_thread()
    return block_on(add(number), timeout=30)


@app.get("/depends/{number}")
def depends(number: int, added: Annotated[Any, Depends(dependency)]) -> Any:
    """Do so in what it depends on, and twice more at once."""
    assert block_on(lambda: asyncio.gather(add(1), add(2)), timeout=30) == [2, 3]
    return added


@app.get("/thread/{number}")
async def thread(number: int) -> Any:
    """Do so in a thread of asyncio's, which is known as one of this loop's if the loop is attached, or ours."""
    if attached or ours:
        return await asyncio.to_thread(block_on, add(number), timeout=30)
    return await add(number)


@app.get("/below/{number}")
async def below(number: int) -> Any:
    """Block in sync code below a coroutine, on the loop's own thread, if the loop is ours."""
    return block_on(add(number), timeout=30) if ours else await add(number)


@app.get("/fails/{number}")
def fails(number: int) -> Any:
    """Answer with the error that the awaited code has raised."""

    async def fail() -> None:
        raise HTTPException(404, f"no {await add(number)}")

    block_on(fail(), timeout=30)


@app.get("/background/{number}")
def background(number: int, tasks: BackgroundTasks) -> Any:
    """Leave a sync task that blocks."""
    tasks.add_task(lambda: app.state.in_background.append(block_on(add(number), timeout=30)))
    return number + 1


@app.get("/state")
async def state() -> Any:
    """Tell what is there."""
    return {
        "loop": type(app.state.loop).__module__,
        "pool": app.state.pool.get_size(),
        "tasks done": len(app.state.in_background),
        "another loop": bridge.default_bridge().running and not ours,
    }
