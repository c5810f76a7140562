"""The README and docs/: their Python examples, their links, and the tests that docs/proofs.md names.

Each example runs as a program with ``url`` set, against a server on the loopback interface, where warnings are errors.
What it says that it prints is compared with what it prints: the comments behind lines that start with ``print(``, or,
if there are any, the lines that start with ``# prints:``.
"""

from __future__ import annotations

import http.server
import re
import textwrap
import threading

import pytest
import warm
from paths import PACKAGES, ROOT, TESTS


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
    text = f"url = {url!r}\n{code}"
    program.write_text(text)  # for tracebacks, and for inspect
    file = str(program)
    run = f"__import__('sys').argv[:] = [__file__ := {file!r}]; exec(compile({text!r}, {file!r}, 'exec'))"
    process = warm.run(run, options=("-P", "-W", "error"), path=PACKAGES, timeout=30)
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


# --- docs/proofs.md


def table_rows(text):
    """Return the cells of every row of every table, without heads."""
    lines = text.splitlines()
    heads = {number - 1 for number, line in enumerate(lines) if line.startswith("| --- ")}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for number, line in enumerate(lines)
        if line.startswith("| ") and number not in heads and not line.startswith("| ---")
    ]


def test_every_test_that_the_proofs_name_exists():
    text = (ROOT / "docs" / "proofs.md").read_text()
    for row in table_rows(text.split("\n## Other pages\n")[0]):
        assert re.search(r"`test_\w+\.py::test_\w+`", row[-1]), f"no test is named in: {row}"
    named = re.findall(r"`(test_\w+)\.py::(\w+)`", text)
    for module, name in named:
        (file,) = TESTS.rglob(f"{module}.py")
        assert f"\ndef {name}(" in file.read_text(), f"there is no {module}.py::{name}"
    assert len(named) > 150
    for path in re.findall(r"`(tests/[\w./]+)`", text):
        assert (ROOT / path).exists(), f"there is no {path}"


def test_every_feature_that_crosses_has_its_proof():
    crossing = [row[0] for row in table_rows((ROOT / "docs" / "crossing.md").read_text())]
    proofs = (ROOT / "docs" / "proofs.md").read_text()
    proved = [row[0] for row in table_rows(proofs.split("\n## The end of a run\n")[0])]
    assert crossing == proved
