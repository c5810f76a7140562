"""What an argument makes in the caller's thread: a pool of asyncpg's, a session of aiohttp's, a crawl of Scrapy's.

The form that the refusal shows works.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pages import pages
from paths import ENVIRONMENT

from bridge import Bridge, BridgeError, DeadlockError

pytest.importorskip("asyncpg", reason="needs asyncpg: pip install --group real")

import asyncpg


@pytest.fixture
def idle() -> Iterator[asyncio.AbstractEventLoop]:
    """This thread's loop, which nobody runs."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.process
def test_a_pool_of_asyncpg(bridge: Bridge, idle: asyncio.AbstractEventLoop, postgres: Any) -> None:
    folder, user = postgres.folder, postgres.user
    with pytest.raises(BridgeError, match=r"Pool object .* is bound to a loop that does not run") as caught:
        bridge.block_on(asyncpg.create_pool(host=folder, user=user, min_size=1), timeout=30)
    form = str(caught.value).partition("on its own loop: ")[2].removesuffix("\n[bridge: loop-not-running]")
    assert form.startswith("bridge.block_on(lambda: asyncpg.create_pool(")
    pool = eval(form, {"bridge": bridge, "asyncpg": asyncpg, "folder": folder, "user": user})
    assert bridge.block_on(pool.fetchval("select 1")) == 1
    bridge.block_on(pool.close())

    async def main() -> None:  # as in a notebook's cell
        with pytest.raises(DeadlockError, match="runs in this very thread"):
            bridge.block_on(asyncpg.create_pool(host=folder, user=user))

    asyncio.run(main())


def test_a_session_of_aiohttp(bridge: Bridge, idle: asyncio.AbstractEventLoop) -> None:
    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = idle.run_until_complete(make())

    async def fetch(url: str) -> str:
        async with session.get(url) as response:
            return await response.text()

    with pages() as server:
        with pytest.raises(RuntimeError) as caught:
            bridge.block_on(fetch(server.url), timeout=30)
        assert caught.value.__notes__[0].startswith("The ClientSession that was used here is bound to another loop")
        idle.run_until_complete(session.close())
        session = bridge.block_on(make())
        assert bridge.block_on(fetch(server.url), timeout=30)
        bridge.block_on(session.close())


@pytest.mark.process
def test_a_crawl_of_scrapy() -> None:
    pytest.importorskip("scrapy")
    # Scrapy has warnings of its own.
    program = Path(__file__).parent / "programs" / "crawl_without_lambda.py"
    ended = subprocess.run(
        [sys.executable, "-P", program], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    refusal, section, crawled = ended.stdout.splitlines()
    assert re.search(r"<Deferred .* waits for <Task .* is bound to a loop that does not run", refusal), ended
    assert refusal.endswith("on its own loop: bridge.block_on(lambda: runner.crawl(Pages), timeout=30)")
    assert section == "[bridge: loop-not-running]"
    assert crawled == "crawled on the bridge's loop: [True]"
