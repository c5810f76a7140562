"""Make, run and close loops in this process, which has not imported Twisted. Print the processor time of one, in s."""

from __future__ import annotations

import asyncio
import sys
from time import process_time

import bridge

TIMES = 300


async def nothing() -> None:
    pass


def live(make: object) -> float:
    begin = process_time()
    for _ in range(TIMES):
        with asyncio.Runner(loop_factory=make) as runner:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            runner.run(nothing())
    return (process_time() - begin) / TIMES


if __name__ == "__main__":
    chosen = {"plain": asyncio.SelectorEventLoop, "bridge": bridge.new_event_loop}[sys.argv[1]]
    live(chosen)
    print(min(live(chosen) for _ in range(3)))
