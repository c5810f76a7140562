"""GUI toolkits for tests, all with one face, and a screen that nobody sees.

::

    @pytest.mark.parametrize("toolkit", TOOLKITS)
    def test_something(toolkit: str, screen: None) -> None:
        needs(toolkit)
        in_a_process(toolkit=toolkit)

A process makes one application only, so the tests themselves are ``isolated``.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BINDINGS = ["PySide6", "PyQt6"]
TOOLKITS = [*BINDINGS, "tk"]
REACTORS = [*BINDINGS, "gtk"]  # the toolkits that a reactor of Twisted's runs on
# The application is a global, as it is in a program. A local in a reference cycle, such as that of an exception and its
# traceback's frames, would be destroyed by whichever thread collects garbage, and Qt says so on standard error.
_MADE: list[Any] = []


def missing(toolkit: str) -> str:
    """Return what the toolkit needs that is not here, as the reason to skip a test; "" if it can be had."""
    if toolkit in BINDINGS:
        return "" if importlib.util.find_spec(toolkit) else f"needs {toolkit}, which 'nox -s gui' installs"
    if toolkit == "gtk":
        if importlib.util.find_spec("gi") is None:
            apt = "apt-get install gcc pkg-config libgirepository1.0-dev"
            return f"needs PyGObject: {apt}, then 'nox -s gui' builds it"
    elif importlib.util.find_spec("_tkinter") is None:
        return "needs tkinter: apt-get install python3-tk, or build this Python where tk-dev is installed"
    if "DISPLAY" not in os.environ:
        return "needs a screen: apt-get install xvfb"
    if toolkit == "gtk":
        try:
            importlib.import_module("gi").require_version("Gtk", "3.0")
        except ValueError:
            return "needs GTK 3: apt-get install gir1.2-gtk-3.0"
    return ""


def needs(toolkit: str) -> None:
    """Skip the test if the toolkit cannot be had here."""
    reason = missing(toolkit)
    if reason:
        _skip(reason)


def needs_reactor(toolkit: str) -> None:
    """Skip the test if there is no reactor on the toolkit here."""
    needs(toolkit)
    if toolkit in BINDINGS and importlib.util.find_spec("qreactor") is None:
        _skip("needs qt-reactor, which 'nox -s gui' installs")


def _skip(reason: str) -> None:
    import pytest  # not in a child, which imports this module too: to import pytest takes as long as to import the rest

    pytest.skip(reason)


@contextmanager
def at_once(
    commands: dict[str, list[str]], environment: Callable[[str], dict[str, str]]
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run a Python for each name, all at the same time, for each of them waits for most of its time.

    :param commands: the arguments of each; its two outputs are one.
    :param environment: what a name's Python has in its environment beside that of the tests.
    """
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, arguments in commands.items():
            running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | environment(name),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        yield running
    finally:
        for each in running.values():
            with each:  # which closes its pipe
                each.kill()


@contextmanager
def unseen_screen() -> Iterator[None]:
    """Let GUIs draw where nobody sees it: Tk on an X server of its own, if there is one, Qt without any."""
    before = dict(os.environ)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    server = None
    program = shutil.which("Xvfb")
    if program is not None:
        read_end, write_end = os.pipe()
        arguments = ["-displayfd", str(write_end), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"]
        quiet = subprocess.DEVNULL
        server = subprocess.Popen([program, *arguments], pass_fds=[write_end], stdout=quiet, stderr=quiet)
        os.close(write_end)
        with open(read_end) as numbers:
            number = numbers.readline().strip()
        assert number, "Xvfb ended before it said which display it serves"
        os.environ["DISPLAY"] = f":{number}"
    try:
        yield
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        os.environ.clear()
        os.environ.update(before)


class Gui:
    """An application object, and what tests do with it. ``strategy`` is the one that serves it, if there is one."""

    strategy: str | None

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        """Call a function once, by a timer of the toolkit's."""
        raise NotImplementedError

    def every(self, milliseconds: int, function: Callable[[], object]) -> Callable[[], None]:
        """Call a function again and again; return what stops that."""
        raise NotImplementedError

    def show(self) -> None:
        """Show the window, and wait until it is there."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the window, as its user does."""
        raise NotImplementedError

    def run(self) -> None:
        """Run the main loop."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the main loop."""
        raise NotImplementedError


async def happens(event: threading.Event, result: Any = None) -> Any:
    """Wait, on the loop, until the event is set, by a slot most often."""
    while not event.is_set():
        await asyncio.sleep(0.005)
    return result


def make_gui(toolkit: str) -> Any:
    """Make the application object of this process, which lives until Python's end."""
    gui = _Tk() if toolkit == "tk" else _Gtk() if toolkit == "gtk" else _Qt(toolkit)
    _MADE.append(gui)
    return gui


def make_reactor(toolkit: str) -> tuple[Any, Any]:
    """Make the application object of this process and install the reactor on its main loop; return both."""
    gui = make_gui(toolkit)
    os.environ["QT_API"] = toolkit.lower()
    importlib.import_module("twisted.internet.gireactor" if toolkit == "gtk" else "qreactor").install()
    return gui, importlib.import_module("twisted.internet.reactor")


class _Qt(Gui):
    strategy = "qt"

    def __init__(self, binding: str) -> None:
        self.core = importlib.import_module(f"{binding}.QtCore")
        self.widgets = importlib.import_module(f"{binding}.QtWidgets")
        self.application = self.widgets.QApplication([])
        self._timers: list[Any] = []

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self._timer(milliseconds, function, single=True)

    def every(self, milliseconds: int, function: Callable[[], object]) -> Callable[[], None]:
        stop: Callable[[], None] = self._timer(milliseconds, function, single=False).stop
        return stop

    def _timer(self, milliseconds: int, function: Callable[[], object], single: bool) -> Any:
        timer = self.core.QTimer()
        timer.setSingleShot(single)
        timer.setTimerType(self.core.Qt.TimerType.PreciseTimer)
        timer.timeout.connect(lambda: function() and None)
        timer.start(milliseconds)
        self._timers.append(timer)
        return timer

    def show(self) -> None:
        self.window = self.widgets.QLabel("window")
        self.window.show()
        self.application.processEvents()

    def close(self) -> None:
        self.window.close()

    def run(self) -> None:
        self.application.exec()

    def stop(self) -> None:
        self.application.quit()


class _Tk(Gui):
    strategy = "tk"

    def __init__(self) -> None:
        self.tkinter = importlib.import_module("tkinter")
        self.root = self.tkinter.Tk()

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self.root.after(milliseconds, function)

    def every(self, milliseconds: int, function: Callable[[], object]) -> Callable[[], None]:
        state = {"stopped": False}

        def tick() -> None:
            if not state["stopped"]:
                self.root.after(milliseconds, tick)
                function()

        tick()
        return lambda: state.update(stopped=True)

    def show(self) -> None:
        self.tkinter.Label(self.root, text="window").pack()
        self.root.update()

    def close(self) -> None:
        self.root.destroy()

    def run(self) -> None:
        self.root.mainloop()

    def stop(self) -> None:
        self.root.quit()


class _Gtk(Gui):
    strategy = None

    def __init__(self) -> None:
        importlib.import_module("gi").require_version("Gtk", "3.0")
        self.gtk = importlib.import_module("gi.repository.Gtk")
        self.glib = importlib.import_module("gi.repository.GLib")

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self.glib.timeout_add(milliseconds, lambda: function() and False)

    def every(self, milliseconds: int, function: Callable[[], object]) -> Callable[[], None]:
        timer = self.glib.timeout_add(milliseconds, lambda: [function()] and True)
        return lambda: self.glib.source_remove(timer)

    def show(self) -> None:
        self.window = self.gtk.Window(title="window")
        self.window.show_all()

    def close(self) -> None:
        self.window.close()

    def run(self) -> None:
        self.gtk.main()

    def stop(self) -> None:
        self.gtk.main_quit()
