# TICKS and WORDS are ports, which the test puts before it: of the socket for ticks, and of the one for words.
import asyncio
import builtins
import os
import select
import signal
import socket
import threading
import time

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

ticks = drawn = 0
results = []
to_say = ""
teller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def tell(what, port=WORDS):
    teller.sendto(what.encode(), ("127.0.0.1", port))


def prompt_has_woken():  # IPython's terminal ends the GUI's loop by a pipe, which stays readable in a slot that blocks
    pipe = getattr(getattr(asyncio._get_running_loop(), "_selector", None), "_r", None)
    return pipe is not None and bool(select.select([pipe], [], [], 0)[0])


watched = None


def tick():
    global ticks, to_say
    ticks += 1
    if watched is not None:
        watched.append(prompt_has_woken())
    tell("tick", TICKS)
    if to_say:
        print(to_say)
        to_say = ""


def say_ready():  # when the GUI ticks next, and so not before the cell blocks
    global to_say
    to_say = "rea" + "dy"


def draw(event=None):
    global drawn
    drawn += 1


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def ticked():
    seen = ticks
    await until(lambda: ticks > seen + 5)
    return "the GUI " + "lives"


def in_a_slot():
    global watched
    watched = []
    used, began = time.process_time(), time.monotonic()
    results.append(block_on(lambda: asyncio.gather(ticked(), asyncio.sleep(0.6)))[0])
    results.append((time.process_time() - used) / (time.monotonic() - began))
    results.append(any(watched))
    watched = None
    tell("slot")


def signals():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return signal.getsignal(signal.SIGINT), wakeup


def state():
    shell = get_ipython()
    return [
        *signals(),
        shell.active_eventloop,
        shell.loop_runner,
        shell.autoawait,
        list(shell.ast_transformers),
        {name: list(functions) for name, functions in shell.events.callbacks.items()},
        {kind: sorted(table) for kind, table in shell.magics_manager.magics.items()},
        set(vars(builtins)),
        getattr(shell, "_inputhook", None),
        getattr(getattr(shell, "kernel", None), "eventloop", None),
    ]
