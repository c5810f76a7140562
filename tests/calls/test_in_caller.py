"""in_caller, with every strategy in every place that it serves.

A strategy that needs an application object, or a patched process, gets one from test_gui_conformance.py or
test_gevent.py, which run this suite in a process of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import random
import signal
import sqlite3
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from time import monotonic

import pytest
from conformance import MAIN, Place, everywhere, for_ever, interrupt_main_thread, suspending
from conformance import bridge as bridge
from conformance import place as place
from conformance import pytest_generate_tests as pytest_generate_tests
from isolated import isolated
from places import in_a_thread
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, inlineCallbacks

from bridge import (
    Bridge,
    BridgeClosed,
    BridgeError,
    Strategy,
    as_deferred,
    block_on,
    default_bridge,
    in_caller,
    in_thread,
    submit,
)
from bridge._calls.errands import pending
from bridge._threads.native import allocate_lock, get_ident, is_patched

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Generator[None]:
    yield
    assert not pending


class Flag:
    """An event that any thread may set and that blocks all of a thread's greenlets, also where gevent has patched."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self) -> None:
        assert self._lock.acquire(True, 30)


async def ident() -> int:
    return await in_caller(get_ident)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# --- where it runs


def test_runs_in_the_callers_thread(bridge: Bridge, place: Place) -> None:
    place(lambda: _assert_equal(bridge.block_on(ident()), get_ident()))


def test_takes_arguments_and_returns_the_result(bridge: Bridge, place: Place) -> None:
    async def work() -> list[object]:
        return [await in_caller(dict, a=1, b=2), await in_caller(divmod, 7, 2), await in_caller(lambda: None)]

    assert place(lambda: bridge.block_on(work())) == [{"a": 1, "b": 2}, (3, 1), None]


def test_tasks_of_the_work_find_its_caller(bridge: Bridge, place: Place) -> None:
    async def work() -> list[int]:
        async with asyncio.TaskGroup() as group:
            grouped = [group.create_task(ident()) for _ in range(3)]
        started = asyncio.create_task(ident())
        gathered = await asyncio.gather(ident(), asyncio.shield(ident()), asyncio.wait_for(ident(), 10))
        return [*(task.result() for task in grouped), await started, *gathered]

    place(lambda: _assert_equal(set(bridge.block_on(work())), {get_ident()}))


def _assert_equal(left: object, right: object) -> None:
    assert left == right


def test_errands_run_in_the_order_of_their_tasks(bridge: Bridge, place: Place) -> None:
    async def work() -> list[int]:
        done: list[int] = []
        await asyncio.gather(*(in_caller(done.append, number) for number in range(500)))
        return done

    assert place(lambda: bridge.block_on(work())) == list(range(500))


def test_an_errand_may_block_and_the_thread_serves_meanwhile(bridge: Bridge, place: Place) -> None:
    def descend(depth: int) -> int:
        return depth if depth == 20 else bridge.block_on(down(depth + 1))

    async def down(depth: int) -> int:
        assert await in_caller(get_ident) == await in_caller(get_ident)
        return await in_caller(descend, depth)

    assert place(lambda: bridge.block_on(down(0))) == 20


def test_the_innermost_wait_serves_errands_of_an_outer_call(bridge: Bridge, place: Place) -> None:
    """The outer call's first errand blocks until others of the same call have run, in the same thread."""

    async def work() -> list[int]:
        go, others = asyncio.Event(), []

        async def other() -> None:
            await blocked.wait()
            for _ in range(10):
                others.append(await in_caller(get_ident))
            go.set()

        async def opened() -> None:
            blocked.set()
            await go.wait()

        blocked = asyncio.Event()
        task = asyncio.create_task(other())
        await in_caller(lambda: bridge.block_on(opened()))
        await task
        return others

    place(lambda: _assert_equal(bridge.block_on(work()), [get_ident()] * 10))


def test_an_errand_may_block_on_another_bridge(bridge: Bridge, place: Place) -> None:
    async def work(other: Bridge) -> list[int]:
        started = [asyncio.create_task(in_caller(get_ident)) for _ in range(3)]
        inner = await in_caller(lambda: other.block_on(ident()))
        return [inner, *(await asyncio.gather(*started))]

    with Bridge("other", strategy=bridge.strategy, install_reactor=False) as other:
        place(lambda: _assert_equal(bridge.block_on(work(other)), [get_ident()] * 4))


def test_a_signal_handler_that_blocks_inside_the_wait_serves_it(bridge: Bridge) -> None:
    served: list[int] = []

    go: list[asyncio.Event] = []

    async def signalled() -> None:
        if is_patched():  # gevent runs the handler in its hub, and the greenlet whose errands they are goes on after it
            await asyncio.sleep(0.001)
        else:
            await go[0].wait()

    async def work() -> int:
        go[:] = [asyncio.Event()]
        signal.pthread_kill(MAIN, signal.SIGUSR1)
        for _ in range(5):  # before the handler blocks, or meanwhile
            served.append(await in_caller(get_ident))
        go[0].set()
        return await in_caller(get_ident)

    before = signal.signal(signal.SIGUSR1, lambda *_: bridge.block_on(signalled()))
    try:
        for _ in range(20):
            served.clear()
            assert bridge.block_on(work()) == get_ident()
            assert set(served) == {get_ident()}
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_worker_thread_that_blocks_is_the_caller_of_its_work(bridge: Bridge, place: Place) -> None:
    async def work() -> tuple[int, int, int]:
        def in_worker() -> tuple[int, int]:
            return get_ident(), bridge.block_on(ident(), strategy="lock")

        return (*await in_thread(in_worker), await in_caller(get_ident))

    def call() -> None:
        worker, inner, outer = bridge.block_on(work())
        assert worker == inner
        assert worker != outer == get_ident()

    place(call)


def test_works_in_iterations_and_with_blocks_and_views(bridge: Bridge, place: Place) -> None:
    idents: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                idents.append(await in_caller(get_ident))
                yield number
        finally:
            idents.append(await in_caller(get_ident))

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[None]:
        idents.append(await in_caller(get_ident))
        yield
        idents.append(await in_caller(get_ident))

    def call() -> None:
        idents.clear()
        assert list(bridge.iterate(numbers())) == [0, 1, 2]
        with bridge.iterate(numbers()) as items:
            assert next(items) == 0
        with bridge.enter(entered()):
            pass
        assert bridge.blocking(ident)() == get_ident()
        assert len(idents) == 8
        assert set(idents) == {get_ident()}

    place(call)


@everywhere
def test_an_iteration_serves_whoever_asks_for_the_next_item(bridge: Bridge) -> None:
    async def idents() -> AsyncIterator[int]:
        while True:
            yield await in_caller(get_ident)

    with bridge.iterate(idents()) as items:
        assert next(items) == get_ident()
        assert in_a_thread(lambda: next(items) == get_ident())
        assert next(items) == get_ident()


def test_a_connection_of_sqlite3_is_used_in_its_own_thread(bridge: Bridge, place: Place) -> None:
    async def work(connection: sqlite3.Connection) -> int:
        await in_caller(connection.execute, "insert into numbers values (1)")
        ((count,),) = await in_caller(lambda: list(connection.execute("select count(*) from numbers")))
        return int(count)

    def call() -> None:
        connection = sqlite3.connect(":memory:")
        connection.execute("create table numbers (number)")
        assert bridge.block_on(work(connection)) == 1
        connection.close()

    place(call)


# --- what comes out


def test_raises_the_very_error_and_no_frame_of_ours(bridge: Bridge, place: Place) -> None:
    error = LookupError("no such thing")

    def failing() -> None:
        raise error

    async def work() -> None:
        with pytest.raises(LookupError) as caught:
            await in_caller(failing)
        assert caught.value is error
        assert [each.name for each in traceback.extract_tb(error.__traceback__)] == ["work", "failing"]
        await in_caller(failing)

    def call() -> None:
        with pytest.raises(LookupError) as caught:
            bridge.block_on(work())
        assert caught.value is error
        assert [each.name for each in traceback.extract_tb(error.__traceback__)][-2:] == ["work", "failing"]
        assert error.__context__ is None

    place(call)


def test_an_error_leaves_no_reference_cycle(bridge: Bridge, place: Place) -> None:
    class Error(Exception):
        pass

    def failing() -> None:
        raise Error

    async def work() -> None:
        await in_caller(failing)

    def call() -> None:
        try:
            bridge.block_on(work())
        except Error as error:
            seen = weakref.ref(error)
        bridge.block_on(suspending())  # the loop's thread has let go of the call before, too
        assert seen() is None

    gc.collect()
    gc.disable()
    try:
        place(call)
    finally:
        gc.enable()


def test_a_cancelled_error_of_the_function_is_an_error_like_any_other(bridge: Bridge, place: Place) -> None:
    def cancelled() -> None:
        raise asyncio.CancelledError

    async def work() -> str:
        try:
            await in_caller(cancelled)
        except asyncio.CancelledError:
            return "caught"
        return "not raised"

    assert place(lambda: bridge.block_on(work())) == "caught"


def test_context_variables_go_in_and_come_out(bridge: Bridge, place: Place) -> None:
    def swap(value: str) -> str:
        seen = variable.get()
        variable.set(value)
        return seen

    async def work() -> None:
        assert variable.get() == "caller's"
        variable.set("coroutine's")
        assert await in_caller(swap, "function's") == "coroutine's"
        assert variable.get() == "function's"

    def call() -> None:
        token = variable.set("caller's")
        bridge.block_on(work())
        assert variable.get() == "function's"  # by way of the coroutine
        variable.reset(token)
        assert "bridge.caller" not in [each.name for each in contextvars.copy_context()]

    place(call)


def test_variables_of_a_task_are_not_the_callers(bridge: Bridge, place: Place) -> None:
    async def child() -> str:
        await in_caller(variable.set, "child's")
        return variable.get()

    async def work() -> str:
        assert await asyncio.create_task(child()) == "child's"
        return await in_caller(variable.get)

    def call() -> None:
        token = variable.set("caller's")
        assert bridge.block_on(work()) == "caller's"
        variable.reset(token)

    place(call)


# --- time-outs, interruptions, cancellations


def test_a_time_out_does_not_end_an_errand_that_runs(bridge: Bridge, place: Place) -> None:
    ran: list[str] = []

    def slow(until: float) -> None:
        while monotonic() < until:
            pass
        ran.append("to its end")

    async def work(until: float) -> None:
        await in_caller(slow, until)
        await for_ever()

    def call() -> None:
        for timeout in (0.01, 0.1, 1.0, 10.0):
            with pytest.raises(TimeoutError, match=rf"work did not finish within {timeout} seconds"):
                bridge.block_on(work(monotonic() + timeout + 0.02), timeout=timeout)
            if ran:  # else the time was up before it had begun
                break
        assert ran.pop() == "to its end"
        assert bridge.block_on(ident()) == get_ident()

    place(call)


def test_work_that_cleans_up_after_a_time_out_is_served(bridge: Bridge, place: Place) -> None:
    async def work(served: list[int]) -> None:
        try:
            await for_ever()
        finally:
            served.append(await in_caller(get_ident))

    def call() -> None:
        served: list[int] = []
        for timeout in (0.01, 0):
            with pytest.raises(TimeoutError):
                bridge.block_on(work(served), timeout=timeout)
        assert served == [get_ident()] * len(served)
        assert served

    place(call)


def test_ctrl_c_in_an_errand_is_the_callers(bridge: Bridge) -> None:
    cleaned: list[object] = []

    def interrupted() -> None:
        interrupt_main_thread()
        for _ in range(1000):
            pass
        raise AssertionError("not interrupted")

    async def child() -> None:
        try:
            await in_caller(interrupted)
        finally:
            cleaned.append("child")

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                await for_ever()
        finally:
            cleaned.append(await in_caller(get_ident))

    thread = bridge.thread
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt) as caught:
            bridge.block_on(work())
        assert caught.value.__context__ is None
        assert cleaned == ["child", get_ident()]
        cleaned.clear()
        assert bridge.block_on(ident()) == get_ident()
    assert bridge.thread is thread


def test_an_exit_in_an_errand_is_the_callers(bridge: Bridge, place: Place) -> None:
    error = SystemExit(3)

    def leave() -> None:
        raise error

    async def work(ends: list[str]) -> None:
        try:
            await asyncio.create_task(in_caller(leave))
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    def call() -> None:
        ends: list[str] = []
        with pytest.raises(SystemExit) as caught:
            bridge.block_on(work(ends))
        assert caught.value is error
        assert ends == ["cancelled"]
        assert bridge.block_on(ident()) == get_ident()

    place(call)


def test_cancelling_takes_back_an_errand_that_has_not_begun(bridge: Bridge, place: Place) -> None:
    ran: list[str] = []

    async def work() -> None:
        held = Flag()
        first = asyncio.create_task(in_caller(held.wait))
        second = asyncio.create_task(in_caller(ran.append, "second"))
        await turns(3)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not first.done()
        held.set()
        await first
        await in_caller(ran.append, "third")

    place(lambda: bridge.block_on(work()))
    assert ran == ["third"]


def test_cancelling_waits_for_an_errand_that_has_begun(bridge: Bridge, place: Place) -> None:
    ran: list[str] = []

    async def work() -> None:
        held, begun = Flag(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow() -> None:
            loop.call_soon_threadsafe(begun.set)
            held.wait()
            ran.append("to its end")

        async def asking() -> None:
            await in_caller(slow)

        for cancellations in (1, 3):
            begun.clear()
            task = asyncio.create_task(asking())
            await begun.wait()
            for _ in range(cancellations):
                task.cancel()
                await turns(3)
            assert not task.done()
            held.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ran.pop() == "to its end"

    place(lambda: bridge.block_on(work()))


def test_an_error_of_an_errand_whose_task_was_cancelled_is_raised(bridge: Bridge, place: Place) -> None:
    async def work() -> None:
        held, begun = Flag(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def failing() -> None:
            loop.call_soon_threadsafe(begun.set)
            held.wait()
            raise LookupError

        task = asyncio.create_task(in_caller(failing))
        await begun.wait()
        task.cancel()
        held.set()
        with pytest.raises(LookupError):
            await task

    place(lambda: bridge.block_on(work()))


def test_a_scope_of_anyio_that_is_cancelled_waits_for_an_errand_that_has_begun(bridge: Bridge, place: Place) -> None:
    import anyio

    async def work() -> str:
        ran: list[str] = []
        held, loop = Flag(), asyncio.get_running_loop()

        def slow() -> None:
            loop.call_soon_threadsafe(scope.cancel)
            loop.call_soon_threadsafe(loop.call_later, 0.01, held.set)
            held.wait()
            ran.append("to its end")

        with anyio.CancelScope() as scope:
            await in_caller(slow)
        assert scope.cancelled_caught
        return ran[0]

    assert place(lambda: bridge.block_on(work())) == "to its end"


# --- nobody waits


def test_work_that_was_submitted_has_no_caller(bridge: Bridge, place: Place) -> None:
    def call() -> None:
        future = bridge.submit(ident())
        with pytest.raises(
            BridgeError, match=r"no thread waits: this work was started by submit\(\) or map\(\).*in_thread"
        ):
            future.result(30)

    place(call)


def test_tasks_that_are_left_when_the_caller_has_gone_are_refused(bridge: Bridge, place: Place) -> None:
    left: list[asyncio.Task[int]] = []
    go: list[asyncio.Event] = []

    async def background() -> int:
        await go[0].wait()
        return await in_caller(get_ident)

    async def work() -> None:
        go[:] = [asyncio.Event()]
        left[:] = [asyncio.create_task(background())]

    async def release() -> int:
        go[0].set()
        return await left[0]

    def call() -> None:
        bridge.block_on(work())
        with pytest.raises(BridgeError, match="did not wait any more: its call has ended, or timed out"):
            bridge.block_on(release())  # though the same thread waits here, for something else

    place(call)


def test_an_errand_that_is_queued_when_its_caller_leaves_is_refused(bridge: Bridge, place: Place) -> None:
    ran: list[str] = []
    errors: list[BaseException] = []

    async def late() -> None:
        try:
            await in_caller(ran.append, "late")
        except BridgeError as error:
            errors.append(error)

    async def work() -> None:
        held = Flag()
        first = asyncio.create_task(in_caller(held.wait))
        await turns(3)
        left.append(asyncio.create_task(late()))
        await turns(3)
        # Two ends at once, of the errand and of the call; the second errand is behind the first one.
        asyncio.current_task().add_done_callback(lambda _: held.set())  # type: ignore[union-attr]
        first.cancel()

    left: list[asyncio.Task[None]] = []

    async def wait_for_it() -> None:
        await left.pop()

    def call() -> None:
        bridge.block_on(work())
        bridge.block_on(wait_for_it())
        assert len(ran) + len(errors) == 1
        ran.clear()
        errors.clear()

    place(call)


def test_a_closed_bridge_ends_the_call_and_what_is_queued(bridge: Bridge, place: Place) -> None:
    ends: list[str] = []

    async def asking(function: Callable[[], object]) -> None:
        try:
            await in_caller(function)
        except BaseException as error:
            ends.append(type(error).__name__)
            raise

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asking(closing))
            group.create_task(asking(lambda: ends.append("never")))

    def closing() -> None:
        bridge.close()

    def call() -> None:
        with pytest.raises(BridgeClosed):
            bridge.block_on(work())

    place(call)
    assert sorted(ends) in (["CancelledError", "CancelledError"], ["BridgeError", "CancelledError"])


def test_a_loop_that_stops_fails_the_call_whose_errand_runs(bridge: Bridge, place: Place) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            stopped = Flag()
            loop.call_soon_threadsafe(lambda: (loop.stop(), stopped.set()))
            stopped.wait()

        await in_caller(stop)
        await for_ever()

    def call() -> None:
        with pytest.raises(BridgeClosed, match="the loop was stopped"):
            bridge.block_on(work())
        assert bridge.block_on(ident()) == get_ident()  # in a new life

    place(call)


@everywhere
def test_many_threads_at_random(bridge: Bridge) -> None:
    """Errands that block, fail, are cancelled and time out, in many threads: each ends, in its own thread."""

    async def asking(choose: random.Random, here: int, depth: int) -> int:
        if choose.random() < 0.2:
            await asyncio.sleep(0)
        assert await in_caller(get_ident) == here
        if depth and choose.random() < 0.7:
            await in_caller(descend, choose, here, depth - 1)
        tasks = [asyncio.create_task(in_caller(get_ident)) for _ in range(choose.randrange(4))]
        for task in tasks:
            if choose.random() < 0.3:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each == here or isinstance(each, asyncio.CancelledError) for each in results)
        if choose.random() < 0.1:
            raise LookupError
        return here

    def descend(choose: random.Random, here: int, depth: int) -> None:
        timeout = choose.choice([None, None, None, 0, 0.001])
        with contextlib.suppress(LookupError, TimeoutError):
            assert bridge.block_on(asking(choose, here, depth), timeout=timeout) == here

    def calling(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(20):
            descend(choose, get_ident(), 3)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(calling, range(16)))


# --- a strategy of the user's


class StrictWaiter:
    """Takes the contract of a waiter at its word."""

    def __init__(self, made: list[StrictWaiter]) -> None:
        made.append(self)
        self.event = threading.Event()
        self.notified = 0
        self.has_waited = False
        self.thread = threading.get_ident()

    def wait(self, timeout: float | None) -> bool:
        assert threading.get_ident() == self.thread
        assert not self.has_waited, "used again"
        self.has_waited = self.event.wait(timeout)
        return self.has_waited

    def notify(self) -> None:
        self.notified += 1
        self.event.set()


class StrictStrategy:
    name = "strict"

    def __init__(self) -> None:
        self.made: list[StrictWaiter] = []

    def unavailable(self) -> str | None:
        return None

    def waiter(self) -> StrictWaiter:
        return StrictWaiter(self.made)


@pytest.fixture
def strict() -> Generator[tuple[Bridge, StrictStrategy]]:
    strategy = StrictStrategy()
    assert isinstance(strategy, Strategy)
    with Bridge(strategy=strategy, install_reactor=False) as bridge:
        yield bridge, strategy


def test_a_waiter_is_notified_once_and_never_used_again(strict: tuple[Bridge, StrictStrategy]) -> None:
    bridge, strategy = strict

    async def work() -> None:
        for _ in range(50):
            await asyncio.gather(*(in_caller(bridge.block_on, suspending()) for _ in range(3)))

    def calls() -> None:
        for _ in range(5):
            bridge.block_on(work())

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(waiter.notified <= 1 for waiter in strategy.made)


def test_an_ordinary_call_makes_one_waiter(strict: tuple[Bridge, StrictStrategy]) -> None:
    bridge, strategy = strict
    bridge.block_on(suspending())
    assert len(strategy.made) == 1


# --- the loop's own thread


def test_a_stack_that_blocks_on_the_loops_own_thread_runs_the_function_itself() -> None:
    async def inner() -> tuple[int, object]:
        await asyncio.sleep(0)
        return await in_caller(get_ident), await in_caller(asyncio.current_task)

    async def work() -> None:
        variable.set("of the task")
        assert block_on(inner()) == (get_ident(), asyncio.current_task())
        assert block_on(sets()) is None
        assert variable.get() == "of the function"
        outside = await in_caller(get_ident)
        assert outside != get_ident()

    async def sets() -> None:
        await in_caller(variable.set, "of the function")

    block_on(work())


def test_a_callback_that_blocks_on_the_loops_own_thread_is_a_caller() -> None:
    async def inner() -> list[int]:
        await asyncio.sleep(0)
        return [await in_caller(get_ident), await asyncio.create_task(ident())]

    async def work() -> list[int]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[int]] = loop.create_future()
        loop.call_soon(lambda: done.set_result([get_ident(), *block_on(inner())]))
        return await done

    assert len(set(block_on(work()))) == 1


def test_when_the_callback_has_gone_on_there_is_no_caller() -> None:
    async def late(go: asyncio.Event) -> int:
        await go.wait()
        return await in_caller(get_ident)

    async def work() -> None:
        go = asyncio.Event()
        tasks: list[asyncio.Task[int]] = []
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        async def inner() -> None:
            tasks.append(asyncio.create_task(late(go)))

        loop.call_soon(lambda: (block_on(inner()), done.set()))
        await done.wait()
        go.set()
        with pytest.raises(BridgeError, match="did not wait any more"):
            await tasks[0]

    block_on(work())


def test_a_function_in_a_stack_of_the_loops_own_thread_may_block() -> None:
    async def inner(depth: int) -> int:
        return depth if depth == 10 else await in_caller(block_on, inner(depth + 1))

    async def work() -> int:
        return block_on(inner(0))

    assert block_on(work()) == 10


@pytest.mark.process
@isolated
def test_in_a_program_that_runs_the_loop_only_a_stack_that_blocks_is_a_caller() -> None:
    import asyncio
    import threading

    import pytest

    from bridge import BridgeError, block_on, in_caller, new_event_loop

    async def inner() -> int:
        await asyncio.sleep(0)
        return await in_caller(threading.get_ident)

    async def main() -> None:
        assert block_on(inner()) == threading.get_ident()
        with pytest.raises(BridgeError, match="no thread waits"):
            await inner()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


# --- other loops, and Twisted


def test_a_loop_that_a_worker_of_the_work_runs_finds_the_caller() -> None:
    async def work() -> int:
        return await asyncio.to_thread(lambda: asyncio.run(ident()))

    assert block_on(work()) == get_ident()


def test_a_loop_that_an_errand_runs_calls_the_function_at_once() -> None:
    async def work() -> int:
        return await in_caller(lambda: asyncio.run(ident()))

    assert block_on(work()) == get_ident()


def test_a_coroutine_that_twisted_drives_awaits_it() -> None:
    async def coroutine() -> int:
        deferred: Deferred[None] = Deferred()
        default_bridge().reactor.callLater(0, deferred.callback, None)
        await deferred
        with pytest.raises(LookupError):
            await in_caller(failing)
        return await in_caller(get_ident)

    def failing() -> None:
        raise LookupError

    @inlineCallbacks
    def generator() -> Generator[Deferred[int], int, int]:
        ident_of_generator = yield ensureDeferred(in_caller(get_ident))
        return ident_of_generator

    async def work() -> list[int]:
        return [await ensureDeferred(coroutine()), await generator(), await as_deferred(ident())]

    assert block_on(work()) == [get_ident()] * 3
    assert block_on(lambda: ensureDeferred(coroutine())) == get_ident()


def test_cancelling_a_deferred_takes_back_or_waits() -> None:
    ran: list[str] = []

    async def work() -> None:
        held, begun = Flag(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow() -> None:
            loop.call_soon_threadsafe(begun.set)
            held.wait()
            ran.append("slow")

        async def asking(function: Callable[[], object]) -> None:
            await in_caller(function)

        first = ensureDeferred(asking(slow))
        second = ensureDeferred(asking(lambda: ran.append("never")))
        await begun.wait()
        second.cancel()
        with pytest.raises(CancelledError):
            await second
        first.cancel()
        held.set()
        with pytest.raises(CancelledError):
            await first

    block_on(work())
    assert ran == ["slow"]


def test_a_plain_future_of_submit_is_no_waiting_caller() -> None:
    with pytest.raises(BridgeError, match="no thread waits"):
        submit(ident()).result()


# --- the ends of the process


@pytest.mark.process
@isolated(forks=True, options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))
def test_a_fork_in_an_errand() -> None:
    import asyncio
    import os

    from bridge import BridgeClosed, block_on, in_caller

    async def child_of_parent() -> int:
        return await in_caller(os.getpid)

    async def work() -> int:
        others = [asyncio.create_task(child_of_parent()) for _ in range(3)]
        pid = await in_caller(os.fork)
        assert set(await asyncio.gather(*others)) == {os.getpid()}
        return pid

    parent = os.getpid()
    try:
        pid = block_on(work())
    except BridgeClosed:
        assert os.getpid() != parent
        if block_on(child_of_parent()) == os.getpid():
            os._exit(7)
        os._exit(1)
    assert os.getpid() == parent
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.process
@isolated(stderr=r".*")
def test_the_exit_fails_what_is_queued_in_a_thread() -> None:
    import asyncio
    import threading

    from bridge import BridgeClosed, block_on, in_caller

    begun, ends = threading.Event(), []

    async def work() -> None:
        await in_caller(begun.set)
        while True:
            await in_caller(int)
            await asyncio.sleep(0)

    def call() -> None:
        try:
            block_on(work())
        except BridgeClosed:
            ends.append(None)

    for _ in range(3):
        threading.Thread(target=call).start()
    assert begun.wait(10)


@pytest.mark.process
@isolated(stderr=r"(?s)Traceback.*KeyboardInterrupt", status=-2)
def test_ctrl_c_in_an_errand_ends_the_program() -> None:
    import os
    import signal

    from bridge import block_on, in_caller

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()

    async def work() -> None:
        await in_caller(interrupted)

    block_on(work())


@pytest.mark.process
@pytest.mark.parametrize("strategy", ["lock", "event", "queue", "greenlet"])
@isolated(options=("-W", "error", "-W", "ignore:coroutine:RuntimeWarning"))
def test_ctrl_c_at_random_moments_between_errands(strategy: str) -> None:
    """It comes in the wait, in an errand or between two lines; the work ends, and later calls are served."""
    import asyncio
    import random
    import signal
    import sys
    import threading

    from bridge import Bridge, in_caller
    from bridge._calls.errands import pending

    def unraisable(hook: sys.UnraisableHookArgs) -> None:
        # What a signal handler raises inside a finalizer is lost, as ever in CPython; so it is sent again.
        if hook.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0.002)
        else:
            sys.__unraisablehook__(hook)

    sys.unraisablehook = unraisable
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    choose = random.Random(1)
    begun: list[None] = []
    ended: list[None] = []

    async def asking() -> None:
        begun.append(None)
        try:
            while True:
                await asyncio.gather(*(in_caller(int) for _ in range(3)))
        finally:
            ended.append(None)

    with Bridge(strategy=strategy, install_reactor=False, shutdown_timeout=30) as bridge:
        assert bridge.block_on(in_caller(threading.get_ident)) == threading.get_ident()
        for _ in range(300):
            interrupted = False
            try:
                signal.setitimer(signal.ITIMER_REAL, choose.uniform(0.0001, 0.003))
                bridge.block_on(asking())
            except KeyboardInterrupt:
                interrupted = True
            assert interrupted
            assert bridge.block_on(in_caller(threading.get_ident)) == threading.get_ident()
            assert len(begun) == len(ended)
            assert not pending
