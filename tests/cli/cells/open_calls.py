import asyncio
import threading
import time

from twisted.internet.defer import Deferred

submitted = bridge.submit(asyncio.sleep(600))


def wait():
    try:
        try:
            block_on(Deferred())
        finally:
            time.sleep(0.3)  # as on a busy machine
    except bridge.BridgeClosed as error:
        print("the thread got", type(error).__name__)


thread = threading.Thread(target=wait)
thread.start()
while len(bridge.default_bridge().last_run.open) < 2:
    time.sleep(0.01)
