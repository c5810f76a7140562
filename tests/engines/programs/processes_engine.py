"""Run pools of processes by the start method that is named: ``processes_engine.py executor spawn``, or ``pool spawn``.

The parent has a loop and sessions of its own, of which a forked child makes nothing. A task kills its process in the
first part; a ProcessPoolExecutor is broken then, and says so, and a multiprocessing.Pool has lost this task only.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext

import work
from used import check, parts, used

from bridge import block_on, wait

AT_ONCE = 2
meets = functools.partial(work.meets, together=AT_ONCE)


def processes() -> list[int]:
    return [each.pid for each in multiprocessing.active_children() if each.pid is not None]


def submit(pool: ProcessPoolExecutor, number: int) -> Future[int]:
    """Submit a task, also to a pool that is broken already."""
    try:
        return pool.submit(work.either, number)
    except BrokenProcessPool as error:
        failed: Future[int] = Future()
        failed.set_exception(error)
        return failed


def by_executor(context: BaseContext, first: range, second: range, mark: str) -> float:
    half = len(first) // 2
    with ProcessPoolExecutor(AT_ONCE, context) as pool:
        assert block_on(pool.submit(work.either, 4)) == 4
        sent = [submit(pool, number) for number in first[:half]]
        lost = pool.submit(work.is_killed_once, 7, mark)
        behind = [submit(pool, number) for number in first[half:]]
        _, open_ = wait([*sent, lost, *behind])
        assert not open_
        try:
            block_on(lost)
        except BrokenProcessPool:
            pass
        else:
            raise AssertionError("not broken")
    left = [number for number, each in zip(first, [*sent, *behind], strict=True) if each.exception() is not None]

    with ProcessPoolExecutor(AT_ONCE, context) as pool:
        assert list(pool.map(meets, range(AT_ONCE))) == list(range(AT_ONCE))

        async def from_the_loop() -> list[int]:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(pool, work.either, number) for number in left))

        assert block_on(from_the_loop()) == left
        assert list(pool.map(work.either, first)) == list(first)
        before = used(processes())
        began = time.monotonic()
        assert list(pool.map(work.either, second)) == list(second)
        took = time.monotonic() - began
        check(before, used(processes()), 1)
    return took


def by_pool(context: BaseContext, first: range, second: range, mark: str) -> float:
    half = len(first) // 2
    pool = context.Pool(AT_ONCE)
    sent = [pool.apply_async(work.either, (number,)) for number in first[:half]]
    lost = pool.apply_async(work.is_killed_once, (7, mark))
    sent += [pool.apply_async(work.either, (number,)) for number in first[half:]]
    assert [each.get() for each in sent] == list(first)
    assert pool.map(meets, range(AT_ONCE), chunksize=1) == list(range(AT_ONCE))  # in the process that follows, too
    assert os.path.exists(mark)
    assert not lost.ready()  # it never will be, with any task: the engine does not tell
    assert pool.apply(work.is_killed_once, (7, mark)) == 7
    assert pool.map(work.either, first, chunksize=1) == list(first)
    before = used(processes())
    began = time.monotonic()
    assert list(pool.imap(work.either, second)) == list(second)
    took = time.monotonic() - began
    check(before, used(processes()), 1)
    pool.terminate()  # close() and join() would wait for the task that was lost
    pool.join()
    return took


def main(kind: str, method: str) -> None:
    first, second = parts()
    assert [work.either(0), work.either(1)] == [0, 1]
    mark = os.path.join(tempfile.gettempdir(), "killed")
    ways = {"executor": by_executor, "pool": by_pool}
    took = ways[kind](multiprocessing.get_context(method), first, second, mark)
    assert [work.either(0), work.either(1)] == [0, 1]
    sys.stdout.write(f"{len(second) / took:.0f} tasks a second\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
