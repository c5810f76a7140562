"""The Python examples of the README and of docs/, each run as a program, against a server on the loopback interface.

A block runs with ``url`` set, in a process of its own, where warnings are errors. What it says that it prints is
compared with what it prints: the comments behind lines that start with ``print(``, or, if there are any, the lines
that start with ``# prints:``.
"""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import textwrap
import threading

import pytest
from paths import ENVIRONMENT, ROOT


def blocks(language):
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            yield pytest.param(match[1], id=f"{path.name}:{line}")


def promised(code):
    """Return what an example says that it prints."""
    at_the_end = re.findall(r"^# prints: (.*)$", code, re.MULTILINE)
    return at_the_end or re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)


@pytest.fixture(scope="module")
def url():
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.any_python
@pytest.mark.process
@pytest.mark.parametrize("code", list(blocks("python")))
def test_example_runs_and_prints_what_it_says(code, url, tmp_path):
    program = tmp_path / "example.py"
    program.write_text(f"url = {url!r}\n{code}")
    process = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert process.stdout.splitlines() == promised(code)


def test_opening_example_has_ten_lines():
    code = next(iter(blocks("python"))).values[0]
    assert len([line for line in code.splitlines() if line]) <= 10


def test_what_an_example_promises_is_read_from_its_comments():
    code = textwrap.dedent(
        """
        print(1)  # 1
        if True:
            print("#", 2)  # # 2
        """
    )
    assert promised(code) == ["1", "# 2"]
    assert promised(f"{code}# prints: three\n") == ["three"]


def test_links_lead_somewhere():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path.name} -> {target}"
