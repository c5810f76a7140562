"""What an interrupt must not separate, and what is undone after one."""

from __future__ import annotations

import pytest
from points import interrupt

from bridge._threads.interrupts import Undo, in_one_call


def test_an_interrupt_at_every_point_leaves_nothing_to_undo() -> None:
    begun: list[None] = []

    def undo() -> None:
        list.clear(begun)

    def do() -> None:
        with Undo(undo) as at_end, at_end:
            begun.append(None)
            begun.append(None)

    at, point = 0, "the first"
    while point:
        at += 1
        point = interrupt(do, at)
        assert not begun, point
    assert at > 8


@pytest.mark.parametrize("fails", [0, 1])
def test_undoes_once_more_if_that_failed(fails: int) -> None:
    calls: list[int] = []

    def undo() -> None:
        calls.append(len(calls))
        if len(calls) <= fails:
            raise LookupError

    if not fails:
        with Undo(undo) as at_end, at_end:
            pass
    else:
        with pytest.raises(LookupError), Undo(undo) as at_end, at_end:
            pass
    assert len(calls) == fails + 1


def test_an_error_of_the_block_goes_on() -> None:
    with pytest.raises(ZeroDivisionError), Undo(int) as at_end, at_end:
        1 // 0  # noqa: B018


def test_an_interrupt_at_every_point_finds_all_steps_of_one_call_done_or_none() -> None:
    at, point = 0, "the first"
    while point:
        at += 1
        done: list[object] = []
        results: list[object] = []
        steps = [done.copy, done.clear, done.copy]
        point = interrupt(lambda results=results, steps=steps: in_one_call(results, *steps), at)
        assert len(results) in (0, 3), point
    assert at > 2


def test_the_results_tell_which_steps_were_done_before_an_error() -> None:
    results: list[object] = []
    with pytest.raises(IndexError):
        in_one_call(results, [1].copy, [].pop, [2].copy)
    assert results == [[1]]
