"""Wait in one greenlet while others of the same thread go on: a hub a thread resumes the one whose call has ended.

::

    def fetch(url):
        pages.append(block_on(treq.get(url), strategy="greenlet"))

    for url in urls:
        greenlet(fetch).switch()  # returns when fetch blocks
    block_on(all_fetched(), strategy="greenlet")  # resumes the others meanwhile

Control goes as follows.

- A greenlet that blocks gives control to its parent, whose ``switch()`` returns ``()``. If the parent is blocked
  itself, the nearest ancestor that is not gets it; in the end that is the thread's main greenlet.
- The main greenlet, when it blocks, runs the hub: it resumes the greenlets whose calls have ended or timed out, in the
  order in which they did, until its own turn comes. A greenlet that the hub resumed gives control back to the hub when
  it blocks again.
- Between two waits of the main greenlet nobody is resumed, and no completion is lost: its next wait resumes them, or
  it switches to a greenlet itself, which then sees that its call has ended.
- A greenlet that somebody switches to before its call has ended gives control to its parent again. An exception that
  is thrown into it (``throw()``, ``kill()``) ends its wait.
- An exception that ends a greenlet is raised in its parent, as always; if the parent is blocked, it ends that wait.
  Ctrl-C while all are blocked ends the main greenlet's wait, and the others go on waiting.
- When a thread ends, GreenletExit is raised in those of its greenlets that are still blocked, and again if they block
  once more; nobody waits for the cleanup of their work.

This is for greenlets that you start yourself. Those of a library (gevent, SQLAlchemy, an event loop that runs in this
thread) have parents that expect something else than to get control in the middle of a ``switch()``.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from greenlet import getcurrent, greenlet

from .._threads.seconds import LOOK_UP

# How often a greenlet that blocks again and again as its thread ends gets GreenletExit.
_ROUNDS = 10


class GreenletWaiter:
    """Blocks the greenlet that calls ``wait()``, and no other one of its thread."""

    __slots__ = ("_hub", "deadline", "notified", "owner", "stack")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.owner = getcurrent()  # for those who look: the greenlet that made this, and is to wait
        self.notified = False
        self.stack: greenlet | None = None  # the one that is blocked here, never the main greenlet
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
        hub.due.append(self)  # first: who sees the flag may rely on that
        self.notified = True
        hub.wake()


class Hub:
    """What the waiters of one thread share. Every method but ``wake`` is called in that thread.

    A signal handler may run between any two lines, block there, and so run the hub inside the hub; what it raises
    leaves the hub at that line. Therefore nothing is taken off a list before it has been dealt with, and no decision
    rests on what was read before a call.
    """

    def __init__(self) -> None:
        self.main = getcurrent()
        while self.main.parent is not None:
            self.main = self.main.parent
        self.due: deque[GreenletWaiter] = deque()  # notified; some were given up, or have seen it for themselves
        self._parked: dict[greenlet, GreenletWaiter] = {}  # for each blocked greenlet its innermost wait
        self._resumed: greenlet | None = None  # the one that the hub has switched to
        self._is_running = False
        # Not before the smaller of these a parked waiter times out: the earliest deadline that the last round found,
        # and the earliest of those that came after it.
        self._found = math.inf
        self._fresh = math.inf
        # Locked until there is something new to look at. An alarm too many costs one look.
        self._alarm = threading.Lock()
        self._alarm.acquire()

    @property
    def is_empty(self) -> bool:
        """Whether no greenlet is blocked but, maybe, the main one."""
        return not self._parked

    def wake(self) -> None:
        """Let the hub look at what is due. Called from any thread."""
        try:
            self._alarm.release()
        except RuntimeError:  # it has been woken already
            pass

    def run(self, waiter: GreenletWaiter) -> bool:
        """Resume the others until the main greenlet's own waiter is due. Called in the main greenlet."""
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
                elif waiter.notified:  # an earlier wait or an inner hub has taken it off the list
                    return True
                now = monotonic()
                if now >= waiter.deadline:
                    return waiter.notified
                earliest = min(self._found, self._fresh)
                if now >= earliest:
                    self._time_out(now)
                elif not due:
                    in_main = threading.get_ident() == threading.main_thread().ident
                    longest = LOOK_UP if in_main else threading.TIMEOUT_MAX
                    self._alarm.acquire(True, min(waiter.deadline - now, earliest - now, longest))
        finally:
            self._is_running = outer
            if outer:
                self.wake()  # this may have heard the outer hub's alarm

    def park(self, waiter: GreenletWaiter, stack: greenlet) -> bool:
        """Give control away until the waiter is due. Called in any greenlet but the main one."""
        if waiter.notified:
            self._forget(waiter)
            return True
        parked = self._parked
        outer = parked.get(stack)  # this is a signal handler that runs inside that wait
        try:
            self._enter(waiter, stack)
            while not waiter.notified:
                if waiter.deadline <= monotonic():
                    return False
                self._next(stack).switch()
            self._forget(waiter)
            return True
        finally:
            waiter.stack = None
            if outer is None:
                parked.pop(stack, None)
            else:
                self._enter(outer, stack)
                if outer.notified:  # the hub has passed it by
                    self.due.append(outer)

    def end(self) -> None:
        """Raise GreenletExit in the blocked greenlets, and again in those that block again. Called at the thread's end.

        What else they raise as they end goes to ``threading.excepthook``. One that always goes on is left in the end.
        """
        for _ in range(_ROUNDS):
            for stack in list(self._parked):
                try:
                    stack.throw()
                except BaseException as error:
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))

    def _enter(self, waiter: GreenletWaiter, stack: greenlet) -> None:
        waiter.stack = stack
        self._parked[stack] = waiter
        if waiter.deadline < self._fresh:
            self._fresh = waiter.deadline

    def _next(self, stack: greenlet) -> greenlet:
        """Return who goes on while this greenlet is blocked."""
        if stack is self._resumed:
            return self.main
        parent = stack.parent
        while parent in self._parked:
            parent = parent.parent
        return self.main if parent is None else parent

    def _resume(self, waiter: GreenletWaiter) -> None:
        """Switch to the greenlet that is blocked in this wait, if there is one still."""
        stack = waiter.stack
        if stack is None:
            return
        self._resumed = stack
        try:
            stack.switch()
        finally:
            self._resumed = None

    def _time_out(self, now: float) -> None:
        """Resume the greenlets whose time is up, and find the next deadline."""
        self._found = -math.inf  # so that it is done again, should an exception leave it undone
        self._fresh = math.inf
        for waiter in list(self._parked.values()):
            if waiter.deadline <= now:
                self._resume(waiter)
        self._found = min([waiter.deadline for waiter in list(self._parked.values())], default=math.inf)

    def _forget(self, waiter: GreenletWaiter) -> None:
        try:
            self.due.remove(waiter)
        except ValueError:
            pass


class _End:
    """Ends a thread's hub when it is dropped, which is when the thread's local data are."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # The interpreter's end and a fork drop it in another thread, or where no code should run any more.
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
        self._end = _End(self.hub)


# By ident, those of threads that are ending. A greenlet that blocks again then must not ask for the thread's local
# data: they are gone, and new ones would have a hub that nobody ends, and would never go.
_ending: dict[int, Hub] = {}
_local = _Local()


class GreenletStrategy:
    """Waits in a greenlet, so that others of the same thread can run and wait at the same time.

    Called off the loop's thread: there the hub serves. On the loop's own thread the loop switches stacks itself.
    """

    name = "greenlet"
    switches_stacks = True
    runs_hub = True

    def unavailable(self) -> str | None:
        """Return a reason in a greenlet of gevent's, which our hub could never resume."""
        gevent = sys.modules.get("gevent.hub")
        if gevent is not None:
            stack: greenlet | None = getcurrent()
            while stack is not None:
                if isinstance(stack, gevent.Hub):
                    return "this greenlet is gevent's, whose hub gets control when it blocks and never gives it to ours"
                stack = stack.parent
        return None

    def waiter(self) -> GreenletWaiter:
        """Return a waiter on the hub of this thread."""
        hub = _ending.get(threading.get_ident()) if _ending else None
        return GreenletWaiter(hub or _local.hub)
