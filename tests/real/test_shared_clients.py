"""One client for the life of a process, shared by its sync calls: every client that docs/how-to/clients.md has."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ENVIRONMENT

from bridge import Bridge

pytestmark = [pytest.mark.process, pytest.mark.any_python]

web = pytest.importorskip("aiohttp.web")
PROGRAMS = Path(__file__).parent / "programs"


class Site:
    """A server of HTTP and of WebSockets, on a loop of its own. ``clients`` has what has connected."""

    def __init__(self) -> None:
        self.clients: set[Any] = set()
        self.port = 0

    async def after(self, request: Any) -> Any:
        """Answer with the number after the given one."""
        self.clients.add(request.transport.get_extra_info("peername"))
        await asyncio.sleep(0.002)
        return web.Response(text=str(int(request.match_info["number"]) + 1))

    async def slow(self, request: Any) -> Any:
        """Answer when it is too late."""
        self.clients.add(request.transport.get_extra_info("peername"))
        await asyncio.sleep(30)
        return web.Response(text="late")

    async def socket(self, request: Any) -> Any:
        """Answer each message with the number after the one in it."""
        self.clients.add(request.transport.get_extra_info("peername"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await asyncio.sleep(0.002)
            await socket.send_str(str(int(message.data) + 1))
        return socket

    async def start(self) -> Any:
        """Listen."""
        application = web.Application()
        routes = [web.get("/after/{number}", self.after), web.get("/slow", self.slow), web.get("/socket", self.socket)]
        application.add_routes(routes)
        runner = web.AppRunner(application, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        return runner


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Bridge("site", install_reactor=False) as bridge:
        made = Site()
        runner = bridge.block_on(made.start())
        yield made
        bridge.block_on(runner.cleanup())


def _share(name: str, address: str, calls: int = 200) -> None:
    pytest.importorskip(name)
    command = [sys.executable, "-W", "error"]
    if name == "autobahn":  # txaio, below it, still asks asyncio what a coroutine function is
        command += ["-W", "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"]
    ended = subprocess.run(
        [*command, str(PROGRAMS / "shared_clients.py"), name, address, str(calls)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", ""), ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["httpx", "aiohttp", "treq", "websockets", "autobahn"])
def test_of_the_web(name: str, site: Site) -> None:
    site.clients.clear()
    scheme = "ws" if name in {"websockets", "autobahn"} else "http"
    _share(name, f"{scheme}://127.0.0.1:{site.port}")
    # Three clients. Those of HTTP have four connections each, treq's eight, and a new one for each that timed out.
    most = {"httpx": 14, "aiohttp": 14, "treq": 3 * 50, "websockets": 3, "autobahn": 3}[name]
    assert 3 <= len(site.clients) <= most


def test_asyncpg(postgres: Any) -> None:
    _share("asyncpg", f"postgresql://{postgres.user}@/{postgres.database}?host={postgres.folder}")


def test_sqlalchemy(postgres: Any) -> None:
    _share("sqlalchemy", postgres.url)


def test_redis(redis_port: int) -> None:
    _share("redis", f"redis://127.0.0.1:{redis_port}")


def test_mcp() -> None:
    _share("mcp", str(PROGRAMS / "mcp_server.py"), 100)


def test_playwright() -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine; get it by apt-get install chromium")
    _share("playwright", program, 100)
