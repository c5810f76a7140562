"""Peers that call a loop in another thread, and bridge. Each has an adapter of a few lines."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..._api.bridge import Bridge
from ..._api.default import block_on, configure, default_bridge
from ...strategies import strategies
from .model import library
from .way import InThisThread, Once, Peer, Way, by_coroutine, by_deferred
from .works import VALUE, Forms, Work

# --- floors: the least work that such a call has to do


@contextmanager
def _ping_pong() -> Generator[Way]:
    """Wake another thread by a lock, and be woken by another lock."""
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()
    over = False

    def answer() -> None:
        while True:
            ping.acquire()
            if over:
                return
            pong.release()

    def once() -> object:
        ping.release()
        pong.acquire()
        return VALUE

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield InThisThread(lambda forms, work: once)
    finally:
        over = True
        ping.release()
        thread.join()


@contextmanager
def _floor() -> Generator[Way]:
    """Have the loop release a lock, and wait for that."""
    lock = threading.Lock()
    lock.acquire()
    with plain_loop() as loop:

        def once() -> object:
            loop.call_soon_threadsafe(lock.release)
            lock.acquire()
            return VALUE

        yield InThisThread(lambda forms, work: once)


# --- peers


@contextmanager
def _run_coroutine_threadsafe() -> Generator[Way]:
    with plain_loop() as loop:
        yield by_coroutine(lambda make: lambda: asyncio.run_coroutine_threadsafe(make(), loop).result())


@contextmanager
def _portal() -> Generator[Way]:
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        yield by_coroutine(lambda make: lambda: portal.call(make))


@contextmanager
def _async_to_sync() -> Generator[Way]:
    async_to_sync: Any = library("asgiref.sync").async_to_sync
    yield by_coroutine(lambda make: async_to_sync(_async(make)))


@contextmanager
def _synchronicity() -> Generator[Way]:
    synchronizer: Any = library("synchronicity").Synchronizer()

    def wrap(make: Callable[[], Any]) -> Once:
        once: Once = synchronizer.create_blocking(_async(make), "call", __name__)
        return once

    yield by_coroutine(wrap)


@contextmanager
def _unsync() -> Generator[Way]:
    unsync: Any = library("unsync").unsync

    def wrap(make: Callable[[], Any]) -> Once:
        start = unsync(_async(make))
        return lambda: start().result()

    yield by_coroutine(wrap)


@contextmanager
def _crochet() -> Generator[Way]:
    crochet: Any = library("crochet")
    crochet.setup()
    from twisted.internet import reactor

    yield by_deferred(reactor, lambda make: crochet.wait_for(60.0)(make))


@contextmanager
def _blocking_call(make_reactor: Callable[[], Any]) -> Generator[Way]:
    from twisted.internet.threads import blockingCallFromThread

    with running_reactor(make_reactor) as reactor:
        call: Any = blockingCallFromThread
        yield by_deferred(reactor, lambda make: lambda: call(reactor, make))


def _asyncio_reactor() -> Any:
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    return AsyncioSelectorReactor(asyncio.SelectorEventLoop())


def _epoll_reactor() -> Any:
    return library("twisted.internet.epollreactor").EPollReactor()


@contextmanager
def _aiologic() -> Generator[Way]:
    """Start a task, which sets an event that a thread can wait for. A queue of aiologic's takes as long or longer."""
    event_class: Any = library("aiologic").Event

    with plain_loop() as loop:

        def wait(make: Callable[[], Any]) -> Once:
            def once() -> object:
                over = event_class()
                outcome = _Outcome()
                task = outcome.take(make(), over.set)
                loop.call_soon_threadsafe(loop.create_task, task)
                over.wait()
                return outcome.get()

            return once

        yield by_coroutine(wait)


@contextmanager
def _culsans() -> Generator[Way]:
    """Start a task, which puts its outcome into a queue of the thread. A new queue for every call takes longer."""
    queue_class: Any = library("culsans").Queue
    own = threading.local()

    with plain_loop() as loop:

        def wait(make: Callable[[], Any]) -> Once:
            def once() -> object:
                queue = getattr(own, "queue", None)
                if queue is None:
                    queue = own.queue = queue_class()
                outcome = _Outcome()
                task = outcome.take(make(), lambda: queue.put_nowait(outcome))
                loop.call_soon_threadsafe(loop.create_task, task)
                return queue.sync_q.get().get()

            return once

        yield by_coroutine(wait)


class _Outcome:
    """What a coroutine returns or raises. Libraries that carry no errors need it."""

    def __init__(self) -> None:
        self._value: object = None
        self._error: BaseException | None = None

    async def take(self, coro: Any, done: Callable[[], object]) -> None:
        """Await the coroutine, and say when that is done."""
        try:
            self._value = await coro
        except BaseException as error:
            self._error = error
        finally:
            done()

    def get(self) -> object:
        """Return the value, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value


@contextmanager
def _run() -> Generator[Way]:
    yield by_coroutine(lambda make: lambda: asyncio.run(make()))


@contextmanager
def _runner() -> Generator[Way]:
    with asyncio.Runner() as runner:
        yield by_coroutine(lambda make: lambda: runner.run(make()))


def _async(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return a new async function, which these libraries can decorate."""

    async def function() -> Any:
        return await make()

    return function


_ASYNCIO = frozenset({"asyncio"})
_TWISTED = frozenset({"twisted"})

FLOOR = Peer("floor", "floor: call_soon_threadsafe(lock.release)", _floor, contender=False)
PING_PONG = Peer(
    "ping_pong", "floor: a lock, to another thread and back", _ping_pong, contender=False, only=frozenset({"at_once"})
)

_ALL = [
    Peer("run_coroutine_threadsafe", "asyncio.run_coroutine_threadsafe", _run_coroutine_threadsafe, worlds=_ASYNCIO),
    Peer("blockingCallFromThread", "Twisted's blockingCallFromThread, asyncio reactor",
         partial(_blocking_call, _asyncio_reactor), worlds=_TWISTED),
    Peer("blockingCallFromThread_epoll", "Twisted's blockingCallFromThread, epoll reactor",
         partial(_blocking_call, _epoll_reactor), worlds=_TWISTED),
    Peer("portal", "anyio's BlockingPortal", _portal, worlds=_ASYNCIO),
    Peer("crochet", "crochet's wait_for", _crochet, ["crochet"], worlds=_TWISTED),
    Peer("synchronicity", "synchronicity", _synchronicity, ["synchronicity"], worlds=_ASYNCIO),
    Peer("unsync", "unsync", _unsync, ["unsync"], worlds=_ASYNCIO),
    Peer("async_to_sync", "asgiref's async_to_sync", _async_to_sync, ["asgiref"], worlds=_ASYNCIO),
    Peer("aiologic", "aiologic's Event, set by a task", _aiologic, ["aiologic"], worlds=_ASYNCIO),
    Peer("culsans", "culsans' Queue, filled by a task", _culsans, ["culsans"], worlds=_ASYNCIO),
    Peer("asyncio_run", "asyncio.run, a new loop in this thread", _run, worlds=_ASYNCIO, contender=False),
    Peer("runner", "asyncio.Runner.run, a loop in this thread", _runner, worlds=_ASYNCIO, contender=False),
]  # fmt: skip

# macOS has no epoll.
PEERS = [peer for peer in _ALL if hasattr(select, "epoll") or not peer.name.endswith("_epoll")]


# --- bridge


@contextmanager
def _default() -> Generator[Way]:
    """Call ``bridge.block_on``, with the default bridge and the default strategy."""
    configure(install_reactor=False)
    default_bridge().start()
    try:
        yield _by(block_on)
    finally:
        default_bridge().close()


@contextmanager
def _bridge(**options: Any) -> Generator[Way]:
    with Bridge(install_reactor=False, **options) as bridge:
        yield _by(bridge.block_on, lambda: bridge.reactor)


def _by(block: Callable[[Any], Any], reactor: Callable[[], Any] = lambda: default_bridge().reactor) -> Way:
    def once(forms: Forms, work: Work) -> Once | None:
        make, deferred = forms.coroutine, forms.deferred
        if work.twisted or make is None:
            if deferred is None:
                return None
            there = reactor()
            return lambda: block(lambda: deferred(there))
        return lambda: block(make())

    return InThisThread(once)


def _uvloop() -> Any:
    return library("uvloop").new_event_loop()


def ours() -> list[Peer]:
    """Return the ways to call ``block_on``: with the defaults, each usable strategy, and uvloop."""
    found = [Peer("block_on", "bridge.block_on", _default)]
    for name, strategy in strategies().items():
        if name != "auto" and strategy.unavailable() is None:
            found.append(Peer(f"block_on[{name}]", f"bridge, strategy {name}", partial(_bridge, strategy=name)))
    uvloop = Peer("block_on[uvloop]", "bridge, uvloop", partial(_bridge, loop_factory=_uvloop), ["uvloop"], _ASYNCIO)
    return [*found, uvloop]


# --- loops for the peers


@contextmanager
def plain_loop() -> Generator[asyncio.AbstractEventLoop]:
    """Run a plain asyncio loop in a thread of its own."""
    loop = asyncio.SelectorEventLoop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def running_reactor(make: Callable[[], Any]) -> Generator[Any]:
    """Run a reactor in a thread of its own, not installed and without signal handlers."""
    reactor = make()
    thread = threading.Thread(target=reactor.run, args=(False,), daemon=True)
    running = threading.Event()
    reactor.callWhenRunning(running.set)
    thread.start()
    running.wait()
    try:
        yield reactor
    finally:
        reactor.callFromThread(reactor.stop)
        thread.join()
