"""Child processes of the loop's thread: output, status and reaping, with no signal and whatever SIGCHLD is set to."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from isolated import isolated
from twisted.internet import process as twisted_process
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutput, getProcessOutputAndValue

from bridge import Bridge
from bridge._twisted import children

pytestmark = pytest.mark.process

PATIENCE = 30.0
MANY = 200


class Collect(ProcessProtocol):
    """Collects the output, and fires with it and the reason when the process has ended."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[tuple[bytes, Any]] = Deferred()
        self.exits = 0

    def outReceived(self, data: bytes) -> None:
        self.output += data

    def processExited(self, reason: Any) -> None:
        self.exits += 1

    def processEnded(self, reason: Any) -> None:
        self.ended.callback((self.output, reason.value))


def spawn(reactor: Any, script: str, **options: Any) -> tuple[Any, Collect]:
    protocol = Collect()
    return reactor.spawnProcess(protocol, "/bin/sh", ["sh", "-c", script], env=os.environ, **options), protocol


@pytest.fixture(params=["pidfd", "threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How children are watched: as this system can, and as one without pidfds does."""
    if request.param == "threads":
        monkeypatch.setattr(children, "_pidfd_open", None)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no pidfd_open; Linux has it from 5.3 on")
    return str(request.param)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = psutil.Process().children()  # such as multiprocessing's tracker of resources, which other tests start
    yield
    assert [each for each in psutil.Process().children() if each not in before] == []  # a zombie is one of them
    assert twisted_process.reapProcessHandlers == {}


async def one(script: str) -> tuple[bytes, int | None]:
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output, process.returncode


# --- Twisted's


def test_output_and_status(bridge: Bridge, way: str) -> None:
    output = bridge.block_on(
        lambda: getProcessOutputAndValue("/bin/sh", ["-c", "echo out; echo err >&2; exit 3"], reactor=bridge.reactor),
        timeout=PATIENCE,
    )
    assert output == (b"out\n", b"err\n", 3)
    assert bridge.block_on(lambda: getProcessOutput("/bin/echo", ["hello"], reactor=bridge.reactor)) == b"hello\n"


def test_the_reason_is_done_a_status_or_a_signal(bridge: Bridge, way: str) -> None:
    reasons = [
        bridge.block_on(lambda script=script: spawn(bridge.reactor, script)[1].ended, timeout=PATIENCE)[1]
        for script in ("exit 0", "exit 7", "kill -9 $$")
    ]
    assert isinstance(reasons[0], ProcessDone)
    assert isinstance(reasons[1], ProcessTerminated)
    assert (reasons[1].exitCode, reasons[1].signal) == (7, None)
    assert (reasons[2].exitCode, reasons[2].signal) == (None, signal.SIGKILL)


def test_a_child_that_closes_its_pipes_before_it_ends_is_reaped(bridge: Bridge, way: str) -> None:
    # Twisted alone looks once, as the pipes close, and then never again.
    script = "exec >&- 2>&- <&-; exec sleep 0.3"
    _, reason = bridge.block_on(lambda: spawn(bridge.reactor, script)[1].ended, timeout=PATIENCE)
    assert isinstance(reason, ProcessDone)


def test_a_child_that_ends_before_its_pipes_close_has_exited_first(bridge: Bridge, way: str) -> None:
    def start() -> tuple[Any, Collect]:
        return spawn(bridge.reactor, "sleep 1 & echo parent; exit 4")  # the grandchild keeps the output open

    _, protocol = bridge.block_on(start)
    output, reason = bridge.block_on(protocol.ended, timeout=PATIENCE)
    assert (output, reason.exitCode, protocol.exits) == (b"parent\n", 4, 1)


def test_a_child_that_cannot_be_started_is_an_error(bridge: Bridge, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        bridge.block_on(lambda: bridge.reactor.spawnProcess(Collect(), "/nonexistent", ["nonexistent"]))


@pytest.mark.filterwarnings("ignore:.*use of forkpty:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_terminal(bridge: Bridge, way: str) -> None:
    start = lambda: spawn(bridge.reactor, "test -t 0 && echo a terminal; exit 5", usePTY=True)[1].ended  # noqa: E731
    output, reason = bridge.block_on(start, timeout=PATIENCE)
    assert (output.strip(), reason.exitCode) == (b"a terminal", 5)


def test_a_protocol_may_block_and_may_fail_as_its_process_ends(bridge: Bridge, way: str) -> None:
    class Blocking(Collect):
        def processExited(self, reason: Any) -> None:
            super().processExited(reason)
            assert bridge.block_on(one("echo again")) == (b"again\n", 0)

    def start() -> Deferred[Any]:
        protocol = Blocking()
        bridge.reactor.spawnProcess(protocol, "/bin/true", ["true"])
        return protocol.ended

    _, reason = bridge.block_on(start, timeout=PATIENCE)
    assert isinstance(reason, ProcessDone)


def test_two_hundred_at_once(bridge: Bridge, way: str) -> None:
    def start() -> Deferred[Any]:
        return gatherResults(
            [
                getProcessOutputAndValue(
                    "/bin/sh", ["-c", f"echo out {n}; echo err {n} >&2; exit {n % 7}"], reactor=bridge.reactor
                )
                for n in range(MANY)
            ]
        )

    gc.collect()
    descriptors = psutil.Process().num_fds()
    for n, result in enumerate(bridge.block_on(start, timeout=PATIENCE)):
        assert result == (f"out {n}\n".encode(), f"err {n}\n".encode(), n % 7)
    # Twisted looks for a child's status as its pipes close, too, and tells its protocol then; that the child has ended
    # is heard, by its pidfd or from its thread, in a later turn.
    left, deadline = bridge.reactor.children, time.monotonic() + PATIENCE
    while (left or psutil.Process().num_fds() > descriptors) and time.monotonic() < deadline:
        bridge.block_on(asyncio.sleep(0.01))
    assert psutil.Process().num_fds() <= descriptors
    assert left == {}


def test_a_descriptor_that_is_not_to_be_had_leaves_it_to_a_thread(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(children, "_pidfd_open", refuse)
    _, reason = bridge.block_on(lambda: spawn(bridge.reactor, "exit 3")[1].ended, timeout=PATIENCE)
    assert reason.exitCode == 3


# --- asyncio's


def test_asyncio_runs_two_hundred_at_once(bridge: Bridge) -> None:
    async def main() -> list[tuple[bytes, int | None]]:
        return await asyncio.gather(*(one(f"echo out {n}; exit {n % 7}") for n in range(MANY)))

    assert bridge.block_on(main(), timeout=PATIENCE) == [(f"out {n}\n".encode(), n % 7) for n in range(MANY)]


def test_asyncio_writes_reads_and_kills(bridge: Bridge) -> None:
    async def main() -> tuple[bytes, int | None]:
        pipe = asyncio.subprocess.PIPE
        cat = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        answer, _ = await cat.communicate(b"through a pipe")
        sleeping = await asyncio.create_subprocess_exec("sleep", "1000")
        sleeping.kill()
        return answer, await sleeping.wait()

    assert bridge.block_on(main(), timeout=PATIENCE) == (b"through a pipe", -signal.SIGKILL)


def test_both_kinds_at_once_and_a_plain_subprocess_beside_them(bridge: Bridge) -> None:
    import subprocess

    async def main() -> list[Any]:
        twisted = getProcessOutput("/bin/sh", ["-c", "sleep 0.1; echo twisted"], reactor=bridge.reactor)
        return await asyncio.gather(one("sleep 0.1; echo asyncio"), twisted)

    future = bridge.submit(main())
    assert subprocess.run(["/bin/sh", "-c", "exit 9"]).returncode == 9
    assert future.result(PATIENCE) == [(b"asyncio\n", 0), b"twisted\n"]


# --- the life of a loop


def stop_loop(bridge: Bridge) -> None:
    thread = bridge.thread
    bridge.loop.call_soon_threadsafe(bridge.loop.stop)
    assert thread is not None
    thread.join(PATIENCE)


def test_a_second_life_has_children_too(bridge: Bridge, way: str) -> None:
    for status in (1, 2, 3):
        _, reason = bridge.block_on(
            lambda status=status: spawn(bridge.reactor, f"exit {status}")[1].ended, timeout=PATIENCE
        )
        assert reason.exitCode == status
        assert bridge.block_on(one(f"exit {status}")) == (b"", status)
        stop_loop(bridge)


def test_a_child_that_outlives_its_loop_is_reaped_in_the_next_life(bridge: Bridge, way: str) -> None:
    process, protocol = bridge.block_on(lambda: spawn(bridge.reactor, "exec sleep 1000"))
    stop_loop(bridge)
    os.kill(process.pid, signal.SIGTERM)
    _, reason = bridge.block_on(protocol.ended, timeout=PATIENCE)
    assert reason.signal == signal.SIGTERM


def test_a_child_that_outlives_its_reactor_is_reaped_by_the_next_one_that_is_started(way: str) -> None:
    with Bridge(install_reactor=False) as first:
        process, protocol = first.block_on(lambda: spawn(first.reactor, "exec sleep 1000"))
    assert twisted_process.reapProcessHandlers == {}
    os.kill(process.pid, signal.SIGTERM)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with Bridge(install_reactor=False) as second:
        assert second.block_on(lambda: getProcessOutput("/bin/true", [], reactor=second.reactor)) == b""
    assert protocol.exits == 0


@isolated
def test_a_child_of_an_idle_reactor_is_watched_after_the_adoption() -> None:
    from twisted.internet import reactor
    from twisted.internet.utils import getProcessOutputAndValue

    early = [getProcessOutputAndValue("/bin/sh", ["-c", "exec >&- 2>&-; sleep 0.2; exit 6"]) for _ in range(3)]

    import bridge

    assert [bridge.block_on(each, timeout=10) for each in early] == [(b"", b"", 6)] * 3
    assert bridge.default_bridge().reactor is reactor


# --- SIGCHLD


@isolated
def test_the_programs_own_handler_of_sigchld_stays_and_is_called() -> None:
    import asyncio
    import signal
    import threading

    from twisted.internet.utils import getProcessOutputAndValue

    import bridge

    calls = []

    def handler(*_: object) -> None:
        calls.append(threading.current_thread())

    signal.signal(signal.SIGCHLD, handler)

    async def child() -> int:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 2")
        return await process.wait()

    for _ in range(5):
        assert bridge.block_on(lambda: getProcessOutputAndValue("/bin/sh", ["-c", "exit 3"]))[2] == 3
        assert bridge.block_on(child()) == 2
    assert signal.getsignal(signal.SIGCHLD) is handler
    assert calls
    assert set(calls) == {threading.main_thread()}


LOST = r"the exit status of child process \d+ is lost: SIGCHLD is ignored, or somebody else has waited for it"


@isolated(stderr=rf"(.*{LOST}; it is reported as 255)+.*")
def test_a_handler_that_takes_the_status_leaves_255() -> None:
    import os
    import signal

    from twisted.internet.utils import getProcessOutputAndValue

    import bridge

    def handler(*_: object) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, handler)
    statuses = set()
    for _ in range(20):  # sometimes the loop is faster
        output, _, status = bridge.block_on(
            lambda: getProcessOutputAndValue("/bin/sh", ["-c", "echo out; exit 3"]), timeout=10
        )
        assert output == b"out\n"
        statuses.add(status)

    def take_it() -> object:
        """Take the status before the loop can be told that the child has ended."""
        from twisted.internet import process, reactor

        before = set(process.reapProcessHandlers)
        result = getProcessOutputAndValue("/bin/sh", ["-c", "sleep 0.5; exit 3"], reactor=reactor)
        (pid,) = set(process.reapProcessHandlers) - before
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # the handler has
            pass
        return result

    statuses.add(bridge.block_on(take_it, timeout=10)[2])
    assert 255 in statuses
    assert statuses <= {3, 255}, statuses


@isolated(stderr=rf"(.*{LOST}; it is reported as 255)+.*")
def test_where_sigchld_is_ignored_the_status_is_255() -> None:
    import signal

    from twisted.internet.utils import getProcessOutputAndValue

    import bridge

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(5):
        output, _, status = bridge.block_on(
            lambda: getProcessOutputAndValue("/bin/sh", ["-c", "echo out; exit 3"]), timeout=10
        )
        assert (output, status) == (b"out\n", 255)


@isolated
def test_an_installed_reactor_leaves_sigchld_alone_and_stops_at_sigterm() -> None:
    import os
    import signal
    import threading

    from twisted.internet.utils import getProcessOutputAndValue

    import bridge

    calls = []
    handler = lambda *_: calls.append("SIGCHLD")  # noqa: E731
    signal.signal(signal.SIGCHLD, handler)
    reactor = bridge.install()
    results = []

    def main() -> None:
        results.append(bridge.block_on(getProcessOutputAndValue("/bin/sh", ["-c", "exit 3"]))[2])
        results.append(signal.getsignal(signal.SIGCHLD))
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM)).start()

    reactor.callWhenRunning(main)
    reactor.run()
    assert results == [3, handler]
    assert "SIGCHLD" in calls
    assert signal.getsignal(signal.SIGCHLD) is handler


@isolated
def test_a_runner_in_the_main_thread_has_children() -> None:
    import asyncio
    import signal

    from twisted.internet.utils import getProcessOutputAndValue

    import bridge

    calls = []
    signal.signal(signal.SIGCHLD, lambda *_: calls.append("SIGCHLD"))

    async def main() -> tuple[int, int]:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 2")
        reactor = bridge.Bridge.attach().reactor
        _, _, status = await getProcessOutputAndValue("/bin/sh", ["-c", "exit 3"], reactor=reactor)
        return await process.wait(), status

    for _ in range(2):
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            assert runner.run(main()) == (2, 3)
    assert "SIGCHLD" in calls
