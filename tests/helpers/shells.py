"""IPython as its users have it: a terminal through a pty, and a kernel through jupyter_client. One interface for both.

Both interrupt as a user does: Ctrl-C typed into the terminal, and the kernel manager's interrupt. Each is a SIGINT.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path
from queue import Empty
from typing import Any

from paths import PACKAGES
from sockets import socket_folder

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x1b\][^\x07]*\x07|[\r\x07]")
# prompt_toolkit switches the terminal's bracketed paste on for its prompt and off for what the cell prints.
_PROMPT, _OUTPUT = "\x1b[?2004h", "\x1b[?2004l"


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which a shell finds none of this user's files."""
    own = {"HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"}
    return os.environ | dict.fromkeys(own, str(home)) | {"PYTHONPATH": PACKAGES, "NO_COLOR": "1"}


class Terminal:
    """A shell on a pty.

    :param arguments: of Python.
    """

    def __init__(self, home: Path, *arguments: str) -> None:
        import pexpect

        settings = {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
        self.child: Any = pexpect.spawn(
            sys.executable,
            [*arguments],
            env=environment(home) | settings,
            cwd=str(home),
            dimensions=(60, 160),
            encoding="utf-8",
            timeout=40,
        )
        self.child.delaybeforesend = None
        self.banner = self._until(_PROMPT)
        self._output = ""

    def start(self, source: str) -> None:
        """Type a cell, and leave when it runs."""
        self._output = ""
        self.child.send(f"\x1b[200~{source}\x1b[201~\x1b\r")  # as pasted text, and Alt-Enter to run all of it
        self._until(_OUTPUT)

    def wait_for(self, pattern: str) -> str:
        """Wait until the running cell has printed something, and return what it has printed so far."""
        self.child.expect(pattern)
        self._output += self.child.before + self.child.after
        return _plain(self._output)

    def finish(self) -> str:
        """Wait until the cell has ended, and return all that it printed."""
        self._output += self._until(_PROMPT)
        return _plain(self._output)

    def run(self, source: str) -> str:
        """Run a cell and return all that it printed."""
        self.start(source)
        return self.finish()

    def answer(self, prompt: str, text: str) -> None:
        """Wait until the cell asks, and answer."""
        self.wait_for(prompt)
        self.child.send(f"{text}\r")

    def interrupt(self) -> float:
        """Type Ctrl-C, and return the time of that."""
        now = time.monotonic()
        self.child.send("\x03")
        return now

    def wait_ended(self) -> int | None:
        """Wait until the process has ended, and return its exit status."""
        import pexpect

        self.child.expect(pexpect.EOF)
        self._output += self.child.before
        self.child.close()
        status: int | None = self.child.exitstatus
        return status

    @property
    def output(self) -> str:
        """What has been printed since the last cell was started."""
        return _plain(self._output)

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close()

    def _until(self, mark: str) -> str:
        self.child.expect_exact(mark)
        before: str = self.child.before
        return before


class Kernel:
    """A kernel, as Jupyter's front ends have it."""

    def __init__(self, home: Path) -> None:
        from jupyter_client.manager import KernelManager

        # Ports are chosen before the kernel has started, and another process may take one meanwhile.
        self._sockets = contextlib.ExitStack()
        folder = self._sockets.enter_context(socket_folder())
        self._manager: Any = KernelManager(transport="ipc", ip=f"{folder}/kernel")
        self._manager.kernel_spec.argv[0] = sys.executable  # not a kernel that is installed on the machine
        self._log = (home / "kernel.log").open("w")
        self._manager.start_kernel(env=environment(home), cwd=str(home), stdout=self._log, stderr=self._log)
        self.client: Any = self._manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=40)
        self.status = ""
        self.html = ""

    def start(self, source: str) -> None:
        """Send a cell."""
        self._output = self.html = ""
        # A cell that has failed makes the kernel throw away those that come soon after it, as "run all" wants it.
        self._request = self.client.execute(source, allow_stdin=True, stop_on_error=False)

    def wait_for(self, pattern: str) -> str:
        """Wait until the running cell has printed something, and return what it has printed so far."""
        while not re.search(pattern, self._output):
            assert self._read(), f"the cell ended without {pattern!r}: {self._output}"
        return _plain(self._output)

    def finish(self) -> str:
        """Wait until the cell has ended, and return all that it showed."""
        while self._read():
            pass
        while True:
            reply = self.client.get_shell_msg(timeout=40)
            if reply["parent_header"].get("msg_id") == self._request:
                self.status = reply["content"]["status"]
                return _plain(self._output)

    def run(self, source: str) -> str:
        """Run a cell and return all that it showed."""
        self.start(source)
        return self.finish()

    def answer(self, prompt: str, text: str) -> None:
        """Wait until the cell asks, and answer."""
        request = self.client.get_stdin_msg(timeout=40)
        assert re.search(prompt, request["content"]["prompt"])
        self.client.input(text)

    def interrupt(self) -> float:
        """Interrupt the kernel, and return the time of that."""
        now = time.monotonic()
        self._manager.interrupt_kernel()
        return now

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()
        self._sockets.close()
        self._log.close()

    def _read(self) -> bool:
        """Take one message, and return False if it says that the cell has ended."""
        try:
            message = self.client.get_iopub_msg(timeout=40)
        except Empty:
            raise AssertionError(f"the kernel says nothing; so far: {self._output}") from None
        if message["parent_header"].get("msg_id") != self._request:
            return True
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                self._output += content["text"]
            case "execute_result":
                self._output += f"Out[{content['execution_count']}]: {content['data']['text/plain']}\n"
                self.html += content["data"].get("text/html", "")
            case "display_data":
                self._output += f"{content['data']['text/plain']}\n"
            case "error":
                self._output += "\n".join(content["traceback"]) + "\n"
            case "status":
                return bool(content["execution_state"] != "idle")
            case _:
                pass
        return True


def _plain(text: str) -> str:
    return _ESCAPES.sub("", text)
