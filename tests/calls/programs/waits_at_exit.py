"""Ends while a thread waits for work. Argument: the way in which the thread waits."""

import asyncio
import sys
import threading
import time

import bridge

WAYS = {
    "wait": lambda: bridge.wait([future]).done,
    "as_completed": lambda: list(bridge.as_completed([future])),
}

future = bridge.submit(asyncio.sleep(1000))


def waits():
    print(len(WAYS[sys.argv[1]]()))
    print(type(future.exception()).__name__, flush=True)


threading.Thread(target=waits).start()
while not future._waiters:
    time.sleep(0.001)
