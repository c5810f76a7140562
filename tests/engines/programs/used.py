"""What processes use: memory, threads and descriptors, which must not grow with the number of tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable

import psutil

TASKS = int(os.environ.get("BRIDGE_ENGINES_TASKS", "1000"))
# Of all tasks of an engine, ours and the engine's own together: caches that fill, records, and the allocator.
MEGABYTES = 8 + TASKS / 500


def _own(process: psutil.Process) -> float:
    """Return the megabytes that no file has: a file's pages come and go as the machine has room."""
    memory = process.memory_full_info()
    return float(memory.rss - memory.shared + memory.swap if hasattr(memory, "shared") else memory.uss) / 2**20


def used(processes: Iterable[int]) -> dict[int, tuple[float, int, int]]:
    """Return megabytes, threads and descriptors, by process."""
    found = {}
    for pid in processes:
        process = psutil.Process(pid)
        found[pid] = (_own(process), process.num_threads(), process.num_fds())
    return found


def check(before: dict[int, tuple[float, int, int]], after: dict[int, tuple[float, int, int]], at_once: int) -> None:
    """Fail if a process has grown, or if it is not the one that it was.

    :param at_once: how many tasks a process runs at once. Each may have connections of its own: of the clients, and two
        of an engine's, which are made when they are needed. Twisted looks up the name of a server in a pool of ten
        threads, which start when they are needed, and under gevent each of these has another one, and descriptors of
        gevent's: a busy worker of ten greenlets was seen to open 60 more.
    """
    assert before.keys() == after.keys(), f"other processes: {before}, then {after}"
    assert before
    for pid, (megabytes, threads, descriptors) in after.items():
        text = f"{before[pid]} grew to {after[pid]}"
        assert megabytes < before[pid][0] + MEGABYTES, text
        assert threads <= before[pid][1] + 2 * at_once, text
        assert descriptors <= before[pid][2] + 8 * at_once, text


def parts() -> tuple[range, range]:
    """Return the numbers of the tasks: a quarter, in which a worker is killed, and the others, which are measured."""
    return range(TASKS // 4), range(TASKS // 4, TASKS)
