"""Workers of uWSGI, which it forks after the application has called: by default it calls no fork hooks there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from pages import pages

import bridge

PROGRAM = Path(__file__).parent / "programs" / "application_of_uwsgi.py"


def _has_uwsgi() -> bool:
    try:
        importlib.metadata.version("uwsgi")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.skipif(
    not _has_uwsgi(),
    reason="no uWSGI: pip install uwsgi, with gcc and Python's headers; nox does so on the oldest and newest Python",
)
@pytest.mark.parametrize(
    ("options", "settles"),
    [
        ([], 0.6),
        (["--py-call-osafterfork"], 0.6),
        (["--enable-threads", "--threads", "4"], 0.6),
        (["--enable-threads", "--py-call-uwsgi-fork-hooks"], 0),  # which forks with the GIL
    ],
)
def test_each_worker_starts_afresh(options: list[str], settles: float, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *(str(Path(sys.executable).parent / "uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--master", "-p", "3"),
        *("--wsgi-file", str(PROGRAM), "--need-app", "--die-on-term", "-H", sys.prefix, *options),
    ]
    said = tmp_path / "said"
    with pages() as server, said.open("wb") as output:
        environment = os.environ | {"PAGES": server.url, "PYTHONPATH": str(Path(bridge.__file__).parents[1])}
        environment["SETTLES"] = str(settles)
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 40
            # The first call of a worker wakes its parent's loop, whose thread must not hold the GIL during a fork.
            while "spawned uWSGI worker 3" not in said.read_text():
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.05)
            answers = []
            for _ in range(6):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as response:
                    answers.append(response.read().decode())
            assert answers == ["True slept GET /a"] * 6, said.read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0, said.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a worker that hangs too
            process.wait()
    # Most often a worker has got no request, and so has made no call.
    assert "Traceback" not in said.read_text(), said.read_text()
    assert "bridge: " not in said.read_text(), said.read_text()
