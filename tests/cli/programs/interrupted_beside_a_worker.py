"""Interrupts itself while the call of a worker is about to begin."""

import asyncio
import os
import signal
import threading
import time

from bridge import block_on

results = []


async def value():
    return 1


async def blocks():
    return block_on(value())


def worker():
    interrupted.wait()
    time.sleep(0.1)
    results.append(block_on(blocks()))


def busy():
    os.kill(os.getpid(), signal.SIGINT)
    interrupted.set()
    time.sleep(0.5)


interrupted = threading.Event()
thread = threading.Thread(target=worker)
thread.start()
block_on(lambda: asyncio.get_running_loop().call_later(0.1, busy) and None)
try:
    block_on(asyncio.sleep(30))
except KeyboardInterrupt:
    print("interrupted")
thread.join()
print(results)
