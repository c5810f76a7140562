"""Ends in any way, with any things open, and says first which. Argument: the seed."""

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import random
import sys
import threading
import time

import bridge  # first: the process has its reactor

# isort: split
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

seed = int(sys.argv[1])
choose = random.Random(seed)
begun = threading.Semaphore(0)
strategies = ["lock", "event", "queue", "auto"]
if choose.random() < 0.3:
    bridge.configure(exit_grace=choose.choice([0.05, 0.2]))
own = bridge.Bridge("own", install_reactor=False) if choose.random() < 0.3 else bridge
default = bridge.default_bridge()


async def for_ever():
    begun.release()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.sleep(0)


def deferred():
    begun.release()
    return Deferred()


def blocked():
    choose_from = random.Random(threading.get_ident())
    with contextlib.suppress(*([bridge.BridgeClosed] if dead in chosen else [])):
        own.block_on(choose_from.choice([for_ever, deferred]), strategy=choose_from.choice(strategies))


def nested():
    bridge.block_on(for_ever())


async def spawning():
    tasks.append(asyncio.create_task(for_ever()))


async def numbers():
    try:
        for number in range(1000):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def entered():
    yield


tasks, kept = [], []


def a_daemon():
    threading.Thread(target=blocked, daemon=True).start()
    return 1


def no_daemon():
    threading.Thread(target=blocked).start()
    return 1


def a_worker():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    kept.append(pool)
    pool.submit(blocked)
    return 1


def a_waiter():
    future = own.submit(for_ever())
    threading.Thread(target=lambda: future.exception()).start()
    return 1


def submitted():
    own.submit(for_ever)
    own.submit(deferred)
    return 2


def a_task():
    bridge.block_on(spawning())
    return 1


def half_consumed():
    items = bridge.iterate(numbers(), prefetch=choose.choice([0, 4]))
    kept.append(items)
    next(items)
    return 0


def an_open_context():
    manager = bridge.enter(entered())
    manager.__enter__()
    kept.append(manager)
    return 0


def on_the_loop():
    bridge.submit(lambda: bridge.block_on(for_ever()))
    return 1


def to_thread():
    bridge.submit(asyncio.to_thread(nested))
    return 1


def to_the_reactors_pool():
    bridge.submit(lambda: deferToThread(nested))
    return 1


def many():
    return sum(no_daemon() + a_daemon() for _ in range(5))


def closed():
    bridge.Bridge(install_reactor=False).close()
    return 0


def dead():
    if own is not bridge:
        own.block_on(lambda: own.loop.call_soon(own.loop.stop))
    return 0


def a_trigger():
    reactor = default.reactor

    def trigger():
        done = Deferred()
        reactor.callLater(0.01, done.callback, None)
        return done

    bridge.block_on(lambda: default.reactor.addSystemEventTrigger("before", "shutdown", trigger))
    return 0


def a_handler():
    @atexit.register
    def handler():
        assert bridge.block_on(asyncio.sleep(0.001, "at exit")) == "at exit"

    return 0


def an_early_handler():
    return 0  # registered below, before the first call


things = [
    a_daemon,
    no_daemon,
    a_worker,
    a_waiter,
    submitted,
    a_task,
    half_consumed,
    an_open_context,
    on_the_loop,
    to_thread,
    to_the_reactors_pool,
    many,
    closed,
    dead,
    a_trigger,
    a_handler,
    an_early_handler,
]
chosen = choose.sample(things, choose.randint(1, len(things)))
if an_early_handler in chosen:

    @atexit.register
    def early():
        try:
            bridge.block_on(asyncio.sleep(0))
        except bridge.BridgeClosed:
            pass
        else:
            print("served after its end")


bridge.block_on(asyncio.sleep(0))
expected = sum(thing() for thing in chosen if thing is not dead)
for _ in range(expected):
    assert begun.acquire(timeout=20)
if dead in chosen:
    dead()
time.sleep(choose.choice([0, 0, 0.001, 0.01]))
end = choose.choice(["falls off", "exit", "exit", "error", "_exit", "from a call"])
print(end, [thing.__name__ for thing in chosen], flush=True)
if end == "exit":
    sys.exit(7)
if end == "error":
    raise LookupError("of the script")
if end == "_exit":
    os._exit(9)
if end == "from a call":

    async def leave():
        sys.exit(11)

    bridge.block_on(leave())
