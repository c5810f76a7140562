"""iterate() and enter(): one task on the loop for each iteration and each ``with`` block."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from places import PLACES, in_a_thread, shown, usable
from told import Told
from twisted.internet.defer import Deferred

import bridge as package
from bridge import Bridge, BridgeClosed, BridgeError, enter, iterate

Place = Callable[[Callable[[], Any]], Any]

PREFETCH = pytest.mark.parametrize("prefetch", [0, 1, 3])
SECONDS = 10  # the bound of every wait for something that has to happen

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
unset: contextvars.ContextVar[str] = contextvars.ContextVar("unset")


@pytest.fixture(params=usable())
def waiting(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies."""
    with Bridge("iterate", strategy=request.param, install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest) -> Place:
    where: Place = request.param
    return where


class Numbers:
    """Counts, and notes how far it has come and that it was closed."""

    def __init__(self, count: int, suspending: bool = False) -> None:
        self.count = count
        self.suspending = suspending
        self.made = 0
        self.cleaned = threading.Event()
        self.threads: set[str] = set()
        self.tasks: set[asyncio.Task[Any] | None] = set()

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                self.threads.add(threading.current_thread().name)
                self.tasks.add(asyncio.current_task())
                if self.suspending:
                    await asyncio.sleep(0)
                self.made += 1
                yield number
        finally:
            await asyncio.sleep(0.001)
            self.tasks.add(asyncio.current_task())
            self.cleaned.set()


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def interrupt_main_thread_soon() -> None:
    """Press Ctrl-C when the main thread has gone to wait.

    No event tells when it has. A signal that comes just before it goes does not wake it: Python runs the handler when
    the wait ends.
    """
    ident = threading.main_thread().ident or 0
    asyncio.get_running_loop().call_later(0.01, signal.pthread_kill, ident, signal.SIGINT)


def until_idle(bridge: Bridge) -> None:
    """Let the loop do what it can do without waiting for anything."""

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    bridge.block_on(turns())


# --- items


@PREFETCH
@pytest.mark.parametrize("suspending", [False, True])
def test_gives_every_item_in_order(waiting: Bridge, place: Place, prefetch: int, suspending: bool) -> None:
    numbers = Numbers(50, suspending)
    assert place(lambda: list(waiting.iterate(numbers, prefetch=prefetch))) == list(range(50))
    assert numbers.threads == {"iterate"}
    assert numbers.cleaned.is_set()


def test_takes_an_iterator_that_is_no_generator(waiting: Bridge) -> None:
    class Countdown:
        left = 3

        def __aiter__(self) -> Countdown:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    assert list(waiting.iterate(Countdown())) == [2, 1, 0]


def test_a_generator_may_await_deferreds(waiting: Bridge) -> None:
    async def generator() -> AsyncIterator[str]:
        deferred: Deferred[str] = Deferred()
        waiting.reactor.callLater(0.001, deferred.callback, "fired")
        yield await deferred

    assert list(waiting.iterate(generator())) == ["fired"]


@PREFETCH
def test_one_task_makes_all_items_and_cleans_up(waiting: Bridge, prefetch: int) -> None:
    numbers = Numbers(10)
    with waiting.iterate(numbers, prefetch=prefetch) as items:
        assert next(items) == 0
    assert len(numbers.tasks) == 1


@PREFETCH
def test_an_error_comes_after_the_items_before_it_and_ends_the_iteration(waiting: Bridge, prefetch: int) -> None:
    error = LookupError("no such thing")

    async def failing() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise error

    items = waiting.iterate(failing(), prefetch=prefetch)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(LookupError) as caught:
        next(items)
    assert caught.value is error
    assert [entry.name for entry in caught.traceback] == [
        "test_an_error_comes_after_the_items_before_it_and_ends_the_iteration",
        "failing",
    ]
    assert list(items) == []


def test_an_error_leaves_no_reference_cycle(waiting: Bridge) -> None:
    class Error(Exception):
        pass

    async def failing() -> AsyncIterator[int]:
        yield 1
        raise Error

    def consume() -> weakref.ref[Error]:
        items = waiting.iterate(failing())
        try:
            list(items)
        except Error as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        seen = consume()
        waiting.block_on(asyncio.sleep(0))
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_raised_by_the_generator_reaches_the_consumer_and_the_loop_lives(
    waiting: Bridge, error: BaseException
) -> None:
    thread = waiting.thread

    async def exiting() -> AsyncIterator[int]:
        yield 1
        raise error

    items = waiting.iterate(exiting())
    assert next(items) == 1
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error
    assert waiting.thread is thread
    assert waiting.running


# --- back-pressure


def test_without_prefetch_an_item_is_made_when_it_is_asked_for(waiting: Bridge) -> None:
    numbers = Numbers(10)
    items = waiting.iterate(numbers)
    for number in range(5):
        until_idle(waiting)
        assert numbers.made == number
        assert next(items) == number
    items.close()
    assert numbers.made == 5


@pytest.mark.parametrize("prefetch", [1, 2, 5, 64])
@pytest.mark.parametrize("suspending", [False, True])
def test_prefetch_runs_so_many_items_ahead_and_no_more(waiting: Bridge, prefetch: int, suspending: bool) -> None:
    numbers = Numbers(300, suspending)
    most = 0
    with waiting.iterate(numbers, prefetch=prefetch) as items:
        for taken, number in enumerate(items, 1):
            assert number == taken - 1
            most = max(most, numbers.made - taken)
            assert numbers.made - taken <= prefetch
            if taken == 100:
                break
        for _ in range(prefetch):  # to where the producer is woken, if it sleeps with a few left
            next(items)
            taken += 1
            waiting.block_on(anyio.wait_all_tasks_blocked)
            assert numbers.made - taken <= prefetch
            most = max(most, numbers.made - taken)
    assert most == prefetch


def test_prefetch_of_one_makes_the_next_item_while_the_first_is_used(waiting: Bridge) -> None:
    started = [threading.Event(), threading.Event()]

    async def generator() -> AsyncIterator[int]:
        for number, event in enumerate(started):
            event.set()
            yield number

    with waiting.iterate(generator(), prefetch=1) as items:
        assert next(items) == 0
        assert started[1].wait(SECONDS)


def test_an_item_is_given_before_the_ones_after_it_are_there(waiting: Bridge) -> None:
    release = threading.Event()

    async def generator() -> AsyncIterator[int]:
        yield 1
        while not release.is_set():
            await asyncio.sleep(0.001)
        yield 2

    with waiting.iterate(generator(), prefetch=10) as items:
        assert next(items) == 1
        release.set()
        assert next(items) == 2


def test_threads_may_share_an_iterator(waiting: Bridge) -> None:
    items = waiting.iterate(Numbers(500, suspending=True), prefetch=3)
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(items)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(taken) == list(range(500))


# --- closing


@PREFETCH
def test_closing_early_cleans_up_before_close_returns(waiting: Bridge, place: Place, prefetch: int) -> None:
    def close() -> None:
        numbers = Numbers(100)
        items = waiting.iterate(numbers, prefetch=prefetch)
        assert next(items) == 0
        items.close()
        assert numbers.cleaned.is_set()

    place(close)


@PREFETCH
def test_leaving_the_with_by_an_error_cleans_up(waiting: Bridge, prefetch: int) -> None:
    numbers = Numbers(100)
    with pytest.raises(LookupError), waiting.iterate(numbers, prefetch=prefetch) as items:
        for _ in items:
            raise LookupError
    assert numbers.cleaned.is_set()


@PREFETCH
def test_dropping_the_iterator_cleans_up(waiting: Bridge, prefetch: int) -> None:
    numbers = Numbers(100)
    for _ in waiting.iterate(numbers, prefetch=prefetch):
        break
    assert numbers.cleaned.wait(SECONDS)


@PREFETCH
def test_an_iterator_in_a_reference_cycle_is_closed_when_it_is_collected(waiting: Bridge, prefetch: int) -> None:
    numbers = Numbers(100)
    items: Any = waiting.iterate(numbers, prefetch=prefetch)
    next(items)
    cycle = [items]
    cycle.append(cycle)
    del items, cycle
    gc.collect()
    assert numbers.cleaned.wait(SECONDS)


def test_threads_that_begin_a_shared_iterator_at_once_have_one_producer() -> None:
    count = 3
    barrier = threading.Barrier(count)
    got: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0.001)
            yield number

    def consume() -> None:
        barrier.wait(30)
        for number in items:
            got.append(number)

    bridge = Bridge("late", install_reactor=False)  # its start makes them begin at the same moment
    try:
        items = bridge.iterate(numbers())
        threads = [threading.Thread(target=consume) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        bridge.close()
    assert sorted(got) == list(range(10))


def test_next_after_a_ctrl_c_that_came_as_the_end_was_taken_stops(waiting: Bridge) -> None:
    async def one() -> AsyncIterator[int]:
        yield 1

    items = waiting.iterate(one())
    assert next(items) == 1

    class Interrupting(deque[Any]):
        def popleft(self) -> Any:
            taken = super().popleft()
            if type(taken).__name__ == "_End":
                raise KeyboardInterrupt
            return taken

    queue = items._items
    items._items = Interrupting()  # type: ignore[assignment]
    items._server._items = items._items  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        next(items)
    items._items = items._server._items = queue  # type: ignore[union-attr]
    assert list(items) == []


@pytest.mark.parametrize("where", ["before it has a producer", "before it has asked"])
def test_closing_as_another_thread_begins_ends_its_iteration(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    outcome: list[object] = []
    closed, stands = threading.Event(), threading.Event()

    async def numbers() -> AsyncIterator[int]:
        await for_ever()
        yield 1

    def consume() -> None:
        outcome.append(next(items, "no more"))

    def stand_there() -> None:
        if threading.current_thread() is thread:
            stands.set()
            closed.wait(30)

    with Bridge("closing", install_reactor=False) as bridge:
        bridge.start()
        items = bridge.iterate(numbers())
        owner: Any = Bridge if where == "before it has a producer" else type(items)
        name = "caller" if where == "before it has a producer" else "_cross"
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments: (stand_there(), original(*arguments))[1])
        thread = threading.Thread(target=consume, daemon=True)
        thread.start()
        assert stands.wait(30)
        items.close()
        closed.set()
        thread.join(10)
        assert outcome == ["no more"]


@pytest.mark.parametrize("what", ["iterate", "enter", "enter, as it is entered"])
def test_two_ctrl_cs_in_a_row_leave_it_to_the_end_of_the_object(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The first comes before the loop has been asked, the second in the first line of what handles the first."""
    left = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
        finally:
            left.set()

    class Context:  # and no generator, which leaves what it is in as it is collected
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None:
            left.set()

    def twice(cls: Any, *, cross_first: bool) -> None:
        cross = cls._cross

        def interrupted(*arguments: Any) -> None:
            monkeypatch.setattr(cls, "_cross", cross)
            if cross_first:
                cross(*arguments)

            def again(frame: Any, event: str, _: object) -> None:
                if event in ("call", "c_return") and frame.f_code is not interrupted.__code__:
                    sys.setprofile(None)
                    raise SystemExit

            sys.setprofile(again)
            raise KeyboardInterrupt

        monkeypatch.setattr(cls, "_cross", interrupted)

    with Bridge("interrupted", install_reactor=False) as bridge:
        bridge.start()
        each: Any
        if what == "iterate":
            each = bridge.iterate(numbers())
            next(each)
            twice(type(each), cross_first=False)
            with pytest.raises(SystemExit):
                each.close()
        else:
            each = bridge.enter(Context())
            if what == "enter":
                each.__enter__()
            twice(type(each), cross_first=what != "enter")
            with pytest.raises(SystemExit):
                each.__exit__(None, None, None) if what == "enter" else each.__enter__()
        del each
        gc.collect()
        bridge.block_on(asyncio.sleep(0))
        assert left.wait(10)


def test_closing_twice_does_nothing(waiting: Bridge) -> None:
    numbers = Numbers(3)
    items = waiting.iterate(numbers)
    next(items)
    items.close()
    items.close()
    with items:
        pass
    assert list(items) == []


def test_closing_before_the_first_item_closes_the_generator(waiting: Bridge) -> None:
    generator = Numbers(3).__aiter__()
    with waiting.iterate(generator):
        pass
    with pytest.raises(StopAsyncIteration):
        waiting.block_on(generator.__anext__())


def test_closing_after_the_end_does_nothing(waiting: Bridge) -> None:
    with waiting.iterate(Numbers(3)) as items:
        assert list(items) == [0, 1, 2]


def test_an_error_of_the_cleanup_is_raised_by_close(waiting: Bridge) -> None:
    error = LookupError("in the cleanup")

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise error

    items = waiting.iterate(generator())
    next(items)
    with pytest.raises(LookupError) as caught:
        items.close()
    assert caught.value is error
    items.close()


def test_a_time_out_of_the_cleanup_s_own_keeps_its_message(waiting: Bridge) -> None:
    class Context:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None:
            raise TimeoutError("its own")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise TimeoutError("its own")

    items = waiting.iterate(numbers(), timeout=SECONDS)
    next(items)
    with pytest.raises(TimeoutError, match=r"^its own$"):
        items.close()
    with pytest.raises(TimeoutError, match=r"^its own$"), waiting.enter(Context(), timeout=SECONDS):
        pass


def test_a_generator_that_ignores_its_closing_is_an_error(waiting: Bridge) -> None:
    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    items = waiting.iterate(generator())
    next(items)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        items.close()
    assert list(items) == []


def test_closing_in_another_thread_ends_a_wait(waiting: Bridge) -> None:
    cleaned = threading.Event()
    waits = threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            waits.set()
            await for_ever()
            yield 1
        finally:
            cleaned.set()

    items = waiting.iterate(generator())
    results: list[Any] = []
    consumer = threading.Thread(target=lambda: results.append(list(items)))
    consumer.start()
    assert waits.wait(SECONDS)
    items.close()
    assert cleaned.is_set()
    consumer.join(SECONDS)
    assert results == [[]]


def test_an_iterator_that_is_no_generator_is_not_closed(waiting: Bridge) -> None:
    async def use() -> tuple[Any, Any]:
        return anyio.create_memory_object_stream[int](10)

    send, receive = waiting.block_on(use())
    for number in range(3):
        waiting.block_on(send.send(number))
    with waiting.iterate(receive) as items:
        assert next(items) == 0
    assert next(waiting.iterate(receive)) == 1
    waiting.block_on(send.aclose())
    assert list(waiting.iterate(receive)) == [2]
    waiting.block_on(receive.aclose())


# --- time-outs, interruption, the loop's death


def test_times_out_on_the_first_item(waiting: Bridge) -> None:
    cleaned = threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            await for_ever()
            yield 1
        finally:
            cleaned.set()

    items = waiting.iterate(generator(), timeout=0.05)
    with pytest.raises(TimeoutError, match=r"the next item of async_generator .* did not come within 0.05 seconds"):
        next(items)
    assert cleaned.is_set()
    assert list(items) == []


def test_times_out_on_a_later_item(bridge: Bridge) -> None:
    cleaned, waits = threading.Event(), threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
            waits.set()
            await for_ever()
        finally:
            await asyncio.sleep(0.001)
            cleaned.set()

    items = bridge.iterate(generator(), timeout=5, strategy=Told(waits))
    assert next(items) == 1
    with pytest.raises(TimeoutError, match="did not come within 5 seconds"):
        next(items)
    assert cleaned.is_set()
    assert list(items) == []


def test_a_generator_that_a_time_out_has_ended_gives_no_more_items(bridge: Bridge) -> None:
    waits = threading.Event()

    async def generator() -> AsyncIterator[int]:
        yield 1
        waits.set()
        await for_ever()

    told = Told(waits)
    items = bridge.iterate(generator(), timeout=5, strategy=told)
    assert next(items) == 1
    with pytest.raises(TimeoutError):
        next(items)
    told.has_asked.clear()
    stand_still_until(bridge, told.has_asked)  # the next one's time is up as well, before the loop can look
    assert next(items, "ended") == "ended"
    assert next(items, "ended") == "ended"
    told.has_asked.set()


def test_a_time_out_that_comes_with_its_request_cancels_the_generator(bridge: Bridge) -> None:
    """The loop stands still from before it is asked for the item until it is asked to cancel that."""
    cleaned, up = threading.Event(), threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.001)
            cleaned.set()

    told = Told(up)
    items = bridge.iterate(generator(), timeout=5, strategy=told)
    assert next(items) == 1
    up.set()
    stand_still_until(bridge, told.has_asked)
    with pytest.raises(TimeoutError):
        next(items)
    assert cleaned.is_set()
    assert list(items) == []


def test_a_time_out_that_comes_with_its_request_leaves_an_iterator_that_has_begun_nothing(bridge: Bridge) -> None:
    class Counting:
        made = 0

        def __aiter__(self) -> Counting:
            return self

        async def __anext__(self) -> int:
            self.made += 1
            return self.made

    up = threading.Event()
    told = Told(up)
    items = bridge.iterate(Counting(), timeout=5, strategy=told)
    assert next(items) == 1
    up.set()
    stand_still_until(bridge, told.has_asked)
    with pytest.raises(TimeoutError):
        next(items)
    up.clear()
    assert next(items) == 2


def test_a_time_out_before_the_first_step_ends_the_iteration() -> None:
    """On a loop of the user's, which takes that step in a later turn before CPython 3.12."""

    async def generator() -> AsyncIterator[int]:
        await for_ever()
        yield 1

    up = threading.Event()
    with Bridge(install_reactor=False, loop_factory=asyncio.SelectorEventLoop) as bridge:
        told = Told(up)
        items = bridge.iterate(generator(), timeout=5, strategy=told)
        up.set()
        stand_still_until(bridge, told.has_asked)
        with pytest.raises(TimeoutError):
            next(items)
        up.clear()
        assert list(items) == []


def stand_still_until(bridge: Bridge, event: threading.Event) -> None:
    """Let the loop run nothing until the event is set."""
    stands_still = threading.Event()
    bridge.loop.call_soon_threadsafe(lambda: stands_still.set() or event.wait(SECONDS))  # type: ignore[func-returns-value]
    assert stands_still.wait(SECONDS)


@PREFETCH
def test_ctrl_c_cancels_the_item_and_lets_the_generator_clean_up(waiting: Bridge, prefetch: int) -> None:
    cleaned = threading.Event()

    async def generator() -> AsyncIterator[int]:
        yield 1
        interrupt_main_thread_soon()
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.001)
            cleaned.set()

    for _ in range(10):
        cleaned.clear()
        with pytest.raises(KeyboardInterrupt), waiting.iterate(generator(), prefetch=prefetch) as items:
            list(items)
        assert cleaned.is_set()


def test_ctrl_c_loses_no_item_and_another_iterator_goes_on(waiting: Bridge) -> None:
    class Interrupting:
        made = 0

        def __aiter__(self) -> Interrupting:
            return self

        async def __anext__(self) -> int:
            if self.made == 20:
                raise StopAsyncIteration
            if self.made % 3 == 0:
                try:
                    interrupt_main_thread_soon()
                    await for_ever()
                except asyncio.CancelledError:
                    pass
            self.made += 1
            return self.made

    items = waiting.iterate(Interrupting())
    taken: list[int] = []
    interrupts = 0
    while True:
        try:
            taken.append(next(items))
        except StopIteration:
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert taken == list(range(1, 21))
    assert interrupts


@PREFETCH
def test_a_loop_that_stops_fails_the_next_item(waiting: Bridge, place: Place, prefetch: int) -> None:
    numbers = Numbers(100)

    def consume() -> None:
        items = waiting.iterate(numbers, prefetch=prefetch)
        assert next(items) == 0
        thread = waiting.thread
        assert thread is not None
        waiting.submit(lambda: asyncio.get_running_loop().stop())
        thread.join(SECONDS)
        with pytest.raises(BridgeClosed):
            for _ in items:  # what was made before is given
                pass
        items.close()

    place(consume)
    assert numbers.cleaned.is_set()
    assert waiting.block_on(asyncio.sleep(0, "alive")) == "alive"


def test_closing_the_bridge_fails_a_wait_and_cleans_up(waiting: Bridge) -> None:
    cleaned = threading.Event()
    waits = threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            waits.set()
            await for_ever()
            yield 1
        finally:
            cleaned.set()

    items = waiting.iterate(generator())
    errors: list[BaseException] = []

    def consume() -> None:
        try:
            next(items)
        except BaseException as error:
            errors.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert waits.wait(SECONDS)
    waiting.close()
    consumer.join(SECONDS)
    assert isinstance(errors.pop(), BridgeClosed)
    assert cleaned.is_set()
    with pytest.raises(BridgeClosed):
        next(items)


def test_an_iteration_left_open_does_not_hold_up_the_bridge_s_close(waiting: Bridge) -> None:
    numbers = Numbers(100)
    items = waiting.iterate(numbers)
    next(items)
    waiting.close()
    assert numbers.cleaned.is_set()
    with pytest.raises(BridgeClosed):
        next(items)
    items.close()


# --- context variables and cancel scopes


def test_context_variables_go_in_and_come_out_at_each_item(waiting: Bridge, place: Place) -> None:
    async def generator() -> AsyncIterator[str]:
        token = variable.set("first")
        yield "first"
        variable.reset(token)
        yield variable.get()
        yield variable.get()
        variable.set("last")

    def consume() -> None:
        before = variable.set("from the caller")
        items = waiting.iterate(generator())
        assert next(items) == "first"
        assert variable.get() == "first"
        assert next(items) == "from the caller"
        assert variable.get() == "from the caller"
        variable.set("changed by the caller")
        assert next(items) == "changed by the caller"
        assert list(items) == []
        assert variable.get() == "last"
        variable.reset(before)
        assert variable.get() == "unset"

    place(consume)


@PREFETCH
def test_a_scope_of_the_generator_may_stay_open_over_items(waiting: Bridge, prefetch: int) -> None:
    async def generator() -> AsyncIterator[int]:
        with anyio.CancelScope():
            async with anyio.create_task_group() as group:
                group.start_soon(asyncio.sleep, 0)
                for number in range(10):
                    await anyio.sleep(0)
                    yield number

    assert list(waiting.iterate(generator(), prefetch=prefetch)) == list(range(10))
    with waiting.iterate(generator(), prefetch=prefetch) as items:
        next(items)


@pytest.mark.parametrize("limit", [asyncio.timeout, anyio.fail_after])
def test_a_time_out_inside_the_generator_strikes_between_two_items(waiting: Bridge, limit: Any) -> None:
    expired = threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            if limit is asyncio.timeout:
                async with limit(0.01):
                    yield 1
            else:
                with limit(0.01):
                    yield 1
        finally:
            expired.set()

    items = waiting.iterate(generator())
    assert next(items) == 1
    assert expired.wait(SECONDS)
    with pytest.raises(TimeoutError):
        next(items)


def test_cancelling_the_caller_s_scope_ends_the_wait_and_cleans_up(waiting: Bridge) -> None:
    cleaned = threading.Event()
    scope: Any

    async def make_scope() -> Any:
        return anyio.CancelScope()

    seen: list[str] = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
            asyncio.get_running_loop().call_later(0.01, scope.cancel)
            await for_ever()
        finally:
            cleaned.set()

    def consume() -> None:
        try:
            for number in waiting.iterate(generator()):
                seen.append(f"item {number}")
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    async def main() -> None:
        with scope:
            await package.in_thread(consume)

    scope = waiting.block_on(make_scope())
    waiting.block_on(main())
    assert seen == ["item 1", "CancelledError"]
    assert cleaned.is_set()


def test_iterates_on_the_loop_s_own_thread(waiting: Bridge) -> None:
    async def consume() -> list[int]:
        return list(waiting.iterate(Numbers(20), prefetch=3)) + list(waiting.iterate(Numbers(3)))

    assert waiting.block_on(consume()) == [*range(20), 0, 1, 2]


# --- bad input


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1], "a plain 'for' works already"),
        ("text", "a plain 'for' works already"),
        (iter([1]), "a plain 'for' works already"),
        (Numbers.__aiter__, r"call it, write iterate\(__aiter__\(\.\.\.\)\)"),
        (Numbers, r"call it, write iterate\(Numbers\(\.\.\.\)\)"),
        (3, "iterate takes what 'async for' takes"),
        (Deferred(), r"write iterate\(block_on\(\.\.\.\)\)"),
    ],
    ids=shown,
)
def test_iterate_refuses_what_is_no_async_iterable(x: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        iterate(x)


@pytest.mark.parametrize(("prefetch", "error"), [(-1, ValueError), (1.5, TypeError), ("3", TypeError)])
def test_iterate_refuses_a_prefetch_that_is_no_count(prefetch: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="prefetch is a number of items"):
        iterate(Numbers(3), prefetch=prefetch)


def test_repr_says_of_what() -> None:
    assert "items of <" in repr(iterate(Numbers(1)))


# --- enter


class Resource:
    """An async context manager that notes what happens to it."""

    def __init__(self, swallow: bool = False, raising: BaseException | None = None) -> None:
        self.swallow = swallow
        self.raising = raising
        self.events: list[Any] = []
        self.tasks: list[Any] = []
        self.left = threading.Event()

    async def __aenter__(self) -> str:
        await asyncio.sleep(0)
        self.tasks.append(asyncio.current_task())
        self.events.append("entered")
        return "value"

    async def __aexit__(self, exc_type: Any, exc: Any, traceback: Any) -> bool:
        try:
            await asyncio.sleep(0)
            self.tasks.append(asyncio.current_task())
            assert exc_type is (None if exc is None else type(exc))
            self.events.append(exc)
            if self.raising is not None:
                raise self.raising
            return self.swallow
        finally:
            self.left.set()


def test_enters_and_leaves_in_one_task(waiting: Bridge, place: Place) -> None:
    resource = Resource()

    def use() -> None:
        with waiting.enter(resource) as value:
            assert value == "value"
            assert resource.events == ["entered"]

    place(use)
    assert resource.events == ["entered", None]
    assert resource.tasks[0] is resource.tasks[1]


def test_aexit_sees_the_very_exception_which_goes_on(waiting: Bridge, place: Place) -> None:
    resource = Resource()
    error = LookupError("in the block")

    def use() -> None:
        with waiting.enter(resource):
            raise error

    with pytest.raises(LookupError) as caught:
        place(use)
    assert caught.value is error
    assert resource.events[1] is error


def test_aexit_may_swallow_the_exception(waiting: Bridge) -> None:
    resource = Resource(swallow=True)
    with waiting.enter(resource):
        raise LookupError
    assert isinstance(resource.events[1], LookupError)


def test_aexit_may_raise_another_exception(waiting: Bridge) -> None:
    error, other = LookupError("in the block"), ValueError("in aexit")
    with pytest.raises(ValueError, match="in aexit") as caught, waiting.enter(Resource(raising=other)):
        raise error
    assert caught.value is other
    assert caught.value.__context__ is error


def test_an_exception_that_passes_through_a_generator_keeps_its_traceback(waiting: Bridge) -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)

    error = LookupError()
    with pytest.raises(LookupError) as caught, waiting.enter(manager()):
        raise error
    assert caught.value is error
    assert [entry.name for entry in caught.traceback] == [
        "test_an_exception_that_passes_through_a_generator_keeps_its_traceback"
    ]


def test_an_error_of_aenter_is_raised_and_nothing_is_left(waiting: Bridge) -> None:
    error = LookupError()

    class Failing(Resource):
        async def __aenter__(self) -> str:
            raise error

    resource = Failing()
    with pytest.raises(LookupError) as caught, waiting.enter(resource):
        pass
    assert caught.value is error
    assert resource.events == []


def test_an_error_of_aexit_leaves_no_reference_cycle(waiting: Bridge) -> None:
    class Error(Exception):
        pass

    def use() -> weakref.ref[Error]:
        manager = waiting.enter(Resource(raising=Error()))
        try:
            with manager:
                pass
        except Error as error:
            manager._manager.raising = None  # type: ignore[attr-defined]
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        seen = use()
        waiting.block_on(asyncio.sleep(0))
        assert seen() is None
    finally:
        gc.enable()


def test_context_variables_of_aenter_are_the_caller_s_until_aexit_resets_them(waiting: Bridge, place: Place) -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        assert variable.get() == "from the caller"
        token, fresh = variable.set("inside"), unset.set("inside")
        try:
            yield
        finally:
            unset.reset(fresh)
            variable.reset(token)

    def use() -> None:
        before = variable.set("from the caller")
        with waiting.enter(manager()):
            assert variable.get() == "inside"
            assert unset.get() == "inside"
            assert waiting.block_on(read()) == "inside"
        assert variable.get() == "from the caller"
        assert unset.get(None) is None
        variable.reset(before)

    async def read() -> str:
        return variable.get()

    place(use)


def test_a_cancel_scope_and_a_task_group_can_be_entered(waiting: Bridge) -> None:
    ran = threading.Event()

    async def child() -> None:
        ran.set()

    async def start(group: Any) -> None:
        group.start_soon(child)

    with waiting.enter(anyio.create_task_group) as group:
        waiting.block_on(start(group))
        assert ran.wait(SECONDS)
    with waiting.enter(asyncio.TaskGroup()) as tasks:
        waiting.block_on(lambda: tasks.create_task(child()))


@pytest.mark.parametrize("make", [anyio.create_task_group, asyncio.TaskGroup])
def test_a_task_group_whose_child_fails_raises_when_the_block_ends(waiting: Bridge, make: Callable[[], Any]) -> None:
    failed = threading.Event()

    async def child() -> None:
        failed.set()
        raise LookupError("in the child")

    async def start(group: Any) -> None:
        if isinstance(group, asyncio.TaskGroup):
            group.create_task(child())
        else:
            group.start_soon(child)

    with pytest.raises(ExceptionGroup) as caught, waiting.enter(make) as group:
        waiting.block_on(start(group))
        assert failed.wait(SECONDS)
        until_idle(waiting)
    assert caught.group_contains(LookupError, match="in the child")


def test_a_time_out_that_is_entered_raises_when_the_block_ends(waiting: Bridge) -> None:
    async def expired() -> None:
        while not limit[0].expired():
            await asyncio.sleep(0.001)

    limit: list[asyncio.Timeout] = []

    def expiring() -> asyncio.Timeout:
        limit.append(asyncio.timeout(0.01))
        return limit[0]

    with pytest.raises(TimeoutError), waiting.enter(expiring):
        waiting.block_on(expired())


def test_entering_times_out(waiting: Bridge) -> None:
    class Slow(Resource):
        async def __aenter__(self) -> str:
            try:
                await for_ever()
            finally:
                self.events.append("cleaned up")
            return ""

    resource = Slow()
    with (
        pytest.raises(TimeoutError, match=r"was not entered within 0\.01 seconds"),
        waiting.enter(resource, timeout=0.01),
    ):
        pass
    assert resource.events == ["cleaned up"]


def test_leaving_times_out(bridge: Bridge) -> None:
    leaving = threading.Event()

    class Slow(Resource):
        async def __aexit__(self, *_: Any) -> bool:
            leaving.set()
            await for_ever()
            return False

    with (
        pytest.raises(TimeoutError, match="was not left within 5 seconds"),
        bridge.enter(Slow(), timeout=5, strategy=Told(leaving)),
    ):
        pass


def test_a_time_out_that_comes_with_the_request_to_leave_cancels_the_aexit(bridge: Bridge) -> None:
    """The loop stands still from before it is asked to leave until it is asked to cancel that."""
    reasons: list[Any] = []
    up = threading.Event()

    class Slow(Resource):
        async def __aexit__(self, *arguments: Any) -> bool:
            reasons.extend(arguments)
            await for_ever()
            return False

    told = Told(up)
    with (
        pytest.raises(TimeoutError, match="was not left within 5 seconds"),
        bridge.enter(Slow(), timeout=5, strategy=told),
    ):
        up.set()
        stand_still_until(bridge, told.has_asked)
    assert reasons == [None] * 3


def test_ctrl_c_during_an_enter_that_succeeds_all_the_same_leaves_again(waiting: Bridge) -> None:
    class Stubborn(Resource):
        async def __aenter__(self) -> str:
            interrupt_main_thread_soon()
            try:
                await for_ever()
            except asyncio.CancelledError:
                pass
            return await super().__aenter__()

    resource = Stubborn()
    with pytest.raises(KeyboardInterrupt), waiting.enter(resource):
        raise AssertionError
    assert isinstance(resource.events[1], KeyboardInterrupt)


def test_an_enter_that_ends_after_its_caller_has_gone_is_left(bridge: Bridge) -> None:
    entering, cancelled, release = threading.Event(), threading.Event(), threading.Event()

    class Stubborn(Resource):
        async def __aenter__(self) -> str:
            entering.set()
            while not release.is_set():
                try:
                    await asyncio.sleep(0.001)
                except asyncio.CancelledError:
                    cancelled.set()
            return await super().__aenter__()

    resource = Stubborn()
    with (
        pytest.raises(TimeoutError) as caught,
        bridge.enter(resource, timeout=5, strategy=Told(entering, cancelled)),
    ):
        pass
    assert "still runs" in caught.value.__notes__[0]
    release.set()
    assert resource.left.wait(SECONDS)


def test_a_loop_that_stops_while_it_is_open_leaves_and_fails_the_exit(waiting: Bridge) -> None:
    resource = Resource()
    thread = waiting.thread
    assert thread is not None
    with pytest.raises(BridgeClosed), waiting.enter(resource):
        waiting.submit(lambda: asyncio.get_running_loop().stop())
        thread.join(SECONDS)
    assert isinstance(resource.events[1], asyncio.CancelledError)


def test_serves_one_with_statement(waiting: Bridge) -> None:
    manager = waiting.enter(Resource())
    with pytest.raises(BridgeError, match="was not entered; use it in a 'with'"):
        manager.__exit__(None, None, None)
    with manager, pytest.raises(BridgeError, match="serves one 'with' statement only"), manager:
        pass
    with pytest.raises(BridgeError, match="was entered before"), manager:
        pass
    with pytest.raises(BridgeError, match="was left before"):
        manager.__exit__(None, None, None)


def test_dropping_what_was_entered_warns_and_leaves(waiting: Bridge) -> None:
    resource = Resource()
    manager = waiting.enter(resource)
    manager.__enter__()
    with pytest.warns(ResourceWarning, match="was entered and never left"):
        del manager
    assert resource.left.wait(SECONDS)


def test_many_threads_enter_one_lock(waiting: Bridge) -> None:
    lock = waiting.block_on(lambda: asyncio.Lock())
    counter = [0]

    def work() -> None:
        for _ in range(20):
            with waiting.enter(lock):
                value = counter[0]
                until_idle(waiting)
                counter[0] = value + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert counter == [80]


def test_enters_on_the_loop_s_own_thread(waiting: Bridge) -> None:
    resource = Resource()

    async def use() -> None:
        with waiting.enter(resource) as value:
            assert value == "value"

    waiting.block_on(use())
    assert resource.events == ["entered", None]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (threading.Lock(), "a plain 'with' works already"),
        (3, "enter takes what 'async with' takes"),
        (Deferred(), r"write enter\(block_on\(\.\.\.\)\)"),
    ],
    ids=shown,
)
def test_enter_refuses_what_is_no_async_context_manager(x: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        enter(x)


def test_enter_takes_a_function_which_is_called_on_the_loop_s_thread(waiting: Bridge) -> None:
    threads: list[str] = []

    def make() -> Resource:
        threads.append(threading.current_thread().name)
        return Resource()

    with waiting.enter(make) as value:
        assert value == "value"
    assert threads == ["iterate"]
    with pytest.raises(TypeError, match="a plain 'with' works already"), waiting.enter(threading.Lock):
        pass


def test_the_plain_functions_use_the_bridge_whose_work_the_thread_does(waiting: Bridge) -> None:
    numbers = Numbers(3)
    resource = Resource()

    def work() -> list[int]:
        with enter(resource):
            return list(iterate(numbers))

    assert waiting.block_on(asyncio.to_thread(work)) == [0, 1, 2]
    assert numbers.threads == {"iterate"}
    assert in_a_thread(lambda: resource.events) == ["entered", None]


def test_an_error_of_a_cleanup_that_nobody_waits_for_is_logged(
    waiting: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    logged = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "never retrieved" in record.getMessage():
                logged.set()

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("in the cleanup")

    handler = Handler()
    logging.getLogger("asyncio").addHandler(handler)
    try:
        for _ in waiting.iterate(generator()):
            break
        until_idle(waiting)
        for _ in range(100 * SECONDS):
            gc.collect()
            if logged.wait(0.01):
                break
        assert logged.is_set()
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
