"""Servers that tests start as processes, on ports of the loopback interface."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any


def free_port() -> int:
    """Return the number of a port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
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


# --- HTTP
