"""Tests whether two samples differ: the Mann-Whitney U test, which assumes nothing about the distributions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the probability that samples from one distribution differ at least as much as these.

    Uses the normal approximation, corrected for ties and continuity. It is good from about eight values each.

    :returns: from 0 to 1; 1 for samples that show nothing, such as empty ones.
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
