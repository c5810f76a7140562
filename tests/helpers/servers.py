"""Servers that tests start as processes, on ports of the loopback interface."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

# uvicorn closes a connection that was idle for 5 seconds, unless told otherwise. httpx keeps one for as long and counts
# from a moment later: on a busy machine it could send a request on a connection that the server has just closed.
UVICORN = [sys.executable, "-W", "error", "-m", "uvicorn", "--timeout-keep-alive=60", "--log-level=warning"]


def free_port() -> int:
    """Return the number of a port that nobody has, for a server that sets SO_REUSEADDR, as servers do.

    A connection has been closed there, by the end that listened. For a minute the system gives the port to nobody who
    asks for any.
    """
    with socket.socket() as listening, socket.socket() as client:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client.connect(listening.getsockname())
        listening.accept()[0].close()
        port: int = listening.getsockname()[1]
    return port


def is_open(port: int) -> bool:
    """Tell whether somebody accepts connections at a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def serving(command_line: list[str], port: int, **options: Any) -> Iterator[None]:
    """Run a server's process until the block ends; the block begins when it accepts connections."""
    with tempfile.TemporaryFile() as printed:
        server = subprocess.Popen(command_line, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, **options)

        def said() -> str:
            printed.seek(0)
            return printed.read().decode(errors="replace")

        try:
            give_up = time.monotonic() + 30
            while True:
                assert server.poll() is None, said()
                assert time.monotonic() < give_up, said()
                if is_open(port):
                    break
                time.sleep(0.05)
            yield
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Run a Redis that keeps nothing until the block ends, and give its port. Skip the test if there is no Redis."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no Redis on this machine; get it by apt-get install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bridge-", dir="/tmp") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        with serving([program, *options], port):
            yield port
