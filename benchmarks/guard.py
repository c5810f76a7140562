"""A guard against regressions: a few ratios with wide bounds, which a doubling exceeds and a busy machine does not.

``python benchmarks/guard.py`` holds all rows in one process, on one core where the system can pin it, and measures them
in turns. Whatever else runs on the machine only adds time. So of each row the fastest batch counts, and a ratio that
is within its bound once is done with; one that a change has doubled never gets there.
"""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import dataclass

import rows

from bridge._cli.bench import machine
from bridge._cli.bench.model import Host, Row

ROUNDS = 60
SECONDS = 0.004  # of a batch


@dataclass(frozen=True)
class Guard:
    """A row may take at most so many times the reference's time."""

    row: str
    reference: str
    at_most: float


# Some 1.7 times what they were when these were written, between that and a doubling; 3.11 has no eager tasks.
_OLD = sys.version_info < (3, 12)
GUARDS = [
    Guard("at_once/block_on", "at_once/floor", 1.95 if _OLD else 1.8),
    Guard("deferred/block_on", "at_once/floor", 2.0),
    Guard("at_once/block_on", "at_once/run_coroutine_threadsafe", 0.7 if _OLD else 0.62),
    Guard("inside_at_once/block_on", "task_at_once/plain", 0.28 if _OLD else 0.24),
    Guard("inside_suspends_once/block_on", "inside_suspends_once/await", 1.7),
    Guard("task_at_once/bridge", "task_at_once/plain", 2.4),
    Guard("task_suspends_five_times/bridge", "task_suspends_five_times/plain", 2.0),
    Guard("iteration/bridge", "iteration/plain", 1.75),
    Guard("view/blocking", "view/block_on", 1.8),
    Guard("iterate/prefetch_64", "iterate/prefetch_0", 0.05),
]


class Best:
    """The fastest batch of a row."""

    def __init__(self, host: Host, row: Row) -> None:
        self._host, self._row = host, row
        host.measure(row, 1)  # prepares it
        estimate = statistics.median(host.measure(row, row.times or 30))
        self._times = row.times or max(1, min(round(SECONDS / estimate), 2000))
        self.value = estimate

    def measure(self) -> None:
        self.value = min(self.value, statistics.median(self._host.measure(self._row, self._times)))


def main() -> int:
    core = machine.last_core()
    if core is not None:
        os.sched_setaffinity(0, {core})
    known = rows.all_rows()
    left = list(GUARDS)
    with Host() as host:
        names = dict.fromkeys(name for guard in GUARDS for name in (guard.row, guard.reference))
        best = {name: Best(host, known[name]) for name in names}
        for turn in range(ROUNDS):
            if not left:
                break
            for name in dict.fromkeys(name for guard in left for name in (guard.row, guard.reference)):
                best[name].measure()
            if turn >= 8:  # the first batches of the reference may all be slow ones
                left = [guard for guard in left if best[guard.row].value > guard.at_most * best[guard.reference].value]
    for guard in GUARDS:
        ratio = best[guard.row].value / best[guard.reference].value
        mark = "TOO SLOW" if guard in left else "ok"
        print(f"{mark:8}  {guard.row} takes {ratio:.2f} of {guard.reference}, at most {guard.at_most}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
