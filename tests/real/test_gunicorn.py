"""gunicorn's workers, sync, of threads and of gevent: each has a loop of its own, which its requests share."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pages import Pages, pages
from paths import ENVIRONMENT, PACKAGES

pytest.importorskip("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAMS = Path(__file__).parent / "programs"
SYNC, THREADS, GEVENT = (
    ["--worker-class", "sync", "--workers", "2"],
    ["--worker-class", "gthread", "--workers", "1", "--threads", "4"],
    ["--worker-class", "gevent", "--workers", "1"],
)
needs_gevent = pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="needs gevent")


@pytest.fixture(scope="module")
def service() -> Iterator[Pages]:
    with pages() as each:
        yield each


class Server:
    """gunicorn's master, and what it and its workers have said."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.url = self.wait_for(r"Listening at: (\S+)")[1]

    def said(self) -> str:
        """Return all of it."""
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has said so."""
        give_up = time.monotonic() + 30
        while not (found := re.search(pattern, self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < give_up, self.said()
            time.sleep(0.02)
        return found


@contextlib.contextmanager
def gunicorn(options: list[str], service: Pages, folder: Path) -> Iterator[Server]:
    log = folder / "log"
    command = [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", "--preload", *options]
    variables = {"PAGES": service.url, "PYTHONPATH": os.pathsep.join([PACKAGES, str(PROGRAMS)])}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--no-control-socket", "application_of_gunicorn:application"],
            env=ENVIRONMENT | variables,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Server(process, log)
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.parametrize(
    "options", [SYNC, THREADS, pytest.param(GEVENT, marks=needs_gevent)], ids=["sync", "gthread", "gevent"]
)
def test_requests_share_the_loop_of_their_worker(options: list[str], service: Pages, tmp_path: Path) -> None:
    before = service.connections
    with gunicorn(options, service, tmp_path) as server, ThreadPoolExecutor(8) as threads, httpx.Client() as client:

        def get(path: str) -> Any:
            return client.get(server.url + path, headers={"Connection": "close"}, timeout=30)

        answers = list(threads.map(get, [f"/{number}" for number in range(100)]))
        assert [each.text for each in answers] == [f"GET /{number}" for number in range(100)]
        workers = {each.headers["X-Worker"].split()[0] for each in answers}
        parents = {each.headers["X-Worker"].split()[1] for each in answers}
        assert parents == {str(server.process.pid)}  # preloaded: the call of the import was the parent's
        assert not workers & parents
        assert service.connections - before <= 2 * len(workers)
        if options is not SYNC:  # its worker has one request at a time
            assert [each.text for each in threads.map(get, ["/meet"] * 8)] == ["met"] * 8

        server.process.send_signal(signal.SIGHUP)  # new workers
        server.wait_for(r"Worker exiting")
        give_up = time.monotonic() + 20
        while (new := get("/again")).headers["X-Worker"].split()[0] in workers:
            assert time.monotonic() < give_up, server.said()
        assert new.text == "GET /again"

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.said()
        assert "BridgeClosed" not in server.said()


@pytest.mark.parametrize("options", [THREADS, pytest.param(GEVENT, marks=needs_gevent)], ids=["gthread", "gevent"])
def test_a_call_that_is_open_when_its_worker_ends(options: list[str], service: Pages, tmp_path: Path) -> None:
    with gunicorn(options, service, tmp_path) as server, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(httpx.get, f"{server.url}/end", timeout=40)
        server.wait_for("waits for the end")
        server.process.send_signal(signal.SIGQUIT)  # at once; after 30 seconds the master would kill
        try:
            assert asked.result(40).status_code == 500
        except httpx.RemoteProtocolError:  # the worker has ended before it could send that
            pass
        assert server.process.wait(20) == 0
        assert "SIGKILL" not in server.said()
        if options is THREADS:  # for whose threads the worker waits as it exits
            assert "the loop has ended" in server.said()
