"""Goes on until it has been interrupted 40 times, and tells when it is ready for the next."""

import asyncio

from bridge import block_on


async def work():
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.0005)


print("ready", flush=True)
caught = 0
while caught < 40:
    try:
        print(caught, flush=True)  # inside the try, for the next one comes at once
        while True:
            block_on(work())
            sum(range(200))
    except KeyboardInterrupt:
        caught += 1
print(block_on(asyncio.sleep(0, "goes on")), flush=True)
