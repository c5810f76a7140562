"""Ctrl-C, wherever it comes: the work cleans up, KeyboardInterrupt comes out of the program, and nothing is lost."""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from isolated import isolated
from paths import ENVIRONMENT
from scripts import SEED, python, times

pytestmark = pytest.mark.process

PROGRAMS = Path(__file__).with_name("programs")

# --- at random: real signals from another process, at any moment

# Each round prints its number when it has begun, is interrupted, and checks that nothing is left.
WHERE = ["lock", "event", "queue", "greenlet", "auto", "iterate", "enter", "run", "start and close", "wait"]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("where", WHERE)
def test_interrupts_at_random(where: str, tmp_path: Path) -> None:
    rounds = times(8, 112)  # in ten places: 1,120
    choose = random.Random(SEED)
    guard = "import faulthandler; faulthandler.register(12, chain=True)\n"
    (tmp_path / "script.py").write_text(guard + (PROGRAMS / "interrupts.py").read_text())
    # It may come after the last line of __enter__ and before the block; or when the arguments of a call have been
    # evaluated, and before its first line.
    options = ["-W", "error", "-W", "ignore:<sync context manager:ResourceWarning", "-W", "ignore:coroutine"]
    command = [sys.executable, *options, "script.py", str(rounds), str(SEED), where]
    with (
        open(tmp_path / "errors", "w+") as errors,
        subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()

            def read() -> None:
                for line in process.stdout or ():
                    lines.put(line.rstrip("\n"))
                lines.put("the end")

            threading.Thread(target=read, daemon=True).start()
            expected = ["ready", *map(str, range(rounds)), "goes on"]
            for number, line in enumerate(expected):
                try:
                    got = lines.get(timeout=40)
                except queue.Empty:
                    process.send_signal(signal.SIGUSR2)  # the stacks
                    got = lines.get(timeout=10) if process.poll() is not None else "nothing"
                assert got == line, f"seed {SEED}: {got!r}, not {line!r}\n{(tmp_path / 'errors').read_text()}"
                if 0 < number <= rounds:
                    time.sleep(choose.choice([0, 0.0005, 0.002, 0.005, 0.01]) * choose.random())
                    process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()
    assert (process.returncode, (tmp_path / "errors").read_text()) == (0, ""), f"seed {SEED}"


# --- at every point where CPython handles signals

STRATEGIES = ["lock", "event", "queue", "greenlet"]
VERBS = [
    *("start", "close", "close for good", "submit", "exception", "wait", "as_completed"),
    *("iterate", "enter", "run", "portal"),
]


@pytest.mark.parametrize("where", [*VERBS, *STRATEGIES])
@isolated(timeout=40, options=("-W", "error", "-W", "ignore:<sync context manager", "-W", "ignore:coroutine"))
def test_an_interrupt_at_every_point_leaves_nothing_behind(where: str) -> None:
    import asyncio
    import contextlib
    import gc
    import sys
    import time
    from collections.abc import AsyncIterator

    from points import interrupt

    import bridge

    begun, ended = [0], [0]
    sys.unraisablehook = lambda hook: None  # what is raised inside a finalizer is lost, as ever in CPython

    async def work() -> None:
        begun[0] += 1
        try:
            await asyncio.sleep(0.0003)
        finally:
            ended[0] += 1
            await asyncio.sleep(0)

    async def numbers() -> AsyncIterator[int]:
        begun[0] += 1
        try:
            for number in range(3):
                yield number
        finally:
            ended[0] += 1

    @contextlib.asynccontextmanager
    async def context() -> AsyncIterator[None]:
        begun[0] += 1
        try:
            yield
        finally:
            ended[0] += 1

    def iterates() -> None:
        with bridge.iterate(numbers()) as items:
            for _ in items:
                pass

    def enters() -> None:
        with bridge.enter(context()):
            pass

    own = bridge.Bridge(install_reactor=False)

    def makes() -> None:
        nonlocal own
        own = bridge.Bridge(install_reactor=False)
        own.start()

    default = bridge.default_bridge()
    prepare, do = {
        "start": (default.close, default.start),
        "close": (default.start, default.close),
        "close for good": (makes, lambda: own.close()),
        "submit": (default.start, lambda: bridge.submit(work()).result()),
        "exception": (default.start, lambda: bridge.submit(work()).exception()),
        "wait": (default.start, lambda: bridge.wait([bridge.submit(work()), bridge.submit(work())])),
        "as_completed": (default.start, lambda: list(bridge.as_completed([bridge.submit(work())]))),
        "iterate": (default.start, iterates),
        "enter": (default.start, enters),
        "run": (default.start, lambda: bridge.run(lambda: bridge.block_on(work()))),
        "portal": (default.close, lambda: default.portal),
    }.get(where, (default.start, lambda: bridge.block_on(work(), strategy=where)))
    for each in prepare, do, iterates, enters, prepare, do:  # what they import is there, and what they keep for later
        each()
    bridge.submit(work()).result()

    at, point = 0, "the first"
    while point:
        at += 1
        prepare()
        thread = own.thread
        point = interrupt(do, at)
        if thread is not None and own.thread is None:  # it was closed
            thread.join(5)
            assert not thread.is_alive(), point
        begins = time.monotonic()
        assert bridge.block_on(asyncio.sleep(0, "goes on")) == "goes on"
        assert time.monotonic() - begins < 5, point
        while begun != ended or default.stats().open or own.stats().open:  # a submitted call goes on
            gc.collect()
            bridge.block_on(asyncio.sleep(0.001))
            assert time.monotonic() - begins < 10, (point, begun, ended)
    assert at > 20
    own.close()


@pytest.mark.parametrize("way", ["wait", "wait for any", "as_completed", "left early", "result"])
@pytest.mark.parametrize("kind", ["ours", "of the standard library"])
@isolated
def test_an_interrupt_at_every_point_of_a_wait_leaves_a_future_as_it_is(way: str, kind: str) -> None:
    """No lock is left held, no waiter behind, and the work goes on. A Future's own result() is the library's code."""
    import asyncio
    import concurrent.futures
    import sys
    import threading
    from typing import Any

    from points import interrupt

    import bridge

    if (way, kind) == ("result", "of the standard library"):
        return
    if way == "left early" and sys.version_info < (3, 12):
        return  # what a profile function raises there, where a generator is closed, passes by its 'finally'

    def make() -> list[Any]:
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        done.set_result(None)
        if kind == "ours":
            return [pending[0], pending[1], done]
        return [concurrent.futures.Future(), concurrent.futures.Future(), done]

    def look(fs: list[Any]) -> None:
        for future in fs:
            held.append(not future._condition.acquire(timeout=5))
            if not held[-1]:
                future._condition.release()

    def wait(fs: list[Any]) -> None:
        if way == "wait":
            bridge.wait(fs, 0.0005)
        elif way == "wait for any":
            bridge.wait(fs[:2], 0.0005, "FIRST_COMPLETED")
        elif way == "left early":
            for _ in bridge.as_completed(fs):
                break
        elif way == "result":
            try:
                fs[0].result(0.0005)
            except TimeoutError:
                pass
        else:
            try:
                list(bridge.as_completed(fs, 0.0005))
            except TimeoutError:
                pass

    sys.unraisablehook = lambda hook: None  # what is raised inside a finalizer is lost, as ever in CPython
    held: list[bool] = []
    pending = [bridge.submit(asyncio.sleep(1000)) for _ in range(2)]
    wait(make())
    at, point = 0, "the first"
    while point:
        at += 1
        fs = make()
        point = interrupt(lambda fs=fs: wait(fs), at)
        looking = threading.Thread(target=look, args=(fs,))
        looking.start()
        looking.join(30)
        assert not any(held), point
        for future in fs:
            assert not future._waiters, point
            assert not future._condition._waiters, point
            assert not future._done_callbacks, point
        assert not any(future.done() for future in fs[:2]), point
    assert at > 20, at
    for each in pending:
        each.cancel()


# A signal handler may run in the callback of a weak reference, as when a task is freed: CPython prints its exception.
@isolated(stderr=r"(Exception ignored in: <function WeakSet\.__init__.*)?")
def test_two_signals_at_once_leave_no_work_running() -> None:
    """Both are pending as the thread wakes: the second raises before the first line of what handles the first."""
    import asyncio
    import os
    import signal
    import sys
    import time

    import bridge

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    ended: list[None] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            begins = time.monotonic()
            while time.monotonic() - begins < 0.001:
                pass
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.001)
            ended.append(None)

    for number in range(20):
        try:
            try:
                bridge.block_on(work())
            finally:
                time.sleep(0.01)  # should one come late
        except (KeyboardInterrupt, SystemExit):
            pass
        deadline = time.monotonic() + 10
        while len(ended) <= number and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(ended) == number + 1
    bridge.block_on(asyncio.sleep(0))
    assert not bridge.default_bridge().stats().open


@isolated
def test_locks_that_real_signals_hit_are_never_left_held() -> None:
    """CPython 3.14 leaves the standard library's locks held; see bridge/condition.py."""
    import random
    import signal
    import sys
    import threading
    import time

    from bridge._threads import condition

    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    def ask_for_the_gil() -> None:
        while True:
            time.sleep(0.01)

    # A signal that comes while CPython up to 3.12 computes whether there is something to handle is not seen before a
    # thread asks for the GIL.
    threading.Thread(target=ask_for_the_gil, daemon=True).start()
    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = lambda hook: None
    hits = 0
    for lock in (condition.new_lock(), condition.Condition()):
        for _ in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
                while True:
                    with lock:
                        pass
            except Interrupt:
                hits += 1
            assert "unlocked" in repr(lock)
    assert hits == 6000


@isolated
def test_an_interrupt_at_every_point_of_a_serialized_method_leaves_it_to_others() -> None:
    import threading

    from points import interrupt

    from bridge import serialized

    class Account:
        @serialized
        def outer(self) -> str:
            return self.inner()

        @serialized
        def inner(self) -> str:
            return "value"

    account = Account()
    account.outer()
    at, point = 0, "the first"
    while point:
        at += 1
        point = interrupt(account.outer, at)
        results: list[str] = []
        thread = threading.Thread(target=lambda results=results: results.append(account.outer()), daemon=True)
        thread.start()
        thread.join(10)
        assert results == ["value"], point
    assert at > 10


# --- what is promised, one by one


@isolated(status=5, stdout="cleaned up\nat exit: works")
def test_a_handler_of_sigterm_that_exits_ends_a_blocked_program() -> None:
    import asyncio
    import atexit
    import os
    import signal
    import sys

    import bridge

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    bridge.block_on(asyncio.sleep(0))
    atexit.register(lambda: print("at exit:", bridge.block_on(asyncio.sleep(0.001, "works"))))

    async def terminated() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)
            print("cleaned up")

    bridge.block_on(terminated())


@isolated(stdout="interrupted\ncleaned up")
def test_ctrl_c_as_the_loops_are_ended_at_exit() -> None:
    import asyncio
    import atexit
    import sys
    from types import FrameType

    import bridge

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code.co_name == "end_at_exit":
            sys.setprofile(None)
            print("interrupted")
            raise KeyboardInterrupt

    async def endless() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)
            print("cleaned up")

    bridge.submit(endless())
    bridge.block_on(asyncio.sleep(0))
    atexit.register(sys.setprofile, profile)


@isolated(stdout="interrupted\n2")
def test_ctrl_c_in_a_start_that_takes_its_time() -> None:
    import asyncio
    import os
    import signal
    import threading

    import bridge

    made = []

    def factory() -> asyncio.AbstractEventLoop:
        made.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        went.append(go.wait(15))
        return asyncio.SelectorEventLoop()

    go = threading.Event()
    went: list[bool] = []
    one = bridge.Bridge(loop_factory=factory)
    try:
        one.block_on(asyncio.sleep(0))
    except KeyboardInterrupt:
        assert not went  # the start still takes its time
        print("interrupted")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    go.set()
    assert one.block_on(asyncio.sleep(0, 2)) == 2
    assert made == [1]  # the start has gone on
    one.close()
    print(2)


@isolated(stdout="interrupted\nclosed")
def test_ctrl_c_in_a_close_leaves_it_to_go_on() -> None:
    import asyncio
    import os
    import signal

    import bridge

    one = bridge.Bridge()

    async def cleaning() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.1)

    one.submit(cleaning())
    one.block_on(asyncio.sleep(0))
    thread = one.thread
    try:
        one.close()
    except KeyboardInterrupt:
        print("interrupted")
    thread.join(10)
    assert not thread.is_alive()
    one.close()
    try:
        one.block_on(asyncio.sleep(0))
    except bridge.BridgeClosed:
        print("closed")


@isolated(stdout="cleaned up\nKeyboardInterrupt")
def test_ctrl_c_where_a_runner_runs_the_loop_in_the_main_thread() -> None:
    import asyncio
    import os
    import signal

    import bridge

    async def blocked() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.01)
            print("cleaned up")

    def program() -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        bridge.block_on(blocked())

    async def main() -> None:
        program()

    try:
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        print("KeyboardInterrupt")


@isolated(stdout="BridgeClosed: the loop was closed.*\nended")
def test_ctrl_c_where_the_program_runs_the_reactor() -> None:
    """Twisted's own handler stops the reactor; what is blocked is told so."""
    import asyncio
    import os
    import signal

    import bridge

    reactor = bridge.install()

    def program() -> None:
        reactor.callLater(0.05, os.kill, os.getpid(), signal.SIGINT)
        try:
            bridge.block_on(asyncio.sleep(1000))
        except bridge.BridgeClosed as error:
            print(f"BridgeClosed: {error}")

    reactor.callWhenRunning(program)
    reactor.run()
    print("ended")


@isolated(stdout="True True")
def test_signals_go_to_the_main_thread_however_many_loops_there_are() -> None:
    import asyncio
    import os
    import signal
    import threading

    import bridge

    seen: list[bool] = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread() is threading.main_thread()))
    others = [bridge.Bridge(install_reactor=False) for _ in range(3)]
    for each in others:
        each.start()

    async def signalling() -> None:
        for number in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(seen) <= number:
                await asyncio.sleep(0.0001)  # not 0, which would take the main thread's turns at the GIL

    bridge.block_on(signalling(), timeout=15)
    print(all(seen), len(seen) == 200)
    for each in others:
        each.close()


def test_run_is_interrupted_at_random(tmp_path: Path) -> None:
    """Under ``python -m bridge run``: in an iteration; test_run.py::test_random_ctrl_cs_are_never_lost has the rest."""
    script = PROGRAMS / "iterates.py"
    ended = python(
        f"import sys, bridge.__main__\nsys.exit(bridge.__main__.main(['run', {os.fspath(script)!r}]))", where=tmp_path
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "goes on\n", "")
