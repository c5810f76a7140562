"""serialized(): a thread whose call is posted to the loop and has not begun excludes what runs on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from isolated import isolated
from twisted.internet import defer

from bridge import Bridge, DeadlockError, StrategyUnavailable, block_on, serialized


class Account:
    """Notes who is inside. The thread's call is open, posted and not begun until ``let_begin`` returns on the loop."""

    def __init__(self, bridge: Bridge, x: Callable[[], Any]) -> None:
        self.bridge = bridge
        self.x = x
        self.log: list[str] = []
        self.inside = threading.Event()
        self.loop_is_busy = threading.Event()

    @serialized
    def of_the_thread(self) -> None:
        self.log.append("thread in")
        self.inside.set()
        assert self.loop_is_busy.wait(10)
        self.bridge.block_on(self.x())
        self.log.append("thread out")

    @serialized
    def on_the_loop(self) -> None:
        self.log.append("loop in")
        self.bridge.block_on(asyncio.sleep(0))
        self.log.append("loop out")

    @serialized
    def nothing(self) -> None:
        self.log.append("nothing")

    def until_posted(self) -> None:
        """Keep the loop busy until the thread has posted its call. Called on the loop's thread."""
        before = self.bridge.stats().open
        self.loop_is_busy.set()
        deadline = time.monotonic() + 10
        while self.bridge.stats().open == before:
            assert time.monotonic() < deadline
            time.sleep(0.0005)


KINDS: dict[str, Callable[[], Any]] = {
    "a coroutine": lambda: asyncio.sleep(0.001),
    "a function": lambda: lambda: None,
    "a function that returns a coroutine": lambda: lambda: asyncio.sleep(0.001),
    "a Deferred": lambda: lambda: defer.succeed(None),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def own_in_a_thread(account: Account) -> threading.Thread:
    thread = threading.Thread(target=account.of_the_thread)
    thread.start()
    assert account.inside.wait(10)
    return thread


@every_kind
@pytest.mark.parametrize("where", ["a callback", "a task", "a Deferred's callback", "a call of submit"])
def test_a_call_that_is_posted_and_not_begun_excludes(bridge: Bridge, kind: str, where: str) -> None:
    account = Account(bridge, KINDS[kind])
    ended = threading.Event()

    def work(_: object = None) -> None:
        account.until_posted()
        account.on_the_loop()
        ended.set()

    async def task() -> None:
        work()

    bridge.start()
    thread = own_in_a_thread(account)
    if where == "a callback":
        bridge.loop.call_soon_threadsafe(work)
    elif where == "a task":
        asyncio.run_coroutine_threadsafe(task(), bridge.loop)
    elif where == "a call of submit":
        bridge.submit(work)
    else:
        deferred: defer.Deferred[None] = defer.Deferred()
        deferred.addCallback(work)
        bridge.loop.call_soon_threadsafe(deferred.callback, None)
    assert ended.wait(10)
    thread.join(10)
    assert account.log == ["thread in", "thread out", "loop in", "loop out"]


def test_a_loop_that_cannot_switch_refuses_and_the_turn_goes_on() -> None:
    with Bridge("plain", install_reactor=False, loop_factory=asyncio.SelectorEventLoop) as bridge:
        account = Account(bridge, KINDS["a coroutine"])
        errors: list[BaseException] = []
        refused = threading.Event()

        def callback() -> None:
            account.until_posted()
            try:
                account.nothing()
            except StrategyUnavailable as error:
                errors.append(error)
            refused.set()

        thread = own_in_a_thread(account)
        bridge.loop.call_soon_threadsafe(callback)
        assert refused.wait(10)
        thread.join(10)
        assert len(errors) == 1
        account.nothing()
        assert account.log == ["thread in", "thread out", "nothing"]


def test_the_root_stack_refuses_and_the_turn_goes_on(bridge: Bridge) -> None:
    account = Account(bridge, KINDS["a coroutine"])
    loop: Any = bridge.loop
    errors: list[BaseException] = []

    def on_the_root() -> None:
        account.until_posted()
        root, loop._stacks.root = loop._stacks.root, getcurrent()  # as it is for a signal handler that comes here
        try:
            account.nothing()
        except DeadlockError as error:
            errors.append(error)
        finally:
            loop._stacks.root = root

    thread = own_in_a_thread(account)
    loop.call_soon_threadsafe(on_the_root)
    thread.join(10)
    assert not thread.is_alive()
    assert "root stack" in str(errors[0])
    account.nothing()
    assert account.log == ["thread in", "thread out", "nothing"]


@pytest.mark.process
@isolated
def test_a_reactor_without_a_loop_refuses_to_stand_still_for_a_thread_that_waits_for_it() -> None:
    import importlib
    import threading

    importlib.import_module("twisted.internet.selectreactor").install()
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    from bridge import Bridge, StrategyUnavailable, serialized

    attached = Bridge.attach(reactor)
    log: list[str] = []
    inside, busy = threading.Event(), threading.Event()

    class Account:
        @serialized
        def of_the_thread(self) -> None:
            log.append("thread in")
            inside.set()
            assert busy.wait(10)
            attached.block_on(lambda: None)
            log.append("thread out")

        @serialized
        def nothing(self) -> None:
            log.append("nothing")

    account = Account()

    def begin() -> None:
        done = deferToThread(account.of_the_thread)
        done.addCallback(lambda _: account.nothing())
        done.addBoth(lambda result: (log.append(repr(result)), reactor.stop()))
        assert inside.wait(10)
        busy.set()
        while not attached.stats().open:
            pass
        try:
            account.nothing()
        except StrategyUnavailable as error:
            log.append("refused" if "Account.nothing" in str(error) else str(error))

    reactor.callWhenRunning(begin)
    reactor.run()
    assert log == ["thread in", "refused", "thread out", "nothing", "None"], log


def test_greenlets_of_one_thread_exclude_each_other_on_the_loop(bridge: Bridge) -> None:
    """A call of one of them is none of the other's, though both are the thread's."""
    log: list[str] = []
    bridge.start()
    gate: asyncio.Future[None] = bridge.loop.create_future()

    class Shared:
        @serialized
        def outer(self) -> None:
            log.append("outer in")
            bridge.block_on(gate, strategy="greenlet")
            bridge.block_on(self.inner_later("own"), strategy="greenlet")
            log.append("outer out")

        @serialized
        def inner(self, who: str) -> None:
            log.append(who)

        async def inner_later(self, who: str) -> None:
            await asyncio.sleep(0)
            if who == "other":
                bridge.loop.call_soon(gate.set_result, None)  # when this waits for its turn
            self.inner(who)

    shared = Shared()
    owner = greenlet(shared.outer)
    owner.switch()  # returns as it blocks
    other = greenlet(lambda: bridge.block_on(shared.inner_later("other"), strategy="greenlet"))
    other.switch()
    while not (owner.dead and other.dead):
        bridge.block_on(asyncio.sleep(0.001), strategy="greenlet")  # resumes them
    assert log == ["outer in", "own", "outer out", "other"]


def test_what_an_owner_blocks_on_may_call_again_while_others_wait(bridge: Bridge) -> None:
    """That the thread's own call has begun, and is no longer just posted, is what makes it the owner's."""
    log: list[str] = []

    class Shared:
        @serialized
        def outer(self) -> None:
            log.append("outer in")
            inside.set()
            assert waits.wait(10)
            bridge.block_on(self.later())
            log.append("outer out")

        async def later(self) -> None:
            await asyncio.sleep(0)
            self.inner("own")

        @serialized
        def inner(self, who: str) -> None:
            log.append(who)

    async def other() -> None:
        bridge.loop.call_soon(waits.set)  # runs when this has switched
        shared.inner("other")

    shared, inside, waits = Shared(), threading.Event(), threading.Event()
    thread = threading.Thread(target=shared.outer)
    thread.start()
    assert inside.wait(10)
    bridge.submit(other()).result(10)
    thread.join(10)
    assert log == ["outer in", "own", "outer out", "other"]


def test_many_threads_and_callbacks_exclude_each_other(bridge: Bridge) -> None:
    class Counter:
        count = inside = 0

        @serialized
        def add(self) -> None:
            assert not self.inside
            self.inside += 1
            count = self.count
            block_on_bridge(asyncio.sleep(0))
            self.count = count + 1
            self.inside -= 1

    def block_on_bridge(x: Awaitable[None]) -> None:
        bridge.block_on(x)

    counter = Counter()
    ended: list[None] = []

    def callback() -> None:
        counter.add()
        ended.append(None)

    def in_a_thread() -> None:
        for _ in range(20):
            with contextlib.suppress(RuntimeError):
                bridge.loop.call_soon_threadsafe(callback)
            counter.add()

    threads = [threading.Thread(target=in_a_thread) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    deadline = time.monotonic() + 30
    while len(ended) < 80 and time.monotonic() < deadline:
        block_on(asyncio.sleep(0.001))
    assert counter.count == 160
