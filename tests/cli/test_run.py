"""``python -m bridge run``: the same script under plain python and on the loop, compared."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import ENVIRONMENT
from scripts import run

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAMS = Path(__file__).with_name("programs")


def on_the_loop(program: str, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of one of the programs, whose name is ``script.py`` there."""
    shutil.copy(PROGRAMS / program, where / "script.py")
    return run(["-m", "bridge", "run", "script.py", *arguments], where)


# Scripts that need no loop: what they print and how they end must not tell which way they were run.
SAME = {
    "exit status": "import sys; sys.exit(7)",
    "exit message": "import sys; sys.exit('a message')",
    "exit without a status": "raise SystemExit",
    "a syntax error": "def function(:",
    **{each.stem.replace("_", " "): each.read_text() for each in sorted((PROGRAMS / "plain").glob("*.py"))},
}


@pytest.mark.parametrize("name", SAME)
def test_a_plain_script_does_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SAME[name])
    plain = run(["script.py", "an", "--argument", "-x"], tmp_path)
    ours = run(["-m", "bridge", "run", "script.py", "an", "--argument", "-x"], tmp_path)
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout), ours.stderr
    assert ours.stderr == plain.stderr


def test_a_module_and_a_package(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text("import sys; print(__name__, __package__, sys.argv, sys.path[0])")
    plain = run(["-m", "package", "x"], tmp_path)
    ours = run(["-m", "bridge", "run", "-m", "package", "x"], tmp_path)
    assert ours.stdout == plain.stdout
    assert (ours.returncode, ours.stderr) == (0, "")
    directory = run(["package"], tmp_path)
    assert run(["-m", "bridge", "run", "package"], tmp_path).stdout.split()[:1] == directory.stdout.split()[:1]


def test_a_missing_script(tmp_path: Path) -> None:
    plain = run(["missing.py"], tmp_path)
    ended = run(["-m", "bridge", "run", "missing.py"], tmp_path)
    assert (ended.returncode, ended.stdout) == (plain.returncode, "") == (2, "")
    said = plain.stderr.partition(": ")[2]
    assert said.startswith("can't open file ")
    assert ended.stderr == f"python -m bridge run: {said}"


def test_loop_and_script_share_the_main_thread(tmp_path: Path) -> None:
    ended = on_the_loop("shared_thread.py", tmp_path)
    lines = ended.stdout.splitlines()
    assert ended.stderr == ""
    assert lines[0] == "deferred"
    assert re.match(r"\(True, <ProgramLoop running=True .*\) run$", lines[1])
    assert lines[2] == "['MainThread', 'bridge-watchdog']"
    assert lines[3:] == ["[True, True, True]", "late thread"]


def test_an_error_of_awaited_code_shows_the_scripts_frames_only(tmp_path: Path) -> None:
    ended = on_the_loop("awaited_error.py", tmp_path)
    assert ended.returncode == 1
    assert re.findall(r'File ".*/(.*)", line (\d+)', ended.stderr) == [
        ("script.py", "14"),
        ("script.py", "11"),
        ("script.py", "7"),
    ]
    assert ended.stderr.endswith("LookupError: no such thing\n")


def test_ctrl_c_comes_out_of_the_blocked_call(tmp_path: Path) -> None:
    ended = on_the_loop("interrupted.py", tmp_path)
    assert ended.stdout.splitlines() == ["cleaned", "interrupted", "interrupted", "goes on"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_comes_out_of_the_scripts_call_and_no_others(tmp_path: Path) -> None:
    """Though a worker's call blocks and ends between the signal and the script's own turn."""
    ended = on_the_loop("interrupted_beside_a_worker.py", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n[1]\n", "")


def test_the_loop_looks_up_for_signals_that_met_it_as_it_fell_asleep(tmp_path: Path) -> None:
    ended = on_the_loop("longest_sleep.py", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_ctrl_c_comes_out_of_the_scripts_own_code(tmp_path: Path) -> None:
    """Also after it has been blocked: in a busy loop, in a sleep, in a lock, and in what it blocks on again."""
    ended = on_the_loop("interrupted_in_own_code.py", tmp_path)
    assert ended.stdout.split() == ["busy", "blocked", "asleep", "locked", "busy"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_uncaught_ctrl_c_ends_the_process_by_the_signal(tmp_path: Path) -> None:
    ended = on_the_loop("interrupted.py", tmp_path, "uncaught")
    assert ended.stdout.splitlines()[-1] == "cleaned"
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.endswith("KeyboardInterrupt\n")


def test_random_ctrl_cs_are_never_lost(tmp_path: Path) -> None:
    """Each one comes out of the script's own code, whatever the thread was doing."""
    shutil.copy(PROGRAMS / "interrupted_at_random.py", tmp_path / "script.py")
    # One that comes between the call of work() and that of block_on() leaves a coroutine that nobody has been given.
    warnings = ["-W", "error", "-W", "ignore:coroutine 'work' was never awaited:RuntimeWarning"]
    command = [sys.executable, *warnings, "-m", "bridge", "run", "script.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for number in range(40):
                assert process.stdout.readline() == f"{number}\n", process.communicate()
                time.sleep(0.0007 * (number % 7))  # to meet it in other places each time
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (output, errors, process.returncode) == ("goes on\n", "", 0)


def test_help_of_run_reads_well(tmp_path: Path) -> None:
    shown = run(["-m", "bridge", "run", "--help"], tmp_path)
    assert shown.returncode == 0
    assert "run (script | -m module) [argument ...]" in shown.stdout
