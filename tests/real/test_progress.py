"""Downloads with a progress bar: it lives, and Ctrl-C ends them at once and without noise."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import pages
from paths import ENVIRONMENT

pytest.importorskip("rich")
pytest.importorskip("tqdm")

PROGRAM = Path(__file__).parent / "programs" / "downloads.py"
NUMBER = 200

pytestmark = [pytest.mark.process, pytest.mark.any_python]


def _page(method: str, path: str) -> bytes:
    time.sleep(0.01)
    return b"x" * 1000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pages(_page) as server:
        yield server.url


def download(url: str, how: str, interrupted: bool) -> tuple[int, str, str, float]:
    """Return the status, what was printed, and the seconds from the interrupt to the end."""
    with subprocess.Popen(
        [sys.executable, PROGRAM, url, how, str(NUMBER)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            begun = time.monotonic()
            if interrupted and line == "half\n":
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, line + output, errors, time.monotonic() - begun


@pytest.mark.parametrize("how", ["rich", "tqdm"])
def test_the_bar_lives(url: str, how: str) -> None:
    status, output, errors, _ = download(url, how, interrupted=False)
    assert (status, output) == (0, "half\nall\n"), errors
    shown = {int(each) for each in re.findall(r"(\d+)%", errors)}
    assert 100 in shown
    assert len(shown) > 5, errors


@pytest.mark.parametrize("how", ["rich", "tqdm"])
def test_ctrl_c_ends_it_at_once_and_without_noise(url: str, how: str) -> None:
    status, output, errors, took = download(url, how, interrupted=True)
    assert (status, output) == (-signal.SIGINT, "half\n"), errors  # 130 in a shell
    text = errors[errors.index("Traceback") :].strip().splitlines()
    assert text[-1] == "KeyboardInterrupt", errors
    # A frame that has just begun, as of tqdm's, has an empty line.
    assert all(line.startswith((" ", "Traceback", "KeyboardInterrupt")) for line in text if line), errors
    assert took < 2, "0.5 seconds are the aim on an idle machine"


def test_ctrl_c_amid_futures_of_ones_own_is_one_summary(url: str) -> None:
    """The client is closed under the calls that run, and each fails with an error that nobody asks for."""
    status, _, errors, _ = download(url, "by hand", interrupted=True)
    assert status == -signal.SIGINT, errors
    assert errors.count("nobody asked its Future") + errors.count("as its loop ended") <= 3, errors
    assert "never retrieved" not in errors
    assert len(errors.splitlines()) < 100, errors
