"""docs/how-to/notebooks.md: the session that it shows, in IPython."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from paths import ROOT
from shells import environment

pytestmark = [pytest.mark.process, pytest.mark.any_python]

pytest.importorskip("IPython", reason="needs IPython: pip install 'bridge-interop[shell]'")


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *more: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_session_of_the_page_shows_what_it_says(url: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "notebooks.md").read_text()
    (session,) = re.findall(r"^```pycon\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^In \[\d+\]: (.*)$", session, re.MULTILINE)
    promised = re.findall(r"^(Out\[\d+\]: .*)$", session, re.MULTILINE)
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "IPython",
            "--simple-prompt",
            "--no-banner",
            f"--InteractiveShellApp.exec_lines=url={url!r}",
        ],
        input="\n".join([*cells, "exit", ""]),
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert re.findall(r"(Out\[\d+\]: .*)$", ended.stdout, re.MULTILINE) == promised, ended.stdout + ended.stderr
    assert len(promised) > 3
