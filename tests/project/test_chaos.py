"""Parts of ``tests/helpers/chaos.py``; the nox session ``tests`` ends with all of it, ``chaos`` has it for longer."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from paths import ENVIRONMENT, HELPERS

pytestmark = [pytest.mark.process, pytest.mark.any_python]  # all of it runs on each


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(HELPERS / "chaos.py"), *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.mark.timeout(160)
@pytest.mark.parametrize("without", [["interrupts", "forks"], ["deaths", "forks"]], ids=" ".join)
def test_every_call_ends_once_and_nothing_is_left(without: list[str]) -> None:
    ended = chaos("--seconds=2", "--limit=40", "--without", *without)
    shown = f"status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, shown
    assert re.match(r"seed \d+\n[1-9]\d* calls \(.*\b[1-9]\d* right\b", ended.stdout), shown
    assert ended.stdout.endswith("all well\n"), shown


def test_a_hang_is_found_and_shown() -> None:
    ended = chaos("--seconds=20", "--limit=0.001", "--seed=1")  # it ends as the first is found
    assert ended.returncode == 3
    assert ended.stdout.startswith("seed 1\n")
    assert re.search(r"HANG: call \d+ \(\w+\) has taken", ended.stderr), ended.stderr
    assert "in go_on" in ended.stderr
