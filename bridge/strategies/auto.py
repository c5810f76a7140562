"""Pick the strategy that fits the calling thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from .._threads.lock_waiter import LockWaiter
from .._threads.native import get_ident, is_patched
from .toolkits import BINDINGS

if TYPE_CHECKING:
    from .gevent import GeventStrategy
    from .gui.qt import QtStrategy
    from .gui.tk import TkStrategy
    from .interface import Waiter

_PYSIDE, _PYQT = BINDINGS


class AutoStrategy:
    """Runs a GUI's events in the main thread of a program with a GUI, or gevent's hub; else waits on a bare lock."""

    name = "auto"
    switches_stacks = True

    def __init__(self, find_strategy: Callable[[str], Any]) -> None:
        self._find_strategy = find_strategy  # returns one of our own, by its name

    def unavailable(self) -> str | None:
        """Return None: a lock fits everywhere."""
        return None

    def waiter(self, modules: dict[str, ModuleType] = sys.modules) -> Waiter:
        """Return a waiter of the strategy that fits this thread."""
        # Runs for every call: four look-ups in a program without any of these modules, and a few more in one that has
        # imported some, but has no application object and no other greenlets.
        waiter: Waiter | None = None
        if (
            (_PYSIDE in modules or _PYQT in modules or "tkinter" in modules)
            and get_ident() == threading.main_thread().ident
            and name_of_gui()
        ):
            waiter = self._in_gui()
        if waiter is None and "gevent" in modules and (getcurrent().parent is not None or is_patched()):
            waiter = self._in_gevent()
        return LockWaiter() if waiter is None else waiter

    def _in_gevent(self) -> Waiter | None:
        """Return a waiter that runs gevent's other greenlets; None if there can be none."""
        gevent: GeventStrategy = self._find_strategy("gevent")
        return gevent.waiter() if gevent.serves_here() else None

    def _in_gui(self) -> Waiter | None:
        """Return a waiter that runs the events of the main thread's GUI, called there; None if it has no GUI.

        A GUI needs an application object (Qt) or a root window (Tk). If both exist, the choice is: the GUI that IPython
        was told to run; else Qt if its loop runs; else Tk, since there is no way to see whether Tk's loop runs.
        """
        from . import gui

        qt: QtStrategy = self._find_strategy("qt")
        tk: TkStrategy = self._find_strategy("tk")
        core, application = qt.application()
        root = tk.root()
        if application is None and root is None:
            return None
        active = gui.active_in_ipython() or ""
        if root is None or active.startswith("qt"):
            order: tuple[QtStrategy | TkStrategy, ...] = (qt, tk)
        elif application is None or active.startswith("tk"):
            order = (tk, qt)
        else:
            order = (qt, tk) if qt.is_running(core) else (tk, qt)
        for strategy in order:
            if strategy.unavailable() is None:
                return strategy.waiter()
        return None


def name_of_gui(modules: dict[str, ModuleType] = sys.modules) -> str | None:
    """Return the name of the GUI that the main thread probably runs; None if none. May be called in any thread."""
    for name in BINDINGS:
        if name in modules:  # getattr() of None would take longer
            application: Any = getattr(modules[name], "QCoreApplication", None)
            if application is not None and application.instance() is not None:
                return "Qt"
    if "tkinter" in modules and getattr(modules["tkinter"], "_default_root", None) is not None:
        return "Tk"
    return None
