"""Measure whether memory stays flat over many calls: ``python tests/helpers/memory.py --calls 1000000``.

Calls of every kind in turn: coroutines, Deferreds, Futures, callables, errors, time-outs, submitted work, calls blocked
on the loop, from two threads. After a tenth of them the resident set is taken for what the program needs; from then on
it is read twenty times. The exit status is 1 if it ever grew by more than ``--limit`` megabytes.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater

import bridge
from bridge import block_on, run, submit

MEGABYTE = 1 << 20


async def nothing() -> str:
    return "value"


async def one_turn() -> str:
    await asyncio.sleep(0)
    return "value"


async def failing() -> None:
    raise LookupError("expected")


async def awaits_a_deferred() -> Any:
    return await succeed("value")


def expects(error: type[BaseException], function: Callable[[], object]) -> str:
    try:
        function()
    except error:
        return "value"
    raise AssertionError(f"no {error.__name__}")


def timed() -> Any:
    return deferLater(bridge.default_bridge().reactor, 0, lambda: "value")


def done() -> concurrent.futures.Future[str]:
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    future.set_result("value")
    return future


KINDS: list[Callable[[], object]] = [
    lambda: block_on(nothing()),
    lambda: block_on(one_turn()),
    lambda: block_on(succeed("value")),
    lambda: block_on(lambda: "value"),
    lambda: block_on(timed),
    lambda: block_on(awaits_a_deferred()),
    lambda: block_on(done()),
    lambda: expects(LookupError, lambda: block_on(failing())),
    lambda: expects(LookupError, lambda: block_on(fail(LookupError("expected")))),
    lambda: expects(TimeoutError, lambda: block_on(Deferred(), timeout=0)),
    lambda: submit(one_turn()).result(),
    lambda: run(lambda: block_on(one_turn())),
    lambda: block_on(lambda: block_on(one_turn())),
    lambda: block_on(one_turn(), timeout=60),
    lambda: block_on(one_turn(), strategy="event"),
    lambda: block_on(one_turn(), strategy="queue"),
]


def make(calls: int) -> None:
    """Make that many calls, of every kind in turn, from two threads."""

    def work(count: int) -> None:
        try:
            for number in range(count):
                if KINDS[number % len(KINDS)]() != "value":
                    raise AssertionError(number % len(KINDS))
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    beside = threading.Thread(target=work, args=(calls // 2,))
    beside.start()
    work(calls - calls // 2)
    beside.join()
    if errors:
        raise errors[0]


def resident() -> float:
    """Return the resident set in megabytes."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / MEGABYTE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=2.0, help="megabytes")
    arguments = parser.parse_args()
    begun = time.monotonic()
    make(arguments.calls // 10)
    first = resident()
    most = 0.0
    rounds = 20
    for _ in range(rounds):
        make(arguments.calls * 9 // 10 // rounds)
        most = max(most, resident() - first)
    seconds = time.monotonic() - begun
    print(
        f"{arguments.calls} calls in {seconds:.0f} s on Python {sys.version.split()[0]}: {first:.1f} MB after a tenth, "
        f"at most {most:+.2f} MB from then on, {resident() - first:+.2f} at the end"
    )
    left = bridge.block_on(lambda: len(asyncio.all_tasks()) - 1)  # the loop's own
    if left > 0:
        print(f"{left} tasks are left")
    return int(most > arguments.limit or left > 0)


if __name__ == "__main__":
    sys.exit(main())
