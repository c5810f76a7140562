"""The states of a run: the table by itself, and real runs of each kind that are walked through it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from points import interrupt
from twisted.internet.selectreactor import SelectReactor

import bridge as package
from bridge import Bridge, BridgeClosed, BridgeError
from bridge._loop.ending import end_tasks
from bridge._runs import states
from bridge._runs.states import (
    ABORT,
    BEGIN,
    END,
    ENDED,
    ENDING,
    FAILED,
    LAUNCH,
    LAUNCHED,
    LOST,
    MOVES,
    NEW,
    REFUSE,
    REFUSING,
    RUNNING,
    SERVE,
    Event,
    State,
    Stateful,
)

PATIENCE = 10.0  # seconds that a test waits for what must come
EVENTS = [each for each in vars(states).values() if isinstance(each, Event)]
STATES = [each for each in vars(states).values() if isinstance(each, State)]
# A walk starts threads, so it has few steps; what it finds does not depend on how long a step takes.
WALK = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def path(run: Stateful) -> list[State]:
    """The states that a run has been in, in their order."""
    found = [NEW]
    while found[-1] in run._moves:
        found.append(run._moves[found[-1]].target)
    return found


def check_path(run: Stateful) -> None:
    """A run has moved by the table only, is where its path has led to, and gives the first reason for its end."""
    while True:  # another thread may move it meanwhile, which makes its path longer
        passed = path(run)
        state, accepts, over = run.state, run.accepts, run.over
        been = [state for state in STATES if run.has_been(state)]
        if path(run) == passed:
            break
    for before, after in itertools.pairwise(passed):
        assert after in MOVES[before].values()
    assert passed[-1] is state
    assert accepts is (state is RUNNING)
    assert (over is not None) is state.is_over
    assert been == [state for state in STATES if state in passed]


# The table.


def test_a_run_passes_each_state_once_at_the_most() -> None:
    left = dict(MOVES)
    while left:  # what no other state leads to is first in some order of all
        first = [state for state in left if not any(state in moves.values() for moves in left.values())]
        assert first, f"a circle in {left}"
        for state in first:
            del left[state]


def test_every_state_can_be_reached_and_is_left_for_an_end() -> None:
    assert set(MOVES) == set(STATES)
    reached = {NEW} | {target for moves in MOVES.values() for target in moves.values()}
    assert reached == set(STATES)
    for state, moves in MOVES.items():
        if not state.is_over:
            assert moves[END].is_over
            assert moves[states.FORK] is LOST
        for target in moves.values():
            assert target.is_over >= state.is_over
            assert target.is_gone >= state.is_gone
    assert {state for state in STATES if state.is_gone} == {ENDED, FAILED, LOST}
    assert MOVES[ENDING][states.FINISH] is ENDED


class TableMachine(RuleBasedStateMachine):
    """Any events in any order. The model is the plain reading of the table: a state, and the first end."""

    def __init__(self) -> None:
        super().__init__()
        self.run = Stateful()
        self.state = NEW
        self.end: tuple[str, BaseException] | None = None
        self.count = 0

    @rule(event=st.sampled_from(EVENTS))
    def move(self, event: Event) -> None:
        self.count += 1
        reason, cause = f"{event} {self.count}", LookupError(self.count)
        target = MOVES[self.state].get(event)
        assert self.run.move(event, reason, cause) is (target is not None)
        if target is not None:
            if target.is_over and self.end is None:
                self.end = reason, cause
            self.state = target

    @invariant()
    def it_is_as_the_model(self) -> None:
        check_path(self.run)
        assert self.run.state is self.state
        assert (self.run.over, self.run.cause) == (self.end or (None, None))


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=50, stateful_step_count=12, deadline=None)


@pytest.mark.parametrize("events", [(END, SERVE), (END, BEGIN), (END, LAUNCH, ABORT), (END, REFUSE), (END, END, END)])
def test_of_events_that_race_one_leaves_each_state(events: tuple[Event, ...]) -> None:
    to = {SERVE: (LAUNCH, BEGIN), BEGIN: (LAUNCH,), LAUNCH: (), REFUSE: (LAUNCH, BEGIN, SERVE), END: (LAUNCH, BEGIN)}
    for number in range(200):
        run = Stateful()
        for event in to[events[1]]:
            assert run.move(event)
        begun = len(path(run))
        start = threading.Barrier(len(events))
        moved: list[Event] = []

        def race(
            event: Event,
            reason: str,
            run: Stateful = run,
            start: threading.Barrier = start,
            moved: list[Event] = moved,
        ) -> None:
            start.wait(PATIENCE)
            if run.move(event, reason):
                moved.append(event)

        threads = [
            threading.Thread(target=race, args=(event, f"{number}.{index}")) for index, event in enumerate(events)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_path(run)
        assert len(moved) == len(path(run)) - begun
        assert run.state.is_over


def test_a_thread_that_is_late_does_not_put_a_run_back() -> None:
    run = Stateful()
    for event in (LAUNCH, BEGIN, SERVE):
        run.move(event)
    behind = run._known
    run.move(END, "closed")
    run._known = behind  # what a thread writes that has read the state before the end
    assert (run.state, run.accepts, run.over) == (ENDING, False, "closed")


@pytest.mark.parametrize("again", [END, SERVE, REFUSE])
def test_a_signal_handler_that_moves_within_a_move(again: Event) -> None:
    """At every point of one: whichever comes first, the run is where one order of the two would have led."""
    for at in range(1, 100):
        run = Stateful()
        for event in (LAUNCH, BEGIN, SERVE):
            run.move(event)

        def both(run: Stateful = run) -> None:
            try:
                run.move(END, "outer")
            except KeyboardInterrupt:  # its handler goes on here
                run.move(again, "inner")
                run.move(END, "outer")  # an interrupted step is done again

        where = interrupt(both, at, within=Stateful.move)
        check_path(run)
        assert run.state is ENDING
        assert run.over in ("outer", "inner")
        if not where:
            break
    assert at > 2


# Runs in a thread of the bridge's own.


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def call_of(bridge: Bridge) -> Any:
    """Make a call, and return its result or its error."""
    try:
        return bridge.block_on(value())
    except Exception as error:
        return error


class Caller(threading.Thread):
    """A thread that makes one call, and keeps what came of it."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(daemon=True)
        self.bridge = bridge
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        self.outcome = call_of(self.bridge)


class Walked(RuleBasedStateMachine):
    """What the walks of all kinds of run have in common: the runs that were seen, and how each has ended."""

    bridge: Bridge | None = None

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[Any, str | None] = {}
        self.pending: dict[Future[None], Any] = {}
        self.is_closed = False

    @invariant()
    def every_run_goes_by_the_table(self) -> None:
        run = None if self.bridge is None else self.bridge.last_run
        if run is not None:
            self.ends.setdefault(run, None)
        for each, reason in self.ends.items():
            check_path(each)
            assert reason is None or each.over == reason  # once over, for the same reason for ever
            self.ends[each] = each.over

    @invariant()
    def open_calls_fail_with_their_run(self) -> None:
        for future, run in list(self.pending.items()):
            is_done = future.done()  # first: a caller's thread may close the run
            if run.over is not None:
                assert isinstance(future.exception(PATIENCE), BridgeClosed)
                del self.pending[future]
            else:
                assert not is_done

    def open_call(self) -> None:
        assert self.bridge is not None
        future = self.bridge.submit(for_ever())
        self.pending[future] = self.bridge.last_run


class OwnedMachine(Walked):
    """Starts, calls, stops and closes of a bridge whose loop is made when a gate opens, or cannot be made.

    Where the run is in a start depends on threads. So it is no precondition of a rule, which hypothesis repeats.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.callers: list[Caller] = []
        self.failures: list[BaseException] = []
        self.bridge = Bridge("walked", install_reactor=False, loop_factory=self.make_loop, shutdown_timeout=PATIENCE)

    def make_loop(self) -> asyncio.AbstractEventLoop:
        assert self.gate.wait(PATIENCE)
        if self.fails:
            self.failures.append(LookupError("no loop"))
            raise self.failures[-1]
        return package.new_event_loop()

    @property
    def run_(self) -> Any:
        assert self.bridge is not None
        return self.bridge.last_run

    def is_running(self) -> bool:
        return self.run_ is not None and self.run_.state in (RUNNING, REFUSING)

    @rule()
    def call(self) -> None:
        assert self.bridge is not None
        if not (self.gate.is_set() or self.is_running() or self.is_closed):
            return
        before = self.run_
        is_alone = not any(caller.is_alive() for caller in self.callers)
        outcome = call_of(self.bridge)
        if isinstance(outcome, BridgeClosed):
            assert self.is_closed
        elif isinstance(outcome, LookupError):
            assert outcome in self.failures
            if is_alone:  # else another caller may have begun the next run
                assert outcome is self.failures[-1]
                assert self.run_.state is FAILED
        else:
            assert outcome == "value"
            assert self.is_running()
            assert self.run_ is before or before is None or before.over is not None

    @rule()
    @precondition(lambda self: len(self.callers) < 3)
    def call_in_a_thread(self) -> None:
        assert self.bridge is not None
        self.callers.append(Caller(self.bridge))

    @rule()
    def open_a_call(self) -> None:
        if self.is_running() and not self.is_closed:
            self.open_call()

    @rule(fails=st.booleans())
    def shut_the_gate(self, fails: bool) -> None:
        self.gate.clear()
        self.fails = fails

    @rule(fails=st.booleans())
    def open_the_gate(self, fails: bool) -> None:
        self.fails = fails
        self.gate.set()

    @rule()
    def let_it_begin(self) -> None:
        wait_for(lambda: self.run_ is None or self.run_.state is not LAUNCHED)

    @rule()
    def stop_the_loop(self) -> None:
        run = self.run_
        if not self.is_running() or self.is_closed:
            return
        run.post(run.loop.stop)
        wait_for(lambda: run.state is ENDED)
        assert run.over == "the loop was stopped"

    @rule()
    def kill_the_loop(self) -> None:
        def die() -> None:
            raise SystemExit

        run = self.run_
        if not self.is_running() or self.is_closed:
            return
        run.loop.call_soon_threadsafe(die)
        wait_for(lambda: run.state is ENDED)
        assert isinstance(run.cause, SystemExit)

    @rule()
    def refuse_as_the_exit_does(self) -> None:
        if self.is_running():
            self.run_.move(REFUSE)
            assert self.run_.state is not RUNNING

    @rule()
    def begin_to_close(self) -> None:
        assert self.bridge is not None
        self.is_closed = True
        self.bridge.runs.begin_to_close()
        assert self.run_ is None or self.run_.over is not None

    @rule()
    @precondition(lambda self: self.gate.is_set())
    def close(self) -> None:
        assert self.bridge is not None
        self.is_closed = True
        self.bridge.close()
        # A thread that was about to make a run, which close() has not found, ends that by itself.
        wait_for(lambda: self.run_ is None or self.run_.state.is_gone)

    def teardown(self) -> None:
        self.gate.set()
        assert self.bridge is not None
        self.bridge.close()
        for caller in self.callers:
            caller.join(PATIENCE)
            assert caller.outcome == "value" or isinstance(caller.outcome, BridgeClosed | LookupError)
        self.every_run_goes_by_the_table()
        self.open_calls_fail_with_their_run()
        # A call that starts a run as the bridge is closed closes that run itself, maybe after close() has returned.
        wait_for(lambda: all(run.state.is_gone for run in self.ends))
        for run in self.ends:
            if run.has_been(LAUNCHED):  # else close() was faster, and its thread never starts
                run.thread.join(PATIENCE)
            assert not run.thread.is_alive()
            assert not run.open


TestOwned = OwnedMachine.TestCase
TestOwned.settings = WALK


# Runs of loops and reactors that the program runs.


class Program:
    """A loop of the program's, which runs in a thread while the program wants it to."""

    can_run_again = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.target: Any = loop
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        wait_for(self.is_running)

    def run(self) -> None:
        self.target.run_forever()

    def is_running(self) -> bool:
        return bool(self.target.is_running())

    def stop(self) -> None:
        assert self._thread is not None
        self.post_stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._thread = None

    def post_stop(self) -> None:
        self.target.call_soon_threadsafe(self.target.stop)

    def end(self) -> None:
        if self.runs:
            self.stop()
        self.target.run_until_complete(end_tasks(self.target, self.target.time() + PATIENCE))
        self.target.close()


class ReactorProgram(Program):
    """A reactor without an asyncio loop, which runs once."""

    can_run_again = False

    def __init__(self) -> None:
        self.target = SelectReactor()
        self.target._registerAsIOThread = False
        self._thread = None

    def run(self) -> None:
        self.target.run(installSignalHandlers=False)

    def is_running(self) -> bool:
        return bool(self.target.running)

    def post_stop(self) -> None:
        self.target.callFromThread(self.target.stop)

    def end(self) -> None:
        if self.runs:
            self.stop()
        self.target.removeAll()
        if self.target.waker is not None:
            self.target.waker.connectionLost(None)


KINDS: dict[str, Callable[[], Program]] = {
    "ours": lambda: Program(package.new_event_loop()),
    "asyncio": lambda: Program(asyncio.SelectorEventLoop()),
    "reactor": ReactorProgram,
}


class AttachedMachine(Walked):
    """Attaching, calls, and the end of a bridge on what the program runs, stops and runs again."""

    kind: str

    @initialize()
    def make(self) -> None:
        self.program = KINDS[self.kind]()
        self.has_run = False
        self.bridges: list[Bridge] = []

    @rule()
    @precondition(lambda self: not self.program.runs and (self.program.can_run_again or not self.has_run))
    def run_it(self) -> None:
        self.has_run = True
        self.program.start()

    @rule()
    @precondition(lambda self: self.program.runs)
    def stop_it(self) -> None:
        run = None if self.bridge is None else self.bridge.last_run
        self.program.stop()
        if run is not None:
            wait_for(lambda: run.state is ENDED)

    @rule()
    def attach(self) -> None:
        before, closed = self.bridge, self.is_closed
        self.bridge = Bridge.attach(self.program.target)
        self.bridges.append(self.bridge)
        self.is_closed = False
        # One bridge a loop, while it is open. A reactor gets a new one each time.
        assert self.kind == "reactor" or before is None or (self.bridge is before) is not closed

    @rule()
    @precondition(lambda self: self.bridge is not None)
    def call(self) -> None:
        assert self.bridge is not None
        outcome = call_of(self.bridge)
        if isinstance(outcome, BridgeClosed):
            assert self.is_closed or (self.has_run and not self.program.can_run_again)
        elif isinstance(outcome, BridgeError):
            assert not self.program.runs
        else:
            assert outcome == "value"
            assert self.program.runs
            assert not self.is_closed
            wait_for(lambda: self.bridge.last_run.state is RUNNING)  # type: ignore[union-attr]

    @rule()
    @precondition(lambda self: self.bridge is not None and self.program.runs and not self.is_closed)
    def open_a_call(self) -> None:
        if self.kind == "asyncio" or self.kind == "ours":
            self.open_call()

    @rule()
    @precondition(lambda self: self.bridge is not None)
    def close(self) -> None:
        assert self.bridge is not None
        self.is_closed = True
        self.bridge.close()
        assert self.bridge.last_run is not None
        assert self.bridge.last_run.state is ENDED
        assert self.program.is_running() is self.program.runs

    def teardown(self) -> None:
        for each in self.bridges:
            each.close()
        self.program.end()
        self.every_run_goes_by_the_table()
        self.open_calls_fail_with_their_run()
        assert all(run.state is ENDED for run in self.ends)


class OursMachine(AttachedMachine):
    kind = "ours"


class AsyncioMachine(AttachedMachine):
    kind = "asyncio"


class ReactorMachine(AttachedMachine):
    kind = "reactor"


TestLoopOfOurs = OursMachine.TestCase
TestLoopOfAsyncio = AsyncioMachine.TestCase
TestReactor = ReactorMachine.TestCase
TestLoopOfOurs.settings = TestLoopOfAsyncio.settings = TestReactor.settings = WALK
