"""Something else runs the reactor."""

import threading

from twisted.internet import reactor

started = threading.Event()
reactor.callWhenRunning(started.set)
threading.Thread(target=reactor.run, args=(False,), daemon=True).start()
started.wait()


async def test_never_run():
    raise AssertionError
