"""Interrupts itself in code that does not block on the loop, and in code that does."""

import asyncio
import os
import signal
import threading
import time

from bridge import block_on


def interrupt_soon(begun):
    begun.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


def busy():
    while True:
        pass


def asleep():
    time.sleep(30)


def locked():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def blocked():
    block_on(asyncio.get_running_loop().create_future())


for function in (busy, blocked, asleep, locked, busy):
    begun = threading.Event()
    threading.Thread(target=interrupt_soon, args=[begun]).start()
    try:
        begun.set()
        function()
    except KeyboardInterrupt:
        print(function.__name__)
    block_on(asyncio.sleep(0.01))
