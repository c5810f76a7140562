"""Interrupts itself in what it blocks on; with the argument "uncaught" once more at the end."""

import asyncio
import os
import signal
import sys
import threading

from twisted.internet import reactor  # noqa: F401 - Twisted is there, too

from bridge import block_on


def interrupt_later():  # when the script is blocked, for then only is a callback called
    asyncio.get_running_loop().call_soon(threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start)


async def cleaning():
    try:
        await asyncio.sleep(10)
    finally:
        await asyncio.sleep(0.02)
        print("cleaned", flush=True)


async def stubborn():
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        interrupt_later()
        await asyncio.sleep(10)


for x in (cleaning, stubborn):
    interrupt_later()
    try:
        block_on(x())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print(block_on(asyncio.sleep(0.01, "goes on")), flush=True)
if "uncaught" in sys.argv:
    interrupt_later()
    block_on(cleaning())
