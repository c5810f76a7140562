"""Is interrupted at any moment, says each time that it goes on, and checks that nothing is left.

Arguments: the number of interrupts, the seed, and what it does meanwhile, a key of WHERE.
"""

import asyncio
import contextlib
import gc
import random
import signal
import sys
import threading

import bridge  # first: the process has its reactor

# isort: split
from twisted.internet import reactor
from twisted.internet.task import deferLater


def unraisable(hook):
    # What a signal handler raises inside a finalizer is lost, as ever in CPython; so it is sent again.
    if hook.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
    else:
        sys.__unraisablehook__(hook)


sys.unraisablehook = unraisable
bridge.strategies()  # loads their modules: an interrupt in the midst of an import leaves its file open, with a warning
signal.signal(signal.SIGALRM, signal.default_int_handler)

rounds, seed, where = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
choose = random.Random(seed)
begun, ended = [0], [0]


async def work(suspend):
    begun[0] += 1
    try:
        for _ in range(3):
            await asyncio.sleep(suspend)
        return begun[0]
    finally:
        ended[0] += 1
        await asyncio.sleep(0)


async def numbers():
    begun[0] += 1
    try:
        for number in range(1000000):
            yield number
            await asyncio.sleep(0)
    finally:
        ended[0] += 1


@contextlib.asynccontextmanager
async def context():
    begun[0] += 1
    try:
        await asyncio.sleep(0)
        yield "entered"
        await asyncio.sleep(0)
    finally:
        ended[0] += 1


def blocks(strategy):
    def block():
        while True:
            bridge.block_on(work(choose.choice([0, 0.0003])), strategy=strategy)
            bridge.block_on(lambda: deferLater(reactor, 0.0002, lambda: None), strategy=strategy)
            bridge.submit(work(0)).result()

    return block


def iterates():
    while True:
        with bridge.iterate(numbers(), prefetch=choose.choice([0, 3])) as items:
            for expected, item in enumerate(items):
                assert item == expected, (item, expected)
                if expected == 199:
                    break


def enters():
    while True:
        with bridge.enter(context()) as value:
            assert value == "entered"


def waits():
    while True:
        futures = [bridge.submit(work(choose.choice([0, 0.0003]))) for _ in range(3)]
        assert bridge.wait(futures, return_when=choose.choice(["ALL_COMPLETED", "FIRST_COMPLETED"])).done
        for future in bridge.as_completed(futures):
            future.result()
            if choose.random() < 0.3:
                break
        bridge.run(lambda: list(bridge.as_completed(futures)))


def runs():
    def on_the_loop():
        for _ in range(5):
            bridge.block_on(work(0.0002))

    while True:
        bridge.run(on_the_loop)


def starts_and_closes():
    while True:
        bridge.block_on(work(0))
        bridge.default_bridge().close()


WHERE = {
    "lock": blocks("lock"),
    "event": blocks("event"),
    "queue": blocks("queue"),
    "greenlet": blocks("greenlet"),
    "auto": blocks("auto"),
    "iterate": iterates,
    "enter": enters,
    "run": runs,
    "start and close": starts_and_closes,
    "wait": waits,
}
# What each of them imports is there; see above.
bridge.block_on(work(0))
bridge.block_on(lambda: deferLater(reactor, 0, lambda: None))
with bridge.iterate(numbers()) as items, bridge.enter(context()):
    next(items)
bridge.run(lambda: list(bridge.as_completed(bridge.wait([bridge.submit(work(0))]).done)))
bridge.run(lambda: bridge.block_on(work(0.001)))
imported = set(sys.modules)
code = WHERE[where]
print("ready", flush=True)
caught = 0
while caught < rounds:
    try:
        print(caught, flush=True)  # inside the try, for the next one comes at once
        code()
    except KeyboardInterrupt:
        caught += 1


def settle():
    async def left():
        for number in range(2000):
            if number % 100 == 0:
                gc.collect()
            tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
            names = [each.get_coro().__qualname__ for each in tasks]
            if all("_serve" in name for name in names) and begun == ended:
                return []
            await asyncio.sleep(0.005)
        return [*names, f"{begun[0]} begun, {ended[0]} ended"]

    return bridge.block_on(left())


assert set(sys.modules) == imported, set(sys.modules) - imported
left = settle()
assert left == [], left
run = bridge.default_bridge().current_run()
assert not run.open, run.open
names = {thread.name for thread in threading.enumerate()}
assert names <= {"MainThread", "bridge", "bridge-watchdog"}, names
print(bridge.block_on(asyncio.sleep(0.001, "goes on")), flush=True)
