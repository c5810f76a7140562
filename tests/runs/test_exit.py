"""The process ends, with its own status and without noise, whatever is open."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from isolated import isolated
from paths import ENVIRONMENT
from scripts import SEED, python, times

pytestmark = pytest.mark.process

PROGRAMS = Path(__file__).with_name("programs")
# What the process says of calls that it has ended.
CUT_OFF = r"bridge: the main thread has ended, and calls were not completed in {}; join .*\[bridge: process-exiting\]"

# --- at random: everything that can be open, and every way to end

STATUS = {"falls off": 0, "exit": 7, "error": 1, "_exit": 9, "from a call": 11}


@pytest.mark.timeout(3000)
def test_a_process_always_ends(tmp_path: Path) -> None:
    for number in range(times(6, 200)):
        seed = SEED + number
        ended = python(PROGRAMS / "exits.py", seed, where=tmp_path)
        shown = f"seed {seed}, status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert len(ended.stdout.splitlines()) == 1, shown
        end = ended.stdout.partition(" [")[0]
        assert ended.returncode == STATUS[end], shown
        if end == "error":
            assert ended.stderr.startswith("Traceback (most recent call last):"), shown
            assert re.search(f"\nLookupError: of the script\n({CUT_OFF.format('.*')}\n)?$", ended.stderr), shown
            assert ended.stderr.count("Traceback") == 1, shown
        else:
            assert re.fullmatch(f"({CUT_OFF.format('.*')}\n)?", ended.stderr), shown


# --- what is promised, one by one


@isolated(status=7, stdout="in time")
def test_calls_of_other_threads_may_go_on_for_their_grace() -> None:
    import asyncio
    import sys
    import threading

    import bridge

    bridge.configure(exit_grace=20)

    def work() -> None:
        for _ in range(3):
            bridge.block_on(asyncio.sleep(0.02))
        print(bridge.block_on(asyncio.sleep(0.02, "in time")))

    bridge.block_on(asyncio.sleep(0))
    threading.Thread(target=work).start()
    sys.exit(7)


@isolated(stdout="closed\nrefused")
def test_when_the_grace_is_over_calls_fail_and_new_ones_are_refused() -> None:
    import asyncio
    import threading

    import bridge

    bridge.configure(exit_grace=0.05)
    begun = threading.Event()

    async def for_ever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            bridge.block_on(for_ever())
        except bridge.BridgeClosed as error:
            if "exit_grace" in str(error):
                print("closed")
        try:
            bridge.block_on(for_ever())
        except bridge.BridgeClosed as error:
            if "exit_grace" in str(error):
                print("refused")

    threading.Thread(target=work).start()
    assert begun.wait(10)


@isolated(stderr=CUT_OFF.format(".*"))
def test_a_thread_that_calls_for_ever_does_not_keep_the_process() -> None:
    """A call that passes by the refusal, or a Future that is waited for later, is failed as well."""
    import asyncio
    import threading

    import bridge

    begun = threading.Semaphore(0)

    async def for_ever() -> None:
        begun.release()
        await asyncio.get_running_loop().create_future()

    main = threading.main_thread()

    def waiting() -> None:
        future = bridge.submit(for_ever())
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        while main.is_alive() and not ended.wait(0.001):
            pass
        assert isinstance(future.exception(), bridge.BridgeClosed)

    def calling() -> None:
        begun.release()
        while True:
            bridge.block_on(asyncio.sleep(0.0001))

    for work in (waiting, calling, calling):
        threading.Thread(target=work).start()
    for _ in range(4 - 1):
        assert begun.acquire(timeout=10)


@isolated(stdout="the end of the script", stderr=CUT_OFF.format("caller, pool_0, pool_1"))
def test_threads_that_lose_a_call_as_the_main_thread_ends_are_named() -> None:
    """The error of a worker is in a Future that nobody asks."""
    import asyncio
    import concurrent.futures
    import threading

    import bridge

    begun = threading.Semaphore(0)

    async def for_ever() -> None:
        begun.release()
        await asyncio.get_running_loop().create_future()

    pool = concurrent.futures.ThreadPoolExecutor(2, "pool")
    for _ in range(2):
        pool.submit(bridge.block_on, for_ever)
    threading.Thread(target=bridge.block_on, args=(for_ever,), name="caller").start()
    for _ in range(3):
        assert begun.acquire(timeout=10)
    # Not named: it handles the error.
    threading.Thread(target=lambda: bridge.submit(for_ever).exception()).start()
    assert begun.acquire(timeout=10)
    print("the end of the script")


@isolated(stderr=CUT_OFF.format("pool_0"))
def test_a_worker_that_makes_the_first_call_as_the_process_exits_is_named() -> None:
    import asyncio
    import concurrent.futures
    import threading

    import bridge

    exits = threading.Event()

    def late() -> None:
        assert exits.wait(10)
        bridge.block_on(asyncio.sleep(0))

    pool = concurrent.futures.ThreadPoolExecutor(1, "pool")
    threading._register_atexit(exits.set)  # type: ignore[attr-defined]  # called before the workers are joined
    pool.submit(late)


@isolated(stdout="handler: value\nhandler: value", stderr=CUT_OFF.format("Thread-1.*"))
def test_handlers_of_the_exit_may_call_while_other_threads_are_refused() -> None:
    import asyncio
    import atexit
    import threading

    import bridge

    bridge.block_on(asyncio.sleep(0))
    begun = threading.Event()

    async def for_ever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    for _ in range(2):
        atexit.register(lambda: print("handler:", bridge.block_on(asyncio.sleep(0.01, "value"))))
    threading.Thread(target=lambda: bridge.block_on(for_ever())).start()
    assert begun.wait(10)


@isolated(stdout="refused: the process is exiting.*")
def test_a_handler_that_was_registered_before_the_first_call_is_refused_at_once() -> None:
    import asyncio
    import atexit

    import bridge

    bridge.configure(shutdown_timeout=1000)  # it waits for none of that

    def late() -> None:
        try:
            bridge.block_on(asyncio.sleep(0))
        except bridge.BridgeClosed as error:
            print("refused:", error)

    atexit.register(late)
    bridge.block_on(asyncio.sleep(0))


@isolated(stdout="refused: the process is exiting.*")
def test_the_first_call_of_all_in_a_handler_is_refused() -> None:
    """No thread can start any more, from 3.12 on (python/cpython#113964)."""
    import asyncio
    import atexit

    import bridge

    def first() -> None:
        try:
            bridge.block_on(asyncio.sleep(0))
        except bridge.BridgeClosed as error:
            print("refused:", error)

    atexit.register(first)


@pytest.mark.parametrize("how", ["closed", "died", "another"])
@isolated(stdout="refused: the process is exiting.*")
def test_a_bridge_that_does_not_run_is_not_started_in_a_handler(how: str) -> None:
    import asyncio
    import atexit

    import bridge

    bridge.block_on(asyncio.sleep(0))
    default = bridge.default_bridge()
    if how == "closed":
        default.close()
    if how == "died":
        thread = default.thread
        default.loop.call_soon_threadsafe(default.loop.stop)
        thread.join(10)

    def calling() -> None:
        try:
            (bridge.Bridge() if how == "another" else default).block_on(asyncio.sleep(0))
        except bridge.BridgeClosed as error:
            print("refused:", error)

    atexit.register(calling)


@isolated(stdout="task\ngenerator\ntrigger")
def test_tasks_generators_and_triggers_are_ended() -> None:
    import asyncio

    from twisted.internet.defer import Deferred

    import bridge

    reactor = bridge.default_bridge().reactor

    async def task() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)
            print("task")

    async def generator():
        try:
            yield
        finally:
            await asyncio.sleep(0.01)
            print("generator")

    def trigger() -> Deferred[None]:
        done: Deferred[None] = Deferred()
        reactor.callLater(0.01, done.callback, None)
        return done.addCallback(lambda _: print("trigger"))

    global kept  # as one of a script is
    kept = generator()
    bridge.submit(task())
    bridge.block_on(kept.__anext__)
    bridge.block_on(lambda: reactor.addSystemEventTrigger("before", "shutdown", trigger))


@isolated(
    status=3,
    stderr=r"bridge: the process exits without the end of: .*stubborn.*, shutdown triggers of the reactor \(of 'bridge'"
    r"\), threads of the loop's executor \(of 'bridge'\)",
)
def test_what_does_not_end_in_its_time_is_named() -> None:
    import asyncio
    import contextlib
    import logging
    import os
    import sys
    import threading
    import time
    from logging import NullHandler

    from twisted.internet.defer import Deferred

    import bridge

    bridge._runs.exit._SLACK = 10.0  # or it might be the loop's thread that is late, on a busy machine
    logging.getLogger().addHandler(NullHandler())  # standard error has it whatever the program does with its log
    bridge.configure(shutdown_timeout=0.2)
    threading.excepthook = lambda _: os._exit(99)

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    bridge.submit(stubborn())
    bridge.submit(asyncio.to_thread(time.sleep, 1000))
    reactor = bridge.default_bridge().reactor
    bridge.block_on(lambda: reactor.addSystemEventTrigger("before", "shutdown", Deferred))
    sys.exit(3)


@pytest.mark.parametrize("where", ["time.sleep", "C"])
@isolated(
    status=3,
    stderr=r"bridge: the process exits without the end of: the thread 'bridge', which stands at .*:\d+\n"
    + CUT_OFF.format("Thread-1.*, Thread-2.*"),
)
def test_a_loop_that_is_stuck_bounds_the_exit(where: str) -> None:
    import sys
    import threading
    import time

    import bridge

    bridge.configure(shutdown_timeout=0.2)
    begun = threading.Event()

    def stuck() -> None:
        begun.set()
        if where == "time.sleep":
            time.sleep(1000)
        else:
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()

    bridge.submit(stuck)
    assert begun.wait(10)
    threading.Thread(target=bridge.block_on, args=(lambda: None,)).start()
    threading.Thread(target=bridge.block_on, args=(lambda: None,), daemon=True).start()
    sys.exit(3)


@pytest.mark.parametrize("where", ["factory", "before its thread", "attach"])
@isolated(stdout="BridgeClosed")
def test_a_loop_that_begins_as_the_process_exits_keeps_nobody(where: str) -> None:
    import asyncio
    import threading
    import time
    from typing import Any

    import bridge
    from bridge._runs.owned import LoopThread

    reached = threading.Event()

    def has_begun() -> bool:
        return bridge._runs.exit.process_exit.has_begun

    def late() -> None:
        reached.set()
        while not has_begun():
            time.sleep(0.001)
        time.sleep(0.1)  # until the exit has looked at the lives there are

    def factory() -> asyncio.AbstractEventLoop:
        if where == "factory":
            late()
        return asyncio.SelectorEventLoop()

    original = LoopThread.__init__

    def begin(self: LoopThread, **options: Any) -> None:
        if where == "before its thread":
            late()
        original(self, **options)

    other = asyncio.new_event_loop()
    threading.Thread(target=other.run_forever, daemon=True).start()
    bridge.block_on(asyncio.sleep(0))
    LoopThread.__init__ = begin  # type: ignore[method-assign]

    def call() -> None:
        try:
            if where == "attach":
                late()
                bridge.Bridge.attach(other).block_on(asyncio.sleep(1000))
            else:
                bridge.Bridge(loop_factory=factory, install_reactor=False).block_on(asyncio.sleep(1000))
        except bridge.BridgeClosed as error:
            print(type(error).__name__)

    threading.Thread(target=call).start()
    assert reached.wait(10)


@pytest.mark.parametrize("verb", ["block_on", "submit", "result"])
@isolated(
    stdout="BridgeClosed",
    stderr=r"bridge: the process exits without the end of: the thread 'bridge', which stands at .*:\d+",
)
def test_a_call_that_passes_by_as_a_stuck_loop_begins_to_refuse_is_refused_too(verb: str) -> None:
    import threading
    import time

    import bridge

    bridge.configure(shutdown_timeout=0.2)
    begun = threading.Event()

    def stuck() -> None:
        begun.set()
        time.sleep(1000)

    class Open(set):  # type: ignore[type-arg]
        def add(self, call: object) -> None:
            while life.accepts:  # it did, a moment ago
                time.sleep(0.001)
            time.sleep(0.1)  # until the exit has failed what is open
            super().add(call)

    bridge.submit(stuck)
    submitted = bridge.submit(lambda: None)
    assert begun.wait(10)
    life = bridge.default_bridge().current_run()
    life.open = Open(life.open)

    def call() -> None:
        try:
            if verb == "block_on":
                bridge.block_on(lambda: None)
            elif verb == "result":
                while life.accepts:
                    time.sleep(0.001)
                time.sleep(0.1)
                submitted.result()
            else:
                bridge.submit(lambda: None).result()
        except bridge.BridgeClosed as error:
            print(type(error).__name__)

    threading.Thread(target=call).start()


@isolated(status=1, stderr=r"Exception in thread .*LookupError: of a thread\s*")
def test_errors_of_threads_are_shown_as_ever() -> None:
    import asyncio
    import os
    import threading

    import bridge

    begun = threading.Event()

    async def for_ever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            bridge.block_on(for_ever())
        finally:
            raise LookupError("of a thread") from None

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    import atexit

    atexit.register(os._exit, 1)


@isolated(stdout="interrupted the grace")
def test_ctrl_c_ends_the_grace() -> None:
    import asyncio
    import linecache
    import os
    import signal
    import threading

    import bridge
    from bridge._threads.native import current_frames

    bridge.configure(exit_grace=1000)
    begun = threading.Event()
    main = threading.main_thread()

    async def for_ever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            bridge.block_on(for_ever())
        except bridge.BridgeClosed:
            print("interrupted the grace")

    def interrupting() -> None:
        code = bridge._runs.exit.Exit._end_calls.__code__
        while True:  # until the main thread is patient
            main.join(0.01)
            frame = current_frames()[main.ident]
            if frame.f_code is code and "sleep" in linecache.getline(code.co_filename, frame.f_lineno):
                break
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=work).start()
    threading.Thread(target=interrupting, daemon=True).start()
    assert begun.wait(10)


# The line editor of 3.13 ends with status 1 after sys.exit(3), bridge or not.
@pytest.mark.parametrize(
    ("end", "terminal"),
    [("exit()\n", "xterm"), ("\x04", "xterm"), ("\x04", "dumb"), ("import sys; sys.exit(3)\n", "dumb")],
)
def test_a_repl_ends(end: str, terminal: str) -> None:
    """In a real terminal: a call, Ctrl-C in a call, another call; then the end, with calls open."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-i", "-q"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=ENVIRONMENT
        | {"TERM": terminal, "PYTHON_COLORS": "0", "PYTHON_HISTORY": os.devnull, "HOME": "/nonexistent"},
        start_new_session=True,
        preexec_fn=_take_terminal,
    ) as process:
        os.close(follower)
        shown = ""

        def until(wanted: str) -> None:
            nonlocal shown
            deadline = time.monotonic() + 30
            while wanted not in shown:
                assert time.monotonic() < deadline, shown
                if select.select([leader], [], [], 1)[0]:
                    try:
                        shown += os.read(leader, 4096).decode(errors="replace")
                    except OSError:  # the terminal has no user any more
                        break
            assert wanted in shown, shown
            shown = shown.partition(wanted)[2]

        def enter(line: str) -> None:
            os.write(leader, line.encode())

        try:
            until(">>> ")
            enter("import asyncio, bridge, threading\n")
            until(">>> ")
            enter("bridge.block_on(asyncio.sleep(0.01, 'a' + 'b'))\n")
            until("'ab'")
            until(">>> ")
            enter("bridge.block_on(asyncio.sleep(1000), timeout=print('be' + 'gun'))\n")
            until("begun")
            time.sleep(0.3)  # nothing tells that it is blocked by now; it may come a little before, too
            enter("\x03")
            until("KeyboardInterrupt")
            until(">>> ")
            enter("bridge.block_on(asyncio.sleep(0.01, 'c' + 'd'))\n")
            until("'cd'")
            until(">>> ")
            enter("threading.Thread(target=bridge.block_on, args=(asyncio.sleep(1000),)).start()\n")
            until(">>> ")
            enter("future = bridge.submit(asyncio.sleep(1000))\n")
            until(">>> ")
            enter(end)
            status = process.wait(30)
            while select.select([leader], [], [], 0)[0]:
                try:
                    shown += os.read(leader, 4096).decode(errors="replace")
                except OSError:
                    break
        finally:
            process.kill()
            os.close(leader)
    # From 3.14 on Python's plain reader of lines, for dumb terminals, ends by SIGINT if there has been a Ctrl-C at any
    # time, bridge or not.
    by_signal = terminal == "dumb" and sys.version_info >= (3, 14)
    assert status == (3 if "3" in end else -signal.SIGINT if by_signal else 0)
    for noise in ("Traceback", "Error", "Closed", "Exception"):
        assert noise not in shown.replace("sys.exit", ""), shown


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
