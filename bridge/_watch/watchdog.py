"""The watchdog: one thread that looks, seldom, for calls that have waited for too long.

Nothing is timed for a call, and no call tells the watchdog that it has begun or ended. It looks at the open calls of
every loop, sleeps until the oldest that it has not reported yet would be due, and looks again; a call that comes after
the look is not due before one that is as patient as the least patient loop. Where it finds no call that could become
due, it marks the loop as ``unwatched`` and sleeps for good. The next call sees the mark and wakes it.

A caller adds its call and *then* looks at the mark; the watchdog sets the mark and *then* looks for calls again. So a
call is either seen by the watchdog or sees the mark.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable
from math import inf
from time import monotonic
from typing import Any

from .._threads import native

log = logging.getLogger("bridge")


class Watched:
    """What has open calls: a run of a loop, or a loop on whose own thread stacks block.

    Who adds a call looks at ``unwatched`` afterwards, and if that is set calls :meth:`Watchdog.wake`.
    """

    stall_after: float | None = None  # seconds; None: the calls are not looked at
    unwatched = False
    look_every = 1.0  # parts of stall_after; less where calls do not know when they began

    def calls(self) -> Iterable[Any]:
        """Return the open calls, in any thread. Each has ``started``, of the monotonic clock, and a ``key``."""
        raise NotImplementedError

    def watched(self) -> Iterable[Any]:
        """Return the calls to look at: the open ones, and work that nobody blocks on, whose ``waits`` is false."""
        return self.calls()


class Watchdog:
    """Reports each call once, when it has waited for the ``stall_after`` seconds of what it belongs to.

    ``report`` is called in the watchdog's thread, with what was watched and with its calls that are due. Work that
    nobody blocks on is due when ``is_held_up`` says so: a thread that has something to run stands still for it.
    """

    def __init__(self, report: Callable[[Watched, list[Any]], object]) -> None:
        self.report = report
        self.is_held_up: Callable[[Any], bool] = lambda call: False
        self._targets: set[Watched] = set()
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the thread, which the child has not, and what it watched: the calls of the parent."""
        self._targets.clear()
        self._thread: threading.Thread | None = None
        self._reported: set[Hashable] = set()  # by key, since a call itself would be kept alive
        self._starting = native.allocate_lock()
        # Locked until there is something to look at.
        self._alarm = native.allocate_lock()
        self._alarm.acquire()

    @property
    def targets(self) -> list[Watched]:
        """What is watched, and what is not for lack of a ``stall_after``."""
        return list(self._targets)

    def add(self, target: Watched) -> None:
        """Watch the target's calls from now on. The thread starts with the first call."""
        self._targets.add(target)
        target.unwatched = target.stall_after is not None

    def patience_changed(self, target: Watched) -> None:
        """Note that ``stall_after`` of a target is another one."""
        if target in self._targets:
            self.add(target)

    def remove(self, target: Watched) -> None:
        """Watch the target no longer."""
        self._targets.discard(target)
        target.unwatched = False

    def wake(self, target: Watched) -> None:
        """Look at once, as a call of an unwatched target has begun. Called in any thread, a signal handler included."""
        target.unwatched = False
        try:
            self._alarm.release()
        except RuntimeError:  # it has been woken already
            pass
        if self._thread is None and self._starting.acquire(False):
            try:
                if self._thread is None:  # pyright: ignore[reportUnnecessaryComparison] - others start it as well
                    # Noted before it is started: Ctrl-C may come out of start() though the thread runs.
                    self._thread = native.Thread(target=self._run, name="bridge-watchdog", daemon=True)
                    self._thread.start()
            except RuntimeError:  # no more threads to be had, as while the interpreter exits (3.12 and later)
                self._thread = None
            finally:
                self._starting.release()

    def _run(self) -> None:
        alarm = self._alarm
        while True:
            pause = self._look()
            alarm.acquire(True, -1 if pause == inf else min(pause, threading.TIMEOUT_MAX))

    def _look(self) -> float:
        """Report what is due, and return how many seconds there are until something else can be."""
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
                next_due = min(next_due, stall_after)  # it may be later
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


# The process has one. What it reports, and how, is set by the module that knows the calls.
watchdog = Watchdog(_report_nothing)
