"""The loop dies, in every way, while threads call: nobody hangs, and the next call has a new loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts import SEED, python, times

pytestmark = pytest.mark.process

PROGRAMS = Path(__file__).with_name("programs")


@pytest.mark.timeout(1500)
def test_deaths_at_random(tmp_path: Path) -> None:
    deaths = times(40, 500)
    ended = python(PROGRAMS / "deaths.py", deaths, SEED, where=tmp_path, timeout=55 if deaths < 100 else 1200)
    shown = f"seed {SEED}\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, shown
    seen = json.loads(ended.stdout)
    print(shown)
    assert seen["wrong"] == [], shown
    assert seen["hung"] == [], shown
    assert seen["stuck"] == [], shown
    assert seen["threads"] == [], shown
    assert seen["tasks"] == 0, shown
    assert seen["twice"] == [], shown
    assert seen["fds"] < 20, shown
    assert seen["median"] < 1, shown  # 0.001 on a machine with nothing else to do; 5 where a call waits for the end
    assert seen["worst"] < 6, shown
    assert seen["results"]["right"] > deaths, shown
