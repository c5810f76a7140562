import asyncio
import functools
import time

from twisted.internet.defer import Deferred, succeed

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
# CPython drops a KeyboardInterrupt in a callback of its import system; so a Deferred's imports have to be over.
block_on(lambda: succeed(None))
