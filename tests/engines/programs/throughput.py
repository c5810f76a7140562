"""Print how many tasks a second each engine runs, by each of the ways in ``ways.py``.

Two workers, or threads, or processes; the pool of greenlets has ten. A figure is the best of three rounds of
``BRIDGE_ENGINES_TASKS`` tasks.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import ways
from celery import group
from distributed import Client, LocalCluster
from tasks_of_celery import app
from used import TASKS

Run = Callable[[range], Iterable[int]]
Measured = tuple[str, list[float | None]]
ROUNDS = 3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
WAYS = [ways.by_block_on, ways.by_asyncio_run, ways.by_runner]
OF_CELERY = [app.task(each) for each in WAYS]


def rates(runs: list[Run]) -> list[float | None]:
    """Return tasks a second for each way: the best of rounds that take turns. None if its tasks fail."""
    found: list[float | None] = []
    for run in runs:  # which warms the workers up
        try:
            assert list(run(range(TASKS // 5))) == list(range(TASKS // 5))
            found.append(0)
        except RuntimeError:  # two loops that run in one thread
            found.append(None)
    for _ in range(ROUNDS):
        for number, run in enumerate(runs):
            best = found[number]
            if best is not None:
                began = time.monotonic()
                assert list(run(range(TASKS))) == list(range(TASKS))
                found[number] = max(best, TASKS / (time.monotonic() - began))
    return found


def of_celery(pool: str, at_once: int) -> Measured:
    options = ["-P", pool, "-c", str(at_once), "-l", "critical", "--without-gossip", "--without-mingle"]
    command = [sys.executable, "-m", "celery", "-A", "throughput", "worker", *options]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(task: Any) -> Run:
        return lambda numbers: group(task.s(number) for number in numbers).apply_async().get(timeout=600)

    try:
        return f"Celery, {pool}, {at_once}", rates([run(task) for task in OF_CELERY])
    finally:
        worker.terminate()
        worker.wait()


def of_dask(name: str, workers: int, threads: int) -> Measured:
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=threads, dashboard_address=":0", silence_logs="CRITICAL"
    )
    with cluster, Client(cluster) as client:

        def run(way: object) -> Run:
            return lambda numbers: client.gather(client.map(way, numbers, pure=False))

        # Dask's own way to keep a loop is a coroutine function.
        return f"Dask, {name}", rates([run(way) for way in (*WAYS[:2], ways.on_loop_of_worker)])


def of_executor(method: str) -> Measured:
    with ProcessPoolExecutor(2, get_context(method)) as pool:
        runs: list[Run] = [functools.partial(pool.map, way) for way in WAYS]
        return f"`ProcessPoolExecutor`, {method}, 2", rates(runs)


def measured() -> Iterator[Measured]:
    yield of_celery("prefork", 2)
    yield of_celery("threads", 2)
    yield of_celery("solo", 1)
    yield of_celery("gevent", 10)
    yield of_dask("2 processes", 2, 1)
    yield of_dask("1 process of 2 threads", 1, 2)
    yield of_executor("forkserver")


def main() -> None:
    print("| engine, and its workers | `block_on` | `asyncio.run` | a loop that is kept |\n| --- | --- | --- | --- |")
    for name, rates in measured():
        shown = ["no" if each is None else f"{each:.0f}" for each in rates]
        print(f"| {name} | {' | '.join(shown)} |", flush=True)
    version = ".".join(platform.python_version_tuple()[:2])
    print(f"\nEach figure is the best of {ROUNDS} rounds of {TASKS:,} tasks, on Python {version} and {CORES} cores.")


if __name__ == "__main__":
    from throughput import main as under_the_name_that_workers_import

    under_the_name_that_workers_import()
