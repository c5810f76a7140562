"""Run Tk's events while the main thread waits.

A wait calls ``dooneevent(0)``, which sleeps in Tcl until there is an event. Tcl watches the bell, which is a file. Its
handler, which empties the bell, is a function written in C. So no Python code runs there, and no signal handler, whose
exception Tcl would swallow.

Rejected: ``mainloop()``, which is as fast but drops a ``quit()`` that came just before it. With ``dooneevent()`` a
``quit()`` while a call is blocked takes effect when the call has ended. Also rejected: ``event_generate`` from the
other thread, which takes five times as long and fails while no main loop runs.

tkinter prints the exceptions of callbacks, except SystemExit, which ends ``mainloop()``. ``dooneevent()`` does not
check for it, and Tcl would show an error dialog without a text. So during a wait we set our own handler for Tcl's
background errors, and a SystemExit ends the wait. ``mainloop(n)`` raises the exception that tkinter has stored, and
runs no event if there are fewer than n windows.
"""

from __future__ import annotations

import math
import operator
import sys
import weakref
from io import FileIO
from time import monotonic
from typing import Any

from ..._errors import BridgeError
from ..._threads.interrupts import Undo
from .. import gui
from . import prompt

_READABLE = 2  # _tkinter.READABLE
_WINDOWS = 2**31 - 1  # more than can be open
_LONGEST = 1_000_000_000  # milliseconds
_HANDLER = "bridge_background_error"


class TkPump:
    """Runs the events of one Tcl interpreter's thread."""

    def __init__(self, root: Any) -> None:
        self.bell = gui.Bell()
        self.root = weakref.ref(root)
        self._tk = root.tk
        self._tk.deletefilehandler(self.bell.read_end)  # raises in a thread other than the interpreter's
        self._is_watched = False  # whether Tcl watches the bell
        self._system_exit: BaseException | None = None
        self._handler_before: Any = ()
        self._tk.createcommand(_HANDLER, self._handle_background_error)

    def run(self, waiter: gui.GuiWaiter, timeout: float | None) -> bool:
        """Run events until the waiter is notified."""
        deadline = None if timeout is None else monotonic() + timeout
        interrupts = gui.Interrupts(self.bell)
        at_prompt = prompt.find()
        is_outermost = not self._is_watched

        def end() -> None:
            if is_outermost:
                self._unwatch()
            if at_prompt is not None:
                at_prompt.restore()
            interrupts.end()

        with Undo(end) as undo, undo:
            interrupts.begin()
            if at_prompt is not None:
                at_prompt.silence()
            if is_outermost:
                self._watch(interrupts)
            return self._wait(waiter, deadline, interrupts)

    def _wait(self, waiter: gui.GuiWaiter, deadline: float | None, interrupts: gui.Interrupts) -> bool:
        tk = self._tk
        timer: Any = None
        try:
            while True:
                interrupts.hear()
                if self._system_exit is not None:
                    error, self._system_exit = self._system_exit, None
                    raise error
                if waiter.notified:
                    return True
                if deadline is not None:
                    now = monotonic()
                    if now >= deadline:
                        return False
                    if timer is None:
                        # int() does nothing. dooneevent() returns after any event.
                        timer = tk.createtimerhandler(min(math.ceil((deadline - now) * 1000), _LONGEST), int)
                if not waiter.was_told and not self._root_exists():
                    raise _destroyed_error(waiter)
                tk.dooneevent(0)
                if timer is not None and deadline is not None and monotonic() >= deadline:
                    timer = None  # it has gone off, maybe a little early
        finally:
            if timer is not None:
                timer.deletetimerhandler()

    def _watch(self, interrupts: gui.Interrupts) -> None:
        tk = self._tk
        # Called with the bell's read end and _READABLE, which is 2: FileIO.read takes two bytes off. If the numbers of
        # signals have to be forwarded, the handler leaves the bytes to the wait. Tcl then calls it again and again
        # until the wait reads them.
        handler: Any = operator.is_ if interrupts.forwards else FileIO.read
        self._handler_before = tk.splitlist(tk.call("interp", "bgerror", ""))
        self._is_watched = True
        tk.createfilehandler(self.bell.read_end, _READABLE, handler)
        tk.call("interp", "bgerror", "", _HANDLER)

    def _unwatch(self) -> None:
        tk = self._tk
        if self._is_watched:
            tk.deletefilehandler(self.bell.read_end)
            tk.call("interp", "bgerror", "", self._handler_before)
            self._is_watched = False

    def _root_exists(self) -> bool:
        tcl_error: Any = sys.modules["_tkinter"].TclError
        try:
            return bool(self._tk.getint(self._tk.call("winfo", "exists", ".")))
        except tcl_error:  # "application has been destroyed"
            return False

    def _handle_background_error(self, message: Any, options: Any) -> None:
        """Handle a background error: a SystemExit of a callback, or an error of Tcl's own."""
        try:
            self._tk.mainloop(_WINDOWS)
        except BaseException as error:
            self._system_exit = error
        else:
            self._tk.call(*self._handler_before, message, options)
        finally:
            self._tk.willdispatch()  # mainloop() has cleared the flag that events are processed


def _destroyed_error(waiter: gui.GuiWaiter) -> BridgeError:
    return gui.ended_error(
        waiter,
        "the root window of Tk was destroyed while block_on() waited in its thread",
        "Disable what destroys it while a call is open, or hide it by withdraw() until the call has ended",
    )


class TkStrategy(gui.GuiStrategy):
    """Runs Tk's events while it waits. Serves the main thread of a program that has made its root window there."""

    name = "tk"

    def __init__(self) -> None:
        self._pump: TkPump | None = None
        gui.watch_forks(self.root)

    def unavailable(self) -> str | None:
        """Return a reason off the main thread, and where there is no root window."""
        elsewhere = gui.why_not_here()
        if elsewhere is not None:
            return elsewhere
        if sys.modules.get("tkinter") is None:
            return "tkinter is not imported; import it and make its root window, Tk()"
        root = self.root()
        if root is None:
            return "tkinter has no default root window; make one, Tk(), without NoDefaultRoot()"
        if gui.belongs_to_parent(root):
            return "the root window belongs to the process that this one was forked from"
        if not hasattr(root.tk, "createfilehandler"):
            return "this system's Tcl watches no files, so that nothing could wake it"
        if self._pump_of(root) is None:
            return "the root window was made in another thread; make it in the main thread"
        return None

    def find_pump(self) -> TkPump | None:
        """Return what runs the events of the root window; None if this thread has none."""
        root = self.root()
        return None if root is None else self._pump_of(root)

    def root(self) -> Any:
        """Return tkinter's default root window, None if there is none."""
        return getattr(sys.modules.get("tkinter"), "_default_root", None)

    def _pump_of(self, root: Any) -> TkPump | None:
        pump = self._pump
        if pump is None or pump.root() is not root:
            try:
                pump = self._pump = TkPump(root)
            except RuntimeError:
                return None
        return pump
