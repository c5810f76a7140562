"""The greenlet strategy off the loop's thread: many greenlets of one thread wait at once.

That it waits as the others do is in test_conformance.py.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import queue
import random
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet
from isolated import isolated
from places import in_a_thread

from bridge import Bridge, StrategyUnavailable, strategies
from bridge._threads import signals
from bridge._threads.lock_waiter import Alarm

STRATEGY: Any = strategies()["greenlet"]


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge("greenlets", strategy="greenlet", install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


class Gates:
    """Futures of the bridge's loop, which any thread opens."""

    def __init__(self, bridge: Bridge, count: int) -> None:
        async def make() -> list[asyncio.Future[int]]:
            return [asyncio.get_running_loop().create_future() for _ in range(count)]

        self.futures = bridge.block_on(make())
        self.loop: Any = bridge.loop

    def open(self, *numbers: int) -> None:
        def set_results() -> None:
            for number in numbers:
                self.futures[number].set_result(number)

        self.loop.post(set_results)  # as calls are, so that it comes after the start of those made before

    async def wait(self, number: int) -> int:
        return await self.futures[number]


def run_until(condition: Callable[[], object]) -> None:
    """Let the others run, and those of them whose time is up, until the condition holds."""
    while not condition():
        assert STRATEGY.waiter().wait(0.001) is False


def start(function: Callable[..., Any], *args: Any) -> greenlet:
    """Run a function in a greenlet until it blocks first."""
    started = greenlet(function)
    started.switch(*args)
    return started


# --- who gets control


def test_a_greenlet_that_blocks_gives_control_to_its_parent(bridge: Bridge) -> None:
    log: list[object] = []
    gates = Gates(bridge, 1)

    def child() -> None:
        log.append("blocks")
        log.append(bridge.block_on(gates.wait(0)))

    assert greenlet(child).switch() == ()
    log.append("parent goes on")
    gates.open(0)
    bridge.block_on(asyncio.sleep(0.01))
    assert log == ["blocks", "parent goes on", 0]


def test_they_are_resumed_in_the_order_in_which_their_calls_end(bridge: Bridge) -> None:
    count = 1_000
    gates = Gates(bridge, count)
    order = random.Random(4).sample(range(count), count)
    resumed: list[int] = []
    stacks = [start(lambda number: resumed.append(bridge.block_on(gates.wait(number))), n) for n in range(count)]
    bridge.block_on(asyncio.sleep(0))  # so that all have begun
    assert not resumed
    gates.open(*order)
    while len(resumed) < count:
        bridge.block_on(asyncio.sleep(0.01))
    assert resumed == order
    assert all(stack.dead for stack in stacks)


def test_the_main_greenlet_returns_when_its_own_turn_comes(bridge: Bridge) -> None:
    """It neither waits for those whose calls go on, nor passes by those whose calls have ended before."""
    gates = Gates(bridge, 2)
    resumed: list[int] = []
    stacks = [start(lambda number: resumed.append(bridge.block_on(gates.wait(number))), n) for n in range(2)]
    gates.open(1)
    assert bridge.block_on(asyncio.sleep(0.01, "value")) == "value"
    assert resumed == [1]
    gates.open(0)
    bridge.block_on(asyncio.sleep(0.01))
    assert resumed == [1, 0]
    assert all(stack.dead for stack in stacks)


def test_the_others_are_served_though_main_never_has_to_wait() -> None:
    other = STRATEGY.waiter()
    stack = start(other.wait, None)
    other.notify()
    done = STRATEGY.waiter()
    done.notify()
    assert done.wait(None)
    assert stack.dead


def test_a_parent_may_block_in_turn(bridge: Bridge) -> None:
    """Parents and children, five deep, end in any order; control goes to the ancestor that is not blocked."""
    depth = 5
    for seed in range(10):
        gates = Gates(bridge, depth)
        log: list[int] = []

        def body(number: int, gates: Gates = gates, log: list[int] = log) -> None:
            if number + 1 < depth:
                start(body, number + 1)
            log.append(bridge.block_on(gates.wait(number)))

        outermost = start(body, 0)
        assert not outermost.dead
        order = random.Random(seed).sample(range(depth), depth)
        for number in order:
            gates.open(number)
            bridge.block_on(asyncio.sleep(0.002))
        assert log == order


def test_a_blocked_parent_is_passed_by_even_if_it_could_go_on() -> None:
    """Its turn comes in the order of the hub."""
    waiters = [STRATEGY.waiter() for _ in range(2)]
    parent = start(waiters[0].wait, None)
    waiters[0].notify()
    child = greenlet(waiters[1].wait, parent)
    child.switch(None)
    assert not parent.dead
    assert STRATEGY.waiter().wait(0.001) is False
    assert parent.dead
    waiters[1].notify()
    assert STRATEGY.waiter().wait(0.001) is False
    assert child.dead


def test_one_that_was_resumed_gives_control_back_to_the_hub_and_not_to_its_parent(bridge: Bridge) -> None:
    """Its parent may be suspended where it expects the answer of somebody else."""
    gates = Gates(bridge, 3)
    log: list[object] = []

    def child() -> None:
        log.append(bridge.block_on(gates.wait(0)))
        log.append(bridge.block_on(gates.wait(1)))

    def parent() -> None:
        start(child)
        log.append(main.switch())

    main = getcurrent()
    suspended = start(parent)
    for number in (0, 1):
        gates.open(number)
        bridge.block_on(asyncio.sleep(0.002))
        assert log[: number + 1] == list(range(number + 1))
        # The child's end gives control to its parent, as ends do.
        assert suspended.dead is (number == 1)


def test_one_that_was_resumed_starts_others(bridge: Bridge) -> None:
    log: list[object] = []
    gates = Gates(bridge, 4)

    def child(number: int) -> None:
        log.append(("start", number))
        bridge.block_on(gates.wait(number))
        log.append(("end", number))

    def parent() -> None:
        bridge.block_on(gates.wait(3))
        for number in range(3):
            start(child, number)
        log.append("all started")
        gates.open(0, 1, 2)

    stack = start(parent)
    gates.open(3)
    run_until(lambda: stack.dead and len(log) == 7)
    assert log == [("start", 0), ("start", 1), ("start", 2), "all started", ("end", 0), ("end", 1), ("end", 2)]


def test_what_ends_while_main_does_not_wait_is_kept(bridge: Bridge) -> None:
    gates = Gates(bridge, 2)
    log: list[int] = []
    stacks = [start(lambda number: log.append(bridge.block_on(gates.wait(number))), n) for n in range(2)]
    gates.open(0, 1)
    bridge.block_on(asyncio.sleep(0.01), strategy="lock")
    assert not log
    stacks[1].switch()  # by hand
    assert log == [1]
    bridge.block_on(asyncio.sleep(0))
    assert log == [1, 0]


def test_one_that_is_switched_to_too_early_blocks_again() -> None:
    waiter = STRATEGY.waiter()
    results: list[bool] = []
    stack = start(lambda: results.append(waiter.wait(None)))
    for _ in range(3):
        assert stack.switch("not what it waits for") == ()
        assert not results
    waiter.notify()
    stack.switch()
    assert results == [True]


def test_each_has_its_own_context(bridge: Bridge) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)
    seen: list[tuple[int, int]] = []

    async def increment() -> None:
        await asyncio.sleep(0.001)
        variable.set(variable.get() + 1)

    def body(number: int) -> None:
        variable.set(number)
        bridge.block_on(increment())
        seen.append((number, variable.get()))

    for number in range(10):
        start(body, number)
    bridge.block_on(asyncio.sleep(0.02))
    assert sorted(seen) == [(number, number + 1) for number in range(10)]
    assert variable.get() == -1


def test_every_thread_has_a_hub(bridge: Bridge) -> None:
    def work(seed: int) -> int:
        chance = random.Random(seed)
        ended: list[int] = []

        def body(number: int) -> None:
            for _ in range(3):
                bridge.block_on(asyncio.sleep(chance.random() * 0.002))
            ended.append(number)

        for number in range(50):
            start(body, number)
        while len(ended) < 50:
            bridge.block_on(asyncio.sleep(0.001))
        return len(ended)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [50] * 16


# --- time-outs


def test_each_times_out_by_itself(bridge: Bridge) -> None:
    ended: list[int] = []

    def body(number: int) -> None:
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            bridge.block_on(asyncio.sleep(600), timeout=number * 0.005)
        assert time.monotonic() - before >= number * 0.005
        ended.append(number)

    def long() -> None:
        with pytest.raises(GreenletExit):
            bridge.block_on(asyncio.sleep(600), timeout=500)
        ended.append(0)

    stack = start(long)
    for number in (5, 2, 4, 1, 3):
        start(body, number)
    run_until(lambda: len(ended) == 5)
    assert sorted(ended) == [1, 2, 3, 4, 5]
    stack.throw()
    run_until(lambda: stack.dead)
    assert ended[5:] == [0]


def test_a_wait_of_no_seconds_looks_and_gives_no_control_away() -> None:
    waiter = STRATEGY.waiter()
    results: list[bool] = []

    def body() -> None:
        results.append(waiter.wait(0))
        results.append(waiter.wait(0.0))
        waiter.notify()
        results.append(waiter.wait(0))

    assert start(body).dead
    assert results == [False, False, True]


def test_a_time_out_is_not_put_off_by_others_that_are_busy() -> None:
    """There is always one that is due: each of the two wakes the other before it blocks."""
    ended = False
    before = time.monotonic()

    def busy(number: int) -> None:
        while not ended and time.monotonic() < before + 20:
            waiters[number] = STRATEGY.waiter()
            if 1 - number in waiters:
                waiters.pop(1 - number).notify()
            waiter = waiters.get(number)
            if waiter is not None:
                waiter.wait(None)

    waiters: dict[int, Any] = {}
    stacks = [start(busy, number) for number in range(2)]
    quiet: list[bool] = []
    start(lambda: quiet.append(STRATEGY.waiter().wait(0.01)))
    try:
        run_until(lambda: quiet)  # where main's own time comes as well
        assert quiet == [False]
        assert not any(stack.dead for stack in stacks)  # put off until they have ended
    finally:
        ended = True
        while not all(stack.dead for stack in stacks):
            for number in list(waiters):
                waiters.pop(number).notify()
            STRATEGY.waiter().wait(0.001)


def test_a_wait_that_timed_out_is_waited_for_again(bridge: Bridge) -> None:
    """As every call does that takes longer than stall_after, and every one that is cancelled."""
    cleaned: list[int] = []

    async def cleaning(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.005)
            cleaned.append(number)

    def body(number: int) -> None:
        with pytest.raises(TimeoutError):
            bridge.block_on(cleaning(number), timeout=0.005)
        assert number in cleaned

    stacks = [start(body, number) for number in range(3)]
    run_until(lambda: all(stack.dead for stack in stacks))
    assert sorted(cleaned) == [0, 1, 2]


def test_an_error_at_a_time_out_does_not_make_the_others_miss_theirs() -> None:
    def failing() -> None:
        STRATEGY.waiter().wait(0.001)
        raise LookupError

    results: list[bool] = []
    start(failing)
    start(lambda: results.append(STRATEGY.waiter().wait(0.005)))
    with pytest.raises(LookupError):
        STRATEGY.waiter().wait(5)
    run_until(lambda: results)
    assert results == [False]


def test_a_thousand_time_outs_are_quick() -> None:
    results: list[bool] = []
    chance = random.Random(4)
    for _ in range(1_000):
        start(lambda: results.append(STRATEGY.waiter().wait(chance.random() * 0.2)))
    before = time.process_time()
    while len(results) < 1_000:
        STRATEGY.waiter().wait(0.05)
    assert results == [False] * 1_000
    assert time.process_time() - before < 5


# --- exceptions


def test_an_error_that_ends_a_greenlet_is_raised_in_its_parent_where_that_waits(bridge: Bridge) -> None:
    cleaned = threading.Event()
    gates = Gates(bridge, 2)

    async def for_ever() -> None:
        try:
            gates.open(1)
            await asyncio.sleep(600)
        finally:
            cleaned.set()

    def body() -> None:
        bridge.block_on(gates.wait(1))
        raise LookupError("in the greenlet")

    results: list[int] = []
    start(lambda: results.append(bridge.block_on(gates.wait(0))))
    start(body)
    with pytest.raises(LookupError, match="in the greenlet"):
        bridge.block_on(for_ever())
    assert cleaned.is_set()
    gates.open(0)
    bridge.block_on(asyncio.sleep(0.01))
    assert results == [0]


@pytest.mark.parametrize("error", [GreenletExit, LookupError])
def test_what_is_thrown_into_a_blocked_greenlet_cancels_its_work(bridge: Bridge, error: type[BaseException]) -> None:
    log: list[object] = []
    gates = Gates(bridge, 1)

    async def cleaning() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await gates.wait(0)
            log.append("cleaned")

    def body() -> None:
        try:
            bridge.block_on(cleaning())
        except error:
            log.append("raised")

    stack = start(body)
    stack.throw(error)
    assert not log  # it waits for the cleanup
    gates.open(0)
    run_until(lambda: stack.dead)
    assert log == ["cleaned", "raised"]


def interrupt_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_ctrl_c_while_all_are_blocked_is_raised_in_the_main_greenlet(bridge: Bridge) -> None:
    gates = Gates(bridge, 10)
    results: list[int] = []
    for number in range(10):
        start(lambda number: results.append(bridge.block_on(gates.wait(number))), number)

    async def interrupting(number: int) -> None:
        gates.open(number)
        interrupt_main_thread()
        await asyncio.sleep(60)

    for number in range(10):
        with pytest.raises(KeyboardInterrupt):
            bridge.block_on(interrupting(number))
    bridge.block_on(asyncio.sleep(0.01))
    assert results == list(range(10))


def test_the_hub_of_the_main_thread_looks_up_for_signals_that_met_it_as_it_fell_asleep(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "LOOK_UP", 0.01)

    def pauses_of_the_hub(times: int) -> list[float]:
        pauses: list[float] = []

        class Recording:
            def __init__(self, alarm: Alarm) -> None:
                self._alarm = alarm

            def wait(self, timeout: float) -> bool:
                pauses.append(timeout)
                return self._alarm.wait(timeout)

        hub = STRATEGY.waiter()._hub
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hub, "_alarm", Recording(hub._alarm))
            bridge.block_on(until_it_has_paused(pauses, times))
        return pauses

    async def until_it_has_paused(pauses: list[float], times: int) -> None:
        while len(pauses) < times:
            await asyncio.sleep(0.001)

    pauses = pauses_of_the_hub(3)
    assert len(pauses) > 2
    assert max(pauses) == 0.01
    assert in_a_thread(lambda: pauses_of_the_hub(1)) == [threading.TIMEOUT_MAX]


def test_ctrl_c_in_a_greenlet_that_runs_is_raised_there(bridge: Bridge) -> None:
    log: list[str] = []

    def body() -> None:
        bridge.block_on(asyncio.sleep(0.001))
        try:
            interrupt_main_thread()
            time.sleep(1)
        except KeyboardInterrupt:
            log.append("caught")

    start(body)
    bridge.block_on(asyncio.sleep(0.02))
    assert log == ["caught"]


# --- signal handlers that block


def test_a_call_that_ends_while_a_signal_handler_blocks_inside_its_wait(bridge: Bridge) -> None:
    """The handler's hub hears of it first, and must not keep it to itself."""
    log: list[object] = []
    gates = Gates(bridge, 2)

    def handle(*_: object) -> None:
        gates.open(0, 1)
        bridge.block_on(asyncio.sleep(0.01))
        log.append("handled")

    async def signalling() -> int:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        return await gates.wait(0)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        start(lambda: log.append(bridge.block_on(gates.wait(1))))
        assert bridge.block_on(signalling()) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert log == [1, "handled"]


def test_a_call_that_ends_while_a_handler_blocks_in_the_greenlet_that_is_about_to_block() -> None:
    """The hub meets the outer wait's completion first, while the greenlet is blocked in the inner one."""

    class Stack(greenlet):
        handled = False

        @property
        def parent(self) -> Any:  # asked for just before the switch; a signal may arrive there
            if not self.handled:
                self.handled = True
                inner = STRATEGY.waiter()
                outer.notify()
                threading.Timer(0.01, inner.notify).start()
                assert inner.wait(None)
            return super().parent

    outer = STRATEGY.waiter()
    results: list[bool] = []
    stack = Stack(lambda: results.append(outer.wait(None)))
    stack.switch()
    run_until(lambda: results)
    assert results == [True]


def test_signal_handlers_block_wherever_they_land() -> None:
    """In the hub, in a greenlet that is about to block, in one that was just resumed."""
    handled = ended = depth = 0
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def notify_all() -> None:
        for waiter in iter(waiting.get, None):
            waiter.notify()

    def wait() -> None:
        waiter = STRATEGY.waiter()
        waiting.put(waiter)
        assert waiter.wait(None)

    def handle(*_: object) -> None:
        nonlocal handled, depth
        if depth < 3:
            depth += 1
            wait()
            depth -= 1
            handled += 1

    def body(seed: int) -> None:
        nonlocal ended
        chance = random.Random(seed)
        for _ in range(40):
            wait()
            assert STRATEGY.waiter().wait(chance.random() * 0.002) is False
        ended += 1

    notifier = threading.Thread(target=notify_all)
    notifier.start()
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for seed in range(10):
            start(body, seed)
        while ended < 10 or handled <= 10:
            wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        waiting.put(None)
        notifier.join()
    assert handled > 10


def test_exceptions_of_signal_handlers_lose_nobody(bridge: Bridge) -> None:
    """Wherever they land in the main greenlet's wait; the others are resumed all the same."""

    class Alarm(Exception):
        pass

    module = sys.modules[type(STRATEGY).__module__].__file__

    def handle(_: int, frame: types.FrameType | None) -> None:
        # Nowhere else: not as this test catches one, and not in a finalizer, which would swallow it.
        code = frame and frame.f_code
        if getcurrent() is main and code and code.co_filename == module and code.co_name != "__del__":
            raise Alarm

    def body() -> None:
        nonlocal ended
        for _ in range(30):
            bridge.block_on(asyncio.sleep(0))
            with pytest.raises(TimeoutError):
                bridge.block_on(asyncio.sleep(60), timeout=0.0005)
        ended += 1

    ended = alarms = 0
    main = getcurrent()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(10):
            start(body)
        signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
        while ended < 10 or alarms <= 5:
            try:
                STRATEGY.waiter().wait(0.01)
            except Alarm:
                alarms += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- ends


def test_when_its_thread_ends_a_blocked_greenlet_ends(bridge: Bridge) -> None:
    log: list[str] = []

    def body() -> None:
        try:
            bridge.block_on(asyncio.sleep(60))
        except GreenletExit:
            log.append("raised")
            STRATEGY.waiter().wait(None)
        finally:
            log.append("ended")

    stacks: list[weakref.ref[Any]] = []

    def in_thread() -> None:
        for _ in range(3):
            stacks.append(weakref.ref(start(body)))
        stacks.append(weakref.ref(STRATEGY.waiter()._hub))  # which the wait in the cleanup must not replace

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert sorted(log) == ["ended"] * 3 + ["raised"] * 3
    assert bridge.block_on(asyncio.sleep(0, "value")) == "value"
    deadline = time.monotonic() + 20
    while any(each() is not None for each in stacks):  # the loop's thread may still hold the call of one
        assert time.monotonic() < deadline
        gc.collect()


@isolated(stderr=r"(Exception in thread \d+:\n((?!Exception in).)*LookupError: at the end\s*){3}")
def test_errors_at_the_end_of_a_thread_are_shown() -> None:
    import threading

    from greenlet import greenlet

    from bridge import strategies

    def body() -> None:
        try:
            strategies()["greenlet"].waiter().wait(None)
        finally:
            ended.append(1)
            raise LookupError("at the end")

    ended: list[int] = []
    thread = threading.Thread(target=lambda: [greenlet(body).switch() for _ in range(3)])
    thread.start()
    thread.join()
    assert len(ended) == 3


def test_a_greenlet_that_goes_on_all_the_same_does_not_keep_its_thread_from_ending() -> None:
    exits = 0

    def body() -> None:
        nonlocal exits
        while True:
            try:
                STRATEGY.waiter().wait(None)
            except GreenletExit:
                exits += 1

    thread = threading.Thread(target=start, args=(body,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert exits > 2


@isolated
def test_blocked_greenlets_do_not_keep_the_interpreter_from_ending() -> None:
    import asyncio

    from greenlet import greenlet

    from bridge import block_on

    for _ in range(3):
        greenlet(lambda: block_on(asyncio.sleep(60), strategy="greenlet")).switch()


@isolated(options=("-W", "error", "-W", "ignore::DeprecationWarning"))
def test_a_forked_child_leaves_the_greenlets_of_other_threads_alone() -> None:
    import os
    import threading

    from greenlet import greenlet

    from bridge import strategies

    strategy = strategies()["greenlet"]
    blocked, go = threading.Event(), threading.Event()

    def in_thread() -> None:
        greenlet(strategy.waiter().wait).switch(0.5)
        blocked.set()
        go.wait()

    thread = threading.Thread(target=in_thread)
    thread.start()
    blocked.wait()
    child = os.fork()
    if child == 0:
        mine = strategy.waiter()  # the other thread is gone
        threading.Timer(0.01, mine.notify).start()
        os._exit(0 if mine.wait(5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    thread.join()


def test_a_notification_after_the_end_does_no_harm() -> None:
    waiters = in_a_thread(lambda: [STRATEGY.waiter() for _ in range(3)])
    waiters[0].notify()

    def in_thread() -> Any:
        blocked, given_up = STRATEGY.waiter(), STRATEGY.waiter()
        start(blocked.wait, None)
        assert given_up.wait(0.001) is False
        return [blocked, given_up]

    for waiter in in_a_thread(in_thread):
        waiter.notify()

    given_up = [STRATEGY.waiter() for _ in range(100)]
    for waiter in given_up:
        start(waiter.wait, 0.001)
        assert waiter.wait(0) is False
    hub = STRATEGY.waiter()._hub
    run_until(lambda: hub.is_empty)
    for waiter in given_up:
        waiter.notify()
    run_until(lambda: not hub.due)
    assert sys.getrefcount(given_up[0]) < 5


def test_nothing_is_left_behind(bridge: Bridge) -> None:
    def round_of_calls() -> None:
        def body(number: int) -> None:
            if number % 3 == 0:
                with pytest.raises(TimeoutError):
                    bridge.block_on(asyncio.sleep(60), timeout=0.001)
            elif number % 3 == 1:
                bridge.block_on(asyncio.sleep(0))
            else:
                with pytest.raises(GreenletExit):
                    bridge.block_on(asyncio.sleep(60))
                nonlocal thrown
                thrown += 1

        thrown = 0
        stacks = [start(body, number) for number in range(300)]
        for stack in stacks[2::3]:
            stack.throw()
        while not all(stack.dead for stack in stacks):
            bridge.block_on(asyncio.sleep(0.001))
        assert thrown == 100

    def left() -> int:
        gc.collect()
        names = ("greenlet", "GreenletWaiter", "BlockedCall")
        return sum(type(each).__name__ in names for each in gc.get_objects())

    round_of_calls()
    before = left()
    round_of_calls()
    deadline = time.monotonic() + 20
    while left() > before:  # the loop's thread may still hold the call that has just ended
        assert time.monotonic() < deadline
    hub = STRATEGY.waiter()._hub
    assert hub.is_empty
    bridge.block_on(asyncio.sleep(0))
    assert not hub.due


def test_early_notifications_do_not_pile_up() -> None:
    def body() -> None:
        for _ in range(1_000):
            waiter = STRATEGY.waiter()
            waiter.notify()
            assert waiter.wait(None)

    def due() -> list[Any]:
        start(body)
        return list(STRATEGY.waiter()._hub.due)

    assert in_a_thread(due) == []  # in a hub of its own: the one of this thread may get late ones of earlier tests


# --- where it cannot be used


def test_greenlets_of_gevent_are_refused(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(greenlet):
        pass

    module = types.ModuleType("gevent.hub")
    module.Hub = Hub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gevent.hub", module)
    raised: list[str] = []

    def body() -> None:
        coroutine = asyncio.sleep(0)
        with pytest.raises(StrategyUnavailable) as caught:
            bridge.block_on(coroutine)
        raised.append(str(caught.value))

    hub = Hub(lambda: greenlet(body).switch())
    hub.switch()
    assert not raised or "gevent" in raised[0]
    raised.clear()
    hub = Hub(lambda: greenlet(body, getcurrent()).switch())
    hub.switch()
    assert "this greenlet is gevent's" in raised[0]
    assert bridge.block_on(asyncio.sleep(0, "value")) == "value"
