"""Wait in one greenlet while others of the same thread run: each thread has a hub, which resumes them.

::

    def fetch(url):
        pages.append(block_on(treq.get(url), strategy="greenlet"))

    for url in urls:
        greenlet(fetch).switch()  # returns when fetch blocks
    block_on(all_fetched(), strategy="greenlet")  # resumes the others meanwhile

The rules:

- A greenlet that blocks switches to its parent, whose ``switch()`` returns ``()``. If the parent is blocked too, it
  switches to the nearest ancestor that is not blocked, at last the thread's main greenlet.
- The main greenlet, when it blocks, runs the hub. The hub resumes the greenlets whose calls have ended or timed out, in
  the order of these events, until the main greenlet's own call has ended. A greenlet that the hub resumed switches back
  to the hub when it blocks again.
- Between two waits of the main greenlet no greenlet is resumed, and no completion is lost. The next wait resumes them.
  Or the main greenlet switches to one itself, which then finds that its call has ended.
- A greenlet that is switched to before its call has ended switches to its parent again. An exception that is thrown
  into it (``throw()``, ``kill()``) ends its wait.
- An exception that ends a greenlet is raised in its parent, as always. If the parent is blocked, its wait ends. Ctrl-C
  while all greenlets are blocked ends the main greenlet's wait. The others wait on.
- When a thread ends, GreenletExit is raised in each greenlet that is still blocked, and again if it blocks once more.
  The thread does not wait for the cleanup of their work.

Use it for greenlets that you start yourself. The greenlets of a library (gevent, SQLAlchemy, an event loop in this
thread) have parents that do not expect control in the middle of a ``switch()``.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from greenlet import getcurrent, greenlet

from .._threads.lock_waiter import Alarm
from .._threads.signals import longest_sleep
from .gevent import find_hub

# How often GreenletExit is raised in a greenlet that blocks again and again as its thread ends.
_ROUNDS = 10


class GreenletWaiter:
    """Blocks the greenlet that calls ``wait()``, and no other greenlet of its thread."""

    __slots__ = ("_hub", "deadline", "notified", "owner", "stack")
    sleeps = False

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.owner = getcurrent()  # the greenlet that made this and will wait, for diagnostics
        self.notified = False
        self.stack: greenlet | None = None  # the greenlet blocked in wait(), never the main one
        self.deadline = math.inf

    def wait(self, timeout: float | None) -> bool:
        """Let the thread's other greenlets run. Called in any greenlet of the thread that made the waiter."""
        self.deadline = math.inf if timeout is None else monotonic() + timeout
        hub = self._hub
        stack = getcurrent()
        return hub.run(self) if stack is hub.main else hub.park(self, stack)

    def notify(self) -> None:
        """Put this on the hub's list and wake the hub. Called once, from any thread."""
        hub = self._hub
        hub.due.append(self)  # first: code that sees the flag expects it on the list
        self.notified = True
        hub.wake()


class Hub:
    """The hub of one thread, which its waiters share. Every method but ``wake`` is called in that thread.

    A signal handler may run between any two lines. It may block there, and so run the hub inside the hub. Or it raises,
    and the hub is left at that line. So an entry is taken off a list only after it was handled, and no decision rests
    on a value that was read before a call.
    """

    def __init__(self) -> None:
        self.main = getcurrent()
        while self.main.parent is not None:
            self.main = self.main.parent
        # Notified waiters. Some are abandoned, or have seen their flag already.
        self.due: deque[GreenletWaiter] = deque()
        self._parked: dict[greenlet, GreenletWaiter] = {}  # the innermost wait of each blocked greenlet
        self._resumed: greenlet | None = None  # the greenlet that the hub has switched to
        self._is_running = False
        # No parked waiter times out before the smaller of these two: the earliest deadline at the last _time_out(), and
        # the earliest deadline of the waits that began after it.
        self._earliest_known = math.inf
        self._earliest_new = math.inf
        # Wakes the hub to check what is due. A superfluous ring costs one pass of its loop.
        self._alarm = Alarm()
        self.wake = self._alarm.ring

    @property
    def is_empty(self) -> bool:
        """Whether no greenlet is blocked, other than the main one."""
        return not self._parked

    def run(self, waiter: GreenletWaiter) -> bool:
        """Resume other greenlets until the waiter is due. Return False on time-out. Called in the main greenlet."""
        due = self.due
        outer = self._is_running
        try:
            self._is_running = True
            while True:
                if due:
                    first = due[0]
                    if first is not waiter:
                        self._resume(first)
                    if due and due[0] is first:
                        due.remove(first)
                    if first is waiter:
                        return True
                elif waiter.notified:  # an earlier wait or an inner run() has taken it off the list
                    return True
                now = monotonic()
                if now >= waiter.deadline:
                    return waiter.notified
                earliest = min(self._earliest_known, self._earliest_new)
                if now >= earliest:
                    self._time_out(now)
                elif not due:
                    self._alarm.wait(min(waiter.deadline - now, earliest - now, longest_sleep()))
        finally:
            self._is_running = outer
            if outer:
                self.wake()  # this run() may have consumed the outer one's alarm

    def park(self, waiter: GreenletWaiter, stack: greenlet) -> bool:
        """Switch away until the waiter is due. Return False on time-out. Called in any greenlet but the main one."""
        if waiter.notified:
            self._remove_due(waiter)
            return True
        parked = self._parked
        outer = parked.get(stack)  # set if this is a signal handler inside another wait()
        try:
            self._register(waiter, stack)
            while not waiter.notified:
                if waiter.deadline <= monotonic():
                    return False
                self._switch_target(stack).switch()
            self._remove_due(waiter)
            return True
        finally:
            waiter.stack = None
            if outer is None:
                parked.pop(stack, None)
            else:
                self._register(outer, stack)
                if outer.notified:  # the hub may have skipped it meanwhile
                    self.due.append(outer)

    def end(self) -> None:
        """Raise GreenletExit in each blocked greenlet, and again if it blocks again. Called at the thread's end.

        Other exceptions of these greenlets go to ``threading.excepthook``. A greenlet that always blocks again is
        abandoned after some rounds.
        """
        for _ in range(_ROUNDS):
            for stack in list(self._parked):
                try:
                    stack.throw()
                except BaseException as error:
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))

    def _register(self, waiter: GreenletWaiter, stack: greenlet) -> None:
        waiter.stack = stack
        self._parked[stack] = waiter
        if waiter.deadline < self._earliest_new:
            self._earliest_new = waiter.deadline

    def _switch_target(self, stack: greenlet) -> greenlet:
        """Return the greenlet to switch to while this one is blocked."""
        if stack is self._resumed:
            return self.main
        parent = stack.parent
        while parent in self._parked:
            parent = parent.parent
        return self.main if parent is None else parent

    def _resume(self, waiter: GreenletWaiter) -> None:
        """Switch to the greenlet that is blocked in this wait, if it still is."""
        stack = waiter.stack
        if stack is None:
            return
        self._resumed = stack
        try:
            stack.switch()
        finally:
            self._resumed = None

    def _time_out(self, now: float) -> None:
        """Resume the greenlets whose deadline has passed, and find the next deadline."""
        self._earliest_known = -math.inf  # so that the hub calls this again, should an exception interrupt it
        self._earliest_new = math.inf
        for waiter in list(self._parked.values()):
            if waiter.deadline <= now:
                self._resume(waiter)
        self._earliest_known = min([waiter.deadline for waiter in list(self._parked.values())], default=math.inf)

    def _remove_due(self, waiter: GreenletWaiter) -> None:
        try:
            self.due.remove(waiter)
        except ValueError:
            pass


class _HubEnder:
    """Ends a thread's hub when it is deleted, together with the thread's local data."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the interpreter's exit and after a fork this runs in another thread, or where no code should run any more.
        if self._hub.is_empty or is_finalizing() or getcurrent() is not self._hub.main:
            return
        ident = threading.get_ident()
        _ending[ident] = self._hub
        try:
            self._hub.end()
        finally:
            del _ending[ident]


class _Local(threading.local):
    """The hub of each thread, made when the thread first asks for it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self._ender = _HubEnder(self.hub)


# The hubs of threads that are ending, by ident. A greenlet that blocks again then must not use the thread's local data.
# These are gone, and new ones would have a new hub, which would never be ended.
_ending: dict[int, Hub] = {}
_local = _Local()


class GreenletStrategy:
    """Waits in a greenlet, so that others of the same thread can run and wait at the same time.

    The hub serves threads other than the loop's. On the loop's own thread the loop itself switches stacks.
    """

    name = "greenlet"
    switches_stacks = True
    runs_hub = True

    def unavailable(self) -> str | None:
        """Return a reason in a greenlet of gevent's, which our hub could never resume."""
        if find_hub(getcurrent()) is not None:
            return "this greenlet is gevent's, whose hub gets control when it blocks and never gives it to ours"
        return None

    def waiter(self) -> GreenletWaiter:
        """Return a waiter on the hub of this thread."""
        hub = _ending.get(threading.get_ident()) if _ending else None
        return GreenletWaiter(hub or _local.hub)
