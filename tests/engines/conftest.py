"""Fixtures of the tests beside job queues and clusters: the server that the tasks call, and a Redis."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paths import PACKAGES

PROGRAMS = Path(__file__).with_name("programs")
# Seconds for a program: those of a run with many more tasks.
LIMIT = 150 if "BRIDGE_ENGINES_TASKS" not in os.environ else 2500


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that answers each request with the number in its path."""
    command = [sys.executable, PROGRAMS / "answers.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate()
        assert process.returncode == 0


@pytest.fixture
def redis() -> Iterator[str]:
    """The address of a Redis that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no Redis on this machine; get it by apt-get install redis-server")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bridge-", dir="/tmp") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        with open(Path(folder) / "log", "w+b") as log:
            process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                give_up = time.monotonic() + 30
                while True:
                    assert process.poll() is None, Path(log.name).read_text()
                    assert time.monotonic() < give_up
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                        break
                    time.sleep(0.02)
                yield f"redis://127.0.0.1:{port}"
            finally:
                process.kill()
                process.wait()


@pytest.fixture
def program(server: str, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Run a program of the folder ``programs``, which must succeed, and return what it prints, and on standard error.

    What it and its workers have not ended by then is an error, too.
    """

    def program(name: str, *arguments: str, **environment: str) -> tuple[str, str]:
        path = os.pathsep.join([PACKAGES, str(PROGRAMS)])
        own = {"PYTHONPATH": path, "ENGINES_SERVER": server, "TMPDIR": str(tmp_path), "C_FORCE_ROOT": "1"}
        process = subprocess.Popen(
            [sys.executable, PROGRAMS / name, *arguments],
            env=os.environ | own | environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            # A worker that is left has the pipes, too, so that this waits for it.
            stdout, stderr = process.communicate(timeout=LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            sys.stderr.write("".join(process.communicate()))
            raise
        assert process.returncode == 0, f"{stdout}{stderr}"
        return stdout, stderr

    return program


@pytest.fixture
def run(program: Callable[..., tuple[str, str]]) -> Callable[..., str]:
    """Run a program that sends tasks, and return what it and its workers say on standard error."""

    def run(name: str, *arguments: str, **environment: str) -> str:
        stdout, stderr = program(name, *arguments, **environment)
        assert re.fullmatch(r"\d+ tasks a second\n", stdout), stdout
        return stderr

    return run


@pytest.fixture
def measure(program: Callable[..., tuple[str, str]], redis: str) -> Callable[[], str]:
    """Return the table of the throughput, which a few tasks fill unless the environment says how many."""
    tasks = os.environ.get("BRIDGE_ENGINES_TASKS", "40")
    return lambda: program("throughput.py", ENGINES_REDIS=redis, BRIDGE_ENGINES_TASKS=tasks)[0]
