"""Blocking on the loop's own thread, from any frame that the loop runs: who goes on, in what order, and how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from isolated import isolated
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.python import context as twisted_context

from bridge import Bridge, BridgeClosed, DeadlockError, block_on
from bridge._loop.switching import SwitchingLoop


async def value() -> str:
    await asyncio.sleep(0.001)
    return "value"


async def _await(x: Any) -> Any:
    return await x


def run(loop: SwitchingLoop, *functions: Callable[[], Any]) -> list[Any]:
    """Call each function in a callback of its own; return their results when all have ended."""
    futures = []
    for function in functions:
        future = loop.create_future()
        futures.append(future)
        loop.call_soon(_settle, future, function)
    return loop.run_until_complete(_await(asyncio.gather(*futures)))  # type: ignore[no-any-return]


def _settle(future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
    try:
        result = function()
    except BaseException as error:
        if not future.cancelled():
            future.set_exception(error)
    else:
        if not future.cancelled():
            future.set_result(result)


def greenlets() -> int:
    gc.collect()
    # Not the main greenlets of threads, which last until the next greenlet is made.
    return sum(isinstance(each, greenlet) and bool(each) and each.parent is not None for each in gc.get_objects())


# --- where: each place calls a function in one kind of frame, on the loop's thread

Settle = Callable[[], None]


def in_call_soon(bridge: Bridge, settle: Settle) -> None:
    bridge.loop.call_soon(settle)


def in_call_later(bridge: Bridge, settle: Settle) -> None:
    bridge.loop.call_later(0.001, settle)


def in_a_timer_of_the_reactor(bridge: Bridge, settle: Settle) -> None:
    bridge.reactor.callLater(0.001, settle)


def in_call_from_thread(bridge: Bridge, settle: Settle) -> None:
    bridge.reactor.callInThread(bridge.reactor.callFromThread, settle)


def in_call_soon_threadsafe(bridge: Bridge, settle: Settle) -> None:
    threading.Thread(target=bridge.loop.call_soon_threadsafe, args=[settle]).start()


def in_a_post(bridge: Bridge, settle: Settle) -> None:
    threading.Thread(target=bridge.submit, args=[settle]).start()


def in_a_deferreds_callback(bridge: Bridge, settle: Settle) -> None:
    deferLater(bridge.reactor, 0.001, lambda: None).addCallback(lambda _: settle())


def in_inline_callbacks(bridge: Bridge, settle: Settle) -> None:
    @inlineCallbacks
    def generator() -> Generator[Deferred[Any], Any, None]:
        yield deferLater(bridge.reactor, 0.001, lambda: None)
        settle()

    generator()


def in_a_looping_call(bridge: Bridge, settle: Settle) -> None:
    def once() -> None:
        looping.stop()
        settle()

    looping = LoopingCall(once)
    looping.clock = bridge.reactor
    looping.start(0.001, now=False)


def in_data_received(bridge: Bridge, settle: Settle) -> None:
    class Server(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"x")

    class Client(Protocol):
        def dataReceived(self, data: bytes) -> None:
            settle()
            self.transport.loseConnection()

    from twisted.internet.endpoints import TCP4ClientEndpoint

    factory = Factory.forProtocol(Server)
    factory.noisy = False  # type: ignore[attr-defined]
    port = bridge.reactor.listenTCP(0, factory, interface="127.0.0.1")
    TCP4ClientEndpoint(bridge.reactor, "127.0.0.1", port.getHost().port).connect(
        Factory.forProtocol(Client)
    ).addCallback(lambda _: port.stopListening())


def in_an_asyncio_protocol(bridge: Bridge, settle: Settle) -> None:
    ours, theirs = socket.socketpair()

    class Client(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            settle()
            self.transport.close()
            theirs.close()

    ours.setblocking(False)
    theirs.send(b"x")
    _keep(asyncio.ensure_future(bridge.loop.create_connection(Client, sock=ours)))


def in_a_reader(bridge: Bridge, settle: Settle) -> None:
    reading, writing = os.pipe()

    def read() -> None:
        bridge.loop.remove_reader(reading)
        settle()
        os.close(reading)
        os.close(writing)

    bridge.loop.add_reader(reading, read)
    os.write(writing, b"x")


def in_an_executors_callback(bridge: Bridge, settle: Settle) -> None:
    bridge.loop.run_in_executor(None, time.sleep, 0.001).add_done_callback(lambda _: settle())


def in_a_task(bridge: Bridge, settle: Settle) -> None:
    async def main() -> None:
        settle()

    _keep(bridge.loop.create_task(main()))


def in_an_async_generator(bridge: Bridge, settle: Settle) -> None:
    async def generator() -> Any:
        settle()
        yield

    async def main() -> None:
        async for _ in generator():
            pass

    _keep(bridge.loop.create_task(main()))


def in_a_finalizer(bridge: Bridge, settle: Settle) -> None:
    class Finalized:
        def __del__(self) -> None:
            settle()

    def collect() -> None:
        del each[:]

    each = [Finalized()]
    bridge.loop.call_soon(collect)


def in_a_greenlet_of_the_users(bridge: Bridge, settle: Settle) -> None:
    bridge.loop.call_soon(lambda: greenlet(settle).switch())


def in_a_context_of_its_own(bridge: Bridge, settle: Settle) -> None:
    bridge.loop.call_soon(lambda: contextvars.Context().run(settle))


_tasks: set[Any] = set()


def _keep(task: asyncio.Future[Any]) -> None:
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


PLACES = [each for name, each in list(globals().items()) if name.startswith("in_")]
places = pytest.mark.parametrize("place", PLACES, ids=lambda each: each.__name__)


def call_in(bridge: Bridge, place: Callable[[Bridge, Settle], None], function: Callable[[], Any]) -> Any:
    """Call the function in that place and return its result."""

    def start() -> asyncio.Future[Any]:
        future = bridge.loop.create_future()
        place(bridge, functools.partial(_settle, future, function))
        return future

    return bridge.block_on(start, timeout=10)


@places
def test_blocks_in(bridge: Bridge, place: Callable[[Bridge, Settle], None]) -> None:
    def blocking() -> list[Any]:
        assert threading.current_thread() is bridge.thread
        return [
            block_on(value()),
            bridge.block_on(value()),
            block_on(deferLater(bridge.reactor, 0.001, lambda: "deferred")),
            block_on(lambda: asyncio.ensure_future(value())),
            block_on(succeed("fired")),
        ]

    assert call_in(bridge, place, blocking) == ["value", "value", "deferred", "value", "fired"]


@places
def test_an_error_of_what_is_awaited_in(bridge: Bridge, place: Callable[[Bridge, Settle], None]) -> None:
    async def failing() -> None:
        await asyncio.sleep(0.001)
        raise LookupError("no such thing")

    def blocking() -> None:
        with pytest.raises(LookupError, match="no such thing"):
            block_on(failing())
        with pytest.raises(TimeoutError):
            block_on(Deferred(), timeout=0.001)
        block_on(failing())

    with pytest.raises(LookupError, match="no such thing"):
        call_in(bridge, place, blocking)


@places
def test_the_loop_ends_while_blocked_in(place: Callable[[Bridge, Settle], None]) -> None:
    """The blocked call gets BridgeClosed, what it blocks on is cancelled, and nothing is left."""
    ended: list[Any] = []
    blocked = threading.Event()

    async def for_ever() -> None:
        blocked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("work")

    def blocking() -> None:
        try:
            block_on(for_ever())
        except BaseException as error:
            ended.append(type(error))

    before = greenlets()
    with Bridge("ending", install_reactor=False) as bridge:
        bridge.block_on(lambda: place(bridge, blocking))
        assert blocked.wait(10)
    assert sorted(map(str, ended)) == sorted(map(str, ["work", BridgeClosed]))
    del bridge
    _tasks.clear()
    assert greenlets() <= before


def test_blocks_in_a_signal_handler_of_the_loop(loop: SwitchingLoop) -> None:
    future = loop.create_future()
    calls = []

    def handler() -> None:
        calls.append(block_on(value()))
        if len(calls) == 2:
            future.set_result(None)

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_until_complete(asyncio.wait_for(future, 10))
    assert calls == ["value", "value"]


@pytest.mark.parametrize("waits_for", ["a Future", "a turn"])
def test_a_stack_whose_going_on_was_cut_off_goes_on_in_the_next_turn(
    loop: SwitchingLoop, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    """By an exception of a signal handler, or one that is set from outside."""
    handled: list[Any] = []
    loop.set_exception_handler(lambda _, details: handled.append(details["exception"]))
    cut_off: list[None] = []

    class Interrupted(list[greenlet]):
        def append(self, runner: greenlet) -> None:
            super().append(runner)
            if not cut_off:
                cut_off.append(None)
                raise LookupError

    async def turn() -> str:
        await asyncio.sleep(0)
        return "value"

    async def main() -> str:
        await asyncio.sleep(0)
        loop._stacks.parked = Interrupted(loop._stacks.parked)
        if waits_for == "a turn":
            loop.call_soon(lambda: None)  # else the stack would take it itself
            return block_on(turn())
        future = loop.create_future()
        loop.call_later(0.01, future.set_result, "value")
        return block_on(future)  # type: ignore[no-any-return]

    assert loop.run_until_complete(asyncio.wait_for(main(), 10)) == "value"
    assert [type(error) for error in handled] == [LookupError]


def test_a_wait_that_was_cut_off_wakes_no_later_one(loop: SwitchingLoop) -> None:
    class Interrupted(list[greenlet]):
        def pop(self, *_: Any) -> greenlet:
            loop._stacks.parked = list(self)
            raise LookupError

    async def main() -> str:
        await asyncio.gather(*[asyncio.to_thread(time.sleep, 0)])
        first, second = loop.create_future(), loop.create_future()
        loop.call_later(0.01, first.set_result, "first")
        loop.call_later(0.2, second.set_result, "second")
        loop._stacks.parked = Interrupted([getcurrent()])
        with pytest.raises(LookupError):
            block_on(first)
        loop._stacks.parked.clear()
        return block_on(second)  # type: ignore[no-any-return]

    assert loop.run_until_complete(asyncio.wait_for(main(), 10)) == "second"


def test_blocks_in_a_plain_signal_handler_while_the_loop_sleeps(loop: SwitchingLoop) -> None:
    """The loop sleeps inside the very stack that is blocked, for a time that was computed before."""
    calls: list[Any] = []

    def handler(*_: object) -> None:
        calls.append(block_on(value()))
        loop.call_later(0.01, future.set_result, None)  # which the sleeping stack does not know of

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        future = loop.create_future()
        loop.call_soon(threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start)  # not before it runs
        loop.run_until_complete(future)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == ["value"]


# --- in any order


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_blocked_calls_end_in_any_order(loop: SwitchingLoop, order: tuple[int, ...]) -> None:
    events: list[Any] = []
    futures = [loop.create_future() for _ in order]

    def blocking(number: int) -> None:
        events.append(("blocks", number))
        assert block_on(futures[number]) == number
        events.append(("ends", number))

    def ending() -> None:
        for number in order:
            futures[number].set_result(number)
            block_on(asyncio.sleep(0.001))

    run(loop, *(functools.partial(blocking, number) for number in range(3)), ending)
    assert events == [("blocks", number) for number in range(3)] + [("ends", number) for number in order]


def test_calls_that_end_in_the_same_turn_go_on_in_the_order_of_their_ends(loop: SwitchingLoop) -> None:
    """And in turn with everything else: where a task would take its next step."""
    events: list[Any] = []
    futures = [loop.create_future() for _ in range(20)]

    def blocking(number: int) -> None:
        block_on(futures[number])
        events.append(number)

    def ending() -> None:
        block_on(asyncio.sleep(0))
        for number, future in enumerate(futures):
            future.set_result(None)
            loop.call_soon(events.append, ("callback", number))

    run(loop, *(functools.partial(blocking, number) for number in range(20)), ending)
    assert events == [each for number in range(20) for each in (number, ("callback", number))]


def test_nested_blocks(loop: SwitchingLoop) -> None:
    async def down(depth: int) -> int:
        await asyncio.sleep(0)
        return 1 + block_on(down(depth - 1)) if depth else 0

    def blocking() -> int:
        return block_on(down(20)) + block_on(lambda: block_on(down(5)))

    assert run(loop, blocking, blocking) == [25, 25]


def test_greenlets_of_the_users_block_beside_each_other(loop: SwitchingLoop) -> None:
    events: list[Any] = []

    def blocking(name: str) -> str:
        for number in range(3):
            block_on(asyncio.sleep(0))
            events.append((name, number))
        return name

    def in_greenlets() -> str:
        async def task() -> str:
            return greenlet(blocking).switch("in a task")  # type: ignore[no-any-return]

        inner = greenlet(blocking)
        return str(inner.switch("outer")) + block_on(task())

    first, second = run(loop, in_greenlets, in_greenlets)
    assert first == second == "outerin a task"
    assert len(events) == 12


def test_a_greenlet_that_is_handed_from_callback_to_callback(loop: SwitchingLoop) -> None:
    """As by an ORM's greenlet bridge: what blocks in it is blocked in the callback that runs it then."""
    events: list[Any] = []

    def body() -> None:
        block_on(asyncio.sleep(0))
        getcurrent().parent.switch("first")  # type: ignore[union-attr]
        block_on(asyncio.sleep(0))
        events.append("second")

    def second() -> None:
        inner.parent = getcurrent()
        inner.switch()

    inner = greenlet(body)

    def first() -> None:
        inner.parent = getcurrent()
        events.append(inner.switch())

    run(loop, first)
    run(loop, second)
    assert events == ["first", "second"]


# --- where it cannot


def test_on_the_root_stack(loop: SwitchingLoop) -> None:
    """Outside any callback nothing else could run the loop: say so at once."""

    async def never_started() -> None:
        raise AssertionError

    class Selector(type(loop._selector)):  # type: ignore[misc]
        pass

    def start(root: greenlet) -> None:
        root.throw(_Probe())

    class _Probe(Exception):
        pass

    errors: list[BaseException] = []
    run_once = loop._run_once

    def probing() -> None:
        loop._stacks.root = getcurrent()  # as it is for a signal handler that comes here
        with pytest.raises(DeadlockError, match="root stack") as caught:
            block_on(never_started())
        errors.append(caught.value)
        loop._stacks.root = None
        run_once()

    loop._run_once = probing  # type: ignore[method-assign]
    loop.run_until_complete(value())
    assert len(errors) == 1


def test_on_a_deferred_inside_its_own_callback(bridge: Bridge) -> None:
    def main() -> object:
        deferred: Deferred[Any] = Deferred()
        caught: list[BaseException] = []

        def callback(result: object) -> object:
            with pytest.raises(DeadlockError, match="inside a callback of that same Deferred") as each:
                block_on(deferred)
            caught.append(each.value)
            assert block_on(value()) == "value"
            return result

        deferred.addCallback(callback)
        deferred.callback("fired")
        assert len(caught) == 1
        return block_on(deferred)

    assert bridge.block_on(main) == "fired"


def test_on_a_deferred_whose_callback_another_stack_is_blocked_in(bridge: Bridge) -> None:
    def main() -> list[object]:
        deferred: Deferred[Any] = Deferred()
        deferred.addCallback(lambda _: block_on(value()))
        waiting = [bridge.loop.create_future(), bridge.loop.create_future()]
        bridge.loop.call_soon(_settle, waiting[0], lambda: deferred.callback("fired"))
        bridge.loop.call_soon(_settle, waiting[1], lambda: block_on(deferred))
        return block_on(asyncio.gather(*waiting))

    assert bridge.block_on(main) == [None, "value"]


# --- nothing starves


def test_ready_callbacks_of_the_blocked_iteration_run(loop: SwitchingLoop) -> None:
    events: list[Any] = []
    future = loop.create_future()

    def blocking() -> None:
        block_on(future)
        events.append("unblocked")

    def others() -> None:
        events.append("other")
        loop.call_soon(events.append, "its own")
        loop.call_later(0.001, future.set_result, None)

    run(loop, blocking, others)
    assert events == ["other", "its own", "unblocked"]


def test_timers_go_on_while_a_timer_is_blocked(bridge: Bridge) -> None:
    """Of asyncio and of the reactor, also those that were due with it: the blocked ones wait for these."""

    def main() -> asyncio.Future[list[str]]:
        events: list[str] = []
        others = bridge.loop.create_future()
        done = bridge.loop.create_future()

        def blocking(name: str) -> None:
            block_on(asyncio.shield(others))
            events.append(name)
            if len(events) == 8:
                done.set_result(events)

        def other(name: str) -> None:
            events.append(name)
            if len(events) == 6:
                others.set_result(None)

        bridge.reactor.callLater(0.001, blocking, "blocked timer of the reactor")
        bridge.loop.call_later(0.001, blocking, "blocked timer of asyncio")
        for _ in range(2):
            bridge.reactor.callLater(0.001, other, "due with it")
        for _ in range(2):
            bridge.reactor.callLater(0.01, other, "due later")
            bridge.loop.call_later(0.01, other, "asyncio's, due later")
        time.sleep(0.005)  # until the first are due
        return done

    events = bridge.block_on(main, timeout=10)
    # On a loop that comes too late to it all, asyncio's timers may overtake the reactor's, which it wakes up for once.
    reactors = [name for name in events[:6] if name != "asyncio's, due later"]
    assert reactors == ["due with it"] * 2 + ["due later"] * 2
    assert events[:6].count("asyncio's, due later") == 2
    assert sorted(events[6:]) == ["blocked timer of asyncio", "blocked timer of the reactor"]


def test_posts_are_served_while_a_posted_callable_is_blocked(bridge: Bridge) -> None:
    future: Deferred[None] = Deferred()
    posted = [threading.Thread(target=bridge.block_on, args=[lambda: block_on(future)]) for _ in range(3)]
    for thread in posted:
        thread.start()
    for _ in range(10):
        assert bridge.block_on(value()) == "value"
        assert bridge.block_on(lambda: block_on(value())) == "value"
    bridge.block_on(lambda: future.callback(None))
    for thread in posted:
        thread.join(10)
        assert not thread.is_alive()


def test_posts_that_came_with_one_that_blocks(bridge: Bridge) -> None:
    """They wait in the same queue, behind it, and nothing rings for them again."""
    future: Deferred[None] = Deferred()
    started = threading.Event()

    def busy() -> None:
        started.set()
        time.sleep(0.05)

    blocker = bridge.submit(busy)
    assert started.wait(10)
    waiting = [bridge.submit(lambda: block_on(future)) for _ in range(3)]
    others = [bridge.submit(value()) for _ in range(3)]
    assert [other.result(10) for other in others] == ["value"] * 3
    blocker.result(10)
    bridge.block_on(lambda: future.callback(None))
    assert [each.result(10) for each in waiting] == [None] * 3


def test_blocked_calls_do_not_delay_others(loop: SwitchingLoop) -> None:
    future = loop.create_future()

    def blocking() -> None:
        block_on(future)

    async def turns() -> int:
        before = loop._stacks.switches
        for _ in range(100):
            await asyncio.sleep(0)
        future.set_result(None)
        return loop._stacks.switches - before

    *_, switches = run(loop, *[blocking] * 100, lambda: block_on(turns()))
    assert switches <= 1  # they stand still


def test_busy_blockers_take_turns_with_others(loop: SwitchingLoop) -> None:
    counts = dict.fromkeys(["blocking", "awaiting"], 0)
    stop = loop.create_future()

    async def blocking() -> None:
        while not stop.done():
            block_on(asyncio.sleep(0))
            counts["blocking"] += 1

    async def awaiting() -> None:
        for _ in range(200):
            await asyncio.sleep(0)
            counts["awaiting"] += 1
        stop.set_result(None)

    async def main() -> None:
        await asyncio.gather(blocking(), blocking(), awaiting())

    loop.run_until_complete(main())
    assert abs(counts["blocking"] - 400) <= 4


# --- contexts

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_tasks_that_share_a_context_run_while_one_is_blocked(loop: SwitchingLoop) -> None:
    """A context cannot be entered twice, so the others run in copies of it, and what they set comes together."""
    context = contextvars.copy_context()
    other = contextvars.ContextVar("other", default=0)
    ready = loop.create_future()

    async def blocked() -> list[Any]:
        variable.set("blocked")
        block_on(ready)
        return [variable.get(), other.get()]

    async def counting(times: int) -> Any:
        for _ in range(times):
            await asyncio.sleep(0)
            other.set(other.get() + 1)
        variable.set("set meanwhile")
        return variable.get()

    async def main() -> None:
        waiting = asyncio.create_task(blocked(), context=context)
        await asyncio.sleep(0)
        assert await asyncio.create_task(counting(5), context=context) == "set meanwhile"
        loop.call_soon(ready.set_result, None, context=context)
        assert await waiting == ["set meanwhile", 5]
        assert await asyncio.create_task(counting(5), context=context) == "set meanwhile"
        assert context[other] == 10

    loop.run_until_complete(asyncio.wait_for(main(), 10))


def test_timers_callbacks_and_failures_in_a_shared_context(loop: SwitchingLoop) -> None:
    context = contextvars.copy_context()
    events: list[Any] = []
    handled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, details: handled.append(details))

    def callback(name: str) -> None:
        variable.set(name)
        events.append(name)
        if name == "failing":
            raise RuntimeError("of the user's")

    def main() -> str:
        future = loop.create_future()
        loop.call_soon(callback, "soon", context=context)
        loop.call_later(0.001, callback, "later", context=context)
        future.add_done_callback(lambda _: callback("failing"), context=context)
        loop.call_later(0.002, future.set_result, None)
        block_on(asyncio.sleep(0.02))
        return variable.get()

    assert run(loop, lambda: context.run(main)) == ["failing"]
    assert events == ["soon", "later", "failing"]
    assert [str(each["exception"]) for each in handled] == ["of the user's"]


def test_a_context_that_is_held_below_the_one_that_blocks(loop: SwitchingLoop) -> None:
    """The values wait until the context is free."""
    context = contextvars.copy_context()

    def main() -> None:
        loop.call_soon(variable.set, "set meanwhile", context=context)
        contextvars.Context().run(block_on, asyncio.sleep(0.001))

    def callback() -> None:
        context.run(main)
        block_on(asyncio.sleep(0))

    run(loop, callback)
    assert context[variable] == "set meanwhile"
    assert not loop._stacks.context_updates


def test_a_runner_of_asyncio_shares_a_context_over_its_runs() -> None:
    async def main() -> str:
        block_on(value())
        variable.set(variable.get() + "+")
        return variable.get()

    with asyncio.Runner(loop_factory=SwitchingLoop) as runner:
        assert [runner.run(main()) for _ in range(3)] == ["unset+", "unset++", "unset+++"]


def test_twisteds_context_is_right_in_every_resumed_stack(bridge: Bridge) -> None:
    seen: list[Any] = []

    def inside(name: str) -> Any:
        before = twisted_context.get("name")
        for _ in range(3):
            twisted_context.call({"name": name}, lambda: (block_on(asyncio.sleep(0.001)), _note(name)))
            block_on(asyncio.sleep(0))
            _note(before)
        return before

    def _note(expected: Any) -> None:
        seen.append((twisted_context.get("name"), expected))

    def main() -> Any:
        futures = []
        for name in "abc":
            futures.append(bridge.loop.create_future())
            outer = {"name": name.upper()}
            call = functools.partial(twisted_context.call, outer, inside, name)
            bridge.loop.call_soon(_settle, futures[-1], call if name != "c" else functools.partial(inside, name))
        return asyncio.gather(*futures)

    assert bridge.block_on(main) == ["A", "B", None]
    assert len(seen) == 18
    assert all(name == expected for name, expected in seen)


# --- ends


@contextmanager
def blocked_calls(loop: SwitchingLoop, number: int, ends: list[Any], swallow: int = 0) -> Iterator[None]:
    """Let so many calls block, half of them in tasks, and swallow so many errors each."""

    def blocking() -> None:
        left = swallow
        while True:
            try:
                block_on(loop.create_future)
            except BaseException as error:
                if left:
                    left -= 1
                    continue
                ends.append(type(error))
                raise

    async def task() -> None:
        blocking()

    kept = []
    for each in range(number):
        if each % 2:
            loop.call_soon(blocking)
        else:
            kept.append(loop.create_task(task()))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(loop._ours.streams.waits) == number
    yield
    for each in kept:
        if each.done() and not each.cancelled():
            each.exception()


def quiet(loop: SwitchingLoop) -> None:
    loop.set_exception_handler(lambda *_: None)


@pytest.mark.parametrize("swallow", [0, 1, 10])
def test_close_ends_what_is_blocked(loop: SwitchingLoop, swallow: int) -> None:
    before, ends = greenlets(), list[Any]()
    quiet(loop)
    with blocked_calls(loop, 10, ends, swallow):
        assert greenlets() > before
        loop.close()
        assert ends == [BridgeClosed] * 10
    assert greenlets() <= before


@isolated(options=(), stderr=r".* ended after 0.2 seconds without: .*task.*")
def test_a_call_that_swallows_every_error_cannot_keep_the_loop_from_closing() -> None:
    import asyncio
    import gc
    import warnings

    import bridge
    from bridge._loop.switching import SwitchingLoop

    warnings.simplefilter("ignore")
    ended = []

    def for_ever() -> None:
        while True:
            try:
                bridge.block_on(lambda: asyncio.get_running_loop().create_future())
            except BaseException:
                pass

    async def task() -> None:
        for_ever()

    def well_behaved() -> None:
        try:
            bridge.block_on(lambda: asyncio.get_running_loop().create_future())
        finally:
            ended.append("well behaved")

    loop = SwitchingLoop()
    loop.set_exception_handler(lambda *_: None)
    task_ = loop.create_task(task())
    for function in (for_ever, well_behaved, for_ever, well_behaved):
        loop.call_soon(function)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert loop.is_closed()
    assert ended == ["well behaved"] * 2
    del loop, task_
    gc.collect()

    owner = bridge.Bridge(install_reactor=False, shutdown_timeout=0.2)
    for function in (for_ever, well_behaved, for_ever):
        owner.block_on(lambda function=function: owner.loop.call_soon(function))
    owner.submit(task)
    owner.block_on(asyncio.sleep(0))
    thread = owner.thread
    owner.close()
    thread.join(15)
    assert not thread.is_alive()
    assert ended == ["well behaved"] * 3


def test_what_cleans_up_after_the_error_can_not_block_again(loop: SwitchingLoop) -> None:
    events: list[Any] = []
    quiet(loop)

    async def never_started() -> None:
        raise AssertionError

    async def at_once() -> str:
        return "at once"

    def blocking() -> None:
        try:
            block_on(loop.create_future)
        finally:
            with pytest.raises(BridgeClosed):
                block_on(never_started())
            assert asyncio.get_running_loop() is loop
            events.append("ended")

    async def task() -> None:
        try:
            block_on(loop.create_future)
        finally:
            events.append(block_on(at_once()))

    loop.call_soon(blocking)
    kept = loop.create_task(task())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert sorted(events) == ["at once", "ended"]
    assert isinstance(kept.exception(), BridgeClosed)


def test_closing_runs_no_other_callback(loop: SwitchingLoop) -> None:
    events: list[Any] = []
    quiet(loop)

    def blocking() -> None:
        try:
            block_on(loop.create_future)
        finally:
            loop.call_soon(events.append, "another")

    for _ in range(3):
        loop.call_soon(blocking)
        loop.call_soon(loop.call_soon, events.append, "one")
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(events.append, "one more")
    del events[:]
    loop.close()
    assert events == []


def test_an_exit_out_of_a_stack_that_ends_is_raised_when_all_have_ended(loop: SwitchingLoop) -> None:
    ends: list[Any] = []

    def blocking() -> None:
        try:
            block_on(loop.create_future)
        finally:
            ends.append("ended")
            raise SystemExit(len(ends))

    for _ in range(3):
        loop.call_soon(blocking)
    loop.run_until_complete(asyncio.sleep(0))
    with pytest.raises(SystemExit) as caught:
        loop.close()
    assert caught.value.code == 1
    assert len(ends) == 3
    assert loop.is_closed()


@pytest.mark.parametrize(
    "end", ["close", "reactor.stop", "loop.stop", "SystemExit in a callback", "SystemExit in a task"]
)
def test_every_blocked_call_of_a_bridge_gets_bridge_closed(end: str) -> None:
    before = greenlets()
    ends: list[Any] = []
    blocked = threading.Semaphore(0)

    def blocking() -> None:
        blocked.release()
        try:
            block_on(bridge.loop.create_future)
        except BaseException as error:
            ends.append(error)

    async def task() -> None:
        blocking()
        assert block_on(value()) == "value"  # until the loop closes, a task that cleans up can block
        ends.append("cleaned up")

    async def exiting() -> None:
        raise SystemExit

    bridge = Bridge("ending", install_reactor=False)
    with bridge:
        loop, thread = bridge.loop, bridge.thread
        assert thread is not None
        for _ in range(3):
            loop.call_soon_threadsafe(blocking)
            bridge.block_on(lambda: _keep(loop.create_task(task())))
        waiting = bridge.submit(bridge.loop.create_future)
        for _ in range(6):
            assert blocked.acquire(timeout=10)
        if end == "close":
            bridge.close()
        elif end == "reactor.stop":
            loop.call_soon_threadsafe(bridge.reactor.stop)
        elif end == "loop.stop":
            loop.call_soon_threadsafe(loop.stop)
        elif end == "SystemExit in a callback":
            loop.call_soon_threadsafe(exit)
        else:
            loop.call_soon_threadsafe(lambda: _keep(loop.create_task(exiting())))
        with pytest.raises(BridgeClosed):
            waiting.result(10)
        thread.join(10)
        assert loop.is_closed()
        errors = [each for each in ends if each != "cleaned up"]
        assert [type(each) for each in errors] == [BridgeClosed] * 6, ends
        assert len(ends) == 9
        if "SystemExit" in end:
            assert all(isinstance(each.__cause__, SystemExit) for each in errors)
        ends.clear()
        errors.clear()
    _tasks.clear()
    del bridge, loop, waiting, thread
    assert greenlets() <= before


def test_calls_stay_blocked_over_several_runs_of_the_loop(loop: SwitchingLoop) -> None:
    events: list[Any] = []
    futures = [loop.create_future() for _ in range(3)]

    def blocking(number: int) -> None:
        events.append(block_on(futures[number]))
        events.append(block_on(value()))

    for number in range(3):
        loop.call_soon(blocking, number)
    loop.run_until_complete(asyncio.sleep(0.01))

    async def until(count: int) -> None:
        async with asyncio.timeout(30):
            while len(events) < count:
                await asyncio.sleep(0.001)

    for number in (1, 2):
        assert loop.run_until_complete(value()) == "value"
        futures[number].set_result(number)
    loop.run_until_complete(until(4))
    assert sorted(map(str, events)) == ["1", "2", "value", "value"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    futures[0].set_result(0)
    loop.run_until_complete(until(6))
    assert events[4:] == [0, "value"]
    assert not loop._ours.streams.waits


def test_runs_out_of_different_greenlets(loop: SwitchingLoop) -> None:
    """The stacks that stay blocked end in the root of the run that they end in."""
    events: list[Any] = []
    future = loop.create_future()

    def blocking() -> None:
        events.append(block_on(future))

    loop.call_soon(blocking)
    loop.call_soon(lambda: greenlet(blocking).switch())
    greenlet(loop.run_until_complete).switch(asyncio.sleep(0))
    loop.call_soon(blocking)
    loop.run_until_complete(asyncio.sleep(0))
    future.set_result("value")
    greenlet(loop.run_until_complete).switch(asyncio.sleep(0.001))
    assert events == ["value"] * 3
    loop.call_soon(exit)
    with pytest.raises(SystemExit):
        greenlet(loop.run_forever).switch()


def test_one_thread_then_another(loop: SwitchingLoop) -> None:
    def main() -> str:
        return block_on(value())

    for _ in range(2):
        results: list[Any] = []
        thread = threading.Thread(target=lambda results=results: results.extend(run(loop, main, main)))
        thread.start()
        thread.join(10)
        assert results == ["value"] * 2
    assert run(loop, main) == ["value"]


def test_another_thread_cannot_run_what_is_blocked_in_the_first(loop: SwitchingLoop) -> None:
    """Its stacks belong to that thread. Better an error than calls that never return."""
    future = loop.create_future()
    loop.call_soon(block_on, future)
    loop.run_until_complete(asyncio.sleep(0))
    errors: list[BaseException] = []

    def other() -> None:
        try:
            loop.run_forever()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(10)
    assert "1 calls are blocked on the stack" in str(errors.pop())
    future.set_result(None)
    loop.run_until_complete(asyncio.sleep(0))
    assert not loop._ours.streams.waits


def test_closing_in_another_thread(loop: SwitchingLoop) -> None:
    ends: list[Any] = []

    def blocking() -> None:
        try:
            block_on(loop.create_future)
        finally:
            ends.append("ended")

    def main() -> None:
        loop.call_soon(blocking)
        loop.run_until_complete(asyncio.sleep(0))

    quiet(loop)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join(10)
    loop.close()
    assert loop.is_closed()


def test_an_exit_out_of_a_blocked_call_ends_the_run(loop: SwitchingLoop) -> None:
    def blocking() -> None:
        block_on(asyncio.sleep(0.001))
        raise SystemExit(3)

    async def raising() -> None:
        await asyncio.sleep(0.001)
        raise KeyboardInterrupt

    loop.call_soon(blocking)
    with pytest.raises(SystemExit):
        loop.run_until_complete(asyncio.sleep(10))
    with pytest.raises(KeyboardInterrupt):
        run(loop, lambda: block_on(raising()))
    loop.call_soon(block_on, raising())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(10))
    assert loop.run_until_complete(value()) == "value"


def test_an_index_error_of_the_loops_own_is_not_hidden(loop: SwitchingLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def select(timeout: float | None) -> Any:
        if loop._stacks.switches:
            raise IndexError("of the selector")
        return original(timeout)

    original = loop._selector.select
    monkeypatch.setattr(loop._selector, "select", select)
    future = loop.create_future()
    loop.call_soon(block_on, future)
    with pytest.raises(IndexError, match="of the selector"):
        loop.run_forever()
    monkeypatch.undo()
    future.set_result(None)
    loop.run_until_complete(value())
    assert not loop._ours.streams.waits


def test_in_debug_mode(loop: SwitchingLoop) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 10.0

    async def task() -> str:
        return block_on(value()) + block_on(value())

    def blocking() -> str:
        return block_on(task())

    assert run(loop, *[blocking] * 5) == ["valuevalue"] * 5


# --- many


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the memory is read from Linux's /proc")
@isolated(timeout=50)
def test_ten_thousand_blocked_calls_ended_in_random_order_twice() -> None:
    import asyncio
    import gc
    import random
    import resource
    import time

    from greenlet import greenlet

    from bridge import block_on
    from bridge._loop.switching import SwitchingLoop

    def rss() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def one_round(number: int) -> tuple[int, int]:
        """Return the bytes that a blocked call took, and those of the process with all of them."""

        async def blocked(future: asyncio.Future[int]) -> int:
            return block_on(future)

        async def main() -> tuple[int, int]:
            gc.collect()
            futures = [loop.create_future() for _ in range(number)]
            tasks = [loop.create_task(blocked(future)) for future in futures]
            before = rss()
            await asyncio.sleep(0)
            peak = rss()
            assert len(loop._ours.streams.waits) == number
            shuffled = list(range(number))
            random.shuffle(shuffled)
            for count, index in enumerate(shuffled):
                futures[index].set_result(index)
                if count % 3 == 0:
                    await asyncio.sleep(0)
            assert await asyncio.gather(*tasks) == list(range(number))
            return (peak - before) // number, peak

        return loop.run_until_complete(main())

    loop = SwitchingLoop()
    one_round(1000)
    # The time of the processor, which does not go on while others have it; and as many calls both times.
    begin = time.process_time()
    for _ in range(10):
        one_round(1000)
    in_thousands = time.process_time() - begin
    times = []
    begin = time.process_time()
    each, first = one_round(10_000)
    times.append(time.process_time() - begin)
    begin = time.process_time()
    _, second = one_round(10_000)
    times.append(time.process_time() - begin)
    assert each < 12_000
    assert second < first * 1.1, (second, first)  # the allocator does not return every page
    assert min(times) < 2.5 * in_thousands, (times, in_thousands)  # see the benchmarks for the exact figure
    gc.collect()
    assert sum(isinstance(each, greenlet) and bool(each) for each in gc.get_objects()) <= 6
    loop.close()


def test_a_burst_of_ends_leaves_a_small_pool(loop: SwitchingLoop) -> None:
    def blocking() -> None:
        block_on(future)

    async def main() -> None:
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    for _ in range(2):
        future = loop.create_future()
        for _ in range(100):
            loop.call_soon(blocking)
        loop.run_until_complete(asyncio.sleep(0))
        assert len(loop._ours.streams.waits) == 100
        loop.run_until_complete(main())
        assert not loop._ours.streams.waits
        assert not loop._stacks.parked


def test_random_programs_of_blocking_and_awaiting(loop: SwitchingLoop) -> None:
    """Each of many tasks blocks and awaits at random, nested, and none is lost or confused with another."""
    chance = random.Random(1)

    async def work(depth: int) -> int:
        total = 0
        for _ in range(chance.randrange(1, 4)):
            match chance.randrange(6):
                case 0:
                    await asyncio.sleep(0)
                case 1:
                    block_on(asyncio.sleep(chance.random() / 1000))
                case 2 if depth:
                    total += await work(depth - 1)
                case 3 if depth:
                    total += block_on(work(depth - 1))
                case 4 if depth:
                    total += block_on(_both(depth - 1))
                case _:
                    future = loop.create_future()
                    loop.call_soon(future.set_result, 1)
                    total += block_on(future)
        return total

    async def _both(depth: int) -> int:
        return sum(await asyncio.gather(work(depth), work(depth)))

    async def main() -> None:
        tasks = [asyncio.create_task(work(3)) for _ in range(50)]
        assert all(isinstance(each, int) for each in await asyncio.gather(*tasks))

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    assert not loop._ours.streams.waits


@isolated
def test_a_signal_handler_sees_the_variables_of_the_thread_that_runs_the_loop() -> None:
    import asyncio
    import contextvars
    import signal

    import bridge

    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def main() -> None:
        variable.set("the task's")
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        await asyncio.sleep(0.1)  # so that the loop is idle as the signal comes

    signal.signal(signal.SIGALRM, lambda *_: seen.append(variable.get()))
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        for value in ("the first run's", "the second run's"):
            variable.set(value)
            runner.run(main(), context=contextvars.copy_context())
    assert seen == ["the first run's", "the second run's"]
