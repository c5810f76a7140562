"""``python -m bridge run``: the same script under plain python and on the loop, compared."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from paths import ENVIRONMENT
from scripts import run

pytestmark = pytest.mark.process


def on_the_loop(script: str, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (where / "script.py").write_text(script)
    return run(["-m", "bridge", "run", "script.py", *arguments], where)


# Scripts that need no loop: what they print and how they end must not tell which way they were run.
SAME = {
    "names and arguments": """
        import sys, __main__
        print(__name__, __file__, sys.argv, sys.path[0], __main__.__file__, __main__ is sys.modules["__main__"])
        print(sorted(name for name in globals() if name not in ("__annotations__",)))
    """,
    "a class that is pickled": """
        import pickle
        class Point:
            x = 1
        print(pickle.loads(pickle.dumps(Point())).x, Point.__module__)
    """,
    "exit status": "import sys; sys.exit(7)",
    "exit message": "import sys; sys.exit('a message')",
    "exit without a status": "raise SystemExit",
    "an error": """
        def function():
            raise LookupError("no such thing")
        function()
    """,
    "an error with a cause": """
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise LookupError("no such thing") from error
    """,
    "a syntax error": "def function(:",
    "an excepthook": """
        import sys
        sys.excepthook = lambda *args: print("hooked", args[0].__name__)
        raise LookupError
    """,
    "threads and atexit": """
        import atexit, threading, time
        atexit.register(print, "at exit")
        printed = threading.Event()
        threading.Thread(target=lambda: (printed.wait(), time.sleep(0.1), print("thread"))).start()
        print("main")
        printed.set()
    """,
    "an executor": """
        import concurrent.futures
        pool = concurrent.futures.ThreadPoolExecutor(2)
        print(pool.submit(lambda: "worker").result())
    """,
    "multiprocessing": """
        import multiprocessing
        def double(x):
            return 2 * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
    """,
    "future imports": """
        from __future__ import annotations
        def f(x: unknown): ...
        print(f.__annotations__)
    """,
    "signal handlers": """
        import os, signal
        signal.signal(signal.SIGINT, lambda *_: print("handled"))
        os.kill(os.getpid(), signal.SIGINT)
        print("after")
    """,
    "Ctrl-C": """
        import os, signal
        try:
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                sum(range(100))
        except KeyboardInterrupt:
            print("caught")
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            sum(range(100))
    """,
}


@pytest.mark.parametrize("name", SAME)
def test_a_plain_script_does_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SAME[name]))
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
    ended = run(["-m", "bridge", "run", "missing.py"], tmp_path)
    assert ended.returncode != 0
    assert "missing.py" in ended.stderr


def test_loop_and_script_share_the_main_thread(tmp_path: Path) -> None:
    script = """
import asyncio, threading
from twisted.internet import reactor
from twisted.internet.task import deferLater
from bridge import block_on, configure, run, default_bridge

configure(exit_grace=30)

async def where():
    return threading.current_thread() is threading.main_thread(), asyncio.get_running_loop()

print(block_on(deferLater(reactor, 0.01, lambda: "deferred")))     # safe as written
print(block_on(where()), run(lambda: block_on(asyncio.sleep(0, "run"))))
print(sorted(thread.name for thread in threading.enumerate()))
results = []
threads = [threading.Thread(target=lambda: results.append(block_on(where())[0])) for _ in range(3)]
for thread in threads:
    thread.start()
while len(results) < 3:  # a join() would keep the loop from serving them
    block_on(asyncio.sleep(0.005))
for thread in threads:
    thread.join()
print(results)
late = threading.Thread(target=lambda: print("late", block_on(asyncio.sleep(0.05, "thread"))))
late.start()
"""
    ended = on_the_loop(script, tmp_path)
    lines = ended.stdout.splitlines()
    assert ended.stderr == ""
    assert lines[0] == "deferred"
    assert re.match(r"\(True, <ProgramLoop running=True .*\) run$", lines[1])
    assert lines[2] == "['MainThread', 'bridge-watchdog']"
    assert lines[3:] == ["[True, True, True]", "late thread"]


def test_an_error_of_awaited_code_shows_the_scripts_frames_only(tmp_path: Path) -> None:
    script = """
from bridge import block_on
async def awaited():
    raise LookupError("no such thing")
def function():
    block_on(awaited())
function()
"""
    ended = on_the_loop(script, tmp_path)
    assert ended.returncode == 1
    assert re.findall(r'File ".*/(.*)", line (\d+)', ended.stderr) == [
        ("script.py", "7"),
        ("script.py", "6"),
        ("script.py", "4"),
    ]
    assert ended.stderr.endswith("LookupError: no such thing\n")


INTERRUPTED = """
import asyncio, os, signal, sys, threading
from bridge import block_on
from twisted.internet import reactor

def interrupt_later():  # when the script is blocked, for then only is a callback called
    asyncio.get_running_loop().call_soon(threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start)

async def cleaning():
    try:
        await asyncio.sleep(10)
    finally:
        await asyncio.sleep(0.02)
        print("cleaned", flush=True)

async def stubborn():
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        interrupt_later()
        await asyncio.sleep(10)

for x in (cleaning, stubborn):
    interrupt_later()
    try:
        block_on(x())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(block_on(asyncio.sleep(0.01, "goes on")), flush=True)
if "uncaught" in sys.argv:
    interrupt_later()
    block_on(cleaning())
"""


def test_ctrl_c_comes_out_of_the_blocked_call(tmp_path: Path) -> None:
    ended = on_the_loop(INTERRUPTED, tmp_path)
    assert ended.stdout.splitlines() == ["cleaned", "interrupted", "interrupted", "goes on"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_comes_out_of_the_scripts_call_and_no_others(tmp_path: Path) -> None:
    """Though a worker's call blocks and ends between the signal and the script's own turn."""
    script = """
import asyncio, os, signal, threading, time
from bridge import block_on

results = []

async def value():
    return 1

async def blocks():
    return block_on(value())

def worker():
    interrupted.wait()
    time.sleep(0.1)
    results.append(block_on(blocks()))

def busy():
    os.kill(os.getpid(), signal.SIGINT)
    interrupted.set()
    time.sleep(0.5)

interrupted = threading.Event()
thread = threading.Thread(target=worker)
thread.start()
block_on(lambda: asyncio.get_running_loop().call_later(0.1, busy) and None)
try:
    block_on(asyncio.sleep(30))
except KeyboardInterrupt:
    print("interrupted")
thread.join()
print(results)
"""
    ended = on_the_loop(script, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n[1]\n", "")


def test_the_loop_looks_up_for_signals_that_met_it_as_it_fell_asleep(tmp_path: Path) -> None:
    script = """
import asyncio
from bridge import block_on, in_thread

sleeps = []
selector = asyncio.get_running_loop()._selector
select = selector.select
selector.select = lambda timeout=None: sleeps.append(timeout) or select(timeout)
block_on(in_thread(__import__("time").sleep, 0.2))
print(max(sleeps, key=lambda seconds: float("inf") if seconds is None else seconds) <= 1)
"""
    ended = on_the_loop(script, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_ctrl_c_comes_out_of_the_scripts_own_code(tmp_path: Path) -> None:
    """Also after it has been blocked: in a busy loop, in a sleep, in a lock, and in what it blocks on again."""
    script = """
import asyncio, os, signal, threading, time
from bridge import block_on

def interrupt_soon(begun):
    begun.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

def busy():
    while True:
        pass

def asleep():
    time.sleep(30)

def locked():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def blocked():
    block_on(asyncio.get_running_loop().create_future())

for function in (busy, blocked, asleep, locked, busy):
    begun = threading.Event()
    threading.Thread(target=interrupt_soon, args=[begun]).start()
    try:
        begun.set()
        function()
    except KeyboardInterrupt:
        print(function.__name__)
    block_on(asyncio.sleep(0.01))
"""
    ended = on_the_loop(script, tmp_path)
    assert ended.stdout.split() == ["busy", "blocked", "asleep", "locked", "busy"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_uncaught_ctrl_c_ends_the_process_by_the_signal(tmp_path: Path) -> None:
    ended = on_the_loop(INTERRUPTED, tmp_path, "uncaught")
    assert ended.stdout.splitlines()[-1] == "cleaned"
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.endswith("KeyboardInterrupt\n")


def test_random_ctrl_cs_are_never_lost(tmp_path: Path) -> None:
    """Each one comes out of the script's own code, whatever the thread was doing."""
    script = """
import asyncio, sys
from bridge import block_on

async def work():
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.0005)

print("ready", flush=True)
caught = 0
while caught < 40:
    try:
        print(caught, flush=True)  # inside the try, for the next one comes at once
        while True:
            block_on(work())
            sum(range(200))
    except KeyboardInterrupt:
        caught += 1
print(block_on(asyncio.sleep(0, "goes on")), flush=True)
"""
    (tmp_path / "script.py").write_text(script)
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
