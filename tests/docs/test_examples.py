"""The examples of README.md and docs/: each block marked as Python is a program that prints what it says.

``url`` is set to the address of a page that says hello, on the loopback interface, and warnings are errors. What an
example says that it prints stands in the comments behind lines that start with ``print(``, or, if there are any, in the
lines that start with ``# prints:``.

An example whose imports are not installed is skipped: the session "docs" has all of them, and there that is an error.
"""

from __future__ import annotations

import ast
import ctypes.util
import http.server
import importlib.util
import os
import textwrap
import threading
from collections.abc import Iterator

import pytest
import warm
from documents import DOCS, blocks, promised
from paths import PACKAGES, ROOT

# Set by the session "docs".
EVERYTHING_IS_INSTALLED = "BRIDGE_SITE" in os.environ
# Libraries that warn as they are imported, or as they are used, on some Python: about themselves.
NOISY = {"PySide6", "celery", "crochet", "django", "fastapi", "flask", "gevent", "locust", "sqlalchemy"}


# What an import of these does not tell: which part of a namespace is meant, and the driver that a text asks for.
NEEDED_TOO = {"opentelemetry": "opentelemetry.sdk", "sqlalchemy": "aiosqlite"}


def imported(code: str) -> set[str]:
    """Return the packages that an example imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the namespace that it is in
        return False


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.process
@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("python")])
def test_example_runs_and_prints_what_it_says(code: str, url: str, tmp_path) -> None:
    packages = imported(code)
    needed = {*packages, *(NEEDED_TOO[package] for package in packages if package in NEEDED_TOO)}
    missing = [package for package in sorted(needed) if not is_installed(package)]
    if missing and not EVERYTHING_IS_INSTALLED:
        pytest.skip(f"needs {', '.join(missing)}: pip install --group docs")
    if "PySide6" in packages and ctypes.util.find_library("EGL") is None:
        pytest.skip("Qt needs libraries of the system: apt-get install libegl1 libgl1 libfontconfig1 libxkbcommon0")
    program = tmp_path / "example.py"
    text = f"url = {url!r}\n{code}"
    program.write_text(text)  # for tracebacks, and for inspect
    file = str(program)
    run = f"__import__('sys').argv[:] = [__file__ := {file!r}]; exec(compile({text!r}, {file!r}, 'exec'))"
    strict = () if packages & NOISY else ("-W", "error")
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}  # a window needs no screen
    process = warm.run(run, options=("-P", *strict), path=PACKAGES, timeout=30, cwd=str(tmp_path), env=environment)
    assert process.returncode == 0, process.stderr
    if not packages & NOISY:
        assert process.stderr == ""
    assert process.stdout.splitlines() == promised(code)


def test_opening_example_has_ten_lines() -> None:
    page = next(code for name, code in blocks("python") if name.startswith("docs/index.md"))
    assert len([line for line in page.splitlines() if line]) <= 10


def test_readme_is_short_and_names_no_address_that_it_does_not_define() -> None:
    text = (ROOT / "README.md").read_text()
    assert len([line for line in text.splitlines() if not line.startswith("|")]) <= 150
    for name, code in blocks("python"):
        if name.startswith(("README.md", "docs/index.md", "docs/tutorial.md")):
            assert "url" not in {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}, name


def test_no_page_shows_python_that_nobody_runs() -> None:
    """What cannot stand alone, such as a file of a project, is marked as py and has a test of its own."""
    pages = ("clients", "engines", "pytest", "sync-twin", "web-servers")
    with_tests_of_their_own = {f"docs/how-to/{page}.md" for page in pages}
    for name, _ in blocks("py"):
        assert name.partition(":")[0] in with_tests_of_their_own, name
    assert len(list(blocks("python"))) > 60


def test_what_an_example_promises_is_read_from_its_comments() -> None:
    code = textwrap.dedent(
        """
        print(1)  # 1
        if True:
            print("#", 2)  # # 2
        """
    )
    assert promised(code) == ["1", "# 2"]
    assert promised(f"{code}# prints: three\n") == ["three"]


def test_every_page_stands_in_one_of_the_parts() -> None:
    parts = {path.name for path in DOCS.iterdir() if path.is_dir()} - {"_build"}
    assert parts == {"contributing", "explanation", "figures", "how-to", "pictures", "reference", "static"}
