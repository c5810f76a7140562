"""What the calls of a bridge came to: counts, and a histogram of how long they took.

The hot path only draws a number, and notes what is rare by appending to deques, which is atomic whatever the threads
do; whoever finds enough in them, or asks, folds them into the counts. So nothing is lost, no call waits for a lock, and
a signal handler may ask as well.

To look at the clock for every call a second time and to sort what it says into a histogram took a call from 12.5 to
13.1 microseconds. So all calls are counted, and after the first thousand one in thirty-one is measured.
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

# How many notes may wait until they are counted.
_BATCH = 1000
# The latency of so many calls is measured, and then that of one in so many; a prime, as calls may come in a rhythm.
_MEASURED_FIRST = 1000
_ONE_IN = 31
# A double's exponent, with four bits of its mantissa, is the most significant one of its four shorts; and by so much it
# is larger there than that of the least power of two above the number.
_HIGH = 3 if byteorder == "little" else 0
_BIAS = 1022


class Meter:
    """Collects what :class:`~bridge._watch.stats.Stats` shows. Any thread may note, at any moment.

    ``count()`` draws the number of a call that has ended, from 0; if it is a multiple of ``every``, measure() is told.
    """

    __slots__ = (
        "_ended", "_ended_calls", "_ends", "_folded", "_folding", "_latency", "_samples", "_seconds", "count", "every",
        "switches",
    )  # fmt: skip

    def __init__(self) -> None:
        self._ended_calls = count()
        self.count = self._ended_calls.__next__
        self.every = 1
        self.switches = 0  # of loops that have ended
        self._seconds: deque[float] = deque()  # of the first calls
        self._samples: deque[float] = deque()  # of one in so many that came later
        self._ends: deque[str] = deque()
        self._latency: Counter[int] = Counter()  # by exponent
        self._ended: Counter[str] = Counter()
        self._folded = 0  # of the first calls
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
        """Note how a call has ended that did not return: "failed", "cancelled" or "timed_out"."""
        self._ends.append(end)
        if len(self._ends) > _BATCH:
            self.fold()

    def fold(self, patience: float = 0.0) -> None:
        """Count what has been noted. Does nothing if somebody else is at it for longer than so many seconds."""
        # Never without a limit: this may be a signal handler that has interrupted the one who is at it.
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
