"""Counts the calls of a bridge, and collects a histogram of their latencies.

The hot path draws a number from an ``itertools.count``. Rare outcomes are appended to deques. Both are atomic in every
thread. :meth:`Meter.fold` moves the notes from the deques into the counts; it runs when a deque is long, and for
``stats()``. So no note is lost, no call waits for a lock, and a signal handler may call ``stats()``.

Rejected: to measure every call. Reading the clock a second time and updating the histogram took a call from 12.5 to
13.1 µs. So all calls are counted, and after the first 1,000 one call in 31 is measured.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from itertools import count
from sys import byteorder
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stats import Stats

# How many notes a deque holds before they are folded into the counts.
_BATCH = 1000
# The first so many calls are measured, then one call in 31. This is a prime, since calls may come in a rhythm.
_MEASURED_FIRST = 1000
_ONE_IN = 31
# The most significant of a double's four 16-bit words holds its exponent and four bits of its mantissa. Shifted right
# by 4, minus the bias, this is the exponent of the least power of two above the number.
_HIGH = 3 if byteorder == "little" else 0
_BIAS = 1022


class Meter:
    """Collects the numbers of :class:`~bridge._watch.stats.Stats`. Any thread may call any method, at any time.

    ``count()`` counts a call that has ended, and returns its number, from 0. If that is a multiple of ``every``, the
    caller calls measure().
    """

    __slots__ = (
        "_ended", "_ended_calls", "_ends", "_folded", "_folding", "_latency", "_samples", "_seconds", "count", "every",
        "switches",
    )  # fmt: skip

    def __init__(self) -> None:
        self._ended_calls = count()
        self.count = self._ended_calls.__next__
        self.every = 1
        self.switches = 0  # by loops that have ended
        self._seconds: deque[float] = deque()  # latencies of the first calls, each measured
        self._samples: deque[float] = deque()  # latencies of later calls, one in 31
        self._ends: deque[str] = deque()
        self._latency: Counter[int] = Counter()  # numbers of calls by exponent of the upper bound
        self._ended: Counter[str] = Counter()
        self._folded = 0  # how many of _seconds were counted
        self._folding = threading.Lock()

    def measure(self, seconds: float) -> None:
        """Note how long a call took."""
        if self.every == 1:
            self._seconds.append(seconds)
            if len(self._seconds) + self._folded >= _MEASURED_FIRST:
                self.every = _ONE_IN
        else:
            self._samples.append(seconds)
            if len(self._samples) > _BATCH:
                self.fold()

    def note(self, end: str) -> None:
        """Note the end of a call that did not return: "failed", "cancelled" or "timed_out"."""
        self._ends.append(end)
        if len(self._ends) > _BATCH:
            self.fold()

    def fold(self, patience: float = 0.0) -> None:
        """Move the notes into the counts. Does nothing if the lock is not free within ``patience`` seconds."""
        # Never wait without a limit: this may run in a signal handler that has interrupted fold().
        if not (self._folding.acquire(True, patience) if patience else self._folding.acquire(False)):
            return
        try:
            self._folded += len(self._seconds)
            for noted, weight in ((self._seconds, 1), (self._samples, _ONE_IN)):
                seconds = array("d", [noted.popleft() for _ in range(len(noted))])
                # A loop over frexp() would take three times as long.
                for high, number in Counter(memoryview(seconds).cast("B").cast("H")[_HIGH::4]).items():
                    self._latency[(high >> 4) - _BIAS] += number * weight
            self._ended.update([self._ends.popleft() for _ in range(len(self._ends))])
        finally:
            self._folding.release()

    def stats(self, still_open: int, switches: int) -> Stats:
        """Return the counts."""
        from .stats import Stats

        self.fold(0.1)
        latency = {2.0**exponent: number for exponent, number in sorted(self._latency.items())}
        return Stats(
            calls=int(repr(self._ended_calls)[len("count(") : -1]) + still_open,
            open=still_open,
            failed=self._ended["failed"],
            cancelled=self._ended["cancelled"],
            timed_out=self._ended["timed_out"],
            latency=MappingProxyType(latency),
            switches=self.switches + switches,
        )
