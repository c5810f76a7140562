"""Memory stays flat over many calls. A million: ``python tests/helpers/memory.py --calls 1000000``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import ENVIRONMENT, HELPERS

pytestmark = pytest.mark.process


@pytest.mark.timeout(410)  # a minute on a busy machine
def test_memory_is_flat_over_fifty_thousand_calls() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(HELPERS / "memory.py"), "--calls=50000"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert "at most" in ended.stdout
