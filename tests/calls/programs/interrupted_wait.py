"""Waits for a Future three times, and is interrupted from outside each time. Argument: the way in which it waits.

It says that it waits when it does: by a thread that looks at the Future, so that no sleep has to be long enough.
"""

import asyncio
import sys
import threading
import time

import bridge

WAYS = {
    "result": lambda: future.result(),
    "exception": lambda: future.exception(),
    "wait": lambda: bridge.wait([future]),
    "wait for any": lambda: bridge.wait([future], return_when="FIRST_COMPLETED"),
    "as_completed": lambda: list(bridge.as_completed([future])),
    "result with a time-out": lambda: future.result(1000),
    "wait with a time-out": lambda: bridge.wait([future], 1000),
}

cancelled = []


async def work():
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        cancelled.append(None)
        raise


def say_that_it_waits(future):
    while not (future._waiters or future._condition._waiters):
        time.sleep(0.001)
    time.sleep(0.01)
    print("waits", flush=True)


waits = WAYS[sys.argv[1]]
future = bridge.submit(work())
for _ in range(3):
    threading.Thread(target=say_that_it_waits, args=(future,), daemon=True).start()
    try:
        waits()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert not future.done()
    assert not cancelled
    assert not future._waiters
    assert not future._condition._waiters
print(bridge.block_on(asyncio.sleep(0.001, "goes on")), flush=True)
assert future.cancel()
try:
    future.result()
except asyncio.CancelledError:
    pass
except Exception as error:
    print(type(error).__module__, type(error).__name__, flush=True)
