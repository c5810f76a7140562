"""The conformance suite, for each GUI in a process that has its application object."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from guis import TOOLKITS, missing, needs
from paths import ROOT, TESTS

pytestmark = pytest.mark.process

SUITES = ["strategies/test_conformance.py", "calls/test_in_caller.py"]


@pytest.fixture(scope="module")
def suites(request: pytest.FixtureRequest, screen: None) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The suite with each toolkit that is here, at the same time: each of them waits for most of its time."""
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={ROOT}"]
    items: Any = [item for item in request.session.items if item.path == request.path]
    running = {}
    for toolkit in {item.callspec.params["toolkit"] for item in items}:
        if missing(toolkit):
            continue
        # A test of in_caller that needs a process of its own has no strategy.
        options = ["-q", "-p", "no:cacheprovider", "-k", f"(auto or {strategy_of(toolkit)}) and not moments"]
        running[toolkit] = subprocess.Popen(
            [sys.executable, "-m", "pytest", *config, *options, *(str(TESTS / each) for each in SUITES)],
            env=os.environ | {"BRIDGE_TEST_GUI": toolkit},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    yield running
    for each in running.values():
        with each:  # which closes its pipe
            each.kill()


def strategy_of(toolkit: str) -> str:
    return "tk" if toolkit == "tk" else "qt"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("toolkit", TOOLKITS)
def test_conformance(toolkit: str, suites: dict[str, subprocess.Popen[str]]) -> None:
    needs(toolkit)
    shown, _ = suites[toolkit].communicate(timeout=220)
    assert suites[toolkit].returncode == 0, shown
    passed = re.search(r"^(\d+) passed, \d+ deselected in", shown, re.MULTILINE)
    # The suite's own parameters: the strategy in the main thread, "auto" in every place.
    assert passed is not None, shown
    assert int(passed[1]) > 100, shown
