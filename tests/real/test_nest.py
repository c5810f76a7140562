"""bridge.ext.nest under uvicorn, with pydantic_ai, and beside nest_asyncio itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from isolated import isolated
from paths import PACKAGES
from servers import UVICORN
from sockets import socket_folder

pytest.importorskip("fastapi")

AT_ONCE = 50


class Server:
    """uvicorn with the application of programs/nesting.py."""

    def __init__(self, loop: str, folder: Path) -> None:
        address = str(folder / "socket")
        self._printed = tempfile.TemporaryFile("w+")  # noqa: SIM115 - end() closes it
        paths = os.pathsep.join([str(Path(__file__).parent / "programs"), PACKAGES])
        self._process = subprocess.Popen(
            [*UVICORN, "nesting:app", "--loop", loop, "--uds", address],
            env=os.environ | {"PYTHONPATH": paths},
            stdout=self._printed,
            stderr=self._printed,
        )
        give_up = time.monotonic() + 40
        while not os.path.exists(address):
            assert self._process.poll() is None, self.text()
            assert time.monotonic() < give_up, self.text()
            time.sleep(0.02)
        self._client = httpx.Client(transport=httpx.HTTPTransport(uds=address), base_url="http://server", timeout=40)

    def get(self, path: str) -> Any:
        """Return the answer."""
        response = self._client.get(path)
        response.raise_for_status()
        return response.json()

    def get_at_once(self, path: str) -> list[Any]:
        """Return the answers to so many requests at once."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda number: self.get(f"{path}/{number}"), range(AT_ONCE)))

    def text(self) -> str:
        """Return what the server has printed."""
        self._printed.seek(0)
        return self._printed.read()

    def end(self) -> None:
        """Stop it, as Ctrl-C does, and check that it has nothing to say."""
        self._client.close()
        try:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
        text = self.text()
        self._printed.close()
        assert not re.search("Traceback|Error|Warning|exception", text), text
        assert self._process.returncode in (0, -signal.SIGINT)


@pytest.fixture(params=["asyncio", "uvloop", "bridge:new_event_loop"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with socket_folder() as folder:
        made = Server(request.param, folder)
        yield made
        made.end()


@pytest.mark.process
def test_requests_at_once_whose_helpers_call_asyncio_run(server: Server, request: pytest.FixtureRequest) -> None:
    numbers = list(range(AT_ONCE))
    assert server.get_at_once("/nested") == numbers
    assert server.get_at_once("/in_a_worker") == numbers
    loop = request.node.callspec.params["server"]
    if loop == "bridge:new_event_loop":
        assert server.get_at_once("/together") == numbers
    if loop != "asyncio":  # that is as in the kernel's test
        pytest.importorskip("pydantic_ai")
        assert server.get("/agent") == ["42"] * 3


# --- nest_asyncio. From CPython 3.14 on it does not work, with bridge or without.

with_nest_asyncio = pytest.mark.skipif(sys.version_info >= (3, 14), reason="nest_asyncio does not work there")


@with_nest_asyncio
@isolated
def test_applied_after_nest_asyncio_ours_decides_until_it_is_undone() -> None:
    import asyncio
    import os
    import threading

    try:
        import nest_asyncio
    except ImportError:
        return
    from bridge.ext import nest

    async def where() -> object:
        await asyncio.sleep(0)
        return threading.current_thread()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        nest_asyncio.apply()
        here = threading.current_thread()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is here
        nest.apply()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is not here
        task = asyncio.ensure_future(where())
        assert loop.run_until_complete(task) is task.result() is not here
        nest.undo()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is here

    asyncio.new_event_loop().run_until_complete(main())
    # Not by an exit that ends the bridge: what its own loop does beside nest_asyncio is tested elsewhere.
    os._exit(0)


@with_nest_asyncio
@isolated
def test_applied_before_nest_asyncio_that_decides_until_ours_is_applied_again() -> None:
    import asyncio
    import os
    import threading

    try:
        import nest_asyncio
    except ImportError:
        return
    from bridge.ext import nest

    async def where() -> object:
        await asyncio.sleep(0)
        return threading.current_thread()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        here = threading.current_thread()
        nest.apply()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is not here
        nest_asyncio.apply()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is here
        nest.apply()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is not here
        nest.undo()
        assert asyncio.run(where()) is loop.run_until_complete(where()) is here

    asyncio.new_event_loop().run_until_complete(main())
    os._exit(0)  # as above
