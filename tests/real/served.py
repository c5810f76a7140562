"""An application for uvicorn on a loop of ours: one endpoint asks SQLAlchemy, one blocks, and one does both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bridge import block_on

engine = create_async_engine(os.environ["SERVED_DATABASE"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the database as the application ends."""
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def _query(number: int) -> Any:
    async with engine.connect() as connection:
        for _ in range(3):
            result = (await connection.execute(text(f"select {number}"))).scalar()
        return result


@app.get("/query/{number}")
async def query(number: int) -> Any:
    """Ask the database, as SQLAlchemy's users do."""
    return await _query(number)


@app.get("/blocks/{number}")
async def blocks(number: int) -> int:
    """Block on the loop's own thread."""
    block_on(asyncio.sleep(0.002))
    return number


@app.get("/both/{number}")
async def both(number: int) -> Any:
    """Block on a query, and inside of one."""

    def inside(_: object) -> int:
        block_on(asyncio.sleep(0.002))
        return number

    async with engine.connect() as connection:
        assert await connection.run_sync(inside) == number
    return block_on(_query(number))
