"""Processes that need not import again what most tests need: each is forked from a Python that has imported it.

Nothing of bridge's, Twisted's or anyio's is imported before the fork: a test goes on to see these imports happen. What
else they import is there, asyncio and zope.interface included, and takes two thirds of the time that a process needs
to begin. A test about a process that has imported nothing starts one of its own.

The Python that forks is started with the first use, one for each set of options, and ends with this process, whose
child it is not. It has one thread.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

# What Twisted's reactor, anyio and bridge import. Not concurrent.futures.thread, whose place among what is called at
# exit is that of its import.
_IMPORTED = [
    *("ast", "asyncio", "asyncio.base_events", "concurrent.futures", "contextvars", "copy", "ctypes", "difflib"),
    *("email.message", "email.parser", "fnmatch", "html", "http.client", "http.cookiejar", "inspect", "ipaddress"),
    *("logging", "pathlib", "pickle", "pty", "random", "shutil", "socket", "ssl", "string", "tempfile", "textwrap"),
    *("traceback", "tty", "urllib.request", "uuid"),
    *("attr", "attrs", "attrs.validators", "constantly", "greenlet", "idna", "incremental", "sniffio"),
    *("typing_extensions", "zope.interface", "zope.interface.adapter", "zope.interface.declarations"),
    *("zope.interface.verify", "OpenSSL.SSL", "OpenSSL.crypto", "cryptography.x509"),
    *("cryptography.hazmat.decrepit.ciphers.algorithms", "cryptography.hazmat.primitives.serialization.ssh"),
]

_servers: dict[tuple[str, ...], _Server] = {}
_OWNER = os.getpid()


def run(
    code: str, *, options: tuple[str, ...], path: str, timeout: float, **other: Any
) -> subprocess.CompletedProcess[str]:
    """Run code as ``subprocess.run([sys.executable, *options, "-c", code], ...)`` would, with its output captured.

    :param path: the PYTHONPATH of the server, and of the process.
    """
    key = (*options, path)
    server = _servers.get(key)
    if server is None:
        if not _servers:
            atexit.register(_end)
        server = _servers[key] = _Server(options, path)
    return server.run(code, timeout, **other)


def _end() -> None:
    if os.getpid() != _OWNER:  # a test has forked this process
        return
    for each in _servers.values():
        each.socket.shutdown(socket.SHUT_RDWR)  # also if a test has forked a process that has it too
        each.socket.close()


class _Server:
    """The Python that forks."""

    def __init__(self, options: tuple[str, ...], path: str) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            code = f"import warm; exec(warm.serve({theirs.fileno()}))"
            helpers = os.path.dirname(os.path.abspath(__file__))
            subprocess.run(
                [sys.executable, *options, "-c", code],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys([*path.split(os.pathsep), helpers]))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                check=True,
            )
        self._answers = self.socket.makefile("r")

    def run(
        self, code: str, timeout: float, env: dict[str, str] | None = None, cwd: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        ends = [os.pipe(), os.pipe()]
        texts = ["", ""]

        def read(number: int) -> None:
            with open(ends[number][0], encoding="utf-8", errors="backslashreplace") as file:
                texts[number] = file.read()

        request = {"code": code, "env": dict(os.environ if env is None else env), "cwd": cwd or os.getcwd()}
        message = json.dumps(request).encode()
        socket.send_fds(self.socket, [len(message).to_bytes(4)], [end for _, end in ends])
        self.socket.sendall(message)
        for _, end in ends:
            os.close(end)
        readers = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
        for each in readers:
            each.start()
        pid = int(self._answers.readline())
        late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
        late.start()
        try:
            status = int(self._answers.readline())
        finally:
            late.cancel()
            late.join()
        for each in readers:
            each.join(timeout)
        return subprocess.CompletedProcess([code], status, *texts)


def serve(descriptor: int) -> str:
    """Fork a process for each request. Return in the process: what it is to run."""
    if os.fork():  # no child of the process that runs the tests, for some look whether they have left one
        os._exit(0)
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert loaded.isdisjoint({"anyio", "bridge", "pytest", "twisted"}), loaded
    gc.collect()
    gc.freeze()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever runs the tests sends it to all
    with socket.socket(fileno=descriptor) as requests:
        while True:
            head, descriptors, _, _ = socket.recv_fds(requests, 4, 2)
            if not head:
                os._exit(0)
            length, message = int.from_bytes(head), b""
            while len(message) < length:
                message += requests.recv(length - len(message))
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGINT, handler)
                break
            for each in descriptors:
                os.close(each)
            requests.sendall(b"%d\n" % pid)
            requests.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    for each, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(each, standard)
        os.close(each)
    request = json.loads(message)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    code: str = request["code"]
    return code
