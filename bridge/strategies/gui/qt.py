"""Run Qt's events while the main thread waits, with PySide6 or PyQt6.

A wait is a ``QEventLoop`` of its own inside whatever loops run already, so Qt keeps its promises: a nested loop deletes
what was given to ``deleteLater()`` inside it, and nothing from outside, and ``quit()`` ends it. Its thread sleeps in
the system until an event, the bell or the deadline wakes it.

No code of Python's connects the bell with the end of the loop, for a signal handler would run there, and what it raises
would be dropped, or end the process in PyQt6. Only what Qt calls by itself is connected: the notifier to ``quit`` and,
by way of a signal without arguments, to a timer. The timer empties the bell if it rings inside a loop that somebody
else runs inside ours, such as a dialog's, where it would ring on and on; its slot is a function written in C.

Rejected: ``processEvents(WaitForMoreEvents)``, which is as fast (see docs/gui.md) but does not see ``quit()`` and
deletes nothing; ``wakeUp()`` on the event dispatcher, which another thread may call as the dispatcher is destroyed.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from time import monotonic
from typing import Any

from ..._errors import BridgeError
from .. import gui
from ..toolkits import BINDINGS
from . import prompt

_QUIT = 20  # QEvent.Type.Quit, as the int that sendPostedEvents takes
# Which windows are open, a wait looks as it begins, but if the last look was this many seconds ago or less only when it
# has taken so long itself: it costs as much as a wake-up.
_LOOK = 0.02
_LONGEST = 1_000_000_000  # milliseconds, within what a QTimer takes


class _Level:
    """The loop of one wait, and the timer that ends it; they are used again."""

    def __init__(self, core: Any, bell: Any) -> None:
        self.loop = core.QEventLoop()
        self.timer = core.QTimer()
        self.timer.setSingleShot(True)
        self.timer.setTimerType(core.Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self.loop.quit)
        bell.connect(self.loop.quit)


class QtPump:
    """Runs the events of one QCoreApplication."""

    def __init__(self, core: Any, application: Any) -> None:
        self.bell = gui.Bell()
        self._core = core
        self.application = weakref.ref(application)
        self._send = core.QCoreApplication.sendPostedEvents
        self._find = core.QCoreApplication.instance
        flags = core.QEventLoop.ProcessEventsFlag
        self._flags = flags.AllEvents | flags.WaitForMoreEvents
        self._levels: list[_Level] = []  # those that no wait uses
        self._waiters: list[gui.GuiWaiter] = []  # the innermost comes last
        self._looked_at = -math.inf
        self._notifier = core.QSocketNotifier(self.bell.read_end.fileno(), core.QSocketNotifier.Type.Read)
        self._emptier = core.QTimer()
        self._emptier.setSingleShot(True)
        self._emptier.setInterval(0)
        self._emptier.timeout.connect(functools.partial(self.bell.read_end.read, gui.ALL))
        # Some public signal without arguments: PyQt6 would connect the notifier's, which has two, to start(int).
        self._rings = core.QBuffer()
        self._notifier.activated.connect(self._rings.readyRead)
        self._rings.readyRead.connect(self._emptier.start)

    def run(self, waiter: gui.GuiWaiter, timeout: float | None) -> bool:
        """Run events until the waiter is notified."""
        deadline = None if timeout is None else monotonic() + timeout
        interrupts = gui.Interrupts(self.bell)
        at_prompt = prompt.find()
        level: _Level | None = None
        outer = self._waiters
        try:
            self._waiters = [*outer, waiter]
            interrupts.begin()
            if at_prompt is not None:
                at_prompt.silence()
            level = self._levels.pop() if self._levels else _Level(self._core, self._rings.readyRead)
            return self._wait(level, waiter, deadline, interrupts)
        finally:
            try:
                self._waiters = outer
                if level is not None:
                    # Its timer may go off later, and end a turn of nobody's or of another wait's: that costs less here.
                    self._levels.append(level)
                if at_prompt is not None:
                    at_prompt.restore()
                interrupts.end()
            finally:
                self._waiters = outer
                interrupts.end()  # should the handler of another signal have raised before
                # This wait has emptied the bell, maybe before the notifier saw that it rang for an outer one.
                if any(each.notified for each in outer):
                    self.bell.ring()

    def _wait(self, level: _Level, waiter: gui.GuiWaiter, deadline: float | None, interrupts: gui.Interrupts) -> bool:
        windows: _Windows | None = None
        now = monotonic()
        look_at = now if now - self._looked_at > _LOOK else now + _LOOK
        was_quit: bool | None = None  # None: not known, as no loop of ours has run yet
        # That of the wait before would empty the bell as this one is rung, maybe before the notifier has seen it.
        self._emptier.stop()
        try:
            while True:
                interrupts.hear()
                if waiter.notified:
                    return True
                now = monotonic()
                if deadline is not None and now >= deadline:
                    return False
                if self._find() is None:
                    self.bell.listen(gui.left(deadline))
                    continue
                if windows is None and now >= look_at:
                    windows = _Windows(self._core, level.loop.quit)
                    self._looked_at = now
                elif windows is not None and windows.are_closed() and not waiter.was_told:
                    raise _ended(waiter)
                until = math.inf if deadline is None else deadline
                if windows is None:
                    until = min(until, look_at)
                if until == math.inf:
                    level.timer.stop()
                else:
                    level.timer.start(min(math.ceil((until - now) * 1000), _LONGEST))
                if was_quit:
                    self._process_events(level)
                    continue
                # A loop forgets what is posted of this as it begins, so that a window closed just before, or between
                # two turns of ours, would never end the program.
                self._send(None, _QUIT)
                ended = level.loop.exec() == -1  # it does not run at all: the application has been told to quit
                if waiter.notified and interrupts.is_quiet:
                    return True  # and leave the bell to be emptied by the next wait, or by its timer
                if ended and was_quit is False and not waiter.was_told:
                    raise _ended(waiter)
                # Told before this wait, it ends when the user's code returns to it; until then the call goes on.
                was_quit = ended
                self._emptier.stop()
        finally:
            if windows is not None:
                windows.forget()

    def _process_events(self, level: _Level) -> None:
        """Run one turn where no loop would run."""
        level.loop.processEvents(self._flags)
        self._emptier.stop()
        if self._core.QThread.currentThread().loopLevel() == 0:  # else a slot of that loop may still use them
            self._send(None, self._core.QEvent.Type.DeferredDelete.value)


class _Windows:
    """The windows that are open, for a program that does not run ``exec()``, where closing them quits nothing.

    Only a window that is closed counts, not one that is hidden: it has given its system window back.
    """

    def __init__(self, core: Any, wake: Any) -> None:
        self._core = core
        self._open: list[Any] = []
        self._watched: list[Any] = []
        self._wake = wake
        self._look()

    def _look(self) -> None:
        """Watch the windows that are open now."""
        core = self._core
        widgets = sys.modules.get(core.__name__.replace("QtCore", "QtWidgets"))
        if widgets is None or not isinstance(core.QCoreApplication.instance(), widgets.QApplication):
            return
        self._created = core.Qt.WidgetAttribute.WA_WState_Created
        if not widgets.QApplication.quitOnLastWindowClosed():
            return
        counts = core.Qt.WidgetAttribute.WA_QuitOnClose
        for widget in widgets.QApplication.topLevelWidgets():
            window = widget.windowHandle()
            if window is not None and widget.isVisible() and widget.testAttribute(counts):
                self._open.append(widget)
                window.visibleChanged.connect(self._wake)
                self._watched.append(window)

    def forget(self) -> None:
        """Watch them no more."""
        for window in self._watched:
            try:
                window.visibleChanged.disconnect(self._wake)
            except (RuntimeError, TypeError):  # Qt has deleted it
                pass

    def are_closed(self) -> bool:
        """Return whether there were windows and all of them are closed."""
        if not self._open:
            return False
        self._open = [widget for widget in self._open if self._is_open(widget)]
        if not self._open:  # but another may have been opened meanwhile
            self._look()
        return not self._open

    def _is_open(self, widget: Any) -> bool:
        try:
            return bool(widget.testAttribute(self._created))
        except RuntimeError:  # Qt has deleted it
            return False


def _ended(waiter: gui.GuiWaiter) -> BridgeError:
    waiter.was_told = True
    return BridgeError(
        "the last window was closed, or the application was told to quit, while block_on() waited in Qt's thread; its "
        "call was cancelled, or if it was a Future's result() the work goes on. To let calls go on without a window "
        "write app.setQuitOnLastWindowClosed(False)"
    )


class QtStrategy:
    """Runs Qt's events while it waits. Serves the main thread of a program that has made its application object."""

    name = "qt"

    def __init__(self) -> None:
        self._pump: QtPump | None = None
        gui.watch_forks(lambda: self.application()[1])

    def unavailable(self) -> str | None:
        """Return a reason off the main thread, and where there is no application object."""
        elsewhere = gui.why_not_here()
        if elsewhere is not None:
            return elsewhere
        core, application = self.application()
        if core is None:
            return "neither PySide6 nor PyQt6 is imported; import one and make its QApplication"
        if application is None:
            return f"{core.__name__.partition('.')[0]} has no application object; make its QApplication([]) first"
        if gui.belongs_to_parent(application):
            return "the application object belongs to the process that this one was forked from"
        if self._pump_of(core, application) is None:
            return "the application object lives in another thread; make it in the main thread"
        return None

    def waiter(self) -> gui.GuiWaiter:
        """Return a waiter that runs Qt's events."""
        core, application = self.application()
        pump = None if application is None else self._pump_of(core, application)
        if pump is None:
            raise RuntimeError(f"strategy {self.name!r} cannot be used here: {self.unavailable()}")
        return gui.GuiWaiter(pump)

    def application(self) -> tuple[Any, Any]:
        """Return the QtCore and the application object that there are, those whose loop runs if there are two."""
        core = application = None
        for name in BINDINGS:
            module: Any = sys.modules.get(name)
            # While another thread is importing it, it is there in part.
            cls = getattr(module, "QCoreApplication", None)
            if cls is None:
                continue
            found = cls.instance()
            if core is None or (found is not None and (application is None or self.is_running(module))):
                core, application = module, found
        return core, application

    def is_running(self, core: Any) -> bool:
        """Return whether a loop of Qt's runs in this thread."""
        running: bool = core.QThread.currentThread().loopLevel() > 0
        return running

    def _pump_of(self, core: Any, application: Any) -> QtPump | None:
        pump = self._pump
        if pump is None or pump.application() is not application:
            if application.thread() != core.QThread.currentThread():
                return None
            pump = self._pump = QtPump(core, application)
        return pump
