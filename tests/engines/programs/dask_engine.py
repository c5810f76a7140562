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
from distributed import Client, LocalCluster, Nanny, Worker, get_client
from used import check, parts, used

from bridge import block_on

PROCESSES = sys.argv[1] == "processes"


class PatientNanny(Nanny):
    """Gives its worker the time to end that it needs, and not four seconds: then it kills it, and logs this."""

    async def close(self, timeout: float = 1000, reason: str = "nanny-close") -> Any:  # seconds
        return await super().close(timeout, reason)


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
    client = block_on(lambda: Client(address, asynchronous=True))
    future = client.submit(work.either, 3)
    assert block_on(future) == 3
    # On another thread than its loop's the client waits by itself, so what waits is called on the loop.
    futures = client.map(work.either, range(20))
    assert block_on(functools.partial(client.gather, futures)) == list(range(20))

    async def both() -> list[int]:
        return [await client.submit(work.either, 5), await work.by_twisted(6)]

    assert block_on(both()) == [5, 6]
    failed = client.submit(int, "no number")
    with contextlib.suppress(ValueError):
        raise AssertionError(f"no error: {block_on(failed)}")
    del future, futures, failed
    block_on(lambda: client.close())


def main() -> None:
    first, second = parts()
    half = len(first) // 2
    workers = 2 if PROCESSES else 3  # of which one ends for good
    kind = PatientNanny if PROCESSES else Worker
    with (
        LocalCluster(n_workers=workers, threads_per_worker=2, worker_class=kind, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        mark = os.path.join(tempfile.gettempdir(), "killed")
        sent = submitted(client, first[:half])
        if PROCESSES:
            sent.append(client.submit(work.is_killed_once, 7, mark))
        else:
            cluster.sync(cluster.workers[0].close, executor_wait=False)
        assert client.gather(sent) == [*first[:half], *([7] if PROCESSES else [])]
        while len(client.nthreads()) != 2:  # until another process has come, or the scheduler has seen the thread's end
            time.sleep(0.05)
        assert client.gather(submitted(client, first[half:])) == list(first[half:])
        assert client.submit(in_turn, 9).result() == 9
        assert client.submit(natively, 4).result() == 4
        del sent

        slots = [address for address, threads in client.nthreads().items() for _ in range(threads)]
        together = [client.submit(work.meets, 0, len(slots), pure=False, workers=[address]) for address in slots]
        assert client.gather(together) == [0] * 4

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
