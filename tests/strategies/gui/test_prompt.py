"""``%gui qt`` and ``%gui tk`` in IPython as its users have it: the window lives at the prompt and while a cell blocks.

The versions of IPython and ipykernel are those that are installed: the nox sessions ``gui`` and ``shell_lowest`` have
the newest and the oldest.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from guis import TOOLKITS, needs
from shells import Kernel, Terminal

pytest.importorskip("IPython", reason="needs IPython, which 'nox -s gui' installs; or pip install ipython ipykernel")
# It is about IPython and the toolkits; tests/ext/shell has IPython on every Python.
pytestmark = [pytest.mark.process, pytest.mark.any_python, pytest.mark.timeout(120)]

# What the cells use. A timer calls ``tick``, which is heard in this process as well; ``until`` waits on the loop.
SET_UPS = Path(__file__).with_name("cells")


class Told:
    """What the shell's process tells. The ticks of the GUI's timer have one of their own, for they can fill it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def forget(self) -> None:
        """Forget what has been told so far."""
        while self._is_there(0):
            self._socket.recv(100)

    def wait_for(self, what: str) -> None:
        """Wait until that is told."""
        deadline = time.monotonic() + 40
        while True:
            assert self._is_there(max(deadline - time.monotonic(), 0)), f"{what!r} was not heard for 40 seconds"
            if self._socket.recv(100).decode() == what:
                return
            assert time.monotonic() < deadline, f"{what!r} was not heard for 40 seconds"

    def are_none_for(self, seconds: float) -> bool:
        return not self._is_there(seconds)

    def close(self) -> None:
        self._socket.close()

    def _is_there(self, seconds: float) -> bool:
        return bool(select.select([self._socket], [], [], seconds)[0])


class Shell:
    """A shell with a GUI. A cell is sent when the GUI's loop has been seen to run at the prompt.

    For a terminal that is part of what is tested. A kernel needs it: ipykernel, with or without the bridge, leaves a
    request lying that comes in the millisecond between the end of a cell and the entry of the GUI's loop, until the
    next one comes.
    """

    def __init__(self, shell: Any, toolkit: str) -> None:
        self._shell = shell
        self.ticks = Told()
        self.words = Told()
        self.toolkit = toolkit
        self.is_kernel = isinstance(shell, Kernel)
        self.is_on = False  # whether IPython runs the GUI

    def close(self) -> None:
        """End the shell."""
        self._shell.close()
        self.ticks.close()
        self.words.close()

    def settle(self) -> None:
        """Wait until the GUI's loop runs at the prompt."""
        self.ticks.forget()
        for _ in range(2):  # the first may have been due for long
            self.ticks.wait_for("tick")

    def start(self, source: str) -> None:
        if self.is_on:
            self.settle()
        self._shell.start(source)

    def run(self, source: str) -> str:
        """Run a cell and return all that it showed."""
        self.start(source)
        shown: str = self._shell.finish()
        return shown

    def interrupt(self, source: str) -> str:
        """Run a cell, interrupt it when it has said that it is ready, and return all that it showed."""
        self.start(source)
        self._shell.wait_for("ready")
        self._shell.interrupt()
        shown: str = self._shell.finish()
        return shown

    def interrupt_at_the_prompt(self) -> None:
        """Type Ctrl-C, or interrupt the kernel, while no cell runs."""
        self.settle()
        self._shell.interrupt()

    def gui(self, name: str = "") -> str:
        """Switch the GUI on, or off."""
        if not name and self.is_on:
            self.settle()
        self.is_on = False
        shown: str = self._shell.run(f"%gui {name}")
        self.is_on = bool(name)
        return shown


def terminal(home: Path) -> Terminal:
    return Terminal(home, "-m", "IPython", "--no-banner", "--no-confirm-exit")


def kernel(home: Path) -> Kernel:
    pytest.importorskip("ipykernel", reason="needs a kernel, which 'nox -s gui' installs; or pip install ipykernel")
    return Kernel(home)


PARAMETERS = [(make, toolkit) for make in (terminal, kernel) for toolkit in TOOLKITS]


@pytest.fixture(scope="module", params=PARAMETERS, ids=lambda each: f"{each[0].__name__}-{each[1]}")
def shell(request: pytest.FixtureRequest, screen: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell with the extension, in which IPython has made the application object."""
    make, toolkit = request.param
    needs(toolkit)
    with pytest.MonkeyPatch.context() as patch:
        if toolkit != "tk" and "DISPLAY" not in os.environ:
            patch.setenv("DISPLAY", ":0")  # IPython asks for one, and Qt draws offscreen
        made = make(tmp_path_factory.mktemp("home"))
    shell = Shell(made, toolkit)
    try:
        _open(shell)
        yield shell
    finally:
        shell.close()


def _cell(name: str) -> str:
    return (SET_UPS / f"{name}.py").read_text()


def _open(shell: Shell) -> None:
    toolkit = shell.toolkit
    ports = f"TICKS, WORDS = {shell.ticks.port}, {shell.words.port}"
    assert shell.run(f"{ports}\n{_cell('set_up')}").strip() == ""
    if toolkit == "tk":
        imports, window, name = "import tkinter", _cell("tk"), "tk"
    else:
        # Of two bindings IPython takes the one that is there; and 8.20 finds the class only where it has been used.
        imports = f"from {toolkit} import QtCore, QtWidgets; from {toolkit}.QtWidgets import QApplication"
        window, name = _cell("qt"), "qt"
    assert shell.run(imports).strip() == ""
    if shell.is_kernel:
        shown = shell.run(f"%gui {name}\n{window}")  # in one cell, for no tick says yet when to send the next
    else:
        shown = shell.run(f"%gui {name}")
        while toolkit != "tk" and "True" not in shell.run("QApplication.instance() is not None"):
            time.sleep(0.05)
        shown += shell.run(window)
    assert shown.strip() == ""
    shell.is_on = True
    assert shell.run("before = state()").strip() == ""
    assert shell.run("%load_ext bridge").strip() == ""


@pytest.mark.parametrize(("toolkit", "name", "pump"), [("PyQt6", "qt6", "QtPump"), ("tk", "tk", "TkPump")])
def test_the_shell_s_own_command_runs_a_gui_that_is_asked_for(
    toolkit: str, name: str, pump: str, screen: None, tmp_path: Path
) -> None:
    needs(toolkit)
    if "DISPLAY" not in os.environ:
        pytest.skip("needs a screen: apt-get install xvfb")
    made = Terminal(tmp_path, "-m", "bridge", "shell", f"--gui={name}", "--no-confirm-exit")
    try:
        shown = made.run("%bridge demo")  # which makes the application object, if the prompt has not yet
        assert "press('Ask Twisted')" in shown, shown
        shown = made.run("bridge.strategies()['auto'].waiter()._pump, get_ipython().active_eventloop")
        assert pump in shown, shown
        assert f"'{name}'" in shown, shown
        # The demo is open when the shell is left.
        made.start("exit")
        assert made.wait_ended() == 0, made.output
        assert "Traceback" not in made.output, made.output
    finally:
        made.close()


class Cell(NamedTuple):
    """A cell, and a pattern of what it shows. ``interrupted``: when it has printed "ready"."""

    source: str
    shows: str
    interrupted: bool = False


LIVES = r"Out\[\d+\]: .*the GUI lives"
INTERRUPTED = r"KeyboardInterrupt"

CELLS = {
    "ipython_runs_the_gui": Cell("get_ipython().active_eventloop", r"'(qt6?|tk)'"),
    "auto_takes_the_gui": Cell(
        "from bridge import strategies; type(strategies()['auto'].waiter()._pump).__name__", r"'(Qt|Tk)Pump'"
    ),
    "block_on": Cell("block_on(ticked())", LIVES),
    "await_a_coroutine": Cell("await ticked()", LIVES),
    "await_a_deferred": Cell(
        "from bridge import as_deferred\nawait deferLater(reactor, 0.01)\nawait (lambda: as_deferred(ticked()))()",
        LIVES,
    ),
    "shown_coroutine": Cell("ticked()", LIVES),
    "shown_deferred": Cell(
        "d = Deferred()\nlater(lambda: block_on(lambda: d.callback('the GUI ' + 'lives')))\nd", LIVES
    ),
    "async_with": Cell("async with asyncio.timeout(30):\n    lives = await ticked()\nlives", LIVES),
    "async_for": Cell(
        "async def agen():\n    yield await ticked()\nasync for lives in agen():\n    pass\nlives", LIVES
    ),
    "loop_cell": Cell("%%loop\nblock_on(ticked()), await ticked()", LIVES),
    "time": Cell("%time await ticked()", LIVES),
    "window_is_painted_while_blocked": Cell(
        "seen = drawn\nredraw()\nblock_on(until(lambda: drawn > seen))\n'pain' + 'ted'", r"'painted'"
    ),
    "window_is_painted_in_an_await": Cell(
        "seen = drawn\nredraw()\nawait until(lambda: drawn > seen)\n'pain' + 'ted'", r"'painted'"
    ),
    "another_window_takes_the_place_of_the_last": Cell(
        "later(lambda: results.append(replace_window()))\nresults.clear()\n"
        "block_on(until(lambda: results))\nawait ticked()",
        LIVES,
    ),
    "time_out": Cell("block_on(asyncio.sleep(3600), timeout=0.05)", r"TimeoutError"),
    "slot_that_blocks_too": Cell(
        "results.clear()\nlater(lambda: results.append(block_on(ticked())))\nblock_on(until(lambda: results)), results",
        LIVES,
    ),
    "slot_that_fails": Cell(
        "later(lambda: undefined_name)\nblock_on(ticked())",
        r"(?s)NameError.*undefined_name.*Out\[\d+\]: 'the GUI lives'",
    ),
    "plain_sleep_stops_the_gui": Cell("seen = ticks; time.sleep(0.1); ticks - seen", r"Out\[\d+\]: 0"),
    # --- interrupts
    "interrupt_block_on": Cell("say_ready(); block_on(asyncio.sleep(3600))", INTERRUPTED, True),
    "interrupt_await_of_a_coroutine": Cell("say_ready(); await asyncio.sleep(3600)", INTERRUPTED, True),
    "interrupt_await_of_a_deferred": Cell("say_ready(); await Deferred()", INTERRUPTED, True),
    "interrupt_async_with": Cell(
        "say_ready()\nasync with asyncio.timeout(3600):\n    await Deferred()\n", INTERRUPTED, True
    ),
    "interrupt_loop_cell": Cell("%%loop\nsay_ready(); await asyncio.sleep(3600)", INTERRUPTED, True),
    "interrupt_what_is_shown": Cell("stuck = Deferred(); say_ready()\nstuck", INTERRUPTED, True),
    "interrupt_left_it_alone": Cell("stuck.callback(42)\nstuck", r"Out\[\d+\]: 42"),
    "interrupt_cleans_up": Cell(
        "async def tidy():\n    try:\n        say_ready(); await asyncio.sleep(3600)\n"
        "    finally:\n        print('clean' + 'ed:', await ticked())\nawait tidy()",
        r"(?s)cleaned: the GUI lives.*KeyboardInterrupt",
        True,
    ),
    "interrupt_caught_by_the_cell": Cell(
        "try:\n    say_ready(); block_on(asyncio.sleep(3600))\nexcept KeyboardInterrupt:\n    print(await ticked())\n",
        r"the GUI lives",
        True,
    ),
    "interrupt_plain_sleep": Cell(
        # A signal that comes as a sleep begins does not end it.
        "print('rea' + 'dy')\nfor _ in range(6000): time.sleep(0.01)\n",
        INTERRUPTED,
        True,
    ),
    "interrupt_in_the_midst_of_a_slot": Cell(
        "def slot():\n    print('rea' + 'dy')\n    until_then = time.monotonic() + 0.3\n"
        "    while time.monotonic() < until_then: pass\n    results.append('slot')\n"
        "results.clear()\nlater(slot)\n"
        "try:\n    block_on(asyncio.sleep(3600))\nexcept KeyboardInterrupt:\n    print('in' + 'terrupted', results)\n",
        r"interrupted \['slot'\]",
        True,
    ),
    "signals_are_put_back": Cell("signals() == tuple(before[:2])", r"Out\[\d+\]: True"),
    "works_after_interrupts": Cell("block_on(ticked()), await ticked()", LIVES),
}


# In the order of the list, in one shell for each toolkit. Each begins when the GUI has been seen to live at the prompt.
@pytest.mark.parametrize("name", CELLS)
def test_cell(shell: Shell, name: str) -> None:
    cell = CELLS[name]
    shown = shell.interrupt(cell.source) if cell.interrupted else shell.run(cell.source)
    assert re.search(cell.shows, shown), shown
    assert cell.interrupted or cell.shows == r"TimeoutError" or "NameError" in cell.shows or "Error" not in shown, shown


def test_timers_tick_at_the_prompt_and_cost_nothing_else(shell: Shell) -> None:
    shell.run("seen, used, began = ticks, time.process_time(), time.monotonic()")
    shell.ticks.forget()  # those of before
    for _ in range(200):
        shell.ticks.wait_for("tick")
    # A loop that finds a descriptor readable again and again would take all that there is.
    shown = shell.run("ticks - seen >= 200, (time.process_time() - used) / (time.monotonic() - began) < 0.15")
    assert "(True, True)" in shown, shown


def test_ctrl_c_at_the_prompt_does_no_harm(shell: Shell) -> None:
    shell.interrupt_at_the_prompt()
    assert re.search(LIVES, shell.run("block_on(ticked())"))


def test_a_slot_blocks_at_the_prompt(shell: Shell) -> None:
    shell.run("results.clear(); later(in_a_slot)")
    shell.words.wait_for("slot")
    shown = shell.run("results")
    found = re.search(r"\['the GUI lives', ([\d.e-]+), False\]", shown)
    assert found, shown
    assert float(found[1]) < 0.15  # of a core


def test_a_cell_that_is_sent_while_a_slot_blocks_runs_after_it(shell: Shell) -> None:
    shell.run("results.clear(); later(lambda: (tell('begun'), in_a_slot()))")
    shell.words.wait_for("begun")
    shell.is_on = False  # it is not to be waited for
    try:
        shown = shell.run("results")
    finally:
        shell.is_on = True
    # Nor does the key that was sent wake the toolkit again and again.
    assert re.search(r"\['the GUI lives', [\d.e-]+, False\]", shown), shown


def test_ctrl_c_waits_for_a_slot_that_blocks_at_the_prompt(shell: Shell) -> None:
    shell.run("results.clear(); later(lambda: (tell('begun'), in_a_slot()))")
    shell.words.wait_for("begun")
    shell.interrupt_at_the_prompt()  # a key for a prompt, and ignored by a kernel
    shell.words.wait_for("slot")
    assert re.search(LIVES, shell.run("print(results)\nawait ticked()"))


def test_the_demo_lives_beside_the_prompt(shell: Shell) -> None:
    assert "Error" not in shell.run("demo = %bridge demo")  # Qt says something of its own, offscreen
    # Both clients feed it while a cell blocks, and its buttons block in a cell as well as at the prompt.
    shell.run("block_on(until(lambda: all(demo._counts.values())))")
    pressed = r"Ask (?:Twisted: a Deferred|asyncio: a coroutine)'s result; (\d+) frames drawn meanwhile"
    found = re.findall(pressed, shell.run("demo.press('Ask Twisted'); print(demo)"))
    assert len(found) == 1
    shell.run("later(lambda: (demo.press('Ask asyncio'), tell('pressed')))")
    shell.words.wait_for("pressed")
    found = re.findall(pressed, shell.run("demo"))
    assert len(found) == 2
    assert int(found[0]) + int(found[1]) > 0  # there is none where the GUI's thread stood still for the whole call
    shell.run("later(lambda: (demo.close(), tell('closed')))")
    shell.words.wait_for("closed")
    shown = shell.run("await demo.ended; demo.ended.exception(), demo in bridge._cli.gui_demo._open")
    assert "(None, False)" in shown
    assert "BridgeError: the window of the demo is closed" in shell.run("demo.press('Ask Twisted')")


def test_the_demo_needs_a_gui_that_ipython_runs(shell: Shell) -> None:
    before, after = "get_ipython().active_eventloop, name = None, get_ipython().active_eventloop", "name"
    shown = shell.run(f"{before}\ntry:\n    %bridge demo\nfinally:\n    get_ipython().active_eventloop = {after}\n")
    assert "UsageError: %bridge demo needs a GUI that IPython runs: write %gui qt or %gui tk before it" in shown, shown


def test_closing_the_last_window_ends_the_call_and_not_the_shell(shell: Shell) -> None:
    shown = shell.run("later(close_window)\ntry:\n    await asyncio.sleep(3600)\nfinally:\n    open_window()\n")
    assert re.search(r"BridgeError: the (last window was closed|root window of Tk was destroyed)", shown), shown
    assert re.search(LIVES, shell.run("block_on(ticked())"))


def test_a_window_that_is_closed_at_the_prompt_takes_nothing_with_it(shell: Shell) -> None:
    shell.run("later(lambda: (close_window(), open_window(), tell('closed')))")
    shell.words.wait_for("closed")
    assert re.search(LIVES, shell.run("block_on(ticked())"))


def test_without_the_extension_the_gui_lives_and_block_on_runs_it(shell: Shell) -> None:
    # What follows in that very cell has been rewritten to call the extension.
    assert re.search(LIVES, shell.run("%unload_ext bridge\nawait ticked()"))
    shown = shell.run("[x == y for x, y in zip(before, state(), strict=True)], 'block_on' in globals()")
    assert re.search(r"\(\[(True, )+True\],\s+False\)", shown), shown
    assert re.search(LIVES, shell.run("import bridge; bridge.block_on(ticked())"))
    shell.run("%load_ext bridge")
    assert re.search(LIVES, shell.run("await ticked()"))


def test_gui_off_and_on_again(shell: Shell) -> None:
    assert shell.gui().strip() == ""
    shell.ticks.forget()
    assert shell.ticks.are_none_for(0.3)
    # The application object is still there.
    assert re.search(r"\(None, 'the GUI lives'\)", shell.run("get_ipython().active_eventloop, block_on(ticked())"))
    shell.gui("tk" if shell.toolkit == "tk" else "qt")
    assert re.search(r"\('(qt6?|tk)', 'the GUI lives'\)", shell.run("get_ipython().active_eventloop, await ticked()"))
