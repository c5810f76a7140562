"""Ten threads call while the loop dies again and again, in every way. Arguments: how often, and the seed."""

import asyncio
import ctypes
import gc
import json
import logging
import random
import sys
import threading
import time

import psutil

import bridge  # first: the process has its reactor

# isort: split
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner

deaths, seed = int(sys.argv[1]), int(sys.argv[2])
choose = random.Random(seed)
sys.setswitchinterval(0.0005)
logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)  # what is killed is logged at length
logging.getLogger("bridge").setLevel(logging.CRITICAL + 1)
globalLogBeginner.beginLoggingTo([lambda event: None], redirectStandardIO=False, discardBuffer=True)
sys.unraisablehook = lambda _: None
threading.excepthook = lambda _: None
bridge.configure(shutdown_timeout=5)
default = bridge.default_bridge()


class Killed(Exception):
    pass


class KilledHard(SystemExit):
    pass


def kill(error):
    thread = default.thread
    if thread is not None and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))
        default.loop.call_soon_threadsafe(lambda: None)  # it is raised when the loop wakes


def raising(error):
    def callback():
        raise error

    default.loop.call_soon_threadsafe(callback)


def post(function):
    default.loop.call_soon_threadsafe(function)


WAYS = {
    "reactor.stop": lambda: reactor.callFromThread(reactor.stop),
    "reactor.crash": lambda: reactor.callFromThread(reactor.crash),
    "loop.stop": lambda: post(default.loop.stop),
    "SystemExit": lambda: raising(SystemExit(3)),
    "KeyboardInterrupt": lambda: raising(KeyboardInterrupt()),
    "async SystemExit": lambda: kill(KilledHard),
    "async Exception": lambda: kill(Killed),
    "close": lambda: default.close(),
}

# Each run of the loop fires its triggers once.
fired = {}


def begin_run():
    run = default.current_run()
    if run in fired or run.loop is not asyncio.get_running_loop():
        return
    fired[run] = 0

    def trigger():
        fired[run] += 1

    reactor.addSystemEventTrigger("before", "shutdown", trigger)


results, stop = [], threading.Event()
open_since = {}


def work(number):
    own = random.Random(seed * 1000 + number)
    strategy = ["lock", "event", "queue", "greenlet", "auto"][number % 5]
    count = 0
    while not stop.is_set():
        count += 1
        token = (number, count)

        async def coroutine():
            await asyncio.sleep(own.choice([0, 0, 0.0005]))
            return token

        def deferred():
            return deferLater(reactor, own.choice([0, 0.0005]), lambda: token)

        async def for_ever():
            await asyncio.get_running_loop().create_future()

        x = own.choice([coroutine, deferred, coroutine, deferred, for_ever, Deferred, lambda: token])
        if x in (for_ever, Deferred) and own.random() < 0.9:
            x = coroutine
        open_since[number] = time.monotonic()
        try:
            result = bridge.submit(x).result(30) if own.random() < 0.2 else bridge.block_on(x, strategy=strategy)
        except bridge.BridgeClosed:
            results.append("closed")
        except (Killed, KilledHard, asyncio.CancelledError):
            results.append("killed")  # it was raised in the work itself
        except TimeoutError:
            if x is not for_ever and x is not Deferred:
                hung.append((number, repr(x)))
                return
        else:
            if result != token:
                wrong.append((result, token))
            results.append("right")
        finally:
            open_since.pop(number, None)


wrong, hung, slow = [], [], []
process = psutil.Process()


def begin():
    try:
        bridge.block_on(begin_run)
    except (bridge.BridgeClosed, Killed, KilledHard):
        pass


begin()
threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(10)]
for thread in threads:
    thread.start()
ways, latencies = {}, []
loops = set()
for _ in range(deaths):
    begin()
    time.sleep(choose.choice([0, 0.001, 0.003, 0.01]))
    try:
        run = default.current_run()
    except bridge.BridgeClosed:
        continue
    name = choose.choice(list(WAYS))
    before = list(run.open)
    begun = time.monotonic()
    try:
        WAYS[name]()
    except (RuntimeError, bridge.BridgeClosed):
        pass  # it was over already
    while run.over is None or run.open:
        if time.monotonic() - begun > 20:
            hung.append((name, "over" if run.over else "lives", len(run.open)))
            break
        if run.over is None and time.monotonic() - begun > 1 and name.startswith("async"):
            break  # it was raised in the work of a call, and ended only that
        time.sleep(0.0005)
    else:
        latencies.append(time.monotonic() - begun)
    ways[name] = ways.get(name, 0) + 1
    if hung:
        break
stop.set()
deadline = time.monotonic() + 40
while threads and time.monotonic() < deadline:
    if default.running:
        default.close()  # what waits for ever gets its BridgeClosed
    threads = [thread for thread in threads if thread.is_alive()]
    time.sleep(0.05)
stuck = [(each.name, time.monotonic() - open_since.get(index, time.monotonic())) for index, each in enumerate(threads)]
default.close()
for _ in range(100):
    gc.collect()
    others = [t.name for t in threading.enumerate() if t is not threading.main_thread() and t.name != "bridge-watchdog"]
    if not others:
        break
    time.sleep(0.1)
# One more run: the same object, and it works.
assert bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "again")) == "again"
assert default.reactor is reactor
tasks = bridge.block_on(lambda: list(asyncio.all_tasks()))
default.close()
latencies.sort()
print(
    json.dumps(
        {
            "wrong": wrong,
            "hung": hung,
            "stuck": stuck,
            "threads": others,
            "ways": ways,
            "results": {kind: results.count(kind) for kind in set(results)},
            "twice": [count for count in fired.values() if count > 1],
            "never": sum(count == 0 for count in fired.values()),
            "lives": len(fired),
            "tasks": max(0, len(tasks) - 2),
            "fds": process.num_fds(),
            "median": latencies[len(latencies) // 2],
            "worst": latencies[-1],
        }
    ),
    flush=True,
)
