"""Fails if each of five interrupts of a wait takes half a second, from the signal to the exception."""

import asyncio
import os
import signal
import threading
import time

import bridge

future = bridge.submit(asyncio.sleep(1000))
late = []
for _ in range(5):
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    asyncio.get_running_loop().call_soon(threading.Timer(0.02, send).start)
    try:
        future.result()
    except KeyboardInterrupt:
        late.append(time.monotonic() - sent[0])
assert min(late) < 0.5, late
future.cancel()
