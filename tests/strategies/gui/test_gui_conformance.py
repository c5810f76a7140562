"""The conformance suite, for each GUI in a process that has its application object."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from guis import TOOLKITS, needs
from paths import ROOT, TESTS

pytestmark = pytest.mark.process

SUITES = ["strategies/test_conformance.py", "calls/test_in_caller.py"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_conformance(toolkit: str, screen: None) -> None:
    needs(toolkit)
    strategy = "tk" if toolkit == "tk" else "qt"
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={ROOT}"]
    # A test of in_caller that needs a process of its own has no strategy.
    options = ["-q", "-p", "no:cacheprovider", "-k", f"(auto or {strategy}) and not moments"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *config, *options, *(str(TESTS / each) for each in SUITES)],
        env=os.environ | {"BRIDGE_TEST_GUI": toolkit},
        capture_output=True,
        text=True,
        timeout=220,
    )
    shown = ended.stdout + ended.stderr
    assert ended.returncode == 0, shown
    passed = re.search(r"^(\d+) passed, \d+ deselected in", ended.stdout, re.MULTILINE)
    # The suite's own parameters: the strategy in the main thread, "auto" in every place.
    assert passed is not None, shown
    assert int(passed[1]) > 100, shown
