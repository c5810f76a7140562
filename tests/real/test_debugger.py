"""block_on at the prompt of a real pdb, which a terminal drives: in threads, and in tasks on the loop."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ENVIRONMENT

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).parent / "programs" / "debugged.py"
PROMPT = "(Pdb) "
PLACES = ["main", "thread", "worker", "task", "task-of-the-main-thread", "task-of-another-loop", "deferred"]


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, place: str) -> None:
        self._end, theirs = pty.openpty()
        command = [sys.executable, "-W", "error", str(PROGRAM), place]
        environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PYTHONBREAKPOINT")}
        environment |= {"TERM": "dumb", "PYTHON_COLORS": "0", "HOME": "/nonexistent"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    def until(self, last: str | None) -> str:
        """Read up to this text, or up to the end."""
        said, give_up = "", time.monotonic() + 30
        while last is None or not said.endswith(last):
            assert select.select([self._end], [], [], max(0, give_up - time.monotonic()))[0], said
            try:
                more = os.read(self._end, 4096)
            except OSError:  # the other end is closed
                more = b""
            if not more:
                assert last is None, said
                break
            said += more.decode().replace("\r\n", "\n")
        return said

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._end, line.encode() + b"\n")

    def at_prompt(self, line: str) -> str:
        """Type a line, and return what is printed up to the next prompt, without the echo."""
        self.type(line)
        return self.until(PROMPT).partition("\n")[2].removesuffix(PROMPT)


@contextlib.contextmanager
def stopped(place: str) -> Iterator[Terminal]:
    terminal = Terminal(place)
    try:
        terminal.until(PROMPT)
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("place", PLACES)
def test_at_a_breakpoint(place: str) -> None:
    with stopped(place) as pdb:
        assert pdb.at_prompt("p block_on(query())") == "'a row'\n"
        assert pdb.at_prompt("p before") == "'before'\n"  # the frame is the one that it was
        before = int(pdb.at_prompt("p ticks"))
        assert pdb.at_prompt("p [block_on(query()) for _ in range(3)]") == "['a row', 'a row', 'a row']\n"
        assert int(pdb.at_prompt("p ticks")) > before + 3  # the loop went on meanwhile
        assert pdb.at_prompt("p block_on(failing())") == "*** LookupError: no row\n"
        assert pdb.at_prompt("p block_on(query(30), timeout=0.01)").startswith("*** TimeoutError")
        shown = pdb.at_prompt("where")
        if "-> breakpoint()" in shown:  # from 3.13 on it stops there, and not at the line that follows
            shown = pdb.at_prompt("next")
        assert "-> row = block_on(query())" in shown
        # Over a call in one step, although other code runs in this thread meanwhile.
        assert '-> after = f"{row} {before}"' in pdb.at_prompt("next")
        assert "-> return after" in pdb.at_prompt("next")
        assert pdb.at_prompt("p row") == "'a row'\n"
        pdb.type("continue")
        assert pdb.until(None).splitlines()[-1] == "ended: a row before"
        assert pdb.process.wait(10) == 0


@pytest.mark.parametrize(
    ("place", "error"), [("main", "KeyboardInterrupt"), ("task", "CancelledError"), ("deferred", "CancelledError")]
)
def test_ctrl_c_ends_a_call_at_the_prompt(place: str, error: str) -> None:
    with stopped(place) as pdb:
        pdb.type("p (print('waits', flush=True), block_on(query(30)))")
        pdb.until("waits\n")
        pdb.process.send_signal(signal.SIGINT)
        assert error in pdb.until(PROMPT)
        assert pdb.at_prompt("p block_on(query())") == "'a row'\n"
