"""What the calls of a bridge came to, as :meth:`bridge.Bridge.stats` shows it; :mod:`.meter` collects it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Stats:
    """The calls of one bridge since it was made, over all the lives of its loop.

    ``calls`` is how many there were, ``open`` how many of them have not ended. Of those that ended, ``failed`` raised
    an error of the awaited code or ``BridgeClosed``, ``cancelled`` were cancelled (by ``cancel()`` of a Future from
    ``submit``, by Ctrl-C, from inside), ``timed_out`` raised the ``TimeoutError`` of ``timeout=``; the rest returned.

    ``latency`` maps upper bounds in seconds, powers of two in ascending order, to the number of calls that ended in
    less than that and not in less than half of it. The first 1,000 calls are measured, and then one in 31, which counts
    for 31: so these numbers are estimates, and add up to that of the calls only nearly. All the others are exact.

    A call on the loop's own thread does not count in any of these, since that would make it slower by some per cent.
    ``switches`` is how often a stack of that thread has blocked: once for each time that what it waits for suspends.
    """

    calls: int
    open: int
    failed: int
    cancelled: int
    timed_out: int
    latency: MappingProxyType[float, int]
    switches: int

    def percentile(self, percent: float) -> float:
        """Return the upper bound, in seconds, of what so many per cent of the ended calls took; 0.0 if none has ended.

        ::

            bridge.stats().percentile(99)      # 6.103515625e-05: 99 of 100 calls took less than 61 microseconds

        :raises ValueError: percent is not from 0 to 100.
        """
        if isnan(percent) or not 0 <= percent <= 100:
            raise ValueError(f"a percentile is a number from 0 to 100, not {percent!r}")
        wanted = max(1, ceil(sum(self.latency.values()) * percent / 100))
        for bound, number in self.latency.items():
            wanted -= number
            if wanted <= 0:
                return bound
        return 0.0
