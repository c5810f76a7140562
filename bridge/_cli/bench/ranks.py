"""Whether two samples differ: the rank test of Mann and Whitney, which asks nothing of the distributions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how likely samples are to be at least so far apart if they come from the same distribution.

    By the normal approximation, with the correction for ties and for continuity; good from about eight values each.

    :returns: between 0 and 1; 1 for samples that cannot tell, such as empty ones.
    """
    n, m = len(one), len(other)
    if not n or not m:
        return 1.0
    everything = sorted([*one, *other])
    counts = Counter(everything)
    rank: dict[float, float] = {}
    passed = 0
    for value in sorted(counts):
        rank[value] = passed + (counts[value] + 1) / 2
        passed += counts[value]
    u = sum(rank[value] for value in one) - n * (n + 1) / 2
    total = n + m
    ties = sum(count**3 - count for count in counts.values())
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:  # all the same
        return 1.0
    distance = max(abs(u - n * m / 2) - 0.5, 0.0)
    return math.erfc(distance / math.sqrt(2 * variance))
