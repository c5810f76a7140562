"""Try what the README's table says of one way to wait, and print "yes" or "no" for each of its rows.

``python features.py asgiref`` prints a line for each feature, and on standard error why it says so. What a way cannot
do is "no": it raises, or it does not end in time.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

Work = Coroutine[Any, Any, Any]
LIMIT = 2.0  # seconds for what would not end
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Way:
    """One way to wait for a coroutine in sync code, as its users do it where no loop runs and where one does."""

    needs_a_loop = False  # it waits on the thread of a running loop only

    def set_up(self) -> None:
        """Do what a program does once."""

    def wait(self, work: Work) -> Any:
        """Wait for the work."""
        raise NotImplementedError

    def main(self, work: Work) -> Any:
        """Run the program's own coroutine."""
        return asyncio.run(work)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call sync code on the loop's thread."""
        return function()

    def on_a_loop(self, function: Callable[[], Any]) -> Any:
        return self.main(self.call(function))

    def anywhere(self, function: Callable[[], Any]) -> Any:
        return self.on_a_loop(function) if self.needs_a_loop else function()


class AsyncioRun(Way):
    def wait(self, work: Work) -> Any:
        return asyncio.run(work)


class Threadsafe(Way):
    def set_up(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def wait(self, work: Work) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def main(self, work: Work) -> Any:
        return self.wait(work)


class Crochet(Way):
    def set_up(self) -> None:
        from twisted.internet import asyncioreactor

        asyncioreactor.install()  # so that coroutines of asyncio's have their loop
        import crochet

        crochet.setup()

    def wait(self, work: Work) -> Any:
        import crochet
        from twisted.internet.defer import Deferred

        run = crochet.run_in_reactor(lambda: Deferred.fromFuture(asyncio.ensure_future(work)))
        return run().wait(timeout=2 * LIMIT)

    def main(self, work: Work) -> Any:
        return self.wait(work)


class Asgiref(Way):
    def wait(self, work: Work) -> Any:
        from asgiref.sync import async_to_sync

        async def call() -> Any:
            return await work

        return async_to_sync(call)()


class NestAsyncio(AsyncioRun):
    def set_up(self) -> None:
        import nest_asyncio

        nest_asyncio.apply()


class Greenback(Way):
    needs_a_loop = True

    def wait(self, work: Work) -> Any:
        import greenback

        return greenback.await_(work)

    async def call(self, function: Callable[[], Any]) -> Any:
        import greenback

        return await greenback.with_portal_run_sync(function)


class Bridge(Way):
    def wait(self, work: Work) -> Any:
        from bridge import block_on

        return block_on(work)

    def main(self, work: Work) -> Any:
        return self.wait(work)


WAYS: dict[str, Way] = {
    "`asyncio.run`": AsyncioRun(),
    "`run_coroutine_threadsafe`": Threadsafe(),
    "crochet": Crochet(),
    "asgiref": Asgiref(),
    "nest_asyncio": NestAsyncio(),
    "greenback": Greenback(),
    "bridge": Bridge(),
}


def without_a_loop(way: Way) -> bool:
    return bool(way.wait(asyncio.sleep(0.01, 7)) == 7)


def where_a_loop_runs(way: Way) -> bool:
    return bool(way.on_a_loop(lambda: way.wait(asyncio.sleep(0.01, 7))) == 7)


def in_any_order(way: Way) -> bool:
    ended: list[float] = []

    def wait(seconds: float) -> None:
        way.wait(asyncio.sleep(seconds))
        ended.append(seconds)

    async def main() -> None:
        await asyncio.gather(*[way.call(lambda seconds=each: wait(seconds)) for each in (0.1, 0.5, 0.3)])

    way.main(main())
    return ended == [0.1, 0.3, 0.5]


def deferreds_and_coroutines(way: Way) -> bool:
    from twisted.internet.defer import Deferred

    async def both() -> int:
        deferred: Deferred[int] = Deferred()
        asyncio.get_running_loop().call_later(0.01, deferred.callback, 6)
        return await deferred + await asyncio.sleep(0.01, 1)

    return bool(way.anywhere(lambda: way.wait(both())) == 7)


def one_loop(way: Way) -> bool:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def is_the_same() -> bool:
        first, second = way.wait(loop()), way.wait(loop())
        return first is second and not first.is_closed()

    return bool(way.anywhere(is_the_same))


def ctrl_c_cancels(way: Way) -> bool:
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(2 * LIMIT)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            cleaned.append(True)
            raise

    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    began = time.monotonic()
    try:
        way.anywhere(lambda: way.wait(work()))
    except KeyboardInterrupt:
        pass
    return bool(cleaned) and time.monotonic() - began < LIMIT


def variables_come_out(way: Way) -> bool:
    async def work() -> None:
        variable.set("by the work")

    def call() -> str:
        way.wait(work())
        return variable.get()

    return bool(way.anywhere(call) == "by the work")


FEATURES: dict[str, Callable[[Way], bool]] = {
    "waits in a thread without a loop": without_a_loop,
    "waits on the thread of a running loop": where_a_loop_runs,
    "such waits end in any order": in_any_order,
    "one coroutine awaits Deferreds and asyncio": deferreds_and_coroutines,
    "all calls share one loop, so a client is kept": one_loop,
    "Ctrl-C cancels the work, which cleans up": ctrl_c_cancels,
    "context variables come back": variables_come_out,
}


def tried(way: Way, feature: Callable[[Way], bool]) -> str:
    outcome: list[object] = []

    def attempt() -> None:
        try:
            outcome.append(feature(way))
        except BaseException as error:
            outcome.append(f"{type(error).__name__}: {error}")

    if isinstance(way, Threadsafe) and feature in (where_a_loop_runs, in_any_order):
        thread = threading.Thread(target=attempt, daemon=True)  # it hangs, and its loop with it
        thread.start()
        thread.join(LIMIT)
        if not outcome:
            way.set_up()
    else:
        attempt()
    found = outcome[0] if outcome else "it hangs"
    print(f"{feature.__name__}: {found}", file=sys.stderr)
    return "yes" if found is True else "no"


def main(name: str) -> None:
    warnings.simplefilter("ignore")
    way = WAYS[name]
    way.set_up()
    for title, feature in FEATURES.items():
        print(f"{tried(way, feature)} {title}", flush=True)
    os._exit(0)  # what hangs is left


if __name__ == "__main__":
    main(sys.argv[1])
