"""The states of a call: the table is sound, and one function moves a call through it, whichever thread is faster."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bridge import BridgeClosed
from bridge._calls import state
from bridge._calls.call import BlockedCall
from bridge._calls.state import (
    CANCEL,
    CANCELLED,
    CANCELLING,
    END,
    ENDED,
    GONE,
    IN_LEFT,
    IN_OPEN,
    LEAVE,
    LEFT,
    LEFT_CANCELLED,
    MOVES,
    NEW,
    OPEN,
    START,
    STARTING,
    WITHDRAW,
    WORKING,
    Move,
    State,
    move,
    state_of,
)  # fmt: skip
from bridge._values.kinds import Kind
from bridge._watch.meter import Meter

OPEN_OR_LEFT = IN_OPEN | IN_LEFT
FINAL = frozenset({ENDED, CANCELLED, GONE})


class Interfering(set[Any]):
    """A set that another thread changes at the worst moment: as one removes from it."""

    interference: Callable[[], object] | None = None

    def remove(self, call: object) -> None:
        interference, self.interference = self.interference, None
        if interference is not None:
            interference()
        super().remove(call)


class Run:
    """What a call needs of its run. Posts wait in ``posts`` until the loop's thread takes them."""

    over: str | None = None
    loop: Any = None
    ident = None

    def __init__(self) -> None:
        self.open: Interfering = Interfering()
        self.left: set[Any] = set()
        self.meter = Meter()
        self.posts: list[Callable[[], object]] = []
        self.post = self.posts.append

    def explained(self, error: BaseException, x: object) -> BaseException:
        return error


class Waiter:
    def __init__(self) -> None:
        self.told = 0

    def notify(self) -> None:
        self.told += 1


class Work(asyncio.Future[Any]):
    """Work that ends when the test says so."""


def new_call(run: Any) -> BlockedCall:
    return BlockedCall(run, lambda: None, Kind.CALLABLE, run.post, None, Waiter())  # type: ignore[arg-type]


# --- the table


def test_the_table_has_a_row_for_every_state_and_says_so_in_the_text() -> None:
    assert set(MOVES) == set(State)
    text = str(state.__doc__)
    rows = set(re.findall(r"^``(\w+)``", text, re.MULTILINE))
    assert rows == {each.name for each in [*State, *Move]}


def test_every_state_is_reached_and_every_call_can_end() -> None:
    reached = {NEW}
    for _ in State:
        reached |= {after for before in reached for after in MOVES[before].values()}
    assert reached == set(State)
    for each in OPEN_OR_LEFT:
        assert MOVES[each][END] in FINAL
    for each in FINAL:
        assert MOVES[each] == {}


def test_what_has_a_caller_never_loses_it_twice() -> None:
    for before, moves in MOVES.items():
        for how, after in moves.items():
            if before in IN_LEFT:
                assert after in IN_LEFT | {GONE}, (before, how)
            if after in IN_LEFT and before not in IN_LEFT:
                assert (how, before in IN_OPEN) == (LEAVE, True)


# --- the moves


class ACall(RuleBasedStateMachine):
    """Both threads move one call, in any order, and each may be overtaken by another in the middle of its move."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Any = Run()
        self.call = new_call(self.run)
        self.expected = NEW

    def _make(self, how: Move) -> None:
        after = move(self.call, how)
        assert after is MOVES[self.expected].get(how)
        self.expected = self.expected if after is None else after

    @rule(how=st.sampled_from(Move))
    def make(self, how: Move) -> None:
        self._make(how)

    @rule(how=st.sampled_from([END, LEAVE, WITHDRAW]), faster=st.sampled_from([END, LEAVE, CANCEL]))
    def be_overtaken(self, how: Move, faster: Move) -> None:
        """Another thread makes its move after this one has read the state, and before it decides."""
        if how is WITHDRAW or faster is how is LEAVE:
            # Nobody but the loop's end knows a call whose start was not posted; and there is one caller.
            faster = END
        made: list[State | None] = []
        self.run.open.interference = lambda: made.append(move(self.call, faster))
        after = move(self.call, how)
        self.run.open.interference = None
        for each in made:
            assert each is MOVES[self.expected].get(faster)
            self.expected = self.expected if each is None else each
        if after is not None:
            in_order = MOVES[self.expected].get(how)
            # A cancellation that comes meanwhile is seen in the state, if not in what the move has returned.
            assert after is in_order or (faster, made != []) == (CANCEL, True)
            assert in_order is not None
            self.expected = in_order
        else:
            assert how not in MOVES[self.expected]

    @invariant()
    def the_state_is_that_of_the_table(self) -> None:
        assert state_of(self.call) is self.call.state is self.expected
        assert (self.call in self.run.open) is self.call.is_open is (self.expected in IN_OPEN)
        assert (self.call in self.run.left) is (self.expected in IN_LEFT)


class ACallWithWork(RuleBasedStateMachine):
    """The methods of a call: its caller is told once, and the work is kept as long as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.run: Any = Run()
        self.work = Work(loop=self.loop)
        self.call: Any = new_call(self.run)
        self.call.x = self.work
        self.call.kind = Kind.FUTURE
        self.run.loop = self.loop
        move(self.call, OPEN)
        self.call.post()
        self.has_left = False

    def teardown(self) -> None:
        self.loop.close()

    @rule()
    def take_a_post(self) -> None:
        if self.run.posts:
            self.run.posts.pop(0)()

    @rule(again=st.booleans())
    def cancel(self, again: bool) -> None:
        self.call.cancel(again=again)

    @rule()
    def leave(self) -> None:
        self.has_left = self.call.leave() or self.has_left

    @rule()
    def abort(self) -> None:
        was_open = self.call.is_open
        self.call.abort()
        self.has_left = self.has_left or was_open

    @rule()
    def the_loop_ends(self) -> None:
        if self.call.is_open:  # it ends no other
            self.call.end(None, BridgeClosed("the loop has ended"))

    @rule(value=st.integers())
    def the_work_ends(self, value: int) -> None:
        if not self.work.done():
            self.work.set_result(value)
        self._turn()

    @rule()
    def turn(self) -> None:
        self._turn()

    def _turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @invariant()
    def the_caller_is_told_once_and_only_of_an_outcome(self) -> None:
        told = self.call.waiter.told
        assert told == (self.call.state in (ENDED, CANCELLED) and not self.has_left)
        assert told <= 1

    @invariant()
    def what_runs_is_kept(self) -> None:
        if self.call.work is not None and not self.work.done():
            assert self.call in self.run.open | self.run.left


def test_the_moves_of_a_call() -> None:
    run_state_machine_as_test(ACall, settings=settings(max_examples=100, stateful_step_count=12, deadline=None))


def test_a_call_with_work() -> None:
    run_state_machine_as_test(ACallWithWork, settings=settings(max_examples=100, stateful_step_count=15, deadline=None))


@given(st.permutations([END, LEAVE, CANCEL, START]))
@settings(deadline=None)
def test_every_order_of_the_moves_that_race_ends_the_call_once(order: list[Move]) -> None:
    run: Any = Run()
    call = new_call(run)
    move(call, OPEN)
    made = [how for how in order if move(call, how) is not None]
    assert len({END, LEAVE} & set(made)) >= 1
    while move(call, END) is not None:
        pass
    assert call.state in FINAL
    assert not run.open
    assert not run.left


@pytest.mark.parametrize("how", [END, LEAVE])
def test_an_interrupt_at_any_line_of_a_move_leaves_it_made_or_not(how: Move) -> None:
    from points import interrupt

    for at in itertools.count(1):
        run: Any = Run()
        run.open = set()  # of C, as a run's
        call = new_call(run)
        move(call, OPEN)
        move(call, START)
        point = interrupt(lambda call=call: move(call, how), at)
        if not point:
            break
        after = call.state
        if after not in (MOVES[WORKING][how], WORKING):
            pytest.fail(f"{after} after {point}")
        assert (call in run.open) is (after is WORKING)
        move(call, how)
        assert call.state is MOVES[WORKING][how]
    assert at > 2


def test_a_call_that_was_left_and_never_started_is_gone_when_its_start_comes() -> None:
    run: Any = Run()
    for moves, last in (((LEAVE,), LEFT), ((CANCEL, LEAVE), LEFT_CANCELLED)):
        call = new_call(run)
        move(call, OPEN)
        assert call.state is STARTING
        for how in moves:
            move(call, how)
        assert call.state is last
        assert move(call, START) is GONE
        assert not run.left
    assert CANCELLING in IN_OPEN
