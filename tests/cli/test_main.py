"""The command line, each time in a process of its own."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from paths import ENVIRONMENT

import bridge as package

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAMS = Path(__file__).with_name("programs")


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=40)


def bridge(*arguments):
    return python("-m", "bridge", *arguments)


def program(name, *arguments):
    """Run one of the programs. Its own folder is not on its path."""
    return subprocess.run(
        [sys.executable, "-P", PROGRAMS / name, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=40,
    )


def demo_after(change):
    """Run the demo in a process that has made the change first."""
    return program("demo_after.py", change)


def steps(output):
    """Return what became of each step, by its title."""
    return {
        match["title"]: (match["outcome"], match["said"])
        for match in re.finditer(r"^  (?P<outcome>ok|FAIL|--) +(?P<title>\S.*?)  +(?P<said>.+)$", output, re.MULTILINE)
    }


def failed(output):
    return {title for title, (outcome, _) in steps(output).items() if outcome == "FAIL"}


def timed(output):
    """Return the ratio of each row of the table."""
    row = r"^ +(?P<name>\S+) +[\d.]+ µs +[\d.]+ µs +(?P<ratio>[\d.]+)$"
    return {match["name"]: float(match["ratio"]) for match in re.finditer(row, output, re.MULTILINE)}


# --- help and wrong arguments


def test_help_lists_the_commands():
    process = bridge("--help")
    assert process.returncode == 0
    assert process.stderr == ""
    assert process.stdout.startswith("usage: python -m bridge ")
    assert re.findall(r"^    (\w+) ", process.stdout, re.MULTILINE) == ["bench", "demo", "run", "shell", "twin"]


def test_without_arguments_the_help_is_printed():
    process = bridge()
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == bridge("--help").stdout


def test_help_says_why_one_wants_to_run_a_script_so():
    assert "so that block_on(treq.get(url)) works as written" in " ".join(bridge("run", "--help").stdout.split())


def test_version_tells_what_the_report_of_a_bug_needs():
    process = bridge("--version")
    assert process.returncode == 0
    assert process.stderr == ""
    assert process.stdout.startswith(f"bridge {package.__version__}\nPython {platform.python_version()} (CPython, ")
    for distribution in ("Twisted", "anyio", "greenlet"):
        assert f"{distribution} {metadata.version(distribution)}" in process.stdout
    lines = process.stdout.splitlines()
    assert "yes  block on the loop's own thread" in lines
    assert "yes  strategy lock" in lines
    assert "no   strategy tk: tkinter is not imported; import it and make its root window, Tk()" in lines


def test_version_says_what_this_python_lacks():
    code = """
import asyncio; del asyncio.BaseEventLoop._run_once
from bridge._cli.versions import report
print(report('0'))
"""
    process = python("-c", code)
    assert process.stderr == ""
    assert "no   block on the loop's own thread: BaseEventLoop._run_once is missing in Python" in process.stdout
    assert "pip install --upgrade bridge-interop" in process.stdout


def test_help_of_a_command_says_what_it_does():
    process = bridge("demo", "--help")
    assert process.returncode == 0
    assert process.stderr == ""
    assert "exit status" in process.stdout
    assert "--calls N" in process.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["bench", "--help"]])
def test_help_imports_no_twisted_and_no_asyncio(arguments):
    process = program("imports_of_help.py", *arguments)
    assert process.stdout.endswith("imported: set()\n"), process.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fly"], "unrecognized arguments: --fly"),
        (["fly"], "invalid choice: 'fly'"),
        (["demo", "--calls", "0"], "'0' is not a whole number above 0"),
        (["bench", "--seconds", "0"], "'0' is not a whole number above 0"),
        (["demo", "--calls", "many"], "'many' is not a whole number above 0"),
    ],
)
def test_wrong_arguments_are_refused_with_status_2(arguments, complaint):
    process = bridge(*arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    assert complaint in process.stderr
    assert "Traceback" not in process.stderr


# --- the demo


def test_demo_succeeds():
    process = bridge("demo", "--calls", "200")
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stderr == ""
    taken = steps(process.stdout)
    assert {outcome for outcome, _ in taken.values()} == {"ok", "--"}
    assert all(said.startswith("not here: ") for outcome, said in taken.values() if outcome == "--")
    for client in ("Twisted", "asyncio", "anyio"):
        for server in ("Twisted", "asyncio"):
            _, said = taken[f"{client} client, {server} server"]
            assert f"{server}'s server greets {client}'s client" in said
    succeeded = [outcome for outcome, _ in taken.values() if outcome == "ok"]
    assert f"All {len(succeeded)} steps succeeded" in process.stdout


def test_demo_times_every_strategy_that_can_be_used():
    process = demo_after("another_strategy")
    assert process.returncode == 0, process.stdout + process.stderr
    usable = re.search(r"^there are: (.*)$", process.stdout, re.MULTILINE)[1].split()
    ratios = timed(process.stdout)
    assert list(ratios) == ["run_coroutine_threadsafe", *usable]
    assert ratios["run_coroutine_threadsafe"] == 1
    assert steps(process.stdout)["strategy elsewhere"] == ("--", "not here: it is for other threads")


def test_failing_step_is_shown_and_the_others_still_run():
    process = demo_after("refusing_client")
    assert process.returncode == 1
    assert failed(process.stdout) == {
        "asyncio client, Twisted server",
        "asyncio client, asyncio server",
        "gather() of Deferreds and coroutines",
    }
    assert "ConnectionRefusedError: not today" in process.stdout
    assert timed(process.stdout)
    assert re.search(r"^3 of \d+ steps failed", process.stdout, re.MULTILINE)


def test_server_that_does_not_start_fails_what_needs_it():
    process = demo_after("taken_address")
    assert process.returncode == 1
    assert steps(process.stdout)["start an asyncio server"] == ("FAIL", "OSError: address in use")
    assert steps(process.stdout)["anyio client, asyncio server"] == (
        "FAIL",
        "RuntimeError: the asyncio server did not start",
    )
    assert steps(process.stdout)["anyio client, Twisted server"][0] == "ok"
    assert steps(process.stdout)["stop the servers"][0] == "ok"
    assert timed(process.stdout)


def test_wrong_page_fails_its_step():
    process = demo_after("wrong_page")
    assert process.returncode == 1
    outcome, said = steps(process.stdout)["anyio client, Twisted server"]
    assert outcome == "FAIL"
    assert "got b'hello' instead of" in said


def test_broken_strategy_fails_its_step_and_the_others_are_timed():
    process = demo_after("broken_strategy")
    assert process.returncode == 1
    assert failed(process.stdout) == {"strategy broken"}
    assert "broken" not in timed(process.stdout)
    assert "lock" in timed(process.stdout)


def test_demo_without_a_loop_fails_every_step_and_ends():
    process = demo_after("no_loop")
    assert process.returncode == 1
    assert steps(process.stdout)["start the loop"] == ("FAIL", "OSError: too many open files")
    outcomes = steps(process.stdout)
    not_here = {step for step, (outcome, said) in outcomes.items() if said.startswith("not here: ")}
    assert failed(process.stdout) == outcomes.keys() - {"stop the servers"} - not_here
    assert process.stderr == ""


# --- the shell; test_shell_command.py has what needs IPython


def test_shell_without_ipython_says_what_to_install():
    code = "import sys; sys.modules['IPython'] = None; from bridge.__main__ import main; sys.exit(main(['shell']))"
    process = python("-c", code)
    assert process.returncode == 1
    assert process.stdout == ""
    assert "needs IPython" in process.stderr
    assert "pip install 'bridge-interop[shell]'" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("arguments", [["demo", "--fly"], ["run", "--fly"], ["demo", "fly"]])
def test_only_the_shell_passes_on_what_it_does_not_know(arguments):
    process = bridge(*arguments)
    assert process.returncode == 2
    assert "unrecognized arguments" in process.stderr or "required: script" in process.stderr
