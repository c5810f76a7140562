"""Blocks in the main thread, where the loop runs, and in others, the last after the script's end."""

import asyncio
import threading

from twisted.internet import reactor
from twisted.internet.task import deferLater

from bridge import block_on, configure, run

configure(exit_grace=30)


async def where():
    return threading.current_thread() is threading.main_thread(), asyncio.get_running_loop()


print(block_on(deferLater(reactor, 0.01, lambda: "deferred")))  # safe as written
print(block_on(where()), run(lambda: block_on(asyncio.sleep(0, "run"))))
print(sorted(thread.name for thread in threading.enumerate()))
results = []
threads = [threading.Thread(target=lambda: results.append(block_on(where())[0])) for _ in range(3)]
for thread in threads:
    thread.start()
while len(results) < 3:  # a join() would keep the loop from serving them
    block_on(asyncio.sleep(0.005))
for thread in threads:
    thread.join()
print(results)
late = threading.Thread(target=lambda: print("late", block_on(asyncio.sleep(0.05, "thread"))))
late.start()
