"""Web servers under load: the same page by each, asked for by wrk from another process, over loopback only.

A server has one core for itself; wrk and Redis, which the page asks, have the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge._cli.bench.model import Curves, Host, Measure, Row, missing
from bridge._cli.bench.results import ONE_CORE, Results

HERE = Path(__file__).parent / "servers"
sys.path.append(str(HERE))

import store  # noqa: E402 - it is found by now

CLIENTS = [1, 64, 1_024]
NAME = b"ann"
THREADS = 64  # of gunicorn's worker
DESCRIPTORS = 8_192  # for 1,024 clients, of which asyncio.run's loops have some each
PATIENCE = 20  # seconds that a client waits for a response, and a process to end


class Failed(Exception):
    """A server has not answered every request as it should, or ended too early."""


@dataclass(frozen=True)
class Server:
    """A program that serves the page.

    :param command: what follows Python's name; ``{}`` stands for the descriptor of the socket that listens.
    :param needs: the distributions that it takes.
    :param forks: whether a child of the process serves.
    """

    name: str
    label: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    forks: bool = False


def _gunicorn(application: str) -> tuple[str, ...]:
    return (
        "-m", "gunicorn", "--bind=fd://{}", "--worker-class=gthread", f"--threads={THREADS}",
        "--worker-connections=4096", "--keep-alive=75", "--no-control-socket", "--log-level=warning", application,
    )  # fmt: skip


SERVERS = [
    Server("twisted", "Twisted web, Deferreds, epoll's reactor", ("twisted_web.py", "{}", "deferred", "epoll"),
           ("twisted",)),
    Server("twisted_bridge", "Twisted web, Deferreds, bridge's reactor", ("twisted_web.py", "{}", "deferred", "bridge"),
           ("twisted",)),
    Server("twisted_block_on", "bridge.block_on in handlers of Twisted web",
           ("twisted_web.py", "{}", "block_on", "bridge"), ("twisted",)),
    Server("aiohttp", "aiohttp, await, asyncio's loop", ("aiohttp_web.py", "{}", "await", "asyncio"), ("aiohttp",)),
    Server("aiohttp_bridge", "aiohttp, await, bridge's loop", ("aiohttp_web.py", "{}", "await", "bridge"),
           ("aiohttp",)),
    Server("aiohttp_block_on", "bridge.block_on in handlers of aiohttp",
           ("aiohttp_web.py", "{}", "block_on", "bridge"), ("aiohttp",)),
    Server("flask_run", "Flask, gunicorn's threads, asyncio.run in views", _gunicorn("flask_web:with_asyncio_run()"),
           ("flask", "gunicorn"), forks=True),
    Server("flask_block_on", "bridge.block_on in views of Flask, gunicorn's threads",
           _gunicorn("flask_web:with_block_on()"), ("flask", "gunicorn"), forks=True),
]  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """How long each server is asked, in whole seconds, since wrk takes no parts.

    :param rounds: in each, every server is started once, in random order.
    :param seconds: of the measurement, by the number of clients.
    :param warm_up: before each measurement, with as many clients.
    """

    rounds: int
    seconds: dict[int, int]
    warm_up: int = 1


def lacking() -> str | None:
    """Return why nothing can be measured here, and how to get what lacks; None if it can."""
    for program, package in {"wrk": "wrk", "redis-server": "redis-server"}.items():
        if shutil.which(program) is None:
            return f"no {program} on this machine; get it by apt-get install {package}"
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return "a server and its clients need a core each"
    if not Path("/proc/self/statm").exists():
        return "the memory of a process is read in /proc"
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < DESCRIPTORS:
        return f"a process may not have {DESCRIPTORS} descriptors here; see ulimit -Hn"
    return None


def measured(servers: Sequence[Server]) -> list[Server]:
    """Return the servers of which everything is installed."""
    return [server for server in servers if not missing(server.needs)]


# --- the rows


def row(server: Server, clients: int, what: str) -> Row:
    """Return the row of one figure of a server: "requests", "p50", "p99", "p99.9" or "memory"."""
    return Row(
        f"server_{clients}_{what}/{server.name}", server.label, f"server/{server.name}", _measured_by_wrk,
        "B" if what == "memory" else "s", per_second=int(what == "requests"),
    )  # fmt: skip


def _measured_by_wrk(host: Host) -> Measure:
    raise NotImplementedError("a server's figures come from a run of wrk")


def curves(servers: Sequence[Server]) -> list[Curves]:
    """Return what the picture shows."""
    shown = {
        "requests": ("Requests a second", "requests a second"),
        "p50": ("Half of the requests take less", "p50"),
        "p99": ("99 of 100 requests take less", "p99"),
        "memory": ("Memory of the process that serves", "resident set"),
    }
    return [
        Curves(title, "servers", "clients", label,
               {each.label: [(number, row(each, number, what)) for number in CLIENTS] for each in servers})
        for what, (title, label) in shown.items()
    ]  # fmt: skip


# --- the processes


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """Run a Redis that has the name; yield its port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bridge-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        with _process(["redis-server", *options, "--tcp-backlog", "1024", "--loglevel", "warning"]) as process:
            with _connected(port, process) as connection:
                connection.sendall(b"SET name %s\r\n" % NAME)
                if connection.recv(64) != b"+OK\r\n":
                    raise Failed("Redis keeps no name")
            yield port


def _connected(port: int, process: _Process) -> socket.socket:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise
        process.check()
        time.sleep(0.02)


class _Process:
    """A process, and what it has printed."""

    def __init__(self, popen: subprocess.Popen[bytes], printed: Any) -> None:
        self.popen = popen
        self._printed = printed

    def said(self) -> str:
        self._printed.seek(0)
        return str(self._printed.read().decode(errors="replace"))[-2000:]

    def check(self) -> None:
        """Raise Failed if it has ended."""
        if self.popen.poll() is not None:
            raise Failed(f"{self.popen.args!r} ended with status {self.popen.returncode}: {self.said()}")


@contextlib.contextmanager
def _process(command: Sequence[str], **options: Any) -> Iterator[_Process]:
    """Run a process until the block ends, and fail if it has not ended by itself soon after SIGTERM."""
    with tempfile.TemporaryFile() as printed:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, **options)
        process = _Process(popen, printed)
        try:
            yield process
            process.check()
            popen.terminate()
            try:
                popen.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise Failed(f"{command!r} does not end after SIGTERM: {process.said()}") from None
        finally:
            popen.kill()
            popen.wait()


@contextlib.contextmanager
def serving(server: Server, core: int | None, redis_port: int) -> Iterator[tuple[int, _Process]]:
    """Run a server on the core; yield its port once it has answered.

    Its socket listens from the beginning, so that the first client waits until it accepts.
    """
    with contextlib.ExitStack() as stack:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(4096)
            port: int = listening.getsockname()[1]
            descriptor = listening.fileno()
            command = [sys.executable, *(part.format(descriptor) for part in server.command)]
            with _on(core):
                process = stack.enter_context(
                    _process(command, cwd=HERE, pass_fds=[descriptor], env=os.environ | {store.PORT: str(redis_port)})
                )
        try:
            ask(port)
        except OSError as error:
            raise Failed(f"{error}: {process.said()}") from error
        yield port, process


def ask(port: int) -> None:
    """Ask once, and wait for the answer. The requests that wrk leaves behind at its end are over then, too."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
        answer.read()


@contextlib.contextmanager
def _on(core: int | None) -> Iterator[None]:
    """Let processes that are started in the block have this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def load(port: int, clients: int, seconds: int) -> dict[str, Any]:
    """Ask a server for the page and return what wrk has found.

    :raises Failed: any response was wrong or missing.
    """
    command = [
        "wrk", "--threads=1", f"--connections={clients}", f"--duration={seconds}s", f"--timeout={PATIENCE}s",
        f"--script={HERE / 'load.lua'}", f"http://127.0.0.1:{port}/", "--", store.page(NAME).decode(),
    ]  # fmt: skip
    wrk = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 3 * PATIENCE)
    try:
        found: dict[str, Any] = json.loads(wrk.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise Failed(f"wrk ended with status {wrk.returncode}: {wrk.stdout}{wrk.stderr}") from None
    errors = {name: found[name] for name in ("wrong", "connect", "read", "write", "timeout") if found[name]}
    if errors:
        raise Failed(f"{clients} clients, {found['requests']} requests, {errors}; {found['example']}")
    return found


class Memory(threading.Thread):
    """Looks how much memory the process holds that serves, while the block runs."""

    def __init__(self, process: _Process, server: Server) -> None:
        super().__init__()
        pid = process.popen.pid
        if server.forks:
            (pid,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        self._statm = Path(f"/proc/{pid}/statm")
        self._end = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._end.wait(0.1):
            self.most = max(self.most, int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self.join()


# --- the rounds


def measure(
    servers: Sequence[Server], core: int, effort: Effort, results: Results, say: Callable[[str, float], object]
) -> None:
    """Measure every server in rounds. All of this process's children but the servers get the other cores.

    :raises Failed: a server has failed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {core})
    steps = effort.rounds * len(servers)
    done = 0
    with redis() as redis_port:
        for turn in range(effort.rounds):
            for server in random.sample(servers, len(servers)):
                say(f"round {turn + 1}: {server.name}", done / steps)
                try:
                    _visit(server, core, redis_port, effort, results)
                except Failed as error:
                    raise Failed(f"{server.label}: {error}") from error
                done += 1


def _visit(server: Server, core: int, redis_port: int, effort: Effort, results: Results) -> None:
    """Start a server and measure it with each number of clients, ascending, since memory stays."""
    with serving(server, core, redis_port) as (port, process):
        for clients, seconds in sorted(effort.seconds.items()):
            if effort.warm_up:
                load(port, clients, effort.warm_up)
            ask(port)
            with Memory(process, server) as memory:
                found = load(port, clients, seconds)
                while not found["requests"]:  # of a machine that is busy with something else
                    seconds *= 2
                    if seconds > PATIENCE:
                        raise Failed(f"{clients} clients, no answer within {seconds // 2} s: {process.said()}")
                    found = load(port, clients, seconds)
            ask(port)
            values = {name: found[name] / 1e6 for name in ("p50", "p99", "p99.9")}
            values["requests"] = found["duration"] / 1e6 / found["requests"]
            values["memory"] = memory.most
            for what, value in values.items():
                each = row(server, clients, what)
                results.samples(each.name, ONE_CORE, each.unit).runs.append([value])
