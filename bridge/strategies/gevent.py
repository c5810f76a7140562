"""Wait in one greenlet of gevent's, while gevent's hub runs the others.

The loop's thread triggers an async watcher of the hub's event loop, the only object of gevent's that is thread-safe.
There is one watcher for each hub. It outlives the single wait, so a late notification, of an abandoned wait, is safe.
The watcher is referenced while a greenlet waits: only then it keeps the hub from reporting a deadlock (LoopExit).
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections import deque
from typing import Any, cast

from greenlet import getcurrent, greenlet

from .._threads import signals
from .._threads.lock_waiter import LockWaiter
from .._threads.native import is_patched, patched


class _Bell:
    """Resumes the greenlets of one hub whose calls have ended.

    A signal that arrives after gevent has checked for signals and before its hub sleeps is handled when the hub wakes.
    So a timer wakes the main thread's hub now and then while a greenlet waits. Such a Ctrl-C is late, but not lost.
    """

    def __init__(self, hub: Any) -> None:
        self._due: deque[Any] = deque()
        self._waiting: set[object] = set()
        self._watcher = hub.loop.async_(ref=False)
        self._watcher.start(self._resume)
        self._signal_timer: Any = hub.loop.timer(signals.LOOK_UP, signals.LOOK_UP, ref=False) if hub.main_hub else None

    def ring(self, waiter: GeventWaiter) -> None:
        """Make the hub resume the greenlet of the waiter. Called from any thread."""
        self._due.append(waiter)
        try:
            self._watcher.send()
        except Exception:  # the hub's thread has ended, and its greenlets with it
            pass

    def begin(self, parked: object) -> None:
        """Note that a greenlet waits, and keep the hub running. Called in the hub's thread."""
        self._waiting.add(parked)
        self._watcher.ref = True
        if self._signal_timer is not None and not self._signal_timer.active:
            self._signal_timer.start(self._check_signals)

    def end(self, parked: object) -> None:
        """Undo ``begin()``."""
        self._waiting.discard(parked)
        if not self._waiting:
            self._watcher.ref = False

    def _resume(self) -> None:
        due = self._due
        while due:
            parked = due[0].parked
            if parked is not None:
                parked.switch(None)
            due.popleft()  # only now: a Ctrl-C before the switch is raised in another greenlet, and leaves this one due

    def _check_signals(self) -> None:
        self._resume()  # greenlets that a Ctrl-C in _resume() left due
        if not self._waiting:
            self._watcher.ref = False  # a Ctrl-C may have interrupted end()
            self._signal_timer.stop()


class GeventWaiter:
    """Blocks the greenlet that calls ``wait()``, and no other greenlet."""

    __slots__ = ("_bell", "_gevent", "notified", "owner", "parked")
    sleeps = False

    def __init__(self, gevent: Any, bell: _Bell) -> None:
        self._gevent = gevent
        self._bell = bell
        self.owner = getcurrent()  # the greenlet that waits, for diagnostics
        self.notified = False
        self.parked: Any = None  # gevent's own Waiter, while the greenlet is switched away

    def wait(self, timeout: float | None) -> bool:
        """Switch to the hub. An exception that is thrown into the greenlet, as by ``kill()``, ends the wait."""
        if self.notified:
            return True
        hub = self._gevent.get_hub()
        handled = sys.exception()
        timer: Any = None
        outer = self.parked  # set if this is a signal handler inside another wait()
        self.parked = parked = self._gevent.Waiter(hub)
        try:
            self._bell.begin(parked)
            if timeout is not None:
                timer = hub.loop.timer(max(timeout, 0.0))
                timer.start(parked.switch, None)
            # Check only now: a notification before ``parked`` was set has only set the flag.
            if not self.notified:
                parked.get()
            return self.notified
        except BaseException as error:
            if error.__context__ is None and error is not handled:
                error.__context__ = handled  # as the interpreter does for an exception that is raised, not thrown
            raise
        finally:
            handled = None
            self.parked = outer
            self._bell.end(parked)
            if timer is not None:
                timer.stop()
                timer.close()

    def notify(self) -> None:
        """Ring the hub's bell. Called once, from any thread."""
        self.notified = True
        self._bell.ring(self)


def find_hub(stack: greenlet) -> greenlet | None:
    """Return the hub of gevent's that this greenlet is, or stands under; None if there is none."""
    if "gevent.hub" not in sys.modules:
        return None
    hub: type[greenlet] = cast(Any, sys.modules["gevent.hub"]).Hub
    each: greenlet | None = stack
    while each is not None and not isinstance(each, hub):
        each = each.parent
    return each


class GeventStrategy:
    """Waits in a greenlet of gevent's. Serves every thread, each with a hub of its own.

    In the hub itself, where signal handlers and callbacks of watchers run, it blocks the thread: while the hub waits,
    no greenlet can run anyway.
    """

    name = "gevent"

    def __init__(self) -> None:
        self._bells: weakref.WeakKeyDictionary[Any, _Bell] = weakref.WeakKeyDictionary()

    def unavailable(self) -> str | None:
        """Return a reason where gevent is not imported."""
        return None if "gevent" in sys.modules else "gevent is not imported"

    def waiter(self) -> GeventWaiter | LockWaiter:
        """Return a waiter on the hub of this thread."""
        gevent = importlib.import_module("gevent.hub")
        hub = gevent.get_hub()
        if getcurrent() is hub:
            return LockWaiter()
        bell = self._bells.get(hub)
        if bell is None:
            bell = self._bells[hub] = _Bell(hub)
            backend = patched()
            if backend is not None and hub.main_hub:
                backend.statuses.use(hub)
        return GeventWaiter(gevent, bell)

    def serves_here(self) -> bool:
        """Return whether gevent may have other greenlets to run: in a patched process, or in gevent's greenlet."""
        parent = getcurrent().parent
        return is_patched() or (parent is not None and find_hub(parent) is parent)
