"""Interrupts itself in the iteration of an async generator, ten times, each time at a later item."""

import asyncio
import os
import signal

import bridge


async def numbers():
    for number in range(10**9):
        yield number
        await asyncio.sleep(0)


caught = 0
while caught < 10:
    try:
        with bridge.iterate(numbers()) as items:
            for item in items:
                if item == 20 + 7 * caught:
                    os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        caught += 1
print(bridge.block_on(asyncio.sleep(0, "goes on")))
