"""One client for the life of a process, shared by its sync calls; and the recipes of docs/how-to/clients.md.

The recipes here are those that need a server or a browser; those that need neither run in tests/docs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from documents import blocks, promised
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


def _python(*arguments: str) -> str:
    """Run a program with these arguments, and return what it prints; it may say nothing to standard error."""
    # txaio, below autobahn, still asks asyncio what a coroutine function is.
    ignored = "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-W", ignored, *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


def _share(name: str, address: str, calls: int = 200) -> None:
    pytest.importorskip(name)
    assert _python(str(PROGRAMS / "shared_clients.py"), name, address, str(calls)) == "done\n"


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
    _share("mcp", str(PROGRAMS / "mcp_server.py"), 40)


def test_playwright() -> None:
    _share("playwright", chromium(), 60)


def _recipe(name: str) -> str:
    (code,) = (code for page, code in blocks("py") if page.startswith("docs/how-to/clients.md") and name in code)
    return code


def _prints(code: str, **variables: str) -> None:
    given = "".join(f"{name} = {value!r}\n" for name, value in variables.items())
    assert _python("-c", given + code).splitlines() == promised(code)


def test_the_recipe_for_asyncpg(postgres: Any) -> None:
    _prints(_recipe("import asyncpg"), dsn=f"postgresql://{postgres.user}@/{postgres.database}?host={postgres.folder}")


def test_the_recipe_for_redis(redis_port: int) -> None:
    _prints(_recipe("from redis"), redis_url=f"redis://127.0.0.1:{redis_port}")


@pytest.mark.parametrize("name", ["websockets", "autobahn"])
def test_the_recipe_for_websockets(name: str, site: Site) -> None:
    pytest.importorskip(name)
    _prints(_recipe(f"from {name}"), socket_url=f"ws://127.0.0.1:{site.port}/socket")


def test_the_recipe_for_playwright() -> None:
    pytest.importorskip("playwright")
    code = _recipe("from playwright")
    assert "/usr/bin/chromium" in code
    _prints(code.replace("/usr/bin/chromium", chromium()))
