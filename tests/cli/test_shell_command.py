"""``python -m bridge shell``, in a terminal: what it says, how it is interrupted, and how it is left."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from shells import Kernel, Terminal, environment

pytestmark = [pytest.mark.process, pytest.mark.any_python]

pytest.importorskip("IPython", reason="needs IPython: pip install 'bridge-interop[shell]'")

CELLS = Path(__file__).with_name("cells")


def terminal(home):
    return Terminal(home, "-m", "bridge", "shell", "--no-confirm-exit")


def kernel(home):
    pytest.importorskip("ipykernel", reason="needs a kernel: pip install ipykernel")
    started = Kernel(home)
    started.run("%load_ext bridge")
    return started


@pytest.fixture
def shell(tmp_path, request):
    started = getattr(request, "param", terminal)(tmp_path)
    yield started
    started.close()


def test_banner_says_what_is_there_and_it_is_there(shell):
    for name in ("block_on(x)", "blocking(obj)", "loop, reactor", "%%loop", "%bridge", "await x"):
        assert name in shell.banner
    assert "Out[1]: True" in shell.run(
        "from twisted.internet import reactor as installed\n"
        "reactor is installed and bridge.default_bridge().loop is loop and (block_on, blocking) == "
        "(bridge.block_on, bridge.blocking)"
    )
    assert "Out[2]: [1, 2]" in shell.run(
        "import asyncio\nfrom twisted.internet.task import deferLater\n"
        "[await asyncio.sleep(0, 1), await deferLater(reactor, 0, lambda: 2)]"
    )
    assert shell.run("%who_ls").count("block_on") == 0


def test_ctrl_c_at_the_prompt_leaves_the_shell_as_it_is(shell):
    shell.child.send("block_on(un")
    shell.child.expect_exact("un")
    shell.interrupt()
    assert "Out[1]: 42" in shell.run("block_on(lambda: 6 * 7)")


def test_a_signal_at_the_prompt_does_not_end_the_shell(shell):
    assert "42" in shell.run("block_on(lambda: 6 * 7)")
    os.kill(shell.child.pid, signal.SIGINT)
    shell.child.expect_exact("KeyboardInterrupt")
    assert "43" in shell.run("block_on(lambda: 6 * 7) + 1")


@pytest.mark.parametrize("how", ["exit()", "Exit", "quit", "Ctrl-D", "sys.exit"])
def test_shell_is_left_with_calls_open(tmp_path, how):
    if how == "Exit":  # as the shell of 2008 had it
        (tmp_path / "profile_default" / "startup").mkdir(parents=True)
        (tmp_path / "profile_default" / "startup" / "old.py").write_text("get_ipython().user_ns['Exit'] = exit\n")
    shell = terminal(tmp_path)
    try:
        assert shell.run((CELLS / "open_calls.py").read_text()).strip() == ""
        if how == "Ctrl-D":
            shell.child.send("\x04")
        elif how == "sys.exit":  # which IPython declines, and says so
            assert "To exit: use 'exit'" in shell.run("import sys; sys.exit(3)")
            shell.child.send("\x04")
        else:
            shell.child.send(f"{how}\r")
        assert shell.wait_ended() == 0
        assert "the thread got BridgeClosed" in shell.output
        assert "Traceback" not in shell.output
    finally:
        shell.close()


def test_second_ctrl_c_leaves_work_that_does_not_end(shell):
    shell.run((CELLS / "stubborn.py").read_text())
    shell.start("await stubborn()")
    shell.wait_for("ready")
    shell.interrupt()
    shell.wait_for("refused")
    shell.interrupt()
    assert "KeyboardInterrupt" in shell.finish()
    assert "42" in shell.run("await asyncio.sleep(0, 6 * 7)")


@pytest.mark.parametrize("shell", [terminal, kernel], indirect=True)
def test_debugger_looks_into_the_awaited_code(shell):
    shell.run("async def divide(a, b):\n    quotient = a * 1000 // b\n    return quotient\n")
    assert "ZeroDivisionError" in shell.run("await divide(7, 0)")
    shell.start("%debug")
    shell.answer("ipdb>", "p a * 6, b")
    shell.wait_for(r"\(42, 0\)")
    shell.answer("ipdb>", "up")
    shell.wait_for("await")
    shell.answer("ipdb>", "q")
    shell.finish()
    assert "42" in shell.run("block_on(lambda: 6 * 7)")


def test_stopped_reactor_is_said_once_and_the_name_loop_follows(shell):
    shell.run("import asyncio\nold = loop")
    shown = shell.run(
        "import time\nblock_on(lambda: reactor.callLater(0, reactor.stop))\n"
        "while bridge.default_bridge().running: time.sleep(0.01)\n"
    )
    assert shown.count("bridge: the reactor was stopped; the next call starts a new loop.") == 1
    assert "bridge: " not in shell.run("await asyncio.sleep(0)")
    assert "(True, True, False)" in shell.run("old.is_closed(), bridge.default_bridge().loop is loop, loop.is_closed()")


def test_code_is_run_from_the_command_line(tmp_path):
    code = "import asyncio; print(await asyncio.sleep(0, 6 * 7))"
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", "shell", "-c", code],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "42", "")


def test_users_own_extensions_are_loaded_too(tmp_path):
    modules = tmp_path / "modules"  # not the home: IPython takes that out of the path
    modules.mkdir()
    (modules / "mine.py").write_text("def load_ipython_extension(shell): shell.user_ns['mine'] = 'lo' + 'aded'\n")
    settings = environment(tmp_path)
    settings["PYTHONPATH"] += f"{os.pathsep}{modules}"
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", "shell", "--ext=mine", "-c", "print(mine, block_on(lambda: 6 * 7))"],
        env=settings,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("loaded 42", "")


# --- from the interrupt to the KeyboardInterrupt

WAITS = {
    "block_on": "lambda: block_on(asyncio.sleep(60))",
    "block_on a Deferred": "lambda: block_on(Deferred())",
}


@pytest.mark.parametrize("shell", [terminal, kernel], indirect=True)
@pytest.mark.parametrize("wait", WAITS)
def test_interrupt_comes_at_once(shell, wait, record_property):
    shell.run((CELLS / "measure.py").read_text())
    shell.start(f"came = blocked({WAITS[wait]})")
    sent = []
    for number in range(30):
        shell.wait_for(f"<{number}>")
        sent.append(shell.interrupt())
    shell.finish()
    shown = shell.run("print('came:', *came)")
    came = [float(each) for each in shown.split("came:")[1].split()]
    delays = [1000 * (end - start) for start, end in zip(sent, came, strict=True)]
    median = statistics.median(delays)
    record_property("median_ms", median)
    print(f"{type(shell).__name__}, {wait}: median {median:.2f} ms, worst {max(delays):.2f} ms of {len(delays)}")
    assert median < 500  # 5 on a machine with nothing else to do; 1000 where only a look-up finds the signal
