"""Submits as much work as its argument says; most of it fails as the process ends. Prints how much has failed."""

import asyncio
import atexit
import sys

from bridge import block_on, submit

is_open = True
failed = 0


async def close():
    global is_open
    is_open = False


async def get(limit):
    global failed
    try:
        async with limit:
            if not is_open:
                failed += 1
                raise RuntimeError("closed")
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        failed += 1
        raise RuntimeError("cancelled") from None


atexit.register(lambda: print(failed))  # called after the loops have ended
limit = asyncio.Semaphore(2)
futures = [submit(get(limit)) for _ in range(int(sys.argv[1]))]
futures[3].result()
block_on(close())
