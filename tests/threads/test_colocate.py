"""colocate: both threads on one core for a moment, and each where it was before, however the call ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.threads import deferToThreadPool

from bridge import Bridge, BridgeClosed
from bridge._calls import block_on
from bridge._threads import colocate

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()

needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs Linux and two cores that this process may use")


@pytest.fixture(autouse=True)
def nobody_is_left_pinned() -> Iterator[None]:
    yield
    if CORES:
        assert os.sched_getaffinity(0) == CORES


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    """A bridge that brings every caller together with its loop, whether it is worth it or not."""
    monkeypatch.setattr(colocate.Colocation, "choose", lambda _: True)
    with Bridge("colocated", colocate=True, install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


def cores_of(thread: threading.Thread | None) -> set[int]:
    assert thread is not None
    assert thread.native_id is not None
    return os.sched_getaffinity(thread.native_id)


async def both(caller: int) -> tuple[set[int], set[int]]:
    return os.sched_getaffinity(0), os.sched_getaffinity(caller)


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.fixture
def as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the two stay together for longer than a loop that is held up takes to look."""
    monkeypatch.setattr(block_on, "LONGEST", 30.0)


@needs_two_cores
@pytest.mark.usefixtures("as_long_as_it_takes")
def test_both_threads_are_on_one_core_while_the_caller_waits(bridge: Bridge) -> None:
    for _ in range(20):
        loops, callers = bridge.block_on(both(threading.get_native_id()))
        assert loops == callers
        assert len(loops) == 1
        assert os.sched_getaffinity(0) == CORES
        assert cores_of(bridge.thread) == CORES


async def failing() -> None:
    raise LookupError("no such thing")


async def interrupting() -> None:
    threading.Timer(0.01, signal.pthread_kill, [threading.main_thread().ident or 0, signal.SIGINT]).start()
    await for_ever()


async def stopping() -> None:
    asyncio.get_running_loop().stop()
    await for_ever()


async def interrupting_at_once() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    await asyncio.sleep(0.01)


ENDS: list[tuple[Callable[[], Any], float | None, type[BaseException]]] = [
    (failing, None, LookupError),
    (for_ever, 0, TimeoutError),
    (for_ever, 0.001, TimeoutError),
    (for_ever, 0.02, TimeoutError),
    (interrupting, None, KeyboardInterrupt),
    (interrupting_at_once, 5.0, KeyboardInterrupt),
    (stopping, None, BridgeClosed),
]


@needs_two_cores
@pytest.mark.parametrize(("work", "timeout", "error"), ENDS)
def test_both_are_free_again_however_the_call_ends(
    bridge: Bridge, work: Callable[[], Any], timeout: float | None, error: type[BaseException]
) -> None:
    for _ in range(5):
        with pytest.raises(error):
            bridge.block_on(work(), timeout=timeout)
        assert os.sched_getaffinity(0) == CORES
        assert bridge.block_on(value()) == "value"
        assert cores_of(bridge.thread) == CORES


@needs_two_cores
def test_a_long_wait_is_free(bridge: Bridge) -> None:
    caller = threading.get_native_id()

    async def later() -> tuple[set[int], set[int]]:
        deadline = time.monotonic() + 30
        while await both(caller) != (CORES, CORES):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        return await both(caller)

    assert bridge.block_on(later()) == (CORES, CORES)


@needs_two_cores
def test_only_one_of_many_callers_is_pinned(bridge: Bridge) -> None:
    results: list[str] = []
    masks: list[set[int]] = []

    def call() -> None:
        results.extend(bridge.block_on(value()) for _ in range(50))
        masks.append(os.sched_getaffinity(0))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["value"] * 800
    assert masks == [CORES] * 16
    assert cores_of(bridge.thread) == CORES


@needs_two_cores
def test_a_call_inside_the_wait_of_another(bridge: Bridge) -> None:
    seen: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(bridge.block_on(value())))
    try:
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            bridge.block_on(asyncio.sleep(0.005))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen
    assert cores_of(bridge.thread) == CORES


@needs_two_cores
@pytest.mark.usefixtures("as_long_as_it_takes")
def test_a_pinned_caller_stays_on_its_cores(bridge: Bridge) -> None:
    bridge.start()
    seen: list[Any] = []

    def call(core: int) -> None:
        os.sched_setaffinity(0, {core})
        seen.append((core, bridge.block_on(both(threading.get_native_id())), os.sched_getaffinity(0)))

    for core in CORES:
        thread = threading.Thread(target=call, args=(core,))
        thread.start()
        thread.join()
    assert seen == [(core, ({core}, {core}), {core}) for core in CORES]
    assert cores_of(bridge.thread) == CORES


@needs_two_cores
def test_a_loop_that_may_not_run_where_the_caller_is_stays_where_it_is(bridge: Bridge) -> None:
    first, second, *_ = sorted(CORES)
    bridge.start()
    assert bridge.thread is not None
    os.sched_setaffinity(bridge.thread.native_id or 0, {first})

    def call() -> None:
        os.sched_setaffinity(0, {second})
        seen.append(bridge.block_on(both(threading.get_native_id())))

    seen: list[Any] = []
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert seen == [({first}, {second})]
    assert cores_of(bridge.thread) == {first}


@needs_two_cores
@pytest.mark.usefixtures("as_long_as_it_takes")
def test_a_mask_that_is_set_meanwhile_stays(bridge: Bridge) -> None:
    async def move(caller: int) -> tuple[set[int], set[int]]:
        (here,) = os.sched_getaffinity(caller)
        others = CORES - {here}
        os.sched_setaffinity(caller, others)
        os.sched_setaffinity(0, others)
        return others, others

    try:
        others, _ = bridge.block_on(move(threading.get_native_id()))
        assert os.sched_getaffinity(0) == others
        assert cores_of(bridge.thread) == others
    finally:
        os.sched_setaffinity(0, CORES)


@pytest.mark.process
@needs_two_cores
def test_what_the_loop_starts(bridge: Bridge) -> None:
    shows = "import os; print(sorted(os.sched_getaffinity(0)))"

    def here() -> set[int]:
        return os.sched_getaffinity(0)

    async def in_executor() -> set[int]:
        return await asyncio.get_running_loop().run_in_executor(None, here)

    async def process() -> str:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", shows, stdout=asyncio.subprocess.PIPE)
        output, _ = await child.communicate()
        return output.decode().strip()

    assert bridge.block_on(in_executor()) == CORES
    assert bridge.block_on(lambda: deferToThreadPool(bridge.reactor, bridge.reactor.getThreadPool(), here)) == CORES
    assert bridge.block_on(process()) == str(sorted(CORES))


@pytest.mark.process
@needs_two_cores
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_the_loop_of_its_parent_alone(bridge: Bridge) -> None:
    bridge.start()
    thread = bridge.thread
    colocation = bridge.current_run().colocation
    assert colocation is not None
    pair = colocate.Pair(colocation)
    pair.join()
    try:
        pinned = os.sched_getaffinity(0)
        assert len(pinned) == 1
        child = os.fork()
        if child == 0:
            pair.part()
            os._exit(0 if os.sched_getaffinity(0) == CORES else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert cores_of(thread) == pinned
    finally:
        pair.part()
    assert cores_of(thread) == CORES


@needs_two_cores
def test_parting_from_a_thread_that_has_ended() -> None:
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(colocate.colocation()))
    thread.start()
    thread.join()
    pair = colocate.Pair(made[0])
    pair.join()
    pair.part()
    pair.part()


def test_one_call_at_a_time_has_it(rule: colocate.Colocation) -> None:
    first, second = object(), object()
    assert rule.take(first)
    assert not rule.take(second)
    rule.give_back(second)
    assert not rule.take(second)
    rule.give_back(first)
    assert rule.take(second)


# --- whether it is worth it


class Scheduler:
    """A call takes 12 µs where it has put the threads together, 86 where not, and 20 if they are brought together."""

    def __init__(self, *, settles_after: int = 0) -> None:
        self.apart = False
        self._settles_after = settles_after  # how many calls the threads stay together that were brought together
        self._stay = 0

    def seconds(self, together: bool) -> float:
        self._stay = self._settles_after if together else max(0, self._stay - 1)
        return 20e-6 if together else 86e-6 if self.apart and not self._stay else 12e-6


def mean_of(rule: colocate.Colocation, calls: int, seconds: Callable[[bool], float]) -> float:
    total = 0.0
    for _ in range(calls):
        together = rule.choose()
        took = seconds(together)
        rule.note(together, took)
        total += took
    return total / calls


@pytest.fixture
def rule() -> colocate.Colocation:
    return colocate.Colocation(lambda: 0)


def test_where_the_scheduler_has_put_them_together_it_is_left_alone(rule: colocate.Colocation) -> None:
    assert mean_of(rule, 2_000, Scheduler().seconds) < 1.05 * 12e-6


@pytest.mark.parametrize("settles_after", [0, 1, 3, 10])
def test_where_it_has_put_them_apart_they_are_brought_together(rule: colocate.Colocation, settles_after: int) -> None:
    scheduler = Scheduler(settles_after=settles_after)
    scheduler.apart = True
    assert mean_of(rule, 2_000, scheduler.seconds) < 0.35 * 86e-6


def test_it_notices_a_change(rule: colocate.Colocation) -> None:
    scheduler = Scheduler()
    for _ in range(5):
        scheduler.apart = False
        assert mean_of(rule, 4_000, scheduler.seconds) < 1.1 * 12e-6
        scheduler.apart = True
        assert mean_of(rule, 4_000, scheduler.seconds) < 0.35 * 86e-6


def test_calls_of_any_length_cost_little(rule: colocate.Colocation) -> None:
    choose = random.Random(1)
    scheduler = Scheduler()
    lengths = [choose.choice([0.0, 0.0, 50e-6, 1e-3]) for _ in range(4_000)]
    rest = iter(lengths)
    mean = mean_of(rule, len(lengths), lambda together: scheduler.seconds(together) + next(rest))
    assert mean < 1.1 * (12e-6 + sum(lengths) / len(lengths))


def test_it_leaves_long_calls_alone(rule: colocate.Colocation) -> None:
    brought: list[bool] = []

    def half_a_second(together: bool) -> float:
        brought.append(together)
        return 0.5

    mean_of(rule, 1_000, half_a_second)
    assert sum(brought) < 30


@needs_two_cores
def test_calls_go_the_way_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colocate, "LONGEST", 30.0)  # on a busy machine every wake-up may take longer
    with Bridge("choosing", colocate=True, install_reactor=False) as each:
        rule = each.current_run().colocation
        assert rule is not None
        for _ in range(200):
            assert each.block_on(value()) == "value"
        assert all(min(times) < colocate.LONGEST for times in rule._times)
        assert cores_of(each.thread) == CORES


def test_a_system_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with Bridge("colocated", colocate=True, install_reactor=False) as bridge:
        assert bridge.block_on(value()) == "value"
        assert bridge.current_run().colocation is None


@needs_two_cores
def test_a_process_that_is_pinned_has_nothing_to_gain() -> None:
    os.sched_setaffinity(0, {min(CORES)})
    try:
        with Bridge("pinned", colocate=True, install_reactor=False) as bridge:
            assert bridge.block_on(both(threading.get_native_id())) == ({min(CORES)}, {min(CORES)})
            assert bridge.current_run().colocation is None
    finally:
        os.sched_setaffinity(0, CORES)


def test_a_loop_of_the_users_is_left_alone() -> None:
    with Bridge("foreign", colocate=True, loop_factory=asyncio.SelectorEventLoop, install_reactor=False) as bridge:
        assert bridge.block_on(value()) == "value"
        assert bridge.current_run().colocation is None


def test_it_is_off_by_default() -> None:
    with Bridge("plain", install_reactor=False) as bridge:
        assert bridge.current_run().colocation is None
