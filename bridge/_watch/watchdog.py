"""The watchdog: one thread that checks, seldom, for calls that have waited for too long.

No timer is set for a call, and no call notifies the watchdog as it begins or ends. The watchdog checks the open calls
of every loop, sleeps until the oldest unreported call would be due, and checks again. A call that begins meanwhile is
due after ``stall_after`` seconds at the earliest, so the watchdog also wakes after the shortest ``stall_after`` of all
loops. If no call of a loop can become due, the watchdog marks the loop as ``unwatched`` and ignores it. The next call
finds the mark and wakes the watchdog.

No call is missed. A caller adds its call and *then* checks the mark; the watchdog sets the mark and *then* checks the
calls again. So either the watchdog sees the call, or the call sees the mark.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable
from math import inf
from time import monotonic
from typing import Any

from .._threads import native
from .._threads.lock_waiter import Alarm

log = logging.getLogger("bridge")


class Watched:
    """A target of the watchdog, with open calls: a run of a loop, or a loop on whose own thread stacks block.

    Code that adds a call checks ``unwatched`` afterwards. If that is set, it calls :meth:`Watchdog.wake`.
    """

    stall_after: float | None = None  # seconds; None: the calls are not looked at
    unwatched = False
    look_every = 1.0  # a fraction of stall_after; less where calls have no start time

    def calls(self) -> Iterable[Any]:
        """Return the open calls; called in any thread. Each has ``started``, of the monotonic clock, and a ``key``."""
        raise NotImplementedError

    def watched(self) -> Iterable[Any]:
        """Return the calls to check: the open calls, and work without a blocked caller, whose ``waits`` is false."""
        return self.calls()


class Watchdog:
    """Reports each call once, when it has waited for the ``stall_after`` seconds of its target.

    ``report`` is called in the watchdog's thread, with the target and its calls that are due. Work without a blocked
    caller is due when ``is_held_up`` says so: a thread that has something else to run stands still for it.
    """

    def __init__(self, report: Callable[[Watched, list[Any]], object]) -> None:
        self.report = report
        self.is_held_up: Callable[[Any], bool] = lambda call: False
        self._targets: set[Watched] = set()
        self.after_fork()

    def after_fork(self) -> None:
        """After a fork: forget the thread, which the child lacks, and the targets, whose calls are the parent's."""
        self._targets.clear()
        self._thread: threading.Thread | None = None
        self._reported: set[Hashable] = set()  # by key, which does not keep the call alive
        self._starting = native.allocate_lock()
        self._alarm = Alarm()  # wakes the watchdog's thread

    @property
    def targets(self) -> list[Watched]:
        """All targets, also those without a ``stall_after``."""
        return list(self._targets)

    def add(self, target: Watched) -> None:
        """Watch the target's calls from now on. The thread starts with the first call."""
        self._targets.add(target)
        target.unwatched = target.stall_after is not None

    def patience_changed(self, target: Watched) -> None:
        """Note that the ``stall_after`` of a target has changed."""
        if target in self._targets:
            self.add(target)

    def remove(self, target: Watched) -> None:
        """Stop watching the target."""
        self._targets.discard(target)
        target.unwatched = False

    def wake(self, target: Watched) -> None:
        """Check now: a call of an unwatched target has begun. Called in any thread, also in a signal handler."""
        target.unwatched = False
        self._alarm.ring()
        if self._thread is None and self._starting.acquire(False):
            try:
                if self._thread is None:  # pyright: ignore[reportUnnecessaryComparison] - other threads start it too
                    # Set before start(), which Ctrl-C may end although the thread runs.
                    self._thread = native.Thread(target=self._run, name="bridge-watchdog", daemon=True)
                    self._thread.start()
            except RuntimeError:  # no new threads, as at the interpreter's exit (from 3.12 on)
                self._thread = None
            finally:
                self._starting.release()

    def _run(self) -> None:
        alarm = self._alarm
        while True:
            pause = self._look()
            alarm.wait(None if pause == inf else min(pause, threading.TIMEOUT_MAX))

    def _look(self) -> float:
        """Report the calls that are due. Return the seconds until another call can be due."""
        reported: set[Hashable] = set()
        pause = inf
        for target in self.targets:
            if target.stall_after is None:
                continue
            calls = list(target.watched())
            reported.update(each.key for each in calls if each.key in self._reported)
            next_due = self._report_due(target, calls, target.stall_after, reported)
            if next_due == inf:
                target.unwatched = True
                next_due = self._report_due(target, list(target.watched()), target.stall_after, reported)
                if next_due == inf:
                    continue
                target.unwatched = False
            pause = min(pause, next_due, target.stall_after * target.look_every)
        self._reported = reported
        return pause

    def _report_due(self, target: Watched, calls: list[Any], stall_after: float, reported: set[Hashable]) -> float:
        now = monotonic()
        next_due = inf
        due: list[Any] = []
        for call in calls:
            if call.key in reported:
                continue
            left = call.started + stall_after - now
            if left > 0:
                next_due = min(next_due, left)
            elif not getattr(call, "waits", True) and not self.is_held_up(call):
                next_due = min(next_due, stall_after)  # it may be held up later
            else:
                reported.add(call.key)
                due.append(call)
        if due:
            try:
                self.report(target, due)
            except Exception:
                log.exception("the watchdog could not report a call")
        return next_due


def _report_nothing(target: Watched, calls: list[Any]) -> None:
    pass


# One watchdog for the process. _api.engine sets its ``report`` and ``is_held_up``.
watchdog = Watchdog(_report_nothing)
