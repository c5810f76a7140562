"""Runs the demo after a change to its surroundings. Argument: the name of the change, which is a function here.

A change imports what it needs by itself: what is there when the demo is imported is part of what the tests are about.
"""

import sys


def another_strategy():
    from bridge import register_strategy, strategies

    class Elsewhere:
        name = "elsewhere"

        def unavailable(self):
            return "it is for other threads"

        def waiter(self):
            raise AssertionError

    print("there are:", *[each for each in strategies() if strategies()[each].unavailable() is None])
    register_strategy(Elsewhere())


def refusing_client():
    from bridge._cli import demo

    def refuse(reactor, url):
        raise ConnectionRefusedError("not today")

    demo.CLIENTS["asyncio"] = refuse


def taken_address():
    from bridge._cli import demo

    async def taken(*args):
        raise OSError("address in use")

    demo.asyncio.start_server = taken


def wrong_page():
    from bridge._cli import demo

    demo.Greeting.render_GET = lambda self, request: b"hello"


def broken_strategy():
    from bridge import register_strategy

    class Broken:
        name = "broken"

        def unavailable(self):
            return None

        def waiter(self):
            raise ZeroDivisionError("oh")

    register_strategy(Broken())


def no_loop():
    import asyncio

    def fail(self, selector=None):
        raise OSError("too many open files")

    asyncio.SelectorEventLoop.__init__ = fail
    asyncio.BaseEventLoop.__del__ = lambda self: None


globals()[sys.argv[1]]()

from bridge._cli import demo  # noqa: E402 - the change comes first

sys.exit(demo.main(40))
