"""Twisted's own tests of Deferreds pass with our ``Deferred.__await__``, under trial and in the step of a task."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ENVIRONMENT

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).parent / "programs" / "twisteds_own.py"
MODULES = {
    "twisted.test.test_defer": 150,
    "twisted.internet.test.test_defer_await": 10,
    "twisted.internet.test.test_defer_yieldfrom": 5,
    "twisted.internet.test.test_inlinecb": 30,
}  # each with a number of tests that it has at least
RUN_A_LOOP = r"\.DeferredFutureAdapterTests\."  # of their own, which cannot be within the step of a task
NEED_A_REACTOR = r"\.BasicTests\.(testBasics|testBasicsAsync|testProducesException)$"
WITHOUT = {"trial": "$^", "ours": RUN_A_LOOP, "asyncio": f"{RUN_A_LOOP}|{NEED_A_REACTOR}"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", WITHOUT)
def test_twisteds_own_tests(kind: str, tmp_path: Path) -> None:
    """Within the step of a task what a Deferred yields is of our class; trial runs the tests without a task."""
    result = run(kind, tmp_path, *MODULES)
    assert not result["failed"], "\n\n".join(result["failed"].values())
    assert result["ran"] >= sum(MODULES.values())
    if kind == "trial":
        assert result["counted"] == 0
    else:
        assert result["counted"] > 20


def run(kind: str, cwd: Path, *modules: str) -> Any:
    for each in modules:
        assert importlib.util.find_spec(each) is not None
    command = [sys.executable, str(PROGRAM), kind, WITHOUT[kind], *modules]
    ended = subprocess.run(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, cwd=cwd
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
