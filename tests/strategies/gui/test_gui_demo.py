"""The GUI demo: both clients feed the window, which is drawn while code behind its buttons is blocked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from guis import at_once, missing, needs

pytestmark = [pytest.mark.process, pytest.mark.any_python]  # it is about the toolkits

TOOLKITS = {"tk": "tk", "qt": "PySide6"}


@pytest.fixture(scope="module")
def demos(screen: None) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The demo on each toolkit that is here."""
    commands = {
        name: ["-W", "error", "-m", "bridge", "demo", "--gui", name, "--seconds", "12"]
        for name, toolkit in TOOLKITS.items()
        if not missing(toolkit)
    }
    path = os.pathsep.join(each for each in sys.path if each)
    with at_once(commands, lambda name: {"PYTHONPATH": path}) as demos:
        yield demos


@pytest.mark.parametrize("name", TOOLKITS)
def test_the_demo_runs_and_ends(name: str, demos: dict[str, subprocess.Popen[str]]) -> None:
    needs(TOOLKITS[name])
    shown, _ = demos[name].communicate(timeout=50)
    assert demos[name].returncode == 0, shown
    assert "Traceback" not in shown
    frames = 0
    for text in ("Ask Twisted: a Deferred's result", "Ask asyncio: a coroutine's result", "Ask in vain: timed out"):
        drawn = re.search(rf"^{text}.*; (\d+) frames drawn meanwhile$", shown, re.MULTILINE)
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
