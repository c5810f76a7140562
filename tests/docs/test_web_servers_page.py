"""docs/how-to/web-servers.md: its application answers under gunicorn, by both workers."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from documents import DOCS
from paths import ENVIRONMENT


@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="needs gunicorn")
def test_the_application_of_the_page_answers_by_every_worker(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "web-servers.md").read_text()
    ((name, text),) = re.findall(r"^`([\w.]+)`:\n\n```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / name).write_text(text)
    (arguments,) = re.findall(r"^\$ gunicorn (.*)$", page, re.MULTILINE)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", f"--error-logfile={log}", *arguments.split()]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT) as server:
        try:
            end = time.monotonic() + 20
            while not (found := re.search(r"Listening at: (\S+)", log.read_text() if log.exists() else "")):
                assert time.monotonic() < end
                time.sleep(0.02)
            said: set[str] = set()
            while len(said) < 2:
                assert time.monotonic() < end, said
                with urllib.request.urlopen(found[1], timeout=10) as answer:
                    said.add(answer.read().decode())
            assert all(re.fullmatch(r"answered by \d+\n", each) for each in said)
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0
        finally:
            server.kill()
