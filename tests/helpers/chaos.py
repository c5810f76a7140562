"""Chaos: many threads of mixed calls, while time-outs, cancels, Ctrl-C, deaths of the loop and forks hit them.

``python tests/helpers/chaos.py --seconds 60 --seed 7``. The seed is printed first. It decides what every thread does,
one thing after the other; how the threads interleave is up to the machine. Every call is written down as it begins and
as it ends. It must end once, with the right result or with an error that is right for it: a time-out if it had one,
``BridgeClosed`` if the loop died, a cancellation if it was cancelled. What takes longer than ``--limit`` seconds ends
the program with the stacks of every thread. In the end nothing may be left: no open call, task, greenlet, thread,
descriptor or child.

The calls go over real sockets, to an echo server of asyncio's and one of Twisted's. These run in a process of their
own, which survives the loop's deaths. The exit status is 0 if all was well, 1 if some call ended wrongly or something
was left, 3 if something hung.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import gc
import itertools
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any

import psutil
from greenlet import greenlet
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.logger import globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver

import bridge
from bridge import BridgeClosed, block_on, default_bridge, in_thread, iterate, run, submit

HOST = "127.0.0.1"
CANCELLATIONS = (
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    CancelledError,
)
# How long after a death of the loop a call may still be failed by it, in seconds.
AFTERMATH = 10.0


class Planned(Exception):
    """What some of the work raises on purpose."""


# --- the ledger


@dataclasses.dataclass(eq=False)
class Entry:
    """One call."""

    number: int
    kind: str
    begun: float
    limit: float | None = None  # its time-out, in seconds
    fails: bool = False
    cancelled: bool = False
    runs: int = 0  # how often its work was begun
    ends: int = 0
    outcome: str = ""

    @property
    def text(self) -> str:
        return f"echo {self.number}"


class Ledger:
    """Every call that was made, and what became of it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.open: dict[int, Entry] = {}
        self.outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.wrong: list[str] = []
        self.deaths: collections.deque[float] = collections.deque(maxlen=1000)  # when they were caused

    def begin(self, kind: str) -> Entry:
        entry = Entry(next(self._numbers), kind, time.monotonic())
        self.open[entry.number] = entry
        return entry

    def end(self, entry: Entry, result: object, error: BaseException | None) -> None:
        entry.ends += 1
        entry.outcome = self._judge(entry, result, error)
        if entry.ends > 1:
            self.complain(entry, error, "ended twice")
        if entry.runs > 1:
            self.complain(entry, error, f"its work was begun {entry.runs} times")
        if not entry.outcome:
            entry.outcome = "WRONG"
            self.complain(entry, error, f"ended with {result!r}" if error is None else f"ended with {error!r}")
        self.open.pop(entry.number, None)
        with self._lock:
            self.outcomes[entry.kind, entry.outcome] += 1

    def _judge(self, entry: Entry, result: object, error: BaseException | None) -> str:
        """Return the name of a right outcome, "" for any other."""
        if error is None:
            return "right" if result == entry.text and entry.runs == 1 and not entry.fails else ""
        if isinstance(error, Planned):
            return "failed as planned" if entry.fails else ""
        if isinstance(error, KeyboardInterrupt):
            return "interrupted" if threading.current_thread() is threading.main_thread() else ""
        if isinstance(error, BridgeClosed):
            died = any(entry.begun - AFTERMATH < each for each in self.deaths.copy())
            return "closed" if died else ""
        if isinstance(error, TimeoutError):
            return "timed out" if entry.limit is not None else ""
        if isinstance(error, CANCELLATIONS):
            return "cancelled" if entry.cancelled else ""
        return ""

    def complain(self, entry: Entry, error: BaseException | None, what: str) -> None:
        stack = "" if error is None else "".join(traceback.format_exception(error))
        self.wrong.append(f"call {entry.number} ({entry.kind}, limit {entry.limit}): {what}\n{stack}")


# --- the work, on either side


class Line(LineOnlyReceiver):
    """Sends a line and fires with the one that comes back."""

    delimiter = b"\n"

    def __init__(self, text: str) -> None:
        self.text = text
        self.answer: Deferred[str] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        self.sendLine(self.text.encode())

    def lineReceived(self, line: bytes) -> None:
        self.transport.loseConnection()
        if not self.answer.called:
            self.answer.callback(line.decode())

    def connectionLost(self, reason: Any = None) -> None:
        if not self.answer.called:
            self.answer.errback(reason)


class Work:
    """What calls ask of the two servers."""

    def __init__(self, asyncio_port: int, twisted_port: int) -> None:
        self.asyncio_port = asyncio_port
        self.twisted_port = twisted_port

    async def echo(self, entry: Entry, *, count: bool = True) -> str:
        """Ask asyncio's server, by asyncio's streams."""
        if count:
            entry.runs += 1
        reader, writer = await asyncio.open_connection(HOST, self.asyncio_port)
        try:
            writer.write(f"{entry.text}\n".encode())
            line = await reader.readline()
        finally:
            writer.close()
        if entry.fails:
            raise Planned
        return line.decode().rstrip("\n")

    def echo_deferred(self, entry: Entry, *, count: bool = True) -> Deferred[str]:
        """Ask Twisted's server, by Twisted's protocols; on the loop's thread."""
        if count:
            entry.runs += 1
        return self._ask(entry)

    def _ask(self, entry: Entry) -> Deferred[str]:
        from twisted.internet import reactor

        endpoint = TCP4ClientEndpoint(reactor, HOST, self.twisted_port)
        connected = connectProtocol(endpoint, Line(entry.text))
        connected.addCallback(lambda protocol: protocol.answer)
        return connected.addCallback(self._failing, entry)

    def _failing(self, answer: str, entry: Entry) -> str:
        if entry.fails:
            raise Planned
        return answer

    async def both(self, entry: Entry) -> str:
        """Ask both, one task awaiting the Deferred of the other world."""
        entry.runs += 1
        first, second = await asyncio.gather(self.echo(entry, count=False), self.echo_deferred(entry, count=False))
        assert first == second
        return first

    async def several(self, entry: Entry, count: int) -> AsyncIterator[str]:
        entry.runs += 1
        for _ in range(count):
            yield await self.echo(entry, count=False)

    async def idle(self, entry: Entry) -> None:
        entry.runs += 1
        await asyncio.sleep(3600)


# --- the calls


class Caller:
    """One thread's calls."""

    def __init__(self, work: Work, ledger: Ledger, seed: str, until: float) -> None:
        self.work = work
        self.ledger = ledger
        self.random = random.Random(seed)
        self.until = until
        self.kinds = [getattr(self, name) for name in dir(self) if name.startswith("call_")]

    def go_on(self) -> None:
        """Make one call after the other until the time is up."""
        while time.monotonic() < self.until:
            self.one()

    def one(self) -> None:
        kind = self.random.choice(self.kinds)
        entry = self.ledger.begin(kind.__name__.removeprefix("call_"))
        entry.fails = self.random.random() < 0.1
        result, error = None, None
        try:
            result = kind(entry)
        except BaseException as raised:
            error = raised
        self.ledger.end(entry, result, error)
        if isinstance(error, KeyboardInterrupt):
            raise error

    def _options(self, entry: Entry, *, strategies: bool = True) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.random.random() < 0.3:
            entry.limit = options["timeout"] = self.random.choice([0, 0.0001, 0.001, 0.01, 5])
        if strategies and self.random.random() < 0.7:
            options["strategy"] = self.random.choice(["auto", "event", "lock", "queue"])
        return options

    def _source(self, entry: Entry) -> Callable[[], Any]:
        """Return a function that makes what asks a server, of a random kind."""
        sources: list[Callable[[], Any]] = [
            lambda: self.work.echo(entry),
            lambda: lambda: self.work.echo(entry),
            lambda: lambda: self.work.echo_deferred(entry),
            lambda: self.work.both(entry),
        ]
        return self.random.choice(sources)

    def call_block_on(self, entry: Entry) -> str:
        return block_on(self._source(entry)(), **self._options(entry))

    def call_callable(self, entry: Entry) -> str:
        def called() -> str:
            entry.runs += 1
            if entry.fails:
                raise Planned
            return entry.text

        return block_on(called, **self._options(entry))

    def call_time_out(self, entry: Entry) -> None:
        entry.limit = self.random.choice([0, 0.0001, 0.001, 0.01])
        block_on(self.work.idle(entry), timeout=entry.limit)

    def call_submit(self, entry: Entry) -> str:
        future = submit(self._source(entry)())
        ends: list[object] = []
        future.add_done_callback(ends.append)
        if self.random.random() < 0.3:
            entry.cancelled = True
            future.cancel()
        try:
            result: str = future.result()
        finally:
            if future.done() and len(ends) > 1:
                self.ledger.complain(entry, None, f"its Future called back {len(ends)} times")
        return result

    def call_many_at_once(self, entry: Entry) -> str:
        entry.fails = False
        futures = [submit(self.work.echo(entry, count=False)) for _ in range(self.random.randrange(1, 10))]
        results: list[object] = []
        errors: list[BaseException] = []
        for future in futures:
            try:
                results.append(future.result())
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors.pop()
        entry.runs += 1
        return entry.text if results == [entry.text] * len(futures) else repr(results)

    def call_iterate(self, entry: Entry) -> str:
        count = self.random.randrange(1, 5)
        stops = self.random.random() < 0.3
        got = []
        with iterate(self.work.several(entry, count), prefetch=self.random.choice([0, 1, 16])) as items:
            for item in items:
                got.append(item)
                if stops:
                    break
        return entry.text if got == [entry.text] * (1 if stops else count) else repr(got)

    def call_on_the_loop(self, entry: Entry) -> str:
        """Block on the loop's own thread."""
        options = self._options(entry, strategies=False)
        source = self._source(entry)
        return run(lambda: block_on(source(), **options))

    def call_in_thread(self, entry: Entry) -> str:
        """Go to a worker thread of the loop's and from there back to the loop."""

        source = self._source(entry)

        async def main() -> str:
            return await in_thread(lambda: block_on(source()))

        return block_on(main(), **self._options(entry))

    def call_greenlets(self, entry: Entry) -> str:
        """Let several greenlets of this thread wait at once."""
        entry.fails = False
        results: list[object] = []
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                results.append(block_on(self.work.echo(entry, count=False), strategy="greenlet"))
            except BaseException as error:
                errors.append(error)

        waiting = [greenlet(wait) for _ in range(self.random.randrange(1, 5))]
        for each in waiting:
            each.switch()
        while not all(each.dead for each in waiting):
            try:
                block_on(asyncio.sleep(0.001), strategy="greenlet")
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors.pop()
        entry.runs += 1
        return entry.text if results == [entry.text] * len(waiting) else repr(results)

    def call_cancelled_by_another(self, entry: Entry) -> None:
        """Wait for a task that somebody else cancels."""
        entry.cancelled = True
        started: concurrent.futures.Future[Any] = concurrent.futures.Future()

        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_later(self.random.choice([0, 0.001]), task.cancel)
            started.set_result(None)
            await self.work.idle(entry)

        block_on(main(), **self._options(entry))


# --- what hits them


class Killer:
    """Ends the loop, in every way there is, and waits for the next life."""

    def __init__(self, ledger: Ledger, seed: str, until: float) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self.until = until
        self.deaths: collections.Counter[str] = collections.Counter()

    def go_on(self) -> None:
        while time.monotonic() < self.until - 1:
            time.sleep(self.random.uniform(0.05, 0.6))
            way = self.random.choice([name for name in dir(self) if name.startswith("by_")])
            entry = self.ledger.begin(way)
            self.ledger.deaths.append(time.monotonic())
            with contextlib.suppress(BridgeClosed, RuntimeError):  # it is dying already
                getattr(self, way)()
            self.ledger.deaths.append(time.monotonic())
            self.deaths[way] += 1
            with contextlib.suppress(BridgeClosed):  # what met a loop that was closed already ends the next one
                default_bridge().start()
            self.ledger.deaths.append(time.monotonic())
            self.ledger.open.pop(entry.number)

    def by_reactor_stop(self) -> None:
        reactor = default_bridge().reactor
        reactor.callFromThread(self._stop, reactor.stop)

    def by_reactor_crash(self) -> None:
        reactor = default_bridge().reactor
        reactor.callFromThread(self._stop, reactor.crash)

    def _stop(self, stop: Callable[[], object]) -> None:
        self.ledger.deaths.append(time.monotonic())
        with contextlib.suppress(Exception):  # it is stopping already
            stop()

    def by_loop_stop(self) -> None:
        loop = default_bridge().loop
        loop.call_soon_threadsafe(loop.stop)

    def by_exit(self) -> None:
        default_bridge().loop.call_soon_threadsafe(sys.exit, "out of a callback")

    def by_close(self) -> None:
        default_bridge().close()


class Interrupter:
    """Sends Ctrl-C to the main thread while it calls, and sometimes a second one right after."""

    def __init__(self, seed: str, until: float) -> None:
        self.random = random.Random(seed)
        self.until = until
        self.sent = 0
        self.armed = False

    def go_on(self) -> None:
        while time.monotonic() < self.until - 1:
            time.sleep(self.random.uniform(0.01, 0.3))
            for _ in range(self.random.choice([1, 1, 1, 2])):
                if self.armed:
                    self.sent += 1
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


# The errors that Python has ignored in this process: in a child, those of what runs as it is forked.
ignored: list[str] = []


def on_ignored(unraisable: Any) -> None:
    ignored.append(repr(unraisable.exc_value))
    sys.__unraisablehook__(unraisable)


class Forker:
    """Forks children, each of which makes a call and exits."""

    def __init__(self, work: Work, ledger: Ledger, seed: str, until: float, limit: float) -> None:
        self.work = work
        self.ledger = ledger
        self.random = random.Random(seed)
        self.until = until
        self.limit = limit
        self.forks = 0

    def go_on(self) -> None:
        while time.monotonic() < self.until - 1:
            time.sleep(self.random.uniform(0.1, 1.0))
            entry = self.ledger.begin("fork")
            status = self._fork(entry) if self.random.random() < 0.6 else self._process(entry)
            self.forks += 1
            if status != 0:
                self.ledger.complain(entry, None, f"the child ended with status {status}")
            self.ledger.open.pop(entry.number)

    def _fork(self, entry: Entry) -> int:
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                status = self._child(entry)
            finally:
                os._exit(status)
        deadline = time.monotonic() + self.limit
        while time.monotonic() < deadline:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -signal.SIGKILL

    def _process(self, entry: Entry) -> int | None:
        process = multiprocessing.get_context("fork").Process(target=self._in_process, args=(entry,))
        process.start()
        process.join(self.limit)
        if process.is_alive():
            process.kill()
            process.join()
        status = process.exitcode
        process.close()
        return status

    def _in_process(self, entry: Entry) -> None:
        sys.exit(self._child(entry))

    def _child(self, entry: Entry) -> int:
        faulthandler.dump_traceback_later(self.limit * 0.8, exit=True)
        if ignored:
            return 96
        try:
            for source in (self.work.echo(entry), lambda: self.work.echo_deferred(entry)):
                if block_on(source, timeout=self.limit) != entry.text:
                    return 98
            default_bridge().close()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            return 97
        faulthandler.cancel_dump_traceback_later()
        return 0


class Watchdog:
    """Ends the program, with every stack, when a call takes too long."""

    def __init__(self, ledger: Ledger, limit: float) -> None:
        self.ledger = ledger
        self.limit = limit
        self.over = threading.Event()

    def go_on(self) -> None:
        while not self.over.wait(0.5):
            now = time.monotonic()
            for entry in list(self.ledger.open.values()):
                if now - entry.begun > self.limit:
                    hang(f"call {entry.number} ({entry.kind}) has taken {now - entry.begun:.1f} seconds")


def hang(what: str) -> None:
    """Print every stack and end the program."""
    os.write(2, f"HANG: {what}\n".encode())
    faulthandler.dump_traceback(all_threads=True)
    dump = getattr(bridge, "dump", None)
    if dump is not None:
        with contextlib.suppress(Exception):
            dump(sys.stderr)
    os._exit(3)


# --- the program


def serve() -> None:
    """Run both servers until standard input ends. This is a process of its own."""
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(line)
        writer.close()

    class Echo(LineOnlyReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            self.sendLine(line)

    async def main() -> None:
        server = await asyncio.start_server(handle, HOST, 0, backlog=1000)
        port = reactor.listenTCP(0, Factory.forProtocol(Echo), backlog=1000, interface=HOST)
        print(server.sockets[0].getsockname()[1], port.getHost().port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)

    loop = asyncio.SelectorEventLoop()
    reactor = AsyncioSelectorReactor(loop)
    reactor.startRunning(installSignalHandlers=False)
    loop.run_until_complete(main())


def settle(what: Callable[[], object], seconds: float = 10.0) -> object:
    """Wait until the function returns something false, and return what it returned last."""
    deadline = time.monotonic() + seconds
    while (found := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def leftovers(baseline: dict[str, object], server: int) -> list[str]:
    """Return what is left, now that every caller has ended."""
    found = []
    one: Any = default_bridge()

    def tasks() -> list[str]:
        async def others() -> list[str]:
            loop = asyncio.get_running_loop()
            return [
                repr(task)
                for task in asyncio.all_tasks()
                if task is not asyncio.current_task() and "_serve" not in repr(task) and task.get_loop() is loop
            ]

        return block_on(others())

    if left := settle(tasks):
        found.append(f"tasks: {left}")
    if left := settle(lambda: [repr(each.x) for each in one.current_run().open]):
        found.append(f"open calls: {left}")
    if left := settle(lambda: len(getattr(one.loop, "_waits", ()))):
        found.append(f"{left} blocked stacks")
        for stack, wait in list(one.loop._waits.items()):
            found.append(f"{wait.future!r}\n{''.join(traceback.format_stack(stack.gr_frame))}")
    one.close()
    for name, count in (("threads", threads), ("greenlets", greenlets), ("descriptors", descriptors)):
        before = baseline[name]
        if settle(lambda count=count, before=before: count() != before):
            found.append(f"{name}: {before} before, {count()} now")
    if left := [each for each in psutil.Process().children() if each.pid != server]:
        found.append(f"children: {left}")
    return found


def threads() -> list[str]:
    return sorted(
        each.name for each in threading.enumerate() if not each.name.startswith(("watchdog", "bridge-watchdog"))
    )


def greenlets() -> int:
    gc.collect()
    return sum(isinstance(each, greenlet) and not each.dead and bool(each.gr_frame) for each in gc.get_objects())


def descriptors() -> int:
    gc.collect()
    return psutil.Process().num_fds()


def main() -> int:
    parser = argparse.ArgumentParser(description="Chaos.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds that anything may take")
    parser.add_argument("--without", nargs="*", default=[], choices=["deaths", "interrupts", "forks"])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
    seed = random.SystemRandom().randrange(10**9) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    logging.getLogger("bridge").setLevel(logging.CRITICAL)  # work whose submitter was interrupted
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    globalLogBeginner.beginLoggingTo([lambda event: None], redirectStandardIO=False)
    faulthandler.enable()
    sys.unraisablehook = on_ignored
    os.register_at_fork(before=ignored.clear)

    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    work = Work(*map(int, server.stdout.readline().split()))
    try:
        return chaos(work, server.pid, seed, arguments)
    finally:
        server.communicate("")


def on_interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt in the calls of the main thread, and not where nobody catches it."""
    if frame is None or frame.f_code is not chaos.__code__:
        raise KeyboardInterrupt


def chaos(work: Work, server: int, seed: int, arguments: argparse.Namespace) -> int:
    ledger = Ledger()
    watchdog = Watchdog(ledger, arguments.limit)
    threading.Thread(target=watchdog.go_on, name="watchdog", daemon=True).start()
    # One life before, so that what is set up once is there.
    warm = Caller(work, ledger, f"{seed}-warm", 0)
    for _ in range(50):
        warm.one()
    default_bridge().close()
    settle(lambda: len(threads()) - 1)
    baseline: dict[str, object] = {"threads": threads(), "greenlets": greenlets(), "descriptors": descriptors()}

    until = time.monotonic() + arguments.seconds
    killer = Killer(ledger, f"{seed}-killer", until)
    interrupter = Interrupter(f"{seed}-interrupter", until)
    forker = Forker(work, ledger, f"{seed}-forker", until, arguments.limit)
    running: list[Any] = [Caller(work, ledger, f"{seed}-{number}", until) for number in range(arguments.threads)]
    for name, each in (("deaths", killer), ("interrupts", interrupter), ("forks", forker)):
        if name not in arguments.without:
            running.append(each)
    failed: list[str] = []

    def guard(each: Any) -> None:
        try:
            each.go_on()
        except BaseException:
            failed.append(traceback.format_exc())

    beside = [threading.Thread(target=guard, args=(each,), name=type(each).__name__) for each in running]
    for thread in beside:
        thread.start()
    mine = Caller(work, ledger, f"{seed}-main", until)
    signal.signal(signal.SIGINT, on_interrupt)
    while time.monotonic() < until:
        try:
            interrupter.armed = True
            mine.go_on()
            interrupter.armed = False
        except KeyboardInterrupt:
            continue
    while True:
        try:
            interrupter.armed = False
            for thread in beside:
                thread.join(arguments.limit)
                if thread.is_alive():
                    hang(f"the thread {thread.name} has not ended")
            break
        except KeyboardInterrupt:
            continue
    # A call of the main thread's that was interrupted before it was written down as ended.
    for entry in list(ledger.open.values()):
        if entry.kind != "fork":
            ledger.open.pop(entry.number)
            ledger.outcomes[entry.kind, "interrupted"] += 1
    found = leftovers(baseline, server)
    watchdog.over.set()

    total = sum(ledger.outcomes.values())
    by_outcome: collections.Counter[str] = collections.Counter()
    for (_, outcome), count in ledger.outcomes.items():
        by_outcome[outcome] += count
    print(
        f"{total} calls ({', '.join(f'{count} {outcome}' for outcome, count in by_outcome.most_common())}), "
        f"{sum(killer.deaths.values())} deaths, {interrupter.sent} interrupts, {forker.forks} forks"
    )
    for text in [*failed, *ledger.wrong[:10], *(f"left: {each}" for each in found)]:
        print(text, file=sys.stderr)
    ok = not failed and not ledger.wrong and not found and by_outcome["right"] > 0
    print(
        "all well"
        if ok
        else f"{len(ledger.wrong)} wrong, {len(found)} kinds of leftovers, {len(failed)} failed threads"
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
