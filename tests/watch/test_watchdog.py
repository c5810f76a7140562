"""The watchdog: which calls it reports, once, with which stacks; and full pools of threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from dumps import IDLE, Latch, Records, dumped_with, in_background, lose_patience, wait_until
from dumps import records as records
from dumps import stalling as stalling
from greenlet import greenlet
from isolated import isolated
from twisted.internet.defer import Deferred

import bridge as package
from bridge import Bridge, block_on, in_thread
from bridge._diagnostics.locks import waited_for
from bridge._diagnostics.reports import report
from bridge._threads.native import current_frames
from bridge._watch.watchdog import Watchdog, Watched
from bridge.strategies import strategies

STRATEGIES = [name for name, each in strategies().items() if each.unavailable() is None]


# --- stalls


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_call_that_waits_too_long_is_reported_once(stalling: Bridge, records: Records, strategy: str) -> None:
    gate = Latch(stalling)

    async def inner() -> None:
        await gate.future

    async def outer() -> None:
        await inner()

    def calling() -> None:
        stalling.block_on(outer(), strategy=strategy)

    thread = in_background(calling)
    lose_patience(stalling, "in inner", IDLE)
    (text,) = records.wait_for(1)
    time.sleep(0.15)  # several looks of the watchdog
    gate.open()
    thread.join(30)
    assert records.texts == [text]
    assert "outer) has waited for 0.05 seconds, in thread" in text
    for function in ("in calling", "in outer", "in inner"):
        assert function in text
    assert text.index("in calling") < text.index("it waits for:") < text.index("in outer") < text.index("in inner")
    assert "the loop's thread, stalling, is idle" in text


def test_each_call_that_stalls_is_reported(stalling: Bridge, records: Records) -> None:
    gates = [Latch(stalling) for _ in range(3)]
    lose_patience(stalling)

    async def waits_for(gate: Latch) -> None:
        await gate.future

    for number, gate in enumerate(gates):
        thread = in_background(lambda gate=gate: stalling.block_on(waits_for(gate)))  # type: ignore[misc]
        records.wait_for(number + 1)
        gate.open()
        thread.join(30)
    assert len(records.texts) == 3


def test_many_calls_at_once_are_counted_instead(records: Records) -> None:
    with Bridge("crowded", install_reactor=False) as bridge:
        gate = Latch(bridge)

        async def waits() -> None:
            await asyncio.shield(gate.future)

        stacks = bridge.loop.stacks  # type: ignore[attr-defined]
        work = [bridge.submit(lambda: block_on(waits())) for _ in range(14)]
        wait_until(lambda: len(stacks.calls()) == 14)
        report(stacks, stacks.calls())
        gate.open()
        for each in work:
            each.result()
    assert len(records.texts) == 11
    assert records.texts[-1].startswith("4 more calls on crowded have waited for 30 seconds")


def test_stack_that_is_blocked_on_the_loops_own_thread(stalling: Bridge, records: Records) -> None:
    gate = Latch(stalling)

    async def inner() -> None:
        await gate.future

    def callback() -> None:
        block_on(inner())

    stalling.loop.call_soon_threadsafe(callback)
    lose_patience(stalling, "in inner", IDLE)
    (text,) = records.wait_for(1)
    gate.open()
    assert "inner)" in text.splitlines()[0]
    assert "on the loop's own thread, in a callback" in text
    assert text.index("in callback") < text.index("it waits for:") < text.index("in inner")
    assert "is idle" in text


def test_task_whose_step_is_blocked(stalling: Bridge, records: Records) -> None:
    gate = Latch(stalling)

    async def inner() -> None:
        await gate.future

    def sync_code() -> None:
        block_on(inner())

    async def handler() -> None:
        sync_code()

    def calling() -> None:
        stalling.block_on(handler())

    thread = in_background(calling)
    lose_patience(stalling, "in inner", IDLE)
    texts = records.wait_for(2)
    gate.open()
    thread.join(30)
    assert len(texts) == 2  # the thread's call, and the one that stands in its work
    (from_thread,) = [text for text in texts if "in thread" in text.splitlines()[0]]
    (on_loop,) = [text for text in texts if text is not from_thread]
    assert "it waits for:\n  <" in from_thread  # the task, whose first step has not returned
    assert from_thread.index("in calling") < from_thread.index("in handler") < from_thread.index("in sync_code")
    assert "on the loop's own thread, in <" in on_loop
    assert on_loop.index("in handler") < on_loop.index("in sync_code") < on_loop.index("in inner")


def test_loop_that_is_stuck_in_a_callback(stalling: Bridge, records: Records) -> None:
    release = threading.Event()

    def hogging() -> None:
        release.wait(30)

    async def value() -> int:
        return 1

    stalling.loop.call_soon_threadsafe(hogging)
    thread = in_background(lambda: stalling.block_on(value()))
    lose_patience(stalling, "in hogging", "release.wait(30)", "has not started it")
    (text,) = records.wait_for(1)
    release.set()
    thread.join(30)
    assert "(the loop has not started it: it is busy)" in text
    assert "the loop's thread, stalling, stands at:" in text
    assert "in hogging" in text


def test_loop_whose_thread_waits_for_submitted_work(stalling: Bridge, records: Records) -> None:
    with Bridge("other", install_reactor=False, stall_after=None) as other:
        gate = Latch(other)

        async def waits() -> None:
            await gate.future

        def hogging() -> None:
            concurrent.futures.wait([other.submit(waits())], 30)

        stalling.loop.call_soon_threadsafe(hogging)
        thread = in_background(lambda: stalling.block_on(asyncio.sleep(0)))
        lose_patience(stalling, "in hogging", "has not started it", "waiter.event.wait(timeout)")
        (text,) = records.wait_for(1)
        gate.open()
        thread.join(30)
    assert "in hogging" in text
    assert re.search(r"it waits for <.*Event.*>, in .*_base.py:\d+: waiter.event.wait\(timeout\)", text), text
    assert "concurrent.futures.wait stops the thread, and the loop with it; write bridge.wait(futures)" in text


STANDING: dict[str, tuple[Callable[[Any], object], str]] = {
    "concurrent.futures.wait": (lambda future: concurrent.futures.wait([future]), "bridge.wait(futures)"),
    "concurrent.futures.as_completed": (
        lambda future: list(concurrent.futures.as_completed([future])),
        "bridge.as_completed(futures)",
    ),
}


@pytest.mark.parametrize("name", STANDING)
def test_a_loop_that_stands_still_for_its_own_work_is_reported(name: str, stalling: Bridge, records: Records) -> None:
    """Nobody is blocked in a call of ours there, and without this nobody would hear of it."""
    wait, instead = STANDING[name]
    gate = Latch(stalling)
    futures: list[Any] = []
    ended = threading.Event()

    async def work() -> None:
        await gate.future

    async def stuck() -> None:
        futures.append(stalling.submit(work()))
        wait(futures[0])
        ended.set()

    stalling.loop.call_soon_threadsafe(lambda: stalling.loop.create_task(stuck()))
    lose_patience(stalling, "in stuck", f"stands still for it in {name}")
    (text,) = records.wait_for(1)
    stalling.current_run().fail(futures[0]._call, LookupError())  # nothing else can end it
    assert ended.wait(30)
    futures[0].exception()
    gate.open()
    assert "submit(coroutine" in text
    assert f"which runs a loop, stands still for it in {name}; write {instead}, which lets it go on:" in text
    assert f"{name} stops the thread, and the loop with it; write {instead}" in text


@pytest.mark.parametrize(
    ("method", "instead"), [("result", "block_on(future)"), ("exception", "bridge.wait([future])")]
)
def test_a_loop_that_stands_still_for_a_future_of_the_standard_library_is_shown(
    method: str, instead: str, stalling: Bridge, records: Records
) -> None:
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    stalling.loop.call_soon_threadsafe(lambda: getattr(future, method)(30))
    thread = in_background(lambda: stalling.block_on(asyncio.sleep(0)))
    lose_patience(stalling, "has not started it", "self._condition.wait(timeout)")
    (text,) = records.wait_for(1)
    future.set_result(None)
    thread.join(30)
    assert f"{method}() of a Future stops the thread, and the loop with it; write {instead}, which lets" in text


def test_submitted_work_that_holds_nobody_up_is_not_reported(stalling: Bridge, records: Records) -> None:
    gate = Latch(stalling)

    async def work() -> None:
        await gate.future

    futures: list[Any] = [stalling.submit(work()) for _ in range(3)]
    waiting = in_background(lambda: (futures[0].result(), concurrent.futures.wait(futures), package.wait(futures)))

    def call() -> None:
        stalling.block_on(gate.future)

    thread = in_background(call)
    lose_patience(stalling, "in call", "work()")
    (text,) = records.wait_for(1)  # the call in the thread, and nothing else
    gate.open()
    thread.join(30)
    waiting.join(30)
    assert text.startswith("block_on("), text
    assert len(records.wait_for(1)) == 1


@pytest.mark.parametrize("verb", ["result", "exception", "wait", "as_completed"])
def test_a_stack_that_waits_for_futures_is_reported_with_the_work(
    verb: str, stalling: Bridge, records: Records
) -> None:
    gate = Latch(stalling)
    ended = threading.Event()

    async def work() -> None:
        await gate.future

    async def patient() -> None:
        future: Any = stalling.submit(work())
        if verb in ("result", "exception"):
            getattr(future, verb)()
        elif verb == "wait":
            package.wait([future])
        else:
            list(package.as_completed([future]))
        ended.set()

    stalling.loop.call_soon_threadsafe(lambda: stalling.loop.create_task(patient()))
    head = f"{verb}() of a Future" if verb in ("result", "exception") else f"bridge.{verb}()"
    lose_patience(stalling, head, "in patient", "in work")
    (text,) = records.wait_for(1)
    gate.open()
    assert ended.wait(30)
    assert text.startswith(f"{head} has waited for more than")
    assert "on the loop's own thread" in text
    assert re.search(r"in patient\n.*it waits for:\n  <WorkFuture at .*\n.*in work\n", text, re.DOTALL), text
    assert IDLE in text


def test_what_a_future_is_waited_for_by_in_the_main_thread_is_found() -> None:
    """There a wait sleeps for a second at a time."""
    main = threading.main_thread().ident
    assert main is not None
    with Bridge("other", install_reactor=False, stall_after=None) as other:

        async def until_it_is_found() -> str:
            text = None
            while text is None:
                await asyncio.sleep(0.001)
                text = waited_for(current_frames()[main])
            return text

        text = other.submit(until_it_is_found()).result(30)
    assert re.match(r"<.*Condition.*>, in .*_base.py:\d+: self._condition.wait\(timeout\)", text), text


def test_lock_that_a_blocked_stack_holds(stalling: Bridge, records: Records) -> None:
    gate = Latch(stalling)
    lock = threading.Lock()

    async def waits() -> None:
        await gate.future

    def holder() -> None:
        with lock:
            block_on(waits())

    def stuck() -> None:
        with lock:
            pass

    stalling.loop.call_soon_threadsafe(holder)
    stalling.loop.call_soon_threadsafe(stuck)
    lose_patience(stalling, "in stuck", "with lock:", "it waits for <locked _thread.lock")
    (text, *_) = records.wait_for(1)
    lock.release()  # as the loop cannot
    gate.future.get_loop().call_soon_threadsafe(lock.acquire)
    gate.open()
    assert "it waits for <locked _thread.lock object" in text
    assert "with lock:" in text
    assert "1 call blocked on its stacks cannot go on" in text
    assert "in holder: block_on(waits())" in text


def test_stall_after_none_reports_nothing(records: Records) -> None:
    async def waits(gate: Latch) -> None:
        await gate.future

    async def waits_and_is_reported(gate: Latch) -> None:
        await gate.future

    with (
        Bridge("one", install_reactor=False, stall_after=None) as one,
        Bridge("two", install_reactor=False, stall_after=0.05) as two,
    ):
        gates = [Latch(one), Latch(two)]
        threads = [in_background(lambda: one.block_on(waits(gates[0])))]
        dumped_with("one: 1 open call")  # it has waited for longer than the other one
        threads.append(in_background(lambda: two.block_on(waits_and_is_reported(gates[1]))))
        (text,) = records.wait_for(1)
        time.sleep(0.1)  # some more looks of the watchdog
        for gate, thread in zip(gates, threads, strict=True):
            gate.open()
            thread.join(30)
    assert "waits_and_is_reported)" in text
    assert records.texts == [text]


def test_call_that_ends_by_its_own_timeout_may_be_reported_while_it_cleans_up(records: Records) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await gate.future

    def when_it_is_reported() -> None:
        records.wait_for(1)
        gate.open()

    with Bridge(install_reactor=False, stall_after=0.1, shutdown_timeout=40) as bridge:
        gate = Latch(bridge)
        opening = in_background(when_it_is_reported)
        with pytest.raises(TimeoutError):
            bridge.block_on(stubborn(), timeout=0.05)
        opening.join(30)
    assert len(records.texts) == 1


def test_greenlets_of_one_thread_show_their_own_stacks(stalling: Bridge, records: Records) -> None:
    gate = Latch(stalling)

    async def waits() -> None:
        await asyncio.shield(gate.future)

    def first() -> None:
        stalling.block_on(waits(), strategy="greenlet")

    def second() -> None:
        stalling.block_on(waits(), strategy="greenlet")

    def thread() -> None:
        each = [greenlet(first), greenlet(second)]
        for one in each:
            one.switch()
        stalling.block_on(waits(), strategy="greenlet")
        while not all(one.dead for one in each):
            stalling.block_on(asyncio.sleep(0), strategy="greenlet")

    running = in_background(thread)
    lose_patience(stalling, "stalling: 3 open calls", IDLE)
    texts = records.wait_for(3)
    gate.open()
    running.join(30)
    assert sum("in first" in text for text in texts) == 1
    assert sum("in second" in text for text in texts) == 1


# --- the watchdog itself


class Target(Watched):
    def __init__(self, stall_after: float | None) -> None:
        self.stall_after = stall_after
        self.open: list[Any] = []

    def calls(self) -> list[Any]:
        return list(self.open)


class Call:
    def __init__(self) -> None:
        self.started = time.monotonic()
        self.key = id(self), self.started


def test_the_watchdog_sleeps_for_good_while_no_call_is_open() -> None:
    reported: list[Any] = []
    seen = threading.Event()
    dog = Watchdog(lambda _, calls: (reported.extend(calls), seen.set()))
    target = Target(0.02)
    dog.add(target)
    assert target.unwatched
    assert dog._thread is None  # not before the first call
    target.open.append(Call())
    dog.wake(target)
    assert seen.wait(30)
    wait_until(lambda: target.unwatched)  # all that is open has been reported
    time.sleep(0.1)
    assert target.unwatched
    assert len(reported) == 1
    seen.clear()
    target.open.append(Call())
    dog.wake(target)
    assert not target.unwatched or len(reported) == 2
    assert seen.wait(30)
    assert len(reported) == 2


def test_a_call_that_comes_while_the_watchdog_goes_to_sleep_is_seen() -> None:
    class Late(Target):
        def calls(self) -> list[Any]:
            calls = super().calls()
            self.open.append(Call())  # after the look, and its caller has found no mark yet
            return calls

    dog = Watchdog(lambda _, __: None)
    target = Late(50.0)
    dog.add(target)
    assert 40 < dog._look() <= 50
    assert not target.unwatched


def test_a_report_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()

    def report(target: Watched, calls: list[Any]) -> None:
        failed.set()
        raise LookupError

    dog = Watchdog(report)
    target = Target(0.01)
    dog.add(target)
    target.open.append(Call())
    dog.wake(target)
    assert failed.wait(30)
    wait_until(lambda: target.unwatched)
    assert dog._thread is not None
    assert dog._thread.is_alive()
    assert "could not report" in caplog.text


def test_after_a_fork_it_starts_anew() -> None:
    seen = threading.Event()
    dog = Watchdog(lambda _, __: seen.set())
    target = Target(0.01)
    dog.add(target)
    dog.wake(target)
    first = dog._thread
    dog.after_fork()
    assert dog.targets == []
    dog.add(target)
    target.open.append(Call())
    dog.wake(target)
    assert seen.wait(30)
    assert dog._thread is not first


@isolated
def test_nothing_runs_before_the_first_call_that_could_stall() -> None:
    import asyncio
    import threading

    import bridge

    names = lambda: {thread.name for thread in threading.enumerate()}  # noqa: E731
    with bridge.Bridge(install_reactor=False, stall_after=None) as silent:
        silent.block_on(asyncio.sleep(0))
        assert "bridge-watchdog" not in names()
    with bridge.Bridge(install_reactor=False) as other:
        assert "bridge-watchdog" not in names()
        other.block_on(asyncio.sleep(0))
        assert "bridge-watchdog" in names()


@isolated
def test_first_call_while_the_process_exits_needs_no_watchdog() -> None:
    import asyncio
    import atexit

    import bridge

    one = bridge.Bridge(install_reactor=False, stall_after=5)
    one.start()

    def at_the_end() -> None:
        assert one.block_on(asyncio.sleep(0, "done")) == "done"
        one.close()

    atexit.register(at_the_end)


@isolated
def test_stacks_are_read_while_threads_come_and_go_and_garbage_is_collected() -> None:
    """CPython 3.11 could collect while it held a lock that a new thread needs (python/cpython#106883)."""
    import gc
    import threading
    import time

    from bridge._threads.native import current_frames

    class Garbage:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            time.sleep(0.0001)  # lets others run: those that start and end, who need the lock

    is_over = threading.Event()
    gates = [threading.Semaphore(0) for _ in range(30)]

    def comes_and_goes() -> None:
        while not is_over.is_set():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    def steps(gate: threading.Semaphore) -> None:
        while not is_over.is_set():
            gate.acquire()  # a new frame each time, for which an object has to be made

    threads = [threading.Thread(target=comes_and_goes) for _ in range(2)]
    threads += [threading.Thread(target=steps, args=(gate,)) for gate in gates]
    for thread in threads:
        thread.start()
    gc.set_threshold(25)
    try:
        for _ in range(600):
            for gate in gates:
                gate.release()
            time.sleep(0.001)
            Garbage()
            assert threading.get_ident() in current_frames()
        assert gc.isenabled()
    finally:
        is_over.set()
        for gate in gates:
            gate.release()
        for thread in threads:
            thread.join()


def test_a_call_that_was_reported_is_not_kept_alive(stalling: Bridge, records: Records) -> None:
    class Result:
        pass

    async def slow() -> Result:
        await gate.future
        return Result()

    def when_it_is_reported() -> None:
        records.wait_for(1)
        gate.open()

    gate = Latch(stalling)
    lose_patience(stalling)
    opening = in_background(when_it_is_reported)
    stalling.block_on(slow())
    opening.join(30)

    # The loop's thread may still be returning from what has told the caller.
    def left() -> list[object]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is Result]

    wait_until(lambda: not left())


# --- pools


def test_full_executor_whose_threads_are_all_blocked(stalling: Bridge, records: Records) -> None:
    from concurrent.futures import ThreadPoolExecutor

    async def needs_a_thread() -> str:
        return await asyncio.to_thread(lambda: "done")

    def worker() -> str:
        return stalling.block_on(needs_a_thread())

    async def main() -> list[str]:
        return await asyncio.gather(*(asyncio.to_thread(worker) for _ in range(2)))

    full = "all 2 threads of the loop's executor are blocked in calls, and 2 more"
    stalling.block_on(lambda: stalling.loop.set_default_executor(ThreadPoolExecutor(2)))
    outcome = stalling.submit(main())
    lose_patience(stalling, full, IDLE)
    texts = records.wait_for(2)
    outcome.cancel()
    assert any(full in text for text in texts)


def test_limiter_of_anyio_whose_tokens_are_all_borrowed(stalling: Bridge, records: Records) -> None:
    async def needs_a_thread() -> None:
        await in_thread(lambda: None)

    def worker() -> None:
        block_on(needs_a_thread())

    async def main() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        await in_thread(worker)

    outcome = stalling.submit(main())
    lose_patience(stalling, "waits for one of the 1 tokens", IDLE)
    texts = records.wait_for(1)
    outcome.cancel()
    assert any("waits for one of the 1 tokens" in text for text in texts)


def test_full_thread_pool_of_the_reactor(stalling: Bridge, records: Records) -> None:
    from twisted.internet.threads import deferToThreadPool

    def start() -> Deferred[Any]:
        reactor = stalling.reactor
        reactor.suggestThreadPoolSize(1)
        return deferToThreadPool(reactor, reactor.getThreadPool(), worker)

    def worker() -> None:
        stalling.block_on(lambda: deferToThreadPool(stalling.reactor, stalling.reactor.getThreadPool(), lambda: None))

    full = "all 1 threads of the reactor's thread pool are blocked"
    outcome = stalling.submit(start)
    lose_patience(stalling, full, IDLE)
    texts = records.wait_for(1)
    outcome.cancel()
    assert any(full in text for text in texts)
