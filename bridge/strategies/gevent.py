"""Wait in one greenlet of gevent's, while gevent's hub runs the others.

The loop's thread rings an asynchronous watcher of the hub's loop, the one object of gevent's that any thread may touch.
There is one watcher for each hub, so that a notification that comes late, for a wait that was given up, finds it there.
It keeps the hub from reporting a deadlock (LoopExit) for just as long as somebody waits.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections import deque
from typing import Any

from greenlet import getcurrent

from .._threads.native import is_patched
from .._threads.seconds import LOOK_UP
from .lock import LockWaiter


class _Bell:
    """Resumes the greenlets of one hub whose calls have ended.

    A signal that arrives after gevent has looked for signals and before its hub sleeps is handled when the hub wakes.
    So the main thread's hub looks up now and then while somebody waits: a Ctrl-C is late at the worst.
    """

    def __init__(self, hub: Any) -> None:
        self._due: deque[Any] = deque()
        self._waiting: set[object] = set()
        self._watcher = hub.loop.async_(ref=False)
        self._watcher.start(self._resume)
        self._looks_up: Any = hub.loop.timer(LOOK_UP, LOOK_UP, ref=False) if hub.main_hub else None

    def ring(self, waiter: GeventWaiter) -> None:
        """Let the hub resume the greenlet that waits there. Called from any thread."""
        self._due.append(waiter)
        try:
            self._watcher.send()
        except Exception:  # the hub's thread has ended, and nobody waits there any more
            pass

    def begin(self, parked: object) -> None:
        """Keep the hub running. Called in its thread."""
        self._waiting.add(parked)
        self._watcher.ref = True
        if self._looks_up is not None and not self._looks_up.active:
            self._looks_up.start(self._look_up)

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
            due.popleft()  # only now: a Ctrl-C above may have come before the switch, and is raised in another greenlet

    def _look_up(self) -> None:
        self._resume()  # whom a Ctrl-C has left there
        if not self._waiting:
            self._watcher.ref = False  # should a Ctrl-C have cut off end()
            self._looks_up.stop()


class GeventWaiter:
    """Blocks the greenlet that calls ``wait()``, and no other one."""

    __slots__ = ("_bell", "_gevent", "notified", "owner", "parked")

    def __init__(self, gevent: Any, bell: _Bell) -> None:
        self._gevent = gevent
        self._bell = bell
        self.owner = getcurrent()  # for those who look: the greenlet that waits
        self.notified = False
        self.parked: Any = None  # gevent's own Waiter, while the greenlet is switched away

    def wait(self, timeout: float | None) -> bool:
        """Give control to the hub. What is thrown into the greenlet, such as by ``kill()``, ends the wait."""
        if self.notified:
            return True
        hub = self._gevent.get_hub()
        handled = sys.exception()
        timer: Any = None
        outer = self.parked  # this is a signal handler inside that wait
        self.parked = parked = self._gevent.Waiter(hub)
        try:
            self._bell.begin(parked)
            if timeout is not None:
                timer = hub.loop.timer(max(timeout, 0.0))
                timer.start(parked.switch, None)
            # Only now, with the greenlet to be found: a notification before that has left nothing but the flag.
            if not self.notified:
                parked.get()
            return self.notified
        except BaseException as error:
            if error.__context__ is None and error is not handled:
                error.__context__ = handled  # as the interpreter does for what is raised here, and not thrown
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


class GeventStrategy:
    """Waits in a greenlet of gevent's. Serves every thread, each with a hub of its own.

    In the hub itself, where signal handlers and the callbacks of watchers run, it blocks the thread: nobody else could
    go on anyway.
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
        return GeventWaiter(gevent, bell)

    def serves_here(self) -> bool:
        """Return whether this is a place where others of gevent's want to go on: a patched process, or its greenlet."""
        if is_patched():
            return True
        gevent: Any = sys.modules.get("gevent.hub")
        stack = getcurrent().parent
        return gevent is not None and stack is not None and isinstance(stack, gevent.Hub)
