"""Stats: what :meth:`bridge.Bridge.stats` returns. :mod:`.meter` collects the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan
from types import MappingProxyType

from .._errors import at


@dataclass(frozen=True, slots=True)
class Stats:
    """The calls of one bridge since it was made, over all loops that it has run.

    ``calls`` is the number of calls, ``open`` the number of calls that have not ended. Of the ended calls, ``failed``
    raised an error of the awaited code or ``BridgeClosed``; ``cancelled`` were cancelled (by ``cancel()`` of a Future
    from ``submit``, by Ctrl-C, from inside); ``timed_out`` raised the ``TimeoutError`` of ``timeout=``. The other calls
    returned.

    ``latency`` is a histogram. It maps upper bounds in seconds, powers of two in ascending order, to the number of
    calls that took less than the bound and at least half of it. The first 1,000 calls are measured, then one call in
    31, which counts for 31. So these numbers are estimates, and their sum is only nearly the number of calls. All other
    numbers are exact.

    A call on the loop's own thread is not counted in these, since counting would make it slower by some per cent.
    ``switches`` is how often a stack of that thread has blocked: once each time that the awaited work suspends.
    """

    calls: int
    open: int
    failed: int
    cancelled: int
    timed_out: int
    latency: MappingProxyType[float, int]
    switches: int

    def percentile(self, percent: float) -> float:
        """Return the upper bound, in seconds, of the time that so many per cent of the ended calls took; 0.0 if none.

        ::

            bridge.stats().percentile(99)      # 6.103515625e-05: 99 of 100 calls took less than 61 µs

        :raises ValueError: percent is not from 0 to 100.
        """
        if isnan(percent) or not 0 <= percent <= 100:
            raise ValueError(f"a percentile is a number from 0 to 100, not {percent!r}" + at("wrong-value"))
        wanted = max(1, ceil(sum(self.latency.values()) * percent / 100))
        for bound, number in self.latency.items():
            wanted -= number
            if wanted <= 0:
                return bound
        return 0.0
