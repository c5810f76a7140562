"""trial on the reactor of bridge.install(): each of Twisted's tests ends as it does on Twisted's asyncio reactor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridge

PROGRAM = Path(__file__).parent / "programs" / "trial_on.py"
# Run at the same time, so that they take about as long as one another.
SHARES = [
    ["twisted.test.test_threads", "twisted.test.test_internet", "twisted.test.test_process"],
    ["twisted.internet.test", "twisted.web.test"],
]
_LIMIT = 500  # seconds


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
    waits = [start("bridge", names, tmp_path / f"share {number}") for number, names in enumerate(SHARES)]
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
