"""Run Qt's events while the main thread waits, with PySide6 or PyQt6.

Each wait runs a ``QEventLoop`` of its own, nested in the loops that run already. So Qt's rules hold: objects that are
given to ``deleteLater()`` in a nested loop are deleted there, and others are not; ``quit()`` ends the loop. The thread
sleeps in the system until an event, the bell or the deadline wakes it.

No Python code runs between the bell and the end of the loop. A signal handler would run in that code, and its exception
would be dropped, or end the process in PyQt6. So Qt's own slots are connected: the notifier to the loop's ``quit`` and,
by way of a signal without arguments, to a timer. The timer empties the bell. That is needed inside a loop that other
code runs inside ours, such as a dialog's, where the bell would wake the thread again and again. The timer's slot is a
function written in C.

Rejected: ``processEvents(WaitForMoreEvents)``, which is as fast (see docs/how-to/gui.md) but does not see
``quit()`` and deletes nothing; ``wakeUp()`` on the event dispatcher, which another thread may call as the dispatcher
is destroyed.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from time import monotonic
from typing import Any

from ..._errors import BridgeError
from ..._threads.interrupts import Undo
from .. import gui
from ..toolkits import BINDINGS
from . import prompt

_QUIT = 20  # QEvent.Type.Quit, as the int that sendPostedEvents takes
# Seconds. A wait lists the open windows as it begins. If they were listed this short a time ago, it lists them only
# after it has taken this long itself. Listing costs as much as a wake-up.
_LIST_EVERY = 0.02
_LONGEST = 1_000_000_000  # milliseconds; within the range of a QTimer


class _NestedLoop:
    """The nested loop of one wait, and the timer that ends it. Later waits reuse them."""

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
        self._free_loops: list[_NestedLoop] = []  # free for the next waits
        self._waiters: list[gui.GuiWaiter] = []  # the innermost comes last
        self._listed_at = -math.inf
        self._notifier = core.QSocketNotifier(self.bell.read_end.fileno(), core.QSocketNotifier.Type.Read)
        self._emptier = core.QTimer()
        self._emptier.setSingleShot(True)
        self._emptier.setInterval(0)
        self._emptier.timeout.connect(functools.partial(self.bell.read_end.read, gui.ALL))
        # Any public signal without arguments will do. PyQt6 would connect the notifier's, which has two, to start(int).
        self._relay = core.QBuffer()
        self._notifier.activated.connect(self._relay.readyRead)
        self._relay.readyRead.connect(self._emptier.start)

    def run(self, waiter: gui.GuiWaiter, timeout: float | None) -> bool:
        """Run events until the waiter is notified."""
        deadline = None if timeout is None else monotonic() + timeout
        interrupts = gui.Interrupts(self.bell)
        at_prompt = prompt.find()
        nested: _NestedLoop | None = None
        outer = self._waiters

        def end() -> None:
            nonlocal nested
            self._waiters = outer
            if nested is not None:
                # Its timer may still go off and end the loop of a later wait early, which then runs it again. To stop
                # the timer would cost more.
                used, nested = nested, None
                self._free_loops.append(used)
            if at_prompt is not None:
                at_prompt.restore()
            interrupts.end()  # may raise what a handler raises; then this is called again
            # This wait has emptied the bell, maybe before the notifier saw that it rang for an outer wait.
            if any(each.notified for each in outer):
                self.bell.ring()

        with Undo(end) as undo, undo:
            self._waiters = [*outer, waiter]
            interrupts.begin()
            if at_prompt is not None:
                at_prompt.silence()
            nested = self._free_loops.pop() if self._free_loops else _NestedLoop(self._core, self._relay.readyRead)
            return self._wait(nested, waiter, deadline, interrupts)

    def _wait(
        self, nested: _NestedLoop, waiter: gui.GuiWaiter, deadline: float | None, interrupts: gui.Interrupts
    ) -> bool:
        windows: _Windows | None = None
        now = monotonic()
        list_at = now if now - self._listed_at > _LIST_EVERY else now + _LIST_EVERY
        was_quit: bool | None = None  # None: unknown, until our loop has run once
        # Still due from the wait before, it could empty the bell before the notifier has seen that it rings.
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
                if windows is None and now >= list_at:
                    windows = _Windows(self._core, nested.loop.quit)
                    self._listed_at = now
                elif windows is not None and windows.are_closed() and not waiter.was_told:
                    raise _quit_error(waiter)
                until = math.inf if deadline is None else deadline
                if windows is None:
                    until = min(until, list_at)
                if until == math.inf:
                    nested.timer.stop()
                else:
                    nested.timer.start(min(math.ceil((until - now) * 1000), _LONGEST))
                if was_quit:
                    self._process_events(nested)
                    continue
                # Deliver posted Quit events now. A loop drops them as it begins, and a window that was closed just
                # before would never end the program.
                self._send(None, _QUIT)
                ended = nested.loop.exec() == -1  # the loop refuses to run: the application was told to quit
                if waiter.notified and interrupts.is_quiet:
                    return True  # the next wait, or the timer, empties the bell
                if ended and was_quit is False and not waiter.was_told:
                    raise _quit_error(waiter)
                # An application that was told to quit before this wait ends when the user's code returns.
                was_quit = ended
                self._emptier.stop()
        finally:
            if windows is not None:
                windows.forget()

    def _process_events(self, nested: _NestedLoop) -> None:
        """Process events once, in an application that runs no loop any more as it was told to quit."""
        nested.loop.processEvents(self._flags)
        self._emptier.stop()
        if self._core.QThread.currentThread().loopLevel() == 0:  # else a slot of an outer loop may still use them
            self._send(None, self._core.QEvent.Type.DeferredDelete.value)


class _Windows:
    """The open windows, for a program that does not run ``exec()``: there, closing the last window quits nothing.

    A window counts as closed when it has given its system window back. A hidden window does not count as closed.
    """

    def __init__(self, core: Any, wake: Any) -> None:
        self._core = core
        self._open: list[Any] = []
        self._watched: list[Any] = []
        self._wake = wake
        self._list_windows()

    def _list_windows(self) -> None:
        """List the windows that are open now, and watch them."""
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
        """Stop watching the windows."""
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
        if not self._open:  # another may have been opened meanwhile
            self._list_windows()
        return not self._open

    def _is_open(self, widget: Any) -> bool:
        try:
            return bool(widget.testAttribute(self._created))
        except RuntimeError:  # Qt has deleted it
            return False


def _quit_error(waiter: gui.GuiWaiter) -> BridgeError:
    return gui.ended_error(
        waiter,
        "the last window was closed, or the application was told to quit, while block_on() waited in Qt's thread",
        "To let calls go on without a window write app.setQuitOnLastWindowClosed(False)",
    )


class QtStrategy(gui.GuiStrategy):
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

    def find_pump(self) -> QtPump | None:
        """Return what runs the events of the application object; None if this thread has none."""
        core, application = self.application()
        return None if application is None else self._pump_of(core, application)

    def application(self) -> tuple[Any, Any]:
        """Return QtCore and its application object. If two bindings have one, prefer the binding whose loop runs."""
        core = application = None
        for name in BINDINGS:
            module: Any = sys.modules.get(name)
            # While another thread imports it, the module may be incomplete.
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
