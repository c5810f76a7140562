"""``python -m bridge bench``, each time in a process of its own, most often with fewer rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ENVIRONMENT

# The limit is for what takes some ten seconds where nothing else runs.
pytestmark = [pytest.mark.process, pytest.mark.any_python, pytest.mark.timeout(300)]

PROGRAM = Path(__file__).with_name("programs") / "bench_with_fewer_rows.py"


def run(
    change: str = "", *, plot: Path | str = "", json: Path | str = "", compare: Path | str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-P", PROGRAM, change, plot, json, compare],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=140,
    )


def test_it_prints_a_table_and_saves_and_compares(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    process = run(json=old)
    assert process.returncode == 0, process.stderr
    assert "A coroutine that returns at once" in process.stdout
    assert "asyncio.run_coroutine_threadsafe" in process.stdout
    assert "bridge.block_on" in process.stdout
    assert old.exists()
    process = run(json=new, compare=old)
    assert process.returncode == 0, process.stderr
    assert "old: Python" in process.stdout
    assert "by chance" in process.stdout


def test_it_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install --group bench")
    process = run(plot=tmp_path / "plot.svg")
    assert process.returncode == 0, process.stderr
    assert "bridge.block_on" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"plot": "plot.svg"}, "a plot needs matplotlib, which is not installed: pip install"),
        ({"json": "nowhere/at/all.json"}, "there is no directory"),
        ({"compare": "nowhere.json"}, "No such file"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(arguments: dict[str, str], complaint: str) -> None:
    process = run("without_matplotlib", **arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    assert complaint in process.stderr
    assert "Traceback" not in process.stderr


def test_row_that_fails_ends_it_with_status_1() -> None:
    process = run("broken_row")
    assert process.returncode == 1
    assert "its error stands above" in process.stderr


def test_peers_that_are_not_installed_are_named() -> None:
    process = run("without_crochet")
    assert process.returncode == 0, process.stderr
    assert "Not installed, so not measured: " in process.stdout
    assert "crochet's wait_for (needs crochet)" in process.stdout


def test_help_says_what_it_takes() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "bridge", "bench", "--help"], capture_output=True, text=True, timeout=40
    )
    assert process.returncode == 0
    for option in ("--plot FILE.svg", "--json FILE", "--compare OLD.json", "--seconds N"):
        assert option in process.stdout
