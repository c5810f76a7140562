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

COMMANDS = {"python": [], "python -m bridge run": ["-m", "bridge", "run"]}
every_command = pytest.mark.parametrize("command", COMMANDS)


@every_command
def test_the_second_example_of_the_readme(command: str, tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "script.py").write_text(examples[1])
    assert "future.result() for future in futures" in examples[1]
    ended = run([*COMMANDS[command], "script.py"], tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["a coroutine", "a Deferred", "called on the loop's thread", "[0, 1, 2]"]


WAYS = {
    "result": "future.result()",
    "exception": "future.exception()",
    "wait": "bridge.wait([future])",
    "wait for any": "bridge.wait([future], return_when='FIRST_COMPLETED')",
    "as_completed": "list(bridge.as_completed([future]))",
    "result with a time-out": "future.result(1000)",
    "wait with a time-out": "bridge.wait([future], 1000)",
}

# It says that it waits when it does: by a thread that looks at the Future, so that no sleep has to be long enough.
INTERRUPTED = """
import asyncio, os, signal, sys, threading, time
import bridge

cancelled = []

async def work():
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        cancelled.append(None)
        raise

def say_that_it_waits(future):
    while not (future._waiters or future._condition._waiters):
        time.sleep(0.001)
    time.sleep(0.01)
    print("waits", flush=True)

future = bridge.submit(work())
for _ in range(3):
    threading.Thread(target=say_that_it_waits, args=(future,), daemon=True).start()
    try:
        WAY
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert not future.done() and not cancelled
    assert not future._waiters and not future._condition._waiters
print(bridge.block_on(asyncio.sleep(0.001, "goes on")), flush=True)
assert future.cancel()
try:
    future.result()
except asyncio.CancelledError:
    pass
except Exception as error:
    print(type(error).__module__, type(error).__name__, flush=True)
"""


@every_command
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_is_prompt_and_leaves_the_work_running(command: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED.replace("WAY", WAYS[way]))
    with subprocess.Popen(
        [sys.executable, "-W", "error", *COMMANDS[command], "script.py"],
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
    script = """
import asyncio, os, signal, threading, time
import bridge

future = bridge.submit(asyncio.sleep(1000))
late = []
for _ in range(5):
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    asyncio.get_running_loop().call_soon(threading.Timer(0.02, send).start)
    try:
        future.result()
    except KeyboardInterrupt:
        late.append(time.monotonic() - sent[0])
assert min(late) < 0.5, late
future.cancel()
"""
    (tmp_path / "script.py").write_text(script)
    ended = run(["-m", "bridge", "run", "script.py"], tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("way", ["wait", "as_completed"])
def test_a_thread_that_waits_for_work_as_the_process_exits_is_let_go(way: str, tmp_path: Path) -> None:
    script = f"""
import asyncio, threading, time
import bridge

future = bridge.submit(asyncio.sleep(1000))

def waits():
    {"print(len(bridge.wait([future]).done))" if way == "wait" else "print(len(list(bridge.as_completed([future]))))"}
    print(type(future.exception()).__name__, flush=True)

threading.Thread(target=waits).start()
while not future._waiters:
    time.sleep(0.001)
"""
    (tmp_path / "script.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\nBridgeClosed\n", "")
