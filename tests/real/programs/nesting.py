"""An application whose sync helpers call asyncio.run, for uvicorn on any loop."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from bridge.ext import nest

nest.apply()

app = FastAPI()
AT_ONCE = 50
arrived: list[int] = []
all_are_here = asyncio.Event()


def _helper(number: int) -> int:
    return asyncio.run(_fetch(number))


async def _fetch(number: int) -> int:
    await asyncio.sleep(0.002)
    return number


@app.get("/nested/{number}")
async def nested(number: int) -> int:
    """Call the helper on the loop's thread."""
    return _helper(number)


@app.get("/in_a_worker/{number}")
def in_a_worker(number: int) -> int:
    """Call the helper in a worker thread, as FastAPI calls a sync function."""
    return _helper(number)


@app.get("/together/{number}")
async def together(number: int) -> int:
    """Return when AT_ONCE requests stand in a nested run: only a loop of ours goes on meanwhile."""
    asyncio.run(_arrive(number))
    return number


async def _arrive(number: int) -> None:
    arrived.append(number)
    if len(arrived) == AT_ONCE:
        all_are_here.set()
    await all_are_here.wait()


@app.get("/agent")
async def agent() -> Any:
    """Ask an agent by its sync method, which makes a task on the running loop and calls run_until_complete."""
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    asked = Agent(TestModel(custom_output_text="42"))

    @asked.tool_plain
    async def slow() -> str:
        await asyncio.sleep(0.002)
        return "slowly"

    return [asked.run_sync("how many?").output for _ in range(3)]
