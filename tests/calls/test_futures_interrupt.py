"""Ctrl-C ends the wait for a Future at once, under python and under ``python -m bridge run``; the work goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ENVIRONMENT, ROOT
from scripts import run

pytestmark = pytest.mark.process

PROGRAMS = Path(__file__).with_name("programs")

COMMANDS = {"python": [], "python -m bridge run": ["-m", "bridge", "run"]}
every_command = pytest.mark.parametrize("command", COMMANDS)


@every_command
def test_the_first_example_of_the_reference(command: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "calls.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "script.py").write_text(example)
    assert "future.result() for future in futures" in example
    ended = run([*COMMANDS[command], "script.py"], tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["a coroutine", "a Deferred", "called on the loop's thread", "[0, 1, 2]"]


# As interrupted_wait.py has them.
WAYS = [
    "result",
    "exception",
    "wait",
    "wait for any",
    "as_completed",
    "result with a time-out",
    "wait with a time-out",
]


@every_command
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_is_prompt_and_leaves_the_work_running(command: str, way: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", *COMMANDS[command], PROGRAMS / "interrupted_wait.py", way],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.strip())
                if line == "waits\n":
                    process.send_signal(signal.SIGINT)
            process.wait(20)
            assert process.stderr is not None
            errors = process.stderr.read()
        finally:
            process.kill()
    expected = ["waits", "interrupted"] * 3 + ["goes on", "concurrent.futures._base CancelledError"]
    assert (lines, errors, process.returncode) == (expected, "", 0)


def test_ctrl_c_is_not_late_by_seconds_where_the_loop_runs_the_script(tmp_path: Path) -> None:
    """Measured in the process itself: from the signal to the exception."""
    ended = run(["-m", "bridge", "run", str(PROGRAMS / "late_interrupts.py")], tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("way", ["wait", "as_completed"])
def test_a_thread_that_waits_for_work_as_the_process_exits_is_let_go(way: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", PROGRAMS / "waits_at_exit.py", way],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\nBridgeClosed\n", "")
