"""Calls the reactor from the main thread while the loop runs in another, and prints the form that is offered last."""

import bridge

bridge.default_bridge().start()
from twisted.internet import reactor  # noqa: E402 - the loop runs, and is the reactor's

try:
    reactor.callLater(1, print)
except bridge.WrongThreadError as error:
    print("WrongThreadError", str(error).split("  #")[-2].splitlines()[-1].strip())
