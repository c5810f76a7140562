"""A forked child begins anew, and the parent does not notice."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from isolated import isolated
from paths import ENVIRONMENT
from scripts import SEED, WARNINGS, python, times

pytestmark = pytest.mark.process

PROGRAMS = Path(__file__).with_name("programs")

# --- at random: forks while other threads are in calls over real sockets


@pytest.mark.timeout(1500)
def test_forks_while_other_threads_call(tmp_path: Path) -> None:
    forks = times(12, 100)
    ended = python(PROGRAMS / "forks.py", forks, SEED, where=tmp_path, timeout=1200)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done True\n", ""), f"seed {SEED}\n{ended}"


# --- what is promised, one by one

FORKS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


@pytest.mark.parametrize("strategy", ["lock", "event", "queue", "greenlet"])
@isolated(options=FORKS, forks=True, stdout="in the child: .*forked.*")
def test_a_call_that_the_forking_thread_is_in_fails_in_the_child(strategy: str) -> None:
    """A signal handler forks inside the wait: the call goes on in the parent only."""
    import asyncio
    import os
    import signal
    import sys

    import bridge

    children = []
    signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
    parent = os.getpid()

    async def forking() -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        while not children:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return "goes on"

    try:
        assert bridge.block_on(forking(), strategy=strategy) == "goes on"
    except bridge.BridgeClosed as error:
        assert os.getpid() != parent
        print("in the child:", error, flush=True)
        assert bridge.block_on(asyncio.sleep(0.01, "anew"), strategy=strategy) == "anew"
        sys.exit(9)
    assert os.getpid() == parent
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 9


@isolated(options=FORKS, forks=True)
def test_the_loops_own_thread_may_fork() -> None:
    """The child goes on in the callback, with a loop of its own; the parent's runs nothing there."""
    import asyncio
    import os

    import bridge

    def forking(leave: bool) -> int:
        ran: list[object] = []
        bridge.default_bridge().loop.call_soon(ran.append, os.getpid)
        child = os.fork()
        if not child:
            assert bridge.block_on(asyncio.sleep(0.01, "anew")) == "anew"
            assert ran == []
            if leave:
                os._exit(7)
            return 0  # as from any thread that has forked: it ends, and with it the process
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def after_a_wait(leave: bool) -> int:
        bridge.block_on(asyncio.sleep(0.01))
        return forking(leave)

    for leave, status in ((True, 7), (False, 0)):
        for call in (forking, after_a_wait):
            for verb in (bridge.run, lambda *args: bridge.block_on(lambda: args[0](*args[1:]))):
                assert verb(call, leave) == status

    def in_a_worker() -> int:
        child = os.fork()
        if not child:
            os._exit(8 if bridge.block_on(asyncio.sleep(0.01, "anew")) == "anew" else 9)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert bridge.block_on(asyncio.to_thread(in_a_worker)) == 8
    assert bridge.block_on(asyncio.sleep(0.01, "the parent")) == "the parent"


@isolated(options=FORKS, forks=True, stdout="parent: cleaned up\nparent: None")
def test_nothing_of_the_parents_runs_or_is_cleaned_up_in_the_child() -> None:
    import asyncio
    import os
    import sys

    from twisted.internet.defer import Deferred, inlineCallbacks

    import bridge

    parent = os.getpid()
    name = {True: "parent"}
    kept = []

    async def cleaning() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            print(f"{name.get(os.getpid() == parent, 'child')}: cleaned up")

    async def generator():
        try:
            yield
        finally:
            if os.getpid() != parent:
                print("child: generator")

    @inlineCallbacks
    def old_style():
        try:
            yield Deferred()
        finally:
            if os.getpid() != parent:
                print("child: inlineCallbacks")

    reactor = bridge.default_bridge().reactor
    bridge.submit(cleaning())
    bridge.submit(old_style)
    items = bridge.iterate(generator())
    kept.append(next(items))
    trigger = lambda: print(f"{name.get(os.getpid() == parent, 'child')}: {kept[0]}")  # noqa: E731
    bridge.block_on(lambda: reactor.addSystemEventTrigger("before", "shutdown", trigger))
    child = os.fork()
    if not child:
        assert bridge.block_on(asyncio.sleep(0.01, "anew")) == "anew"
        try:
            next(items)
        except bridge.BridgeClosed:
            sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    items.close()
    bridge.block_on(lambda: None)  # the parent goes on, and exits as ever


@isolated(options=FORKS, forks=True)
def test_the_child_keeps_no_connection_of_the_parent_open() -> None:
    """A peer sees the end of a connection when the last copy of its descriptor is closed."""
    import asyncio
    import os
    import signal
    import socket

    from twisted.internet.error import ConnectionDone
    from twisted.internet.protocol import Protocol
    from twisted.internet.tcp import Server
    from twisted.python.failure import Failure

    import bridge

    ours, peers = [], []
    for _ in range(2):
        one, other = socket.socketpair()
        other.settimeout(10)
        ours.append(one)
        peers.append(other)
    reactor = bridge.default_bridge().reactor

    async def connect():
        return (await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours[0]))[0]

    transport = bridge.block_on(connect())
    protocol = Protocol()

    def serve() -> Server:
        server = Server(ours[1], protocol, ("", 0), type("Port", (), {"_realPortNumber": 0})(), 0, reactor)
        protocol.makeConnection(server)
        return server

    server = bridge.block_on(serve)
    gone = Failure(ConnectionDone())
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    try:
        for peer, end in zip(peers, (transport.close, lambda: server.connectionLost(gone)), strict=True):
            bridge.block_on(end)
            assert peer.recv(10) == b""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for peer in peers:
        peer.close()


@isolated(options=FORKS, forks=True)
def test_an_idle_reactor_that_the_parent_made_serves_in_both() -> None:
    """The poller of the platform's default reactor is shared. The child's adoption takes nothing out of it."""
    import os
    import socket

    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    class Greeting(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(str(os.getpid()).encode())
            self.transport.loseConnection()

    port = reactor.listenTCP(0, Factory.forProtocol(Greeting), interface="127.0.0.1")
    address = ("127.0.0.1", port.getHost().port)
    child = os.fork()
    if not child:
        import bridge

        bridge.block_on(lambda: None)
        os._exit(0)  # else it shuts the port down, which is shared as well, as Twisted itself would
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def client() -> None:
        with socket.create_connection(address) as connection:
            connection.settimeout(10)
            received.append(connection.recv(100))

    received: list[bytes] = []
    done = reactor.callInThread
    reactor.callWhenRunning(done, lambda: (client(), reactor.callFromThread(reactor.stop)))
    reactor.callLater(15, reactor.stop)
    reactor.run()
    assert received == [str(os.getpid()).encode()]
    os._exit(0)  # the port is left open


@pytest.mark.timeout(130)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    ended = python(PROGRAMS / "pools.py", method, where=tmp_path, timeout=100)  # five interpreters, one after the other
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_under_run_a_forked_child_has_a_loop_of_its_own(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *WARNINGS, "-m", "bridge", "run", PROGRAMS / "forks_under_run.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# --- a pre-fork server


@pytest.mark.any_python
@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no preload"])
def test_a_pre_fork_server(preload: bool, tmp_path: Path) -> None:
    """gunicorn, whose sync workers block on Deferreds.

    They serve, print a dump when they get the signal for it, a killed one is replaced, and gunicorn ends at SIGTERM.
    """
    shutil.copy(PROGRAMS / "application.py", tmp_path)
    command = [sys.executable, *WARNINGS, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "--log-level"]
    command += ["info", "--graceful-timeout", "10", "--worker-tmp-dir", str(tmp_path), "--no-control-socket"]
    with open(tmp_path / "log", "w+") as log:
        started = [*command, *(["--preload"] if preload else []), "application:application"]
        environment = ENVIRONMENT | {"PRELOADED": "1" if preload else ""}
        server = subprocess.Popen(started, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            port = _port(tmp_path / "log", server)
            pids = {_get(port) for _ in range(20)}
            for pid in pids:  # which gunicorn has set back to the default action, after the fork
                os.kill(int(pid), signal.SIGUSR2)
            deadline = time.monotonic() + 30
            while (tmp_path / "log").read_text().count("bridge: 0 open calls") < len(pids):
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.02)
            assert {_get(port) for _ in range(20)} <= {line.split()[-1] for line in _booted(tmp_path / "log")[:2]}
            os.kill(int(next(iter(pids))), signal.SIGKILL)
            deadline = time.monotonic() + 30
            while not ({_get(port) for _ in range(4)} - pids):
                assert time.monotonic() < deadline
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0, (tmp_path / "log").read_text()
        finally:
            server.kill()
            server.wait()
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text


def _port(log: Path, server: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 30
    while "Listening at" not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return int(log.read_text().split("Listening at: http://127.0.0.1:", 1)[1].split()[0])


def _booted(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if "Booting worker with pid" in line]


def _get(port: int) -> str:
    """Return the pid of the worker that has answered."""
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            waited, pid = response.read().decode().split()
        except (ConnectionError, http.client.HTTPException):  # of the worker that was killed
            if time.monotonic() > deadline:
                raise
        else:
            assert (response.status, waited) == (200, "deferred")
            return pid
        finally:
            connection.close()
