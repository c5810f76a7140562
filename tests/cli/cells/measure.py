import asyncio
import functools
import time

from twisted.internet.defer import Deferred

from bridge import default_bridge


def blocked(wait, times=30):
    came = []
    for number in range(times):
        try:
            # On the loop's thread: a kernel's flush() waits for an Event, which takes no KeyboardInterrupt well.
            default_bridge().loop.call_soon_threadsafe(functools.partial(print, f"<{number}" + ">", flush=True))
            wait()
        except KeyboardInterrupt:
            came.append(time.monotonic())
    return came


block_on(asyncio.sleep(0))
