"""Memory stays flat over many calls. The whole number is a program: ``python tests/memory.py --calls 1000000``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bridge

pytestmark = pytest.mark.process


@pytest.mark.timeout(410)  # a minute on a busy machine
def test_memory_is_flat_over_fifty_thousand_calls() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(Path(__file__).with_name("memory.py")), "--calls=50000"],
        env=os.environ | {"PYTHONPATH": str(Path(bridge.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert "at most" in ended.stdout
