"""A task of a plain loop awaits a Deferred of the reactor, which the default bridge runs in another thread."""

import asyncio
import threading

from twisted.internet.defer import Deferred

import bridge

bridge.block_on(lambda: None)  # starts the default bridge, with the reactor on its loop
there: list[int] = []


def cancelled(_: object) -> None:
    there.append(threading.get_ident())


async def main() -> None:
    task = asyncio.ensure_future(awaiting(Deferred(cancelled)))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled")


async def awaiting(deferred: Deferred[None]) -> None:
    await deferred


asyncio.run(main())
print("there" if there == [bridge.default_bridge().thread.ident] else "here")
