"""trial on the reactor of bridge.install(): each of Twisted's tests ends as it does on Twisted's asyncio reactor.

And tests that block, as other people run them.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paths import PACKAGES

import bridge

PROGRAM = Path(__file__).parent / "programs" / "trial_on.py"
# With an asyncio reactor trial waits some 0.04 seconds after each test: for 85 % of the time. So that many run at once.
SHARES = 6
_LIMIT = 500  # seconds


def shares() -> list[list[str]]:
    """Return the modules of Twisted's tests in SHARES parts, the first of which has some that take processor time."""
    packages = [importlib.import_module(name) for name in ("twisted.internet.test", "twisted.web.test")]
    modules = [
        f"{package.__name__}.{each.name}"
        for package in packages
        for each in pkgutil.iter_modules(package.__path__)
        if each.name.startswith("test_")
    ]
    others = [modules[number :: SHARES - 1] for number in range(SHARES - 1)]
    return [["twisted.test.test_threads", "twisted.test.test_internet", "twisted.test.test_process"], *others]


def start(kind: str, names: list[str], folder: Path) -> Callable[[], dict[str, Any]]:
    """Start trial on a reactor, and return a function that waits for it and returns what it has written."""
    folder.mkdir()
    written = folder / "outcomes.json"
    environment = os.environ | {"PYTHONPATH": str(Path(bridge.__file__).parents[1])}
    said = folder / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), kind, str(written), *names],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def wait() -> dict[str, Any]:
        try:
            status = process.wait(_LIMIT)
        finally:
            process.kill()
            process.wait()
        assert status == 0, said.read_text(errors="replace")
        found: dict[str, Any] = json.loads(written.read_text())
        return found

    return wait


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.timeout(2 * _LIMIT)
def test_trial_passes_what_it_passes_on_twisteds_own_reactor(tmp_path: Path) -> None:
    waits = [start("bridge", names, tmp_path / f"share {number}") for number, names in enumerate(shares())]
    outcomes: dict[str, str] = {}
    errors: dict[str, str] = {}
    for wait in waits:
        found = wait()
        outcomes |= found["outcomes"]
        errors |= found["errors"]
    assert len(outcomes) > 2_000
    assert list(outcomes.values()).count("success") > 2_000
    # What passes here need not be run there, which saves half of the time.
    others = [name for name, outcome in outcomes.items() if outcome != "success"]
    expected: dict[str, str] = start("asyncio", others, tmp_path / "twisted's own")()["outcomes"]
    differ = {name: outcomes[name] for name in others if outcomes[name] != expected.get(name)}
    assert not differ, "\n".join(f"{name}: {outcome}\n{errors.get(name, '')}" for name, outcome in differ.items())


def trial(choice: str, *names: str, folder: Path) -> tuple[int, str]:
    """Run tests that block, whose author has written this line, and return the status and the output."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "twisted.trial", *(f"trial_of_blocking.{name}" for name in names)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([PACKAGES, str(PROGRAM.parent)]), "CHOICE": choice},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )
    return ended.returncode, ended.stdout


@pytest.mark.process
@pytest.mark.any_python
def test_tests_that_block_pass_after_install(tmp_path: Path) -> None:
    status, said = trial("bridge.install()", "ATestOfSyncCode", "Tests", folder=tmp_path)
    assert status == 0, said
    assert "PASSED (successes=6)" in said


@pytest.mark.process
@pytest.mark.any_python
def test_without_that_each_call_is_refused_by_what_to_write(tmp_path: Path) -> None:
    status, said = trial("", "ATestOfSyncCode", "Tests.test_directly", "Tests.test_in_a_thread", folder=tmp_path)
    assert status == 1, said
    assert "FAILED (errors=3)" in said, said
    assert said.count("ReactorConflict: trial runs the reactor of this process from test to test") == 3, said
    assert said.count("write bridge.install() at the top of the test module") == 3


@pytest.mark.process
@pytest.mark.any_python
def test_what_else_the_refusal_proposes_works(tmp_path: Path) -> None:
    names = "ATestOfSyncCode", "Tests.test_directly", "Tests.test_in_a_thread", "TestsFromThreads"
    status, said = trial("bridge.configure(install_reactor=False)", *names, folder=tmp_path)
    assert status == 0, said
    assert "PASSED (successes=4)" in said
