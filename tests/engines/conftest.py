"""Fixtures of the tests beside job queues and clusters: the server that the tasks call, and a Redis."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from paths import PACKAGES
from servers import redis_server

PROGRAMS = Path(__file__).with_name("programs")
# Seconds for a program: those of a run with many more tasks.
LIMIT = 2500 if os.environ.keys() & {"BRIDGE_ENGINES_TASKS", "BRIDGE_ENGINES_TABLE"} else 150


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
    with redis_server() as port:
        yield f"redis://127.0.0.1:{port}"


def _stop(process: subprocess.Popen[str]) -> None:
    """Kill a program and its workers, each of which prints its stacks before."""
    group = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for sent in (signal.SIGABRT, signal.SIGKILL):  # one of them may stand still
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        psutil.wait_procs(group, timeout=10)


@pytest.fixture
def program(server: str, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Run a program, such as one of the folder ``programs``, and return what it prints, and on standard error.

    It must succeed. What it and its workers have not ended by then is an error, too.
    """

    def program(name: str | Path, *arguments: str, **environment: str) -> tuple[str, str]:
        path = os.pathsep.join([PACKAGES, str(PROGRAMS)])
        own = {"PYTHONPATH": path, "ENGINES_SERVER": server, "TMPDIR": str(tmp_path), "C_FORCE_ROOT": "1"}
        process = subprocess.Popen(
            [sys.executable, PROGRAMS / name, *arguments],
            env=os.environ | own | {"PYTHONFAULTHANDLER": "1"} | environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        log = tmp_path / "log"
        try:
            # A worker that is left has the pipes, too, so that this waits for it.
            stdout, stderr = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            _stop(process)
            said = "".join(process.communicate())
            pytest.fail(f"not ended within {LIMIT} s\n{said}{log.read_text() if log.exists() else ''}")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        assert process.returncode == 0, f"{stdout}{stderr}{log.read_text() if log.exists() else ''}"
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
def measure(program: Callable[..., tuple[str, str]], redis: str) -> Callable[[int], str]:
    """Return the table of the throughput, with so many tasks for each figure."""
    return lambda tasks: program("throughput.py", ENGINES_REDIS=redis, BRIDGE_ENGINES_TASKS=str(tasks))[0]
