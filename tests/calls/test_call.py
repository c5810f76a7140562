"""Calls: submitted work, Futures of other loops, tracebacks, and the default bridge's options."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from isolated import isolated
from places import in_a_thread
from twisted.internet import defer
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from bridge import Bridge, BridgeClosed, configure
from bridge._calls import unseen_fork
from bridge._threads import lock_waiter, signals

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


# --- submit


def test_submit_returns_at_once(bridge: Bridge) -> None:
    release = threading.Event()

    async def work() -> str:
        await asyncio.to_thread(release.wait)
        return "value"

    future = bridge.submit(work())
    assert isinstance(future, concurrent.futures.Future)
    assert future.running()
    assert not future.done()
    release.set()
    assert future.result(5) == "value"
    assert not future.running()
    assert concurrent.futures.wait([future], 5).done == {future}


def test_submitted_work_raises_its_error(bridge: Bridge) -> None:
    error = LookupError("no such thing")

    async def failing() -> None:
        raise error

    assert bridge.submit(failing()).exception(5) is error
    assert bridge.submit(defer.fail(error)).exception(5) is error
    assert isinstance(bridge.submit(lambda: 1 // 0).exception(5), ZeroDivisionError)


def test_cancelling_a_submitted_future_is_a_request(bridge: Bridge) -> None:
    started, cleaned = threading.Event(), threading.Event()

    async def cleaning() -> None:
        started.set()
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.02)
            cleaned.set()

    future = bridge.submit(cleaning())
    assert started.wait(5)
    assert future.cancel() is True
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(5)
    assert future.cancelled()
    assert cleaned.is_set()
    assert future.cancel() is False
    done = bridge.submit(value())
    assert done.result(5) == "value"
    assert done.cancel() is False


def test_work_that_survives_its_cancellation_gives_its_result(bridge: Bridge) -> None:
    started = threading.Event()

    async def surviving() -> str:
        started.set()
        try:
            await for_ever()
        except asyncio.CancelledError:
            pass
        return "all the same"

    future = bridge.submit(surviving())
    assert started.wait(5)
    future.cancel()
    assert future.result(5) == "all the same"


def test_work_cancelled_by_itself_is_an_error_of_its_future(bridge: Bridge) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError("by itself")

    assert isinstance(bridge.submit(cancelled()).exception(5), asyncio.CancelledError)


def test_submit_copies_context_in_and_not_out(bridge: Bridge) -> None:
    async def swap() -> str:
        seen = variable.get()
        variable.set("from the coroutine")
        return seen

    token = variable.set("from the caller")
    assert bridge.submit(swap()).result(5) == "from the caller"
    assert variable.get() == "from the caller"
    variable.reset(token)


def test_submit_works_on_the_loops_own_thread(bridge: Bridge) -> None:
    async def main() -> object:
        return await asyncio.wrap_future(bridge.submit(value()))

    assert bridge.block_on(main()) == "value"


def test_a_submitted_future_can_be_blocked_on(bridge: Bridge) -> None:
    assert bridge.block_on(bridge.submit(value())) == "value"
    future = bridge.submit(for_ever())
    with pytest.raises(TimeoutError):
        bridge.block_on(future, timeout=0.01)
    assert future.cancelled()


def test_an_open_submission_fails_when_the_loop_ends(bridge: Bridge) -> None:
    future = bridge.submit(for_ever())
    bridge.close()
    with pytest.raises(BridgeClosed, match="was closed; the call was not completed"):
        future.result(5)


# --- what the caller passed is cancelled, too


def test_a_time_out_cancels_what_was_passed(bridge: Bridge) -> None:
    deferred: Deferred[Any] = Deferred()
    with pytest.raises(TimeoutError):
        bridge.block_on(deferred, timeout=0.01)
    assert deferred.called
    deferred.addErrback(lambda failure: failure.trap(defer.CancelledError))

    future = bridge.loop.create_future()
    with pytest.raises(TimeoutError):
        bridge.block_on(future, timeout=0.01)
    assert future.cancelled()


def test_shield_keeps_it(bridge: Bridge) -> None:
    future = bridge.loop.create_future()
    with pytest.raises(TimeoutError):
        bridge.block_on(lambda: asyncio.shield(future), timeout=0.01)
    bridge.block_on(lambda: future.set_result("value"))
    assert bridge.block_on(future) == "value"


def test_a_future_that_runs_in_an_executor_is_not_waited_for(bridge: Bridge) -> None:
    began, release = threading.Event(), threading.Event()

    def work() -> bool:
        began.set()
        return release.wait()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        assert began.wait(30)
        with pytest.raises(TimeoutError) as caught:
            bridge.block_on(future, timeout=0.01)
        assert "it still runs" in caught.value.__notes__[0]
        with pytest.raises(TimeoutError):
            bridge.block_on(future, timeout=0)
        release.set()
        assert bridge.block_on(future) is True


def test_an_error_of_the_cleanup_takes_the_place_of_the_time_out(bridge: Bridge) -> None:
    async def failing() -> None:
        try:
            await for_ever()
        finally:
            raise LookupError("in the cleanup")

    with pytest.raises(LookupError, match="in the cleanup"):
        bridge.block_on(failing(), timeout=0.01)


def test_a_result_that_arrives_all_the_same_is_returned(bridge: Bridge) -> None:
    async def surviving() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            pass
        return "all the same"

    assert bridge.block_on(surviving(), timeout=0.01) == "all the same"
    assert bridge.block_on(surviving(), timeout=0) == "all the same"
    assert bridge.block_on(Deferred(lambda d: d.callback("all the same")), timeout=0.01) == "all the same"


def test_a_time_out_holds_while_the_loop_is_busy() -> None:
    release = threading.Event()
    with Bridge(install_reactor=False, shutdown_timeout=0.05) as bridge:
        bridge.loop.call_soon_threadsafe(release.wait)
        coroutine = value()
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                bridge.block_on(coroutine if timeout else value(), timeout=timeout)
        release.set()
        assert bridge.block_on(value()) == "value"
        assert coroutine.cr_frame is None  # closed, not forgotten


# --- Futures of other loops


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of somebody else's, which runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if loop.is_running():
        loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def on(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:
    async def call() -> Any:
        return function()

    return asyncio.run_coroutine_threadsafe(call(), loop).result(5)


def test_a_future_of_another_loop_goes_there(bridge: Bridge, other_loop: asyncio.AbstractEventLoop) -> None:
    async def where() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0.01)
        return asyncio.get_running_loop()

    def task() -> asyncio.Task[Any]:
        return on(other_loop, lambda: other_loop.create_task(where()))

    assert bridge.block_on(task()) is other_loop
    assert bridge.block_on(task) is other_loop
    assert bridge.submit(task()).result(5) is other_loop
    for timeout in (0, 0.01):
        endless = on(other_loop, other_loop.create_future)
        with pytest.raises(TimeoutError):
            bridge.block_on(endless, timeout=timeout)
        assert endless.cancelled()


@pytest.mark.parametrize("returned", [False, True])
def test_a_foreign_loop_that_stops_fails_the_call(
    bridge: Bridge, other_loop: asyncio.AbstractEventLoop, returned: bool
) -> None:
    endless = on(other_loop, other_loop.create_future)
    future = bridge.submit((lambda: endless) if returned else endless)
    bridge.block_on(value())  # the loop has started what was submitted before
    other_loop.call_soon_threadsafe(other_loop.stop)
    with pytest.raises(BridgeClosed, match="is bound to has stopped"):
        future.result(5)


def test_a_future_of_another_bridge_goes_there(bridge: Bridge) -> None:
    with Bridge("other", install_reactor=False) as other:
        future = other.loop.create_future()
        other.loop.call_later(0.01, future.set_result, "value")
        assert bridge.block_on(future) == "value"
        assert other.block_on(lambda: bridge.block_on(value())) == "value"  # from one loop's thread to another's


# --- tracebacks


def functions_in(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def raising() -> None:
    raise LookupError


async def raising_later() -> None:
    await asyncio.sleep(0)
    await raising()


@inlineCallbacks
def inline_raising(bridge: Bridge) -> Generator[Deferred[Any], Any, None]:
    yield deferLater(bridge.reactor, 0, lambda: None)
    yield Deferred.fromCoroutine(raising())


def test_a_traceback_shows_the_users_frames_only(bridge: Bridge) -> None:
    here = "test_a_traceback_shows_the_users_frames_only"
    for x, frames in (
        (raising, [here, "raising"]),
        (raising_later, [here, "raising_later", "raising"]),
        (lambda: raising_later, [here]),
        (lambda: inline_raising(bridge), [here, "inline_raising", "raising"]),
    ):
        if frames == [here]:
            continue
        with pytest.raises(LookupError) as caught:
            bridge.block_on(x)
        assert functions_in(caught.value) == frames


def test_a_refusal_shows_the_callers_frame_only(bridge: Bridge) -> None:
    with pytest.raises(TypeError) as caught:
        bridge.block_on(1)  # type: ignore[call-overload]
    assert functions_in(caught.value) == ["test_a_refusal_shows_the_callers_frame_only"]


def test_waiting_twice_does_not_grow_the_traceback(bridge: Bridge) -> None:
    deferred = bridge.block_on(lambda: [Deferred.fromCoroutine(raising())])[0]
    future = bridge.block_on(lambda: [asyncio.ensure_future(raising())])[0]
    submitted = bridge.submit(raising_later())
    for x in (deferred, future, submitted):
        lengths = set()
        for _ in range(5):
            with pytest.raises(LookupError) as caught:
                bridge.block_on(x)
            lengths.add(len(functions_in(caught.value)))
        assert lengths == {3 if x is submitted else 2}


# --- the default bridge


def test_options_are_checked_when_they_are_given() -> None:
    for options, error in (
        ({"stall_after": -1}, ValueError),
        ({"stall_after": "soon"}, TypeError),
        ({"shutdown_timeout": float("nan")}, ValueError),
        ({"shutdown_timeout": float("inf")}, ValueError),
        ({"shutdown_timeout": None}, ValueError),
        ({"no_such_option": 1}, TypeError),
        ({"context_out": None}, TypeError),
    ):
        with pytest.raises(error):
            Bridge(**options)  # type: ignore[arg-type]


def test_configure_names_the_option_that_was_meant() -> None:
    with pytest.raises(TypeError, match="no option 'strateggy'; did you mean 'strategy'"):
        configure(strateggy="event")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'xyz'; there are name, strategy, "):
        configure(xyz=1)  # type: ignore[call-arg]


def test_plain_functions_use_the_default_bridge() -> None:
    import bridge as package

    assert package.block_on(value()) == "value"
    assert package.submit(value()).result(5) == "value"
    assert package.default_bridge().running
    package.default_bridge().close()
    assert not package.default_bridge().running
    assert in_a_thread(lambda: package.block_on(value())) == "value"
    package.default_bridge().close()


def test_the_main_thread_looks_up_for_signals_that_met_it_as_it_fell_asleep(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[bool, float | None]] = []
    monkeypatch.setattr(signals, "LOOK_UP", 0.01)
    monkeypatch.setattr(unseen_fork, "A_WHILE", 0.01)

    class RecordingWaiter:
        def __init__(self) -> None:
            self.event = threading.Event()
            self.notify = self.event.set

        def wait(self, timeout: float | None) -> bool:
            waits.append((threading.current_thread() is threading.main_thread(), timeout))
            return self.event.wait(timeout)

    class Recording:
        name = "recording"

        def unavailable(self) -> None:
            return None

        def waiter(self) -> RecordingWaiter:
            return RecordingWaiter()

    async def until_waited_for(times: int) -> str:
        while len(waits) < times:
            await asyncio.sleep(0.001)
        return "late"

    def looked_up() -> bool:
        return all(in_main and timeout is not None and timeout <= 0.01 for in_main, timeout in waits)

    assert bridge.block_on(until_waited_for(3), strategy=Recording()) == "late"
    assert looked_up()
    waits.clear()
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        bridge.block_on(for_ever(), timeout=0.05, strategy=Recording())
    assert time.monotonic() - before >= 0.05
    assert looked_up()
    waits.clear()

    async def cleans_up() -> None:  # which the caller waits for as well
        try:
            await for_ever()
        finally:
            waits.clear()
            await until_waited_for(3)

    with pytest.raises(TimeoutError):
        bridge.block_on(cleans_up(), timeout=0.02, strategy=Recording())
    assert looked_up()
    waits.clear()
    assert in_a_thread(lambda: bridge.block_on(until_waited_for(2), strategy=Recording())) == "late"
    assert waits == [(False, 0.01), (False, None)]


def test_the_main_thread_looks_up_for_signals_while_it_waits_for_a_future(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(signals, "LOOK_UP", 0.01)

    class RecordingLock:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.release = self.lock.release

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            waits.append(timeout)
            return self.lock.acquire(blocking, timeout)

    monkeypatch.setattr(lock_waiter, "allocate_lock", RecordingLock)

    async def until_waited_for(times: int) -> str:
        while len(waits) < times:
            await asyncio.sleep(0.001)
        return "late"

    assert bridge.submit(until_waited_for(4)).result() == "late"
    assert waits.pop(0) == -1  # as the lock was made
    assert max(waits) <= 0.01
    waits.clear()
    with pytest.raises(TimeoutError):
        bridge.submit(for_ever()).result(0.05)
    assert waits.pop(0) == -1
    assert max(waits) <= 0.01
    waits.clear()
    assert in_a_thread(lambda: bridge.submit(until_waited_for(2)).result()) == "late"
    assert waits == [-1, -1]  # signals are handled elsewhere


def test_who_looks_at_a_submitted_call_as_it_ends_finds_nobody_that_waits(bridge: Bridge) -> None:
    """As the process exits, in another thread."""
    future = bridge.submit(for_ever())
    call = future._call  # type: ignore[attr-defined]
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(30)
    bridge.block_on(value())  # in the same turn its call has let go of it
    assert not call.is_waited_for({threading.get_ident()})
    call.on_wait(print)


@isolated
def test_configure_is_ignored_while_the_first_call_starts_the_loop() -> None:
    import asyncio
    import threading

    import pytest

    import bridge

    begun, go = threading.Event(), threading.Event()
    results: list[str] = []

    def factory() -> asyncio.AbstractEventLoop:
        begun.set()
        go.wait(10)
        return asyncio.SelectorEventLoop()

    bridge.configure(loop_factory=factory)
    thread = threading.Thread(target=lambda: results.append(bridge.block_on(asyncio.sleep(0, "value"))))
    thread.start()
    assert begun.wait(10)
    with pytest.warns(RuntimeWarning, match="the default bridge runs with stall_after=30.0"):
        bridge.configure(stall_after=3)
    go.set()
    thread.join(10)
    assert results == ["value"]
