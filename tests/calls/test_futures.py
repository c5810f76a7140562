"""result() and exception() of a Future of submit, bridge.wait and bridge.as_completed wait in the way of block_on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import logging
import random
import threading
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from greenlet import getcurrent, greenlet
from isolated import isolated
from places import in_a_thread, usable
from twisted.internet import defer

import bridge as package
from bridge import Bridge, BridgeClosed, DeadlockError, StrategyUnavailable, block_on, in_thread, submit

Future = concurrent.futures.Future

# What waits for one Future, and gives its value. Each is called as wait(future) or wait(future, timeout).
WAYS: dict[str, Callable[..., Any]] = {
    "result": lambda future, timeout=None: future.result(timeout),
    "exception": lambda future, timeout=None: (future.exception(timeout), future.result())[1],
    "wait": lambda future, timeout=None: _only(_all_done(package.wait([future], timeout))).result(),
    "as_completed": lambda future, timeout=None: _only(package.as_completed([future], timeout)).result(),
}
every_way = pytest.mark.parametrize("way", WAYS)


def _only(futures: Any) -> Future[Any]:
    (future,) = futures
    found: Future[Any] = future
    return found


def _all_done(waited: Any) -> Any:
    if waited.not_done:
        raise TimeoutError
    return waited.done


class Work:
    """Work on a bridge that ends when it is told to."""

    def __init__(self, bridge: Bridge, value: Any = "value") -> None:
        self.bridge = bridge
        self.goes_on = asyncio.Event()
        self.was_cancelled = False
        self.future = bridge.submit(self._run(value))

    async def _run(self, value: Any) -> Any:
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if isinstance(value, BaseException):
            raise value
        return value

    def end(self) -> None:
        """Let it end, soon. Called in any thread."""
        self.bridge.loop.call_soon_threadsafe(self.goes_on.set)

    def goes_on_after_a_wait(self) -> None:
        """Check that a wait that was ended has left it alone, and let it end."""
        assert not self.future.done()
        assert not self.future._waiters  # type: ignore[attr-defined]
        assert not self.future._condition._waiters  # type: ignore[attr-defined]
        self.end()
        assert self.future.result(10) == "value"
        assert not self.was_cancelled


@pytest.fixture
def other() -> Iterator[Bridge]:
    with Bridge("other", install_reactor=False) as each:
        yield each


@pytest.fixture
def plain_loop() -> Iterator[Bridge]:
    """A bridge on whose loop no stack switches."""
    with Bridge("plain", install_reactor=False, loop_factory=asyncio.SelectorEventLoop) as each:
        yield each


# --- the places


def in_a_task(bridge: Bridge, function: Callable[[], Any]) -> Any:
    async def task() -> Any:
        return function()

    return bridge.block_on(task(), timeout=20)


def in_a_callback(bridge: Bridge, function: Callable[[], Any]) -> Any:
    done: Future[Any] = Future()

    def callback(*_: object) -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    bridge.loop.call_soon_threadsafe(callback)
    return done.result(20)


def in_a_deferreds_callback(bridge: Bridge, function: Callable[[], Any]) -> Any:
    return in_a_callback(bridge, lambda: defer.succeed(None).addCallback(lambda _: function()).result)


def in_a_worker(bridge: Bridge, function: Callable[[], Any]) -> Any:
    return bridge.block_on(asyncio.to_thread(function), timeout=20)


def in_a_worker_with_a_scope(bridge: Bridge, function: Callable[[], Any]) -> Any:
    return bridge.block_on(in_thread(function), timeout=20)


def in_a_foreign_loop(bridge: Bridge, function: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return function()

    return asyncio.run(main())


ON_THE_LOOP = {"task": in_a_task, "callback": in_a_callback, "Deferred": in_a_deferreds_callback}
PLACES: dict[str, Callable[[Bridge, Callable[[], Any]], Any]] = {
    "main thread": lambda _, function: function(),
    "thread": lambda _, function: in_a_thread(function),
    **ON_THE_LOOP,
    "worker": in_a_worker,
    "worker with a scope": in_a_worker_with_a_scope,
    "foreign loop": in_a_foreign_loop,
}
every_place = pytest.mark.parametrize("place", PLACES)
on_the_loop = pytest.mark.parametrize("place", ON_THE_LOOP)


@every_way
@every_place
def test_the_result_is_waited_for_wherever_the_caller_stands(bridge: Bridge, place: str, way: str) -> None:
    bridge.start()

    def call() -> Any:
        work = Work(bridge)
        bridge.loop.call_soon_threadsafe(bridge.loop.call_later, 0.005, work.goes_on.set)
        return WAYS[way](work.future), WAYS[way](work.future)  # the second time it is there

    assert PLACES[place](bridge, call) == ("value", "value")


@every_way
@every_place
def test_a_time_out_leaves_the_work_running(bridge: Bridge, place: str, way: str) -> None:
    bridge.start()
    work = Work(bridge)

    def call() -> BaseException:
        with pytest.raises(TimeoutError) as caught:
            WAYS[way](work.future, 0.005)
        assert type(caught.value) is TimeoutError is concurrent.futures.TimeoutError
        return caught.value

    PLACES[place](bridge, call)
    work.goes_on_after_a_wait()


@every_place
def test_an_error_is_raised_as_it_is_and_its_traceback_does_not_grow(bridge: Bridge, place: str) -> None:
    bridge.start()
    error = LookupError("no such page")

    def call() -> None:
        work = Work(bridge, error)
        work.end()
        lengths: set[int] = set()
        for _ in range(3):
            with pytest.raises(LookupError) as caught:
                work.future.result()
            assert caught.value is error
            frames = traceback.extract_tb(error.__traceback__)
            assert not [each for each in frames if "/bridge/" in each.filename]
            lengths.add(len(frames))
        assert len(lengths) == 1
        assert work.future.exception() is error

    PLACES[place](bridge, call)
    error.__traceback__ = None


@every_place
@pytest.mark.parametrize("method", ["result", "exception"])
def test_cancelled_work_raises_the_error_of_a_future(bridge: Bridge, place: str, method: str) -> None:
    bridge.start()

    def call() -> None:
        future = Work(bridge).future
        assert future.cancel()
        for _ in range(2):
            with pytest.raises(concurrent.futures.CancelledError):
                getattr(future, method)(10)
        assert future.cancelled()

    PLACES[place](bridge, call)


@on_the_loop
@every_way
def test_on_its_own_thread_the_loop_goes_on(bridge: Bridge, place: str, way: str) -> None:
    ticks: list[None] = []

    def call() -> Any:
        work = Work(bridge)

        def tick() -> None:
            ticks.append(None)
            if len(ticks) == 20:
                work.goes_on.set()
            else:
                bridge.loop.call_later(0.0005, tick)

        bridge.loop.call_soon(tick)
        return WAYS[way](work.future)

    bridge.start()
    assert ON_THE_LOOP[place](bridge, call) == "value"
    assert len(ticks) == 20


@on_the_loop
@every_way
@pytest.mark.parametrize("seconds", [0, -1, -0.5])
def test_on_the_loop_a_look_does_not_let_it_go_on(bridge: Bridge, place: str, way: str, seconds: float) -> None:
    bridge.start()
    work = Work(bridge)

    def call() -> None:
        turned: list[None] = []
        bridge.loop.call_soon(turned.append, None)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                WAYS[way](work.future, seconds)
        if way != "as_completed" or seconds < 0:  # which waits for what is left of 0 seconds, as the standard one does
            assert not turned

    ON_THE_LOOP[place](bridge, call)
    work.goes_on_after_a_wait()


def test_hundreds_of_stacks_wait_for_one_future(bridge: Bridge) -> None:
    async def main() -> None:
        work = Work(bridge)

        async def waits() -> Any:
            return work.future.result()

        tasks = [asyncio.create_task(waits()) for _ in range(300)]
        await asyncio.sleep(0.01)
        work.goes_on.set()
        assert set(await asyncio.gather(*tasks)) == {"value"}

    bridge.block_on(main(), timeout=30)


def test_stacks_threads_and_standard_waits_wait_for_one_future(bridge: Bridge) -> None:
    bridge.start()
    work = Work(bridge)
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: results.append(each(work.future)))
        for each in (*WAYS.values(), lambda future: _only(concurrent.futures.wait([future]).done).result())
    ]
    for each in threads:
        each.start()

    async def main() -> None:
        while len(work.future._condition._waiters) + len(work.future._waiters) < 5:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        bridge.loop.call_later(0.005, work.goes_on.set)
        results.append(work.future.result())

    bridge.block_on(main(), timeout=20)
    for each in threads:
        each.join(10)
    assert results == ["value"] * 6


# --- what ends a wait on the loop


@every_way
def test_cancelling_the_task_ends_the_wait_and_leaves_the_work(bridge: Bridge, way: str) -> None:
    bridge.start()
    work = Work(bridge)

    async def waits() -> Any:
        return WAYS[way](work.future)

    async def main() -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("enough",)
        assert task.cancelled()

    bridge.block_on(main(), timeout=10)
    work.goes_on_after_a_wait()


@every_way
@pytest.mark.parametrize("limit", ["asyncio.timeout", "anyio.move_on_after", "anyio.fail_after"])
def test_scopes_and_time_outs_end_the_wait_as_around_an_await(bridge: Bridge, way: str, limit: str) -> None:
    bridge.start()
    work = Work(bridge)

    async def main() -> bool:
        if limit == "anyio.move_on_after":
            with anyio.move_on_after(0.005) as scope:
                WAYS[way](work.future)
            return scope.cancelled_caught
        try:
            if limit == "asyncio.timeout":
                async with asyncio.timeout(0.005):
                    WAYS[way](work.future)
            else:
                with anyio.fail_after(0.005):
                    WAYS[way](work.future)
        except TimeoutError:
            return asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        return False

    assert bridge.block_on(main(), timeout=10)
    work.goes_on_after_a_wait()


@every_way
def test_a_cancellation_after_the_end_of_the_work_is_not_lost(bridge: Bridge, way: str) -> None:
    bridge.start()

    async def waits(work: Work) -> Any:
        try:
            return WAYS[way](work.future)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def main() -> None:
        for both in (True, False):
            work = Work(bridge)
            task = asyncio.create_task(waits(work))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            work.goes_on.set()
            if not both:
                while not work.future.done():
                    await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == "value"
            assert task.cancelling() == 1

    bridge.block_on(main(), timeout=10)


@on_the_loop
@every_way
def test_the_end_of_the_loop_ends_the_wait(other: Bridge, place: str, way: str) -> None:
    """As the loop of the work is another, the Future itself goes on."""
    with Bridge("ending", install_reactor=False, shutdown_timeout=1) as ending:
        work = Work(other)
        errors: list[BaseException] = []
        begun = threading.Event()

        def call() -> None:
            ending.loop.call_soon(begun.set)
            try:
                WAYS[way](work.future)
            except BaseException as error:
                errors.append(error)
                raise

        thread = threading.Thread(target=lambda: _quietly(lambda: ON_THE_LOOP[place](ending, call)))
        thread.start()
        assert begun.wait(10)
    thread.join(20)
    assert [type(each) for each in errors] == [BridgeClosed]
    work.goes_on_after_a_wait()


def _quietly(function: Callable[[], object]) -> None:
    with contextlib.suppress(BaseException):
        function()


def test_a_future_that_the_end_of_its_loop_fails_raises_that(other: Bridge) -> None:
    with Bridge("ending", install_reactor=False) as ending:
        ending.start()
        work = Work(ending)

        async def waits() -> None:
            with pytest.raises(BridgeClosed):
                work.future.result()

        waiting = other.submit(waits())
        other.block_on(asyncio.sleep(0.01))
    waiting.result(10)


# --- other loops


@every_way
@on_the_loop
def test_work_of_another_bridge_is_waited_for_on_a_loop(bridge: Bridge, other: Bridge, place: str, way: str) -> None:
    bridge.start()
    work = Work(other)
    bridge.loop.call_soon_threadsafe(lambda: bridge.loop.call_later(0.01, work.end))
    assert ON_THE_LOOP[place](bridge, lambda: WAYS[way](work.future)) == "value"


def test_two_loops_that_wait_for_work_of_each_other_go_on(bridge: Bridge, other: Bridge) -> None:
    async def there_and_back(depth: int, here: Bridge, there: Bridge) -> int:
        return 0 if not depth else 1 + there.submit(there_and_back(depth - 1, there, here)).result()

    assert bridge.submit(there_and_back(10, bridge, other)).result(20) == 10


@every_way
def test_a_loop_that_cannot_switch_refuses_to_wait_for_its_own_work(plain_loop: Bridge, way: str) -> None:
    plain_loop.start()
    work = Work(plain_loop)

    async def main() -> str:
        with pytest.raises(StrategyUnavailable) as caught:
            WAYS[way](work.future)
        with pytest.raises(StrategyUnavailable):
            WAYS[way](work.future, 10)
        with pytest.raises(StrategyUnavailable) as of_block_on:
            plain_loop.block_on(work.future)
        assert str(caught.value).partition(" was called")[2] == str(of_block_on.value).partition(" was called")[2]
        with pytest.raises(TimeoutError):
            WAYS[way](work.future, -1)  # it only looks
        return str(caught.value)

    message = plain_loop.block_on(main(), timeout=10)
    name = f"{way}() of" if way in ("result", "exception") else f"bridge.{way}() of"
    assert message.startswith(name), message
    work.goes_on_after_a_wait()

    async def done() -> Any:
        return WAYS[way](work.future)

    assert plain_loop.block_on(done(), timeout=10) == "value"


@every_way
def test_a_loop_that_cannot_switch_waits_for_work_of_another(plain_loop: Bridge, other: Bridge, way: str) -> None:
    plain_loop.start()
    work = Work(other)
    threading.Timer(0.02, work.end).start()
    assert in_a_task(plain_loop, lambda: WAYS[way](work.future)) == "value"


@every_way
def test_the_root_stack_refuses(bridge: Bridge, way: str) -> None:
    bridge.start()
    work = Work(bridge)
    loop: Any = bridge.loop

    def call() -> None:
        stacks = loop._stacks
        roots = stacks.root, stacks.last_root
        stacks.root = stacks.last_root = getcurrent()  # as it is for a signal handler that comes here
        try:
            with pytest.raises(DeadlockError, match="root stack"):
                WAYS[way](work.future)
        finally:
            stacks.root, stacks.last_root = roots

    in_a_callback(bridge, call)
    work.goes_on_after_a_wait()


@pytest.mark.process
@isolated
def test_the_thread_of_a_reactor_without_a_loop_refuses() -> None:
    import importlib

    importlib.import_module("twisted.internet.selectreactor").install()
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    import bridge

    attached = bridge.Bridge.attach(reactor)
    other = bridge.Bridge(install_reactor=False)
    messages: list[str] = []

    def begin() -> None:
        future = attached.submit(lambda: deferLater(reactor, 0.01, lambda: "value"))
        for wait in (future.result, future.exception, lambda: bridge.wait([future]), lambda: list(as_completed())):
            try:
                wait()
            except bridge.StrategyUnavailable as error:
                messages.append(str(error))
        assert other.submit(lambda: "of another").result() == "of another"
        future.add_done_callback(lambda _: reactor.stop())

    def as_completed() -> object:
        return bridge.as_completed([attached.submit(lambda: deferLater(reactor, 0.01, lambda: "value"))])

    reactor.callWhenRunning(begin)
    reactor.run()
    other.close()
    assert len(messages) == 4
    assert all("SelectReactor" in each for each in messages), messages


# --- worker threads


@every_way
def test_a_worker_leaves_when_its_scope_is_cancelled(bridge: Bridge, way: str) -> None:
    bridge.start()
    work = Work(bridge)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            WAYS[way](work.future)
        except BaseException as error:
            errors.append(error)
            raise

    async def main() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await in_thread(call)
        return scope.cancelled_caught

    assert bridge.block_on(main(), timeout=10)
    assert [type(each) for each in errors] == [asyncio.CancelledError]
    work.goes_on_after_a_wait()


@every_way
def test_a_worker_of_a_foreign_loop_waits_as_any_thread(bridge: Bridge, way: str) -> None:
    bridge.start()
    work = Work(bridge)
    threading.Timer(0.01, work.end).start()

    async def main() -> Any:
        return await anyio.to_thread.run_sync(functools.partial(WAYS[way], work.future))

    assert asyncio.run(main()) == "value"


# --- strategies


@every_way
@pytest.mark.parametrize("strategy", usable())
def test_every_strategy_of_a_bridge_waits(strategy: str, way: str) -> None:
    with Bridge(strategy=strategy, install_reactor=False) as each:
        work = Work(each)
        each.loop.call_soon_threadsafe(each.loop.call_later, 0.01, work.goes_on.set)
        assert WAYS[way](work.future) == "value"
        slow = Work(each)
        with pytest.raises(TimeoutError):
            WAYS[way](slow.future, 0.005)
        slow.goes_on_after_a_wait()


@pytest.mark.parametrize("method", ["result", "exception"])
def test_greenlets_of_a_thread_go_on(method: str) -> None:
    with Bridge(strategy="greenlet", install_reactor=False) as each:
        first, second = Work(each), Work(each)
        order: list[str] = []

        def call(name: str, work: Work) -> None:
            order.append(f"{name} begins")
            getattr(work.future, method)()
            order.append(f"{name} ends")

        stacks = [
            greenlet(functools.partial(call, "first", first)),
            greenlet(functools.partial(call, "second", second)),
        ]
        for stack in stacks:
            stack.switch()
        assert order == ["first begins", "second begins"]
        second.end()
        while not stacks[1].dead:
            each.block_on(asyncio.sleep(0.001))
        first.end()
        while not stacks[0].dead:
            each.block_on(asyncio.sleep(0.001))
        assert order == ["first begins", "second begins", "second ends", "first ends"]


class Elsewhere:
    """A strategy that serves no place."""

    name = "elsewhere"

    def unavailable(self) -> str:
        return "it serves no place"

    def waiter(self) -> Any:
        raise AssertionError


@every_way
def test_where_the_strategy_of_the_bridge_does_not_serve_a_future_is_waited_for_all_the_same(way: str) -> None:
    with Bridge(strategy=Elsewhere(), install_reactor=False) as each:
        each.start()
        with pytest.raises(StrategyUnavailable):
            each.block_on(asyncio.sleep(0))
        work = Work(each)
        threading.Timer(0.01, work.end).start()
        assert WAYS[way](work.future) == "value"


# --- the Futures of a portal


@on_the_loop
@every_way
def test_the_future_of_a_portal_is_waited_for_on_the_loop(bridge: Bridge, place: str, way: str) -> None:
    async def work() -> str:
        await asyncio.sleep(0.01)
        return "value"

    future = bridge.portal.start_task_soon(work)
    assert ON_THE_LOOP[place](bridge, lambda: WAYS[way](future)) == "value"
    assert bridge.portal.call(work) == "value"


def test_cancelling_the_future_of_a_portal_ends_a_wait_on_the_loop(bridge: Bridge) -> None:
    future = bridge.portal.start_task_soon(asyncio.sleep, 1000)

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.005, future.cancel)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()

    bridge.block_on(main(), timeout=10)


# --- errors that nobody asks for


def _logged(caplog: pytest.LogCaptureFixture) -> int:
    for _ in range(3):
        gc.collect()
    return sum("nobody asked its Future" in each.getMessage() for each in caplog.records)


def test_an_error_is_logged_if_the_wait_for_it_was_ended(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    bridge.start()

    async def main() -> None:
        work = Work(bridge, LookupError("lost"))

        async def waits() -> None:
            work.future.result()

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        work.goes_on.set()
        while not work.future.done():
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.ERROR, logger="bridge"):
        bridge.block_on(main(), timeout=10)
        in_a_task(bridge, lambda: block_on(asyncio.sleep(0.001)))  # a runner that is parked keeps the last wait's task
        assert _until(lambda: _logged(caplog) == 1)


@pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_to_wait_is_not_to_ask_for_the_error(bridge: Bridge, caplog: pytest.LogCaptureFixture, when: str) -> None:
    bridge.start()

    def waits() -> None:
        work, slow = Work(bridge, LookupError("lost")), Work(bridge)
        work.end()
        package.wait([work.future], return_when=when)
        package.wait([work.future, slow.future], 0.001, when)
        slow.end()
        list(package.as_completed([work.future, slow.future]))

    with caplog.at_level(logging.ERROR, logger="bridge"):
        waits()
        assert _until(lambda: _logged(caplog) == 1)


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# --- wait and as_completed are those of concurrent.futures


def _future(state: str) -> Future[Any]:
    future: Future[Any] = Future()
    if state == "result":
        future.set_result(1)
    elif state == "error":
        future.set_exception(LookupError())
    elif state in ("cancelled", "cancelled and told"):
        future.cancel()
        if state == "cancelled and told":
            future.set_running_or_notify_cancel()
    elif state == "running":
        future.set_running_or_notify_cancel()
    return future


STATES = ["pending", "running", "result", "error", "cancelled", "cancelled and told"]


@pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED", "whenever"])
def test_wait_does_what_the_standard_one_does(when: str) -> None:
    choose = random.Random(13)
    for number in range(300):
        futures = [_future(choose.choice(STATES)) for _ in range(choose.randrange(4))]
        fs = futures + futures[:1]

        def outcome(wait: Any, fs: Any = fs) -> Any:
            try:
                return wait(iter(fs), 0.0001, when)
            except ValueError as error:
                return type(error), str(error)

        expected, got = outcome(concurrent.futures.wait), outcome(package.wait)
        assert got == expected, (number, fs)
        assert type(got) is type(expected)
        if not isinstance(got[0], type):
            assert (got.done, got.not_done) == got
        for each in futures:
            each._waiters.clear()  # type: ignore[attr-defined]  # the standard one leaves its own after an error


def test_as_completed_does_what_the_standard_one_does() -> None:
    choose = random.Random(13)
    for _ in range(100):
        futures = [_future(choose.choice(STATES)) for _ in range(choose.randrange(4))]
        fs = futures + futures[:1]

        def outcome(as_completed: Any, fs: Any = fs) -> Any:
            yielded: list[Any] = []
            try:
                yielded.extend(as_completed(iter(fs), 0.0001))
            except TimeoutError as error:
                return str(error)
            return set(yielded), len(yielded)

        assert outcome(package.as_completed) == outcome(concurrent.futures.as_completed)
        assert not any(each._waiters for each in futures)  # type: ignore[attr-defined]


def test_as_completed_yields_in_the_order_of_the_ends(bridge: Bridge) -> None:
    bridge.start()
    works = [Work(bridge, number) for number in range(6)]
    order = [3, 0, 5, 4, 1, 2]

    def call() -> list[int]:
        ends = iter(order)
        works[next(ends)].end()
        values: list[int] = []
        for future in package.as_completed([each.future for each in works] * 2):
            values.append(future.result())
            following = next(ends, None)
            if following is not None:
                works[following].end()
        return values

    assert in_a_task(bridge, call) == order


@every_place
def test_futures_of_any_kind_may_be_mixed(bridge: Bridge, place: str) -> None:
    bridge.start()
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def call() -> None:
            by_hand: Future[str] = Future()
            goes_on = threading.Event()
            in_pool = pool.submit(goes_on.wait)
            work = Work(bridge)
            ready = _future("result")
            fs: list[Any] = [work.future, by_hand, in_pool, ready]
            assert package.wait(fs, 0.005) == ({ready}, {work.future, by_hand, in_pool})
            iterator = package.as_completed(fs, 20)
            assert next(iterator) is ready
            threading.Timer(0.005, by_hand.set_result, ("by hand",)).start()
            assert next(iterator) is by_hand
            goes_on.set()
            assert next(iterator) is in_pool
            work.end()
            assert list(iterator) == [work.future]
            assert package.wait(fs) == (set(fs), set())
            assert not any(each._waiters for each in fs)

        PLACES[place](bridge, call)


@every_place
@pytest.mark.parametrize("left", ["break", "close", "error", "drop", "time-out"])
def test_as_completed_that_is_left_early_leaves_nothing_behind(bridge: Bridge, place: str, left: str) -> None:
    bridge.start()

    def call() -> None:
        slow = [Work(bridge) for _ in range(3)]
        by_hand: Future[None] = Future()
        fs: list[Any] = [each.future for each in slow] + [by_hand, _future("result")]
        iterator: Any = package.as_completed(fs, 0.01 if left == "time-out" else None)
        next(iterator)
        if left == "close":
            iterator.close()
        elif left == "error":
            with pytest.raises(LookupError):
                iterator.throw(LookupError())
        elif left == "time-out":
            with pytest.raises(TimeoutError, match=r"^4 \(of 5\) futures unfinished$"):
                next(iterator)
        elif left == "break":
            for _ in package.as_completed(fs):
                break
        del iterator
        for each in fs:
            assert not each._waiters
            assert not each._done_callbacks
            assert not each._condition._waiters
        for each in slow:
            each.end()
        package.wait([each.future for each in slow], 10)

    PLACES[place](bridge, call)


def test_as_completed_that_is_never_begun_stands_nowhere() -> None:
    future: Future[None] = Future()
    iterator = package.as_completed([future])
    assert not future._waiters  # type: ignore[attr-defined]
    del iterator


def test_as_completed_keeps_no_future_alive_that_it_has_yielded() -> None:
    fs = [_future("result") for _ in range(3)] + [Future()]
    fs[3].set_running_or_notify_cancel()
    threading.Timer(0.01, fs[3].set_result, (None,)).start()
    iterator = package.as_completed(fs)
    del fs
    for _ in range(4):
        reference = weakref.ref(next(iterator))
        assert reference() is None


@pytest.mark.parametrize("x", [1, None, asyncio.sleep, "text"])
def test_what_is_no_future_is_refused(x: Any) -> None:
    with pytest.raises(TypeError, match=r"^bridge.wait takes Futures of concurrent.futures"):
        package.wait([x])
    with pytest.raises(TypeError, match=r"^bridge.as_completed takes Futures of concurrent.futures"):
        next(package.as_completed([x]))


def test_a_future_of_asyncios_is_refused_with_a_hint(bridge: Bridge) -> None:
    future: Any = bridge.loop.create_future()
    with pytest.raises(TypeError, match="submit"):
        package.wait([future])
    future.cancel()


@pytest.mark.parametrize("verb", ["wait", "as_completed"])
def test_no_frame_of_ours_is_in_the_traceback_of_a_refusal(verb: str) -> None:
    with pytest.raises((TypeError, TimeoutError)) as caught:
        if verb == "wait":
            package.wait([1])  # type: ignore[list-item]
        else:
            list(package.as_completed([Future()], 0.001))
    assert not [each for each in traceback.extract_tb(caught.tb) if "/bridge/" in each.filename]


def test_long_time_outs_are_none(bridge: Bridge) -> None:
    bridge.start()

    def call() -> None:
        for seconds in (1e9, threading.TIMEOUT_MAX * 2, float("inf")):
            work = Work(bridge)
            bridge.loop.call_later(0.001, work.goes_on.set)
            assert package.wait([work.future], seconds).done
            another = Work(bridge)
            bridge.loop.call_later(0.001, another.goes_on.set)
            assert list(package.as_completed([another.future], seconds))
            third = Work(bridge)
            bridge.loop.call_later(0.001, third.goes_on.set)
            assert third.future.result(seconds) == "value"

    in_a_task(bridge, call)
    fourth = Work(bridge)
    threading.Timer(0.01, fourth.end).start()
    assert package.wait([fourth.future], float("inf")).done


# --- ends that race with the wait


@pytest.mark.parametrize("place", ["main thread", "thread", "task", "callback"])
def test_ends_in_other_threads_are_never_missed(bridge: Bridge, place: str) -> None:
    bridge.start()
    choose = random.Random(7)
    todo: list[Future[Any]] = []
    lock = threading.Lock()
    is_over = threading.Event()

    def ends_them() -> None:
        while not is_over.is_set():
            with lock:
                future = todo.pop() if todo else None
            if future is None:
                time.sleep(0)
                continue
            if future.set_running_or_notify_cancel():
                if id(future) % 3:
                    future.set_result(None)
                else:
                    future.set_exception(LookupError())

    threads = [threading.Thread(target=ends_them) for _ in range(3)]
    for each in threads:
        each.start()

    def call() -> None:
        for _ in range(150):
            fs: list[Future[Any]] = [Future() for _ in range(choose.choice([1, 2, 5]))]
            with lock:
                todo.extend(fs)
            how = choose.randrange(5)
            if how == 0:
                assert package.wait(fs, 20) == (set(fs), set())
            elif how == 1:
                assert package.wait(fs, 20, "FIRST_COMPLETED").done
            elif how == 2:
                done, not_done = package.wait(fs, 20, "FIRST_EXCEPTION")
                assert not not_done or any(each.exception() for each in done)
            else:
                assert set(package.as_completed(fs, 20)) == set(fs)
            assert not any(each._waiters for each in fs)  # type: ignore[attr-defined]

    try:
        PLACES[place](bridge, call)
    finally:
        is_over.set()
        for each in threads:
            each.join()


def test_a_waiter_that_leaves_does_not_take_another_ones_turn() -> None:
    """A list of waiters from which one goes while the others are told must not pass one by."""
    for _ in range(300):
        future: Future[None] = Future()
        told: list[Any] = []
        waiting = threading.Thread(
            target=lambda future=future, told=told: told.append(concurrent.futures.wait([future]))
        )

        def leaves(future: Future[None] = future) -> None:
            package.wait([future], 0.0001)

        leaving = [threading.Thread(target=leaves) for _ in range(2)]
        for each in (leaving[0], waiting, leaving[1]):
            each.start()
        future.set_result(None)
        for each in (*leaving, waiting):
            each.join(10)
        assert told


# --- plain functions


def test_the_plain_functions_serve_the_default_bridge_and_the_loop_that_runs() -> None:
    assert submit(asyncio.sleep(0.001, "value")).result() == "value"

    async def main() -> list[int]:
        futures = [submit(asyncio.sleep(0.001 * number, number)) for number in range(3)]
        assert package.wait(futures).not_done == set()
        return [future.result() for future in package.as_completed(futures)]

    assert sorted(block_on(main())) == [0, 1, 2]


def test_an_iterator_of_async_code_may_wait(bridge: Bridge) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield bridge.submit(asyncio.sleep(0.001, number)).result()

    assert list(bridge.iterate(numbers())) == [0, 1, 2]
