"""What every strategy must do, in every place that it serves: one suite over the registry.

A strategy that needs an application object, or a patched process, gets one from test_gui_conformance.py or
test_gevent.py, which run this suite in a process of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import signal
import threading
import weakref
from collections.abc import Callable

import pytest
from conformance import MAIN, Place, everywhere, for_ever, impatient, interrupt_main_thread, suspending
from conformance import bridge as bridge
from conformance import place as place
from conformance import pytest_generate_tests as pytest_generate_tests
from places import in_a_thread, in_main_thread, usable
from twisted.internet.defer import Deferred, fail, succeed

from bridge import Bridge, BridgeClosed, DeadlockError, StrategyUnavailable, strategies

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def value() -> str:
    return "value"


async def failing() -> None:
    raise LookupError("no such thing")


def test_returns_the_result(bridge: Bridge, place: Place) -> None:
    assert place(lambda: bridge.block_on(value())) == "value"
    assert place(lambda: bridge.block_on(suspending())) == "value"


def test_returns_the_result_of_a_deferred(bridge: Bridge, place: Place) -> None:
    def later() -> Deferred[str]:
        deferred: Deferred[str] = Deferred()
        bridge.reactor.callLater(0.001, deferred.callback, "value")
        return deferred

    assert place(lambda: bridge.block_on(later)) == "value"


def test_returns_what_is_done_already(bridge: Bridge, place: Place) -> None:
    done: concurrent.futures.Future[str] = concurrent.futures.Future()
    done.set_result("value")
    assert place(lambda: bridge.block_on(succeed("value"))) == "value"
    assert place(lambda: bridge.block_on(done)) == "value"
    assert place(lambda: bridge.block_on(lambda: "value")) == "value"


def test_raises_the_very_error(bridge: Bridge, place: Place) -> None:
    error = LookupError("no such thing")

    async def raising() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        place(lambda: bridge.block_on(raising()))
    assert caught.value is error
    with pytest.raises(LookupError) as caught:
        place(lambda: bridge.block_on(fail(error)))
    assert caught.value is error


def test_an_error_leaves_no_reference_cycle(bridge: Bridge, place: Place) -> None:
    class Error(Exception):
        pass

    async def raising() -> None:
        raise Error

    def call() -> None:
        try:
            bridge.block_on(raising())
        except Error as error:
            seen = weakref.ref(error)
        bridge.block_on(value())  # the loop's thread has let go of the call before, too
        assert seen() is None

    gc.collect()
    gc.disable()
    try:
        place(call)
    finally:
        gc.enable()


def test_times_out_after_the_cleanup(bridge: Bridge, place: Place) -> None:
    cleaned = threading.Event()

    async def cleaning() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    def call() -> None:
        with pytest.raises(TimeoutError, match=r"coroutine .*cleaning did not finish within 0.01 seconds"):
            bridge.block_on(cleaning(), timeout=0.01)
        assert cleaned.is_set()

    place(call)


def test_timeout_zero_gives_one_turn(bridge: Bridge, place: Place) -> None:
    async def one_turn() -> str:
        await asyncio.sleep(0)
        return "value"

    def call() -> None:
        assert bridge.block_on(value(), timeout=0) == "value"
        assert bridge.block_on(one_turn(), timeout=0) == "value"
        with pytest.raises(TimeoutError):
            bridge.block_on(for_ever(), timeout=0)

    place(call)


@impatient
@pytest.mark.parametrize("stands_still", [False, True])
def test_timeout_zero_cancels_once(bridge: Bridge, place: Place, stands_still: bool) -> None:
    go, left = threading.Event(), threading.Event()
    started: list[None] = []
    cancellations: list[BaseException] = []

    async def stubborn() -> None:
        started.append(None)
        if stands_still:  # before it comes to the cancellation, and until the caller has asked for another one
            asyncio.get_running_loop().call_soon(left.wait, 20)
        while not go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError as cancellation:
                cancellations.append(cancellation)

    def call() -> None:
        with pytest.raises(TimeoutError) as caught:
            bridge.block_on(stubborn(), timeout=0)
        left.set()
        assert "it still runs" in caught.value.__notes__[0]

    try:
        place(call)
        # Had the end of the wait posted another one, it would have come before this call's turns.
        assert bridge.block_on(suspending()) == "value"
        # A loop that did not get to it in all the time that the caller had has not started it.
        assert len(cancellations) == len(started)
    finally:
        go.set()


@impatient
def test_work_that_ignores_its_cancellation_is_left_behind(bridge: Bridge, place: Place) -> None:
    go = threading.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    def call() -> None:
        with pytest.raises(TimeoutError) as caught:
            bridge.block_on(stubborn(), timeout=0.01)
        assert "it still runs" in caught.value.__notes__[0]
        go.set()

    place(call)
    assert bridge.block_on(value()) == "value"


def test_cancelled_work_raises_its_cancellation(bridge: Bridge, place: Place) -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        place(lambda: bridge.block_on(cancelled()))


def test_ctrl_c_cancels_and_cleans_up(bridge: Bridge) -> None:
    cleaned = threading.Event()

    async def interrupting() -> None:
        interrupt_main_thread()
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    for _ in range(20):
        cleaned.clear()
        with pytest.raises(KeyboardInterrupt):
            bridge.block_on(interrupting())
        assert cleaned.is_set()
    assert bridge.block_on(value()) == "value"


def test_second_ctrl_c_stops_waiting_at_once(bridge: Bridge) -> None:
    go = threading.Event()

    async def stubborn() -> None:
        interrupt_main_thread()
        while not go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                interrupt_main_thread()

    with pytest.raises(KeyboardInterrupt) as caught:
        bridge.block_on(stubborn())
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    go.set()
    # The waiter that was given up is notified when the work ends; later calls must not see that.
    for _ in range(100):
        assert bridge.block_on(suspending()) == "value"


def test_an_error_of_the_cleanup_is_the_context_of_ctrl_c(bridge: Bridge) -> None:
    async def interrupting() -> None:
        interrupt_main_thread()
        try:
            await for_ever()
        finally:
            raise LookupError("in the cleanup")

    with pytest.raises(KeyboardInterrupt) as caught:
        bridge.block_on(interrupting())
    assert isinstance(caught.value.__context__, LookupError)


def test_a_signal_handler_may_block_inside_a_wait(bridge: Bridge) -> None:
    results = []
    before = signal.signal(signal.SIGUSR1, lambda *_: results.append(bridge.block_on(suspending())))
    try:

        async def signalling() -> str:
            signal.pthread_kill(MAIN, signal.SIGUSR1)
            await asyncio.sleep(0.02)
            return "outer"

        for _ in range(10):
            assert bridge.block_on(signalling()) == "outer"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert results == ["value"] * 10


def test_on_the_loops_own_thread_the_stack_switches(bridge: Bridge) -> None:
    def inside() -> str:
        return bridge.block_on(suspending())

    async def in_a_task() -> str:
        return inside()

    assert bridge.block_on(inside) == "value"
    assert bridge.block_on(in_a_task()) == "value"


def test_another_strategy_asked_for_on_the_loops_own_thread_is_a_deadlock(bridge: Bridge) -> None:
    def inside() -> None:
        for strategy in set(strategies()) - {"auto", "greenlet"}:
            coroutine = value()
            with pytest.raises(DeadlockError, match="leave the strategy out"):
                bridge.block_on(coroutine, strategy=strategy)
            assert coroutine.cr_frame is None

    bridge.block_on(inside)


def test_a_loop_that_stops_fails_the_call(bridge: Bridge, place: Place) -> None:
    async def stopping() -> None:
        asyncio.get_running_loop().stop()
        await for_ever()

    with pytest.raises(BridgeClosed, match="the loop was stopped"):
        place(lambda: bridge.block_on(stopping()))
    assert place(lambda: bridge.block_on(value())) == "value"  # a new life


def test_a_closed_bridge_refuses(bridge: Bridge, place: Place) -> None:
    bridge.close()
    with pytest.raises(BridgeClosed, match="takes no more calls"):
        place(lambda: bridge.block_on(value()))


def test_context_variables_go_in_and_come_out(bridge: Bridge, place: Place) -> None:
    async def swap() -> str:
        seen = variable.get()
        variable.set("from the coroutine")
        await asyncio.sleep(0)
        return seen

    def callable_swap() -> str:
        seen = variable.get()
        variable.set("from the callable")
        return seen

    def call() -> None:
        token = variable.set("from the caller")
        assert bridge.block_on(swap()) == "from the caller"
        assert variable.get() == "from the coroutine"
        assert bridge.block_on(callable_swap) == "from the coroutine"
        assert variable.get() == "from the callable"
        variable.reset(token)
        assert variable.get() == "unset"

    place(call)


def test_context_variables_come_out_of_a_call_that_fails(bridge: Bridge, place: Place) -> None:
    async def set_and_fail() -> None:
        variable.set("from the coroutine")
        raise LookupError

    def call() -> None:
        token = variable.set("from the caller")
        with pytest.raises(LookupError):
            bridge.block_on(set_and_fail())
        assert variable.get() == "from the coroutine"
        variable.reset(token)

    place(call)


def test_exits_raised_by_the_work_reach_the_caller_and_the_loop_lives(bridge: Bridge, place: Place) -> None:
    thread = bridge.thread

    async def exiting(error: BaseException, suspend: bool) -> None:
        if suspend:
            await asyncio.sleep(0)
        raise error

    def raising(error: BaseException) -> Callable[[], None]:
        def function() -> None:
            raise error

        return function

    def call() -> None:
        for error in (SystemExit(3), KeyboardInterrupt()):
            for x in (exiting(error, False), exiting(error, True), raising(error), fail(error)):
                with pytest.raises(type(error)) as caught:
                    bridge.block_on(x)
                assert caught.value is error

    place(call)
    assert bridge.thread is thread


@everywhere
def test_many_callers_at_once(bridge: Bridge) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    def work(start: int) -> None:
        for number in range(start, start + 50):
            assert bridge.block_on(double(number)) == 2 * number

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(0, 20_000, 1_000)))


def test_a_result_that_races_with_the_time_out_is_returned_or_times_out(bridge: Bridge) -> None:
    """Whichever wins, the call ends once, and the next one is not disturbed."""
    outcomes = {"value": 0, "timed out": 0}

    async def sleeping(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "value"

    for step in range(150):
        try:
            outcomes[bridge.block_on(sleeping(0.001), timeout=0.0005 + step * 0.00001)] += 1
        except TimeoutError:
            outcomes["timed out"] += 1
        assert bridge.block_on(value()) == "value"
    assert sum(outcomes.values()) == 150


@everywhere
def test_blocks_while_a_wait_of_another_place_is_open(bridge: Bridge) -> None:
    release = threading.Event()

    async def until_released() -> None:
        while not release.is_set():
            await asyncio.sleep(0.001)

    opened = threading.Thread(target=lambda: bridge.block_on(until_released()))
    opened.start()
    assert in_a_thread(lambda: bridge.block_on(suspending())) == "value"
    assert in_main_thread(lambda: bridge.block_on(suspending())) == "value"
    release.set()
    opened.join()


def test_strategies_that_are_not_usable_say_why(bridge: Bridge) -> None:
    for name in set(strategies()) - set(usable()):
        coroutine = value()
        with pytest.raises(StrategyUnavailable, match=f"strategy '{name}' cannot be used here: .+; here you can use"):
            bridge.block_on(coroutine, strategy=name)
        assert coroutine.cr_frame is None
