"""The conformance suite, for each GUI in a process that has its application object."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from guis import TOOLKITS, at_once, missing, needs
from paths import ROOT, TESTS

pytestmark = pytest.mark.process

SUITES = ["strategies/test_conformance.py", "calls/test_in_caller.py"]


@pytest.fixture(scope="module")
def suites(request: pytest.FixtureRequest, screen: None) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The suite with each toolkit that is here."""
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={ROOT}"]
    paths = [str(TESTS / each) for each in SUITES]
    items: Any = [item for item in request.session.items if item.path == request.path]
    chosen = {item.callspec.params["toolkit"] for item in items}
    commands = {
        each: ["-m", "pytest", *config, "-q", "-p", "no:cacheprovider", "-k", strategies_of(each), *paths]
        for each in chosen
        if not missing(each)
    }
    with at_once(commands, lambda toolkit: {"BRIDGE_TEST_GUI": toolkit}) as running:
        yield running


def strategies_of(toolkit: str) -> str:
    strategy = "tk" if toolkit == "tk" else "qt"
    # A test of in_caller that needs a process of its own has no strategy.
    return f"(auto or {strategy}) and not moments"


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
