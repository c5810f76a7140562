"""Scrapy with its default settings, which ask for exactly Twisted's asyncio reactor: crawls by block_on, everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import pages
from paths import ENVIRONMENT, PACKAGES

pytest.importorskip("scrapy")

PROGRAMS = Path(__file__).parent / "programs"
PATH = {"PYTHONPATH": os.pathsep.join([PACKAGES, str(PROGRAMS)])}
PAGES = {"/": b'<a href="/a">a</a> <a href="/b">b</a>', "/a": b"a", "/b": b"b"}

pytestmark = [pytest.mark.process, pytest.mark.any_python]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pages(lambda method, path: PAGES[path]) as server:
        yield server.url


def run(program: str, *arguments: str, where: Path, **variables: str) -> str:
    """Run a program that prints what is right and no more, and return that."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAMS / program), *arguments],
        env=ENVIRONMENT | PATH | variables,
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("before", ["called", "installed"])
def test_a_script_crawls_again_and_again(before: str, url: str, tmp_path: Path) -> None:
    """Before Scrapy is imported it has called, or has installed Twisted's asyncio reactor.

    A CrawlerProcess is refused then, and says what to write.
    """
    run("crawls.py", url, before, where=tmp_path)


@pytest.mark.parametrize("name", ["CrawlerProcess", "AsyncCrawlerProcess"])
def test_a_process_runs_once_after_install_and_says_what_to_write_then(name: str, url: str, tmp_path: Path) -> None:
    run("crawler_process.py", url, name, where=tmp_path)


def test_a_view_of_flasks_crawls(url: str, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    run("crawls_in_view.py", url, where=tmp_path)


@pytest.mark.timeout(120)
def test_tasks_of_celerys_crawl_in_each_process_of_its_pool(url: str, tmp_path: Path) -> None:
    pytest.importorskip("celery")
    with (tmp_path / "said").open("w+") as said:
        worker = subprocess.Popen(
            [*(sys.executable, "-m", "celery", "-A", "crawls_in_task", "worker", "--pool", "prefork", "-c", "2")],
            env=ENVIRONMENT | PATH | {"BROKER": str(tmp_path)},
            cwd=tmp_path,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            processes = run("crawls_in_task.py", url, where=tmp_path, BROKER=str(tmp_path))
        finally:
            os.killpg(worker.pid, signal.SIGKILL)  # it would wait for its pool for five seconds
            worker.wait()
        said.seek(0)
        assert processes == "2\n", said.read()


def test_cells_of_a_notebook_crawl(url: str, tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    from shells import Kernel

    kernel = Kernel(tmp_path)
    try:
        kernel.run(f"import sys; sys.path.append({str(PROGRAMS)!r})\nfrom bridge import block_on")
        assert kernel.run("block_on(lambda: 'called')") == "Out[2]: 'called'\n"
        kernel.run("from scrapy.crawler import CrawlerRunner\nfrom spider import SETTINGS, Links")
        for _ in range(3):
            shown = kernel.run(
                f"found = []; block_on(lambda: CrawlerRunner(SETTINGS).crawl(Links, url={url!r}, found=found))\n"
                "sorted(found)"
            )
            assert "['', 'a', 'b']" in shown, shown
    finally:
        kernel.close()
