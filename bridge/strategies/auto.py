"""Pick the strategy that fits the place the caller stands in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .lock import LockWaiter
from .toolkits import BINDINGS

if TYPE_CHECKING:
    from .gui.qt import QtStrategy
    from .gui.tk import TkStrategy
    from .interface import Waiter

_PYSIDE, _PYQT = BINDINGS


class AutoStrategy:
    """Runs a GUI's events in the main thread of a program that has one, or gevent's hub; else waits on a bare lock."""

    name = "auto"
    switches_stacks = True

    def __init__(self, named: Callable[[str], Any]) -> None:
        self._named = named  # the strategies of a program that has what they are for

    def unavailable(self) -> str | None:
        """Return None: there is always one that fits."""
        return None

    def waiter(self, modules: dict[str, ModuleType] = sys.modules) -> Waiter:
        """Return the waiter of the strategy that fits this thread."""
        # This is looked at for every call, so it costs four look-ups in a program that has none of these.
        if _PYSIDE in modules or _PYQT in modules or "tkinter" in modules or "gevent" in modules:
            return self._special() or LockWaiter()
        return LockWaiter()

    def special(self, modules: dict[str, ModuleType] = sys.modules) -> Waiter | None:
        """Return the waiter of the strategy that runs what this thread has to do meanwhile; None if that is nothing."""
        if _PYSIDE in modules or _PYQT in modules or "tkinter" in modules or "gevent" in modules:
            return self._special()
        return None

    def _special(self) -> Waiter | None:
        waiter = self._in_gui()
        if waiter is None and "gevent" in sys.modules and self._named("gevent").serves_here():
            gevent_waiter: Waiter = self._named("gevent").waiter()
            return gevent_waiter
        return waiter

    def _in_gui(self) -> Waiter | None:
        """Return a waiter on the GUI that this thread runs.

        That is the one that IPython was told to run; else Qt if its loop runs; else the one that has an application
        object or a root window, Tk's before Qt's, for nobody can see whether Tk's loop runs.
        """
        from . import gui

        if gui.why_not_here() is not None:
            return None
        qt: QtStrategy = self._named("qt")
        tk: TkStrategy = self._named("tk")
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
    """Return the name of the GUI whose events the main thread runs, most likely; None if there is none. Any thread."""
    for name in BINDINGS:
        application: Any = getattr(modules.get(name), "QCoreApplication", None)
        if application is not None and application.instance() is not None:
            return "Qt"
    return None if getattr(modules.get("tkinter"), "_default_root", None) is None else "Tk"
