"""The demo: servers and clients of both async worlds on one loop, called from this sync code, each step checked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import anyio
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site

from .._api.bridge import Bridge
from .._errors import StrategyUnavailable
from .._private.abilities import abilities, lost
from .._private.rows import REACTOR
from ..strategies import strategies

HOST = "127.0.0.1"
PATIENCE = 20.0  # seconds for a call

# Latency: the calls are made in batches that take turns, so that what slows the machine down slows all alike.
BATCHES = 20
WARM_UP = 50  # calls
TIME_LIMIT = 4.0  # seconds, for a table
BASELINE = "run_coroutine_threadsafe"


def main(calls: int) -> int:
    """Run the demo and return the exit status.

    :param calls: how many to time in each strategy.
    """
    began = time.perf_counter()
    versions = ", ".join(f"{name} {version(name)}" for name in ("Twisted", "anyio", "greenlet"))
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores")
    with contextlib.closing(Bridge("demo")) as bridge:
        demo = Demo(bridge)
        demo.run(calls)
    seconds = time.perf_counter() - began
    if demo.failed:
        print(f"\n{demo.failed} of {demo.steps} steps failed, in {seconds:.1f} s")
        return 1
    taken = demo.steps - demo.off - demo.absent
    if demo.off:
        print(f"\n{taken} steps succeeded, in {seconds:.1f} s; {demo.off} are off here")
    else:
        print(f"\nAll {taken} steps succeeded, in {seconds:.1f} s.")
    return 0


class NotHere(Exception):
    """This step is for another place, such as a window's thread; the message says why."""


class Demo:
    """The steps, and a count of those that failed, of those that need what is off here, and of those not for here."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.steps = 0
        self.failed = 0
        self.off = 0
        self.absent = 0
        self._urls: dict[str, str] = {}
        self._stops: list[Callable[[], Awaitable[object]]] = []
        self._timed: list[str] = []  # strategies

    def run(self, calls: int) -> None:
        """Take every step, whatever became of the ones before it."""
        off = [(ability, reason) for ability, reason in abilities() if reason is not None]
        if off:
            print("\nOff here, since a library has lost a private name; the rest goes on")
        for ability, reason in off:
            print(f"  off   {ability}: {reason}")
        print("\nOne loop in a thread of its own, two servers on it")
        self.step("start the loop", self.start_loop)
        self.step("start a Twisted web server", self.start_twisted_server)
        self.step("start an asyncio server", self.start_asyncio_server)
        print("\nCalls from sync code: block_on(...)")
        for client in CLIENTS:
            for server in SERVERS:
                self.step(f"{client} client, {server} server", partial(self.call, client, server))
        print("\nOne coroutine that awaits both kinds")
        self.step("gather() of Deferreds and coroutines", self.call_all)
        self.step("await a Deferred, then a coroutine", self.call_in_turn)
        self.step("stop the servers", self.stop_servers)
        print("\nStrategies: how the caller waits")
        for name in strategies():
            self.step(f"strategy {name}", partial(self.try_strategy, name))
        print(f"\nLatency of block_on(a coroutine that returns at once); ratio of medians to {BASELINE}()")
        self.step("the same two threads, free", partial(self.time_strategies, calls))
        if hasattr(os, "sched_setaffinity"):
            self.step("asyncio's own loop, all on one core", partial(self.time_strategies, calls, one_core=True))

    def step(self, title: str, action: Callable[[], str]) -> None:
        """Take a step and print what it says, or its error."""
        self.steps += 1
        try:
            outcome = "ok  ", action()
        except NotHere as error:
            self.absent += 1
            outcome = "--  ", f"not here: {error}"
        except StrategyUnavailable as error:  # it is one of those that are off
            self.off += 1
            outcome = "off ", str(error).partition(":")[0]
        except (Exception, asyncio.CancelledError) as error:
            self.failed += 1
            outcome = "FAIL", f"{type(error).__name__}: {error}"
        print(f"  {outcome[0]}  {title:36}  {outcome[1]}", flush=True)

    def start_loop(self) -> str:
        """Start the bridge; any other call would do so too."""
        self.bridge.start()
        thread = self.bridge.thread
        if thread is None or thread is threading.current_thread():
            raise AssertionError(f"the loop runs in {thread}")
        reactor = "no reactor" if lost(REACTOR) else type(self.bridge.reactor).__name__
        return f"{type(self.bridge.loop).__name__} and {reactor} in thread {thread.name!r}"

    def start_twisted_server(self) -> str:
        """Listen with twisted.web. A reactor belongs to its loop's thread, so it is called there."""
        reactor = self.bridge.reactor
        site = Site(Greeting(), reactor=reactor)  # type: ignore[no-untyped-call]
        port = self.bridge.block_on(lambda: reactor.listenTCP(0, site, interface=HOST), timeout=PATIENCE)
        self._stops.append(port.stopListening)
        self._urls["Twisted"] = f"http://{HOST}:{port.getHost().port}"
        return self._urls["Twisted"]

    def start_asyncio_server(self) -> str:
        """Listen with asyncio's streams."""
        server = self.bridge.block_on(asyncio.start_server(greet, HOST, 0), timeout=PATIENCE)

        def stop() -> Awaitable[None]:
            server.close()
            return server.wait_closed()

        self._stops.append(stop)
        self._urls["asyncio"] = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        return self._urls["asyncio"]

    def call(self, client: str, server: str) -> str:
        """Get one page in sync code."""
        reactor = self.bridge.reactor if "Twisted" in (client, server) else None
        url = self.url(client, server)
        get = CLIENTS[client]
        began = time.perf_counter()
        page = self.bridge.block_on(lambda: get(reactor, url), timeout=PATIENCE)
        milliseconds = (time.perf_counter() - began) * 1000
        return f"{checked(page, server, client)} ({milliseconds:.1f} ms)"

    def call_all(self) -> str:
        """Get a page by every client from every server, all at once, in one coroutine."""
        reactor = self.bridge.reactor
        pairs = [(client, server) for client in CLIENTS for server in SERVERS]

        async def gather() -> list[bytes]:
            gets = [CLIENTS[client](reactor, self.url(client, server)) for client, server in pairs]
            return await asyncio.gather(*gets)

        pages = self.bridge.block_on(gather(), timeout=PATIENCE)
        for page, (client, server) in zip(pages, pairs, strict=True):
            checked(page, server, client)
        return f"{len(pages)} pages at once"

    def call_in_turn(self) -> str:
        """Await a Deferred, a coroutine of asyncio and one of anyio, one after the other."""
        reactor = self.bridge.reactor

        async def in_turn() -> None:
            deferred = get_by_twisted(reactor, self.url("Twisted", "asyncio"))
            checked(await deferred, "asyncio", "Twisted")
            checked(await get_by_asyncio(reactor, self.url("asyncio", "Twisted")), "Twisted", "asyncio")
            checked(await get_by_anyio(reactor, self.url("anyio", "Twisted")), "Twisted", "anyio")

        self.bridge.block_on(in_turn(), timeout=PATIENCE)
        return "3 pages in turn"

    def url(self, client: str, server: str) -> str:
        """Return the address of the page that the client gets from the server."""
        if server not in self._urls:
            raise RuntimeError(f"the {server} server did not start")
        return f"{self._urls[server]}/{client}"

    def stop_servers(self) -> str:
        """Stop the servers that did start. One gives a Deferred, the other a coroutine."""
        for stop in self._stops:
            self.bridge.block_on(stop, timeout=PATIENCE)
        return "both have stopped" if len(self._stops) == len(SERVERS) else "those that started have stopped"

    def try_strategy(self, name: str) -> str:
        """Call in a strategy.

        :raises NotHere: it cannot be used in this place.
        """
        reason = strategies()[name].unavailable()
        if reason is not None:
            raise NotHere(reason)
        batch(self._blocking(name), WARM_UP)
        self._timed.append(name)
        return f"{WARM_UP} calls"

    def time_strategies(self, calls: int, one_core: bool = False) -> str:
        """Time calls in every strategy that works here, and print the table.

        :param one_core: run the baseline on asyncio's own loop, and all threads on one core. Else it runs on the
            bridge's loop: two threads on two cores take several times as long as on one, and the system may put one
            pair of threads together and another pair apart. So both ways have the same pair.
        """
        if not self._timed:
            raise RuntimeError("no strategy worked")
        with contextlib.ExitStack() as stack:
            loop = self.bridge.loop
            if one_core:
                loop, thread = stack.enter_context(plain_loop())
                stack.enter_context(on_one_core(thread, self.bridge.thread))

            def baseline(number: int) -> int:
                return asyncio.run_coroutine_threadsafe(echo(number), loop).result()

            batch(baseline, WARM_UP)
            times = timed({BASELINE: baseline} | {name: self._blocking(name) for name in self._timed}, calls)
        median = {name: taken[len(taken) // 2] for name, taken in times.items()}
        p99 = {name: taken[len(taken) * 99 // 100] for name, taken in times.items()}
        print(f"\n        {'':26}{'median':>10}{'p99':>13}{'ratio':>9}")
        for name in times:
            ratio = median[name] / median[BASELINE]
            print(f"        {name:26}{median[name]:7.1f} µs{p99[name]:10.1f} µs{ratio:9.2f}")
        print()
        return f"{len(times[BASELINE])} calls each"

    def _blocking(self, strategy: str) -> Callable[[int], int]:
        return lambda number: self.bridge.block_on(echo(number), strategy=strategy)


# The servers.


class Greeting(Resource):
    """Greets the client that the path names, in twisted.web."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Return the page."""
        return greeting("Twisted", request.path)


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet the client that the path names, in HTTP over asyncio's streams, and hang up."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        body = greeting("asyncio", head.split(b" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


def greeting(server: str, path: bytes) -> bytes:
    """Return the page of a path."""
    return b"%b's server greets %b's client" % (server.encode(), path.removeprefix(b"/"))


def checked(page: bytes, server: str, client: str) -> str:
    """Return the text of a page.

    :raises AssertionError: it is not the one that the server should have sent to the client.
    """
    expected = greeting(server, client.encode())
    if page != expected:
        raise AssertionError(f"got {page!r} instead of {expected!r}")
    return page.decode()


# The clients. They are called on the loop's thread.


def get_by_twisted(reactor: Any, url: str) -> Deferred[bytes]:
    """Get a page by Twisted's client."""
    agent = Agent(reactor)  # type: ignore[no-untyped-call]
    return agent.request(b"GET", url.encode()).addCallback(_body_of_response)


async def get_by_asyncio(reactor: Any, url: str) -> bytes:
    """Get a page by asyncio's streams."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(_request(address.path))
        return _body(await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()


async def get_by_anyio(reactor: Any, url: str) -> bytes:
    """Get a page by anyio's streams."""
    address = urlsplit(url)
    async with await anyio.connect_tcp(address.hostname or HOST, address.port or 80) as stream:
        await stream.send(_request(address.path))
        return _body(b"".join([chunk async for chunk in stream]))


SERVERS = ("Twisted", "asyncio")
CLIENTS: dict[str, Callable[[Any, str], Awaitable[bytes]]] = {
    "Twisted": get_by_twisted,
    "asyncio": get_by_asyncio,
    "anyio": get_by_anyio,
}


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


def _body(reply: bytes) -> bytes:
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise AssertionError(f"got {reply!r}")
    return body


def _body_of_response(response: Any) -> Deferred[bytes]:
    if response.code != 200:
        raise AssertionError(f"got status {response.code}")
    return readBody(response)


# The latency.


async def echo(number: int) -> int:
    """Return at once."""
    return number


@contextlib.contextmanager
def plain_loop() -> Generator[tuple[asyncio.AbstractEventLoop, threading.Thread]]:
    """Run asyncio's own loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="plain asyncio", daemon=True)
    thread.start()
    try:
        yield loop, thread
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def on_one_core(*threads: threading.Thread | None) -> Generator[None]:
    """Keep these threads and the present one on one core, where figures repeat to a few per cent."""
    threads = (*threads, threading.current_thread())
    idents = [thread.native_id for thread in threads if thread is not None and thread.native_id is not None]
    cores = {ident: os.sched_getaffinity(ident) for ident in idents}
    one = {min(os.sched_getaffinity(0))}
    try:
        for ident in idents:
            os.sched_setaffinity(ident, one)
        yield
    finally:
        for ident in idents:
            os.sched_setaffinity(ident, cores[ident])


def timed(ways: dict[str, Callable[[int], int]], calls: int) -> dict[str, list[float]]:
    """Make so many calls in each way, in batches that take turns, and return the microseconds of each, sorted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    size = max(1, calls // BATCHES)
    deadline = time.perf_counter() + TIME_LIMIT
    while len(times[BASELINE]) < calls and time.perf_counter() < deadline:
        for name, call in ways.items():
            times[name] += batch(call, min(size, calls - len(times[name])))
    return {name: sorted(taken) for name, taken in times.items()}


def batch(call: Callable[[int], int], size: int) -> list[float]:
    """Make so many calls in a row and return the microseconds that each took.

    :raises AssertionError: a call returned something wrong.
    """
    clock = time.perf_counter_ns
    times: list[float] = []
    for number in range(size):
        began = clock()
        result = call(number)
        times.append((clock() - began) / 1000)
        if result != number:
            raise AssertionError(f"got {result!r} instead of {number}")
    return times
