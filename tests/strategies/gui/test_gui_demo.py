"""The GUI demo: both clients feed the window, which is drawn while code behind its buttons is blocked."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from guis import needs

pytestmark = pytest.mark.process


@pytest.mark.parametrize("toolkit", ["tk", "qt"])
def test_the_demo_runs_and_ends(toolkit: str, screen: None) -> None:
    needs("tk" if toolkit == "tk" else "PySide6")
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bridge", "demo", "--gui", toolkit, "--seconds", "12"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    shown = ended.stdout + ended.stderr
    assert ended.returncode == 0, shown
    assert "Traceback" not in shown
    frames = 0
    for text in ("Ask Twisted: a Deferred's result", "Ask asyncio: a coroutine's result", "Ask in vain: timed out"):
        drawn = re.search(rf"^{text}.*; (\d+) frames drawn meanwhile$", ended.stdout, re.MULTILINE)
        assert drawn, shown
        frames += int(drawn[1])
    assert frames > 0  # one call has none where the GUI's thread stood still all the time


def test_the_demo_says_what_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    needs("PySide6")
    environment.pop("QT_QPA_PLATFORM", None)
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--gui", "qt"],
        env=environment | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 1
    assert "there is no display" in ended.stdout
