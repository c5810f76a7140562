"""The client for each process of docs/how-to/clients.md is made once in a process, and closed as the process ends."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kept import kept_client, made_and_closed
from paths import PACKAGES

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that import the page's program as ``kept_client``."""
    (tmp_path / "kept_client.py").write_text(kept_client())
    return os.environ | {"PYTHONPATH": os.pathsep.join([PACKAGES, str(PROGRAMS), str(tmp_path)])}


@pytest.mark.parametrize("kind", ["pool", "process"])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_children_by_each_start_method(method: str, kind: str, environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", PROGRAMS / "asks_in_processes.py", method, kind],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (process.returncode, process.stderr) == (0, "")
    made, closed = made_and_closed(process.stdout)
    assert made == closed
    assert set(made.values()) == {1}
    assert len(made) == 3 if kind == "process" else len(made) in (2, 3)  # one worker may do all


@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="needs gunicorn")
@pytest.mark.parametrize("options", [["--workers=2"], ["--worker-class=gthread", "--workers=2", "--threads=4"]])
@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_workers_of_gunicorn(
    options: list[str], preload: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    options = ["--bind=127.0.0.1:0", "--no-control-socket", *options, *preload]
    command = [sys.executable, "-m", "gunicorn", *options, "application_of_kept_client"]
    log = tmp_path / "log"
    with log.open("wb") as output, ThreadPoolExecutor(8) as threads:
        server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=output, stderr=output)
        try:
            give_up = time.monotonic() + 60
            while not (found := re.search(r"Listening at: (\S+)", log.read_text())):
                assert time.monotonic() < give_up, log.read_text()
                time.sleep(0.02)

            def get(_: object) -> str:
                with urllib.request.urlopen(found[1], timeout=30) as answer:
                    return str(answer.read().decode())

            workers: set[str] = set()
            while len(workers) < 2:
                assert time.monotonic() < give_up, log.read_text()
                workers |= set(threads.map(get, range(16)))
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()
            server.wait()
    made, closed = made_and_closed(log.read_text())
    assert made == closed == dict.fromkeys(workers, 1)
    assert "Traceback" not in log.read_text()
