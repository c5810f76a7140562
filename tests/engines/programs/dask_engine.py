"""Run a cluster of Dask's, of processes or of threads, and send it tasks: ``dask_engine.py processes``.

A worker ends in the middle of the first part: a process by SIGKILL, one of threads by being closed. In the second part
nothing may grow. Then follow the client that is asynchronous, and the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import time
from typing import Any

import work
from distributed import Client, LocalCluster, get_client
from used import check, parts, used

from bridge import block_on

PROCESSES = sys.argv[1] == "processes"


def in_turn(number: int) -> int:
    """Wait for a task of a task's own, as Dask does it."""
    return int(get_client().submit(work.either, number).result())


async def natively(number: int) -> int:
    """A coroutine function, which Dask runs on the loop of its worker, may call sync code that blocks."""
    return work.either(number)


def submitted(client: Client, numbers: range) -> list[Any]:
    return client.map(work.either, numbers, pure=False)


def processes_of(client: Client) -> list[int]:
    return sorted(client.run(os.getpid).values()) if PROCESSES else [os.getpid()]


def by_client_that_is_asynchronous(address: str) -> None:
    """It is made on the loop of bridge, and used from here."""
    client = block_on(lambda: Client(address, asynchronous=True), timeout=60)
    future = client.submit(work.either, 3)
    assert block_on(future, timeout=60) == 3
    # On another thread than its loop's the client waits by itself, so what waits is called on the loop.
    futures = client.map(work.either, range(20))
    assert block_on(functools.partial(client.gather, futures), timeout=60) == list(range(20))

    async def both() -> list[int]:
        return [await client.submit(work.either, 5), await work.by_twisted(6)]

    assert block_on(both(), timeout=60) == [5, 6]
    failed = client.submit(int, "no number")
    with contextlib.suppress(ValueError):
        raise AssertionError(f"no error: {block_on(failed, timeout=60)}")
    del future, futures, failed
    block_on(lambda: client.close(), timeout=60)


def main() -> None:
    first, second = parts()
    half = len(first) // 2
    workers = 2 if PROCESSES else 3  # of which one ends for good
    with (
        LocalCluster(n_workers=workers, threads_per_worker=2, processes=PROCESSES, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        mark = os.path.join(tempfile.gettempdir(), "killed")
        sent = submitted(client, first[:half])
        if PROCESSES:
            sent.append(client.submit(work.is_killed_once, 7, mark))
        else:
            cluster.sync(cluster.workers[0].close, executor_wait=False)
        assert client.gather(sent) == [*first[:half], *([7] if PROCESSES else [])]
        client.wait_for_workers(2, timeout=60)
        assert client.gather(submitted(client, first[half:])) == list(first[half:])
        assert client.submit(in_turn, 9).result(60) == 9
        assert client.submit(natively, 4).result(60) == 4
        del sent

        # Dask keeps records of tasks, up to a number of them, in the scheduler: some 47 MB for 7,500.
        client.gather(client.map(abs, second, pure=False))
        before = used(processes_of(client))
        began = time.monotonic()
        assert client.gather(submitted(client, second)) == list(second)
        took = time.monotonic() - began
        check(before, used(processes_of(client)), 4)
        by_client_that_is_asynchronous(cluster.scheduler_address)
        sys.stderr.write("ending\n")
    sys.stdout.write(f"{len(second) / took:.0f} tasks a second\n")


if __name__ == "__main__":
    main()
