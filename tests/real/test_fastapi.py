"""FastAPI under uvicorn: sync endpoints call back into the application's own loop, whichever it is."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from paths import ENVIRONMENT, PACKAGES
from servers import UVICORN, free_port, is_open

pytest.importorskip("fastapi")
pytest.importorskip("asyncpg")

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAMS = Path(__file__).parent / "programs"


async def _requests(address: str) -> dict[str, Any]:
    """Send two hundred requests at once, and then some to each kind of endpoint; return the state of the server."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=50) as client:

        async def get(path: str) -> Any:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert await asyncio.gather(*(get(f"/sync/{n}") for n in range(200))) == list(range(1, 201))
        kinds = ["sync", "depends", "thread", "below", "background"]
        mixed = [(kinds[n % 5], n) for n in range(100)]
        assert await asyncio.gather(*(get(f"/{kind}/{n}") for kind, n in mixed)) == list(range(1, 101))
        failed = await client.get("/fails/7")
        assert (failed.status_code, failed.json()) == (404, {"detail": "no 8"})
        give_up = time.monotonic() + 20
        while (state := await get("/state"))["tasks done"] < 20:
            assert time.monotonic() < give_up, state
        return state  # type: ignore[no-any-return]


@pytest.mark.parametrize(("loop", "attached"), [("asyncio", "yes"), ("uvloop", "no"), ("bridge:new_event_loop", "no")])
def test_sync_endpoints_use_the_applications_pool(loop: str, attached: str, postgres: Any) -> None:
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("no uvloop")
    database = f"postgresql://{postgres.user}@/{postgres.database}?host={postgres.folder}"
    variables = {"LOOP": loop, "ATTACHED": attached, "DATABASE": database}
    paths = {"PYTHONPATH": os.pathsep.join([PACKAGES, str(PROGRAMS)])}
    port = free_port()
    with tempfile.TemporaryFile("w+") as printed:
        server = subprocess.Popen(
            [*UVICORN, "application_of_fastapi:app", "--loop", loop, "--port", str(port)],
            env=ENVIRONMENT | variables | paths,
            stdout=printed,
            stderr=printed,
        )

        def said() -> str:
            printed.seek(0)
            return printed.read()

        try:
            give_up = time.monotonic() + 30
            while not is_open(port):
                assert server.poll() is None, said()
                assert time.monotonic() < give_up, said()
                time.sleep(0.02)
            state = asyncio.run(_requests(f"http://127.0.0.1:{port}"))
            assert state["another loop"] is False
            assert state["pool"] <= 5
            assert state["loop"].partition(".")[0] == loop.partition(":")[0]
            server.send_signal(signal.SIGTERM)
            server.wait(20)
            assert said() == ""
        finally:
            server.kill()
            server.wait()
