"""A process of rows of which some fail. Its arguments are those of bridge/_cli/bench/child.py."""

import os
import sys
import threading

from bridge._cli.bench import child
from bridge._cli.bench.model import Row


def good(host):
    return lambda times: [1e-6] * times


def wrong(host):
    def measure(times):
        raise AssertionError("a wrong result")

    return measure


def later(host):
    """Fail when measured for the third time."""
    runs = []

    def measure(times):
        runs.append(times)
        assert len(runs) < 3, "wrong the third time"
        return [1e-6] * times

    return measure


def hangs(host):
    def measure(times):
        threading.Event().wait()

    return measure


def exits(host):
    os._exit(3)


ROWS = [
    Row("good/one", "good", "mixed", good, times=5),
    Row("wrong/one", "wrong", "mixed", wrong, times=5),
    Row("later/one", "later", "mixed", later, times=5),
    Row("good/two", "good", "mixed", good, times=5),
    Row("exits/one", "exits", "exits", exits),
    Row("good/three", "good", "other", good),
    Row("once/one", "once", "other", good, times=1, once=True),
]

HANGS = Row("hangs/one", "hangs", "hangs", hangs, times=5)

if __name__ == "__main__":
    if sys.argv[1] == "unable":
        sys.exit("cannot start")
    child.ANSWER_WITHIN = 0.5
    child.serve([*ROWS, HANGS], *sys.argv[1:])
