"""The states of a call, and the moves between them. Only :func:`move` makes a move.

A call has two sides. Its *work* goes on in one thread, most often the loop's: it starts, it may be asked to cancel.
Its *caller* waits in another thread, and may leave. Either side may end the call, and so may the end of the loop, in
any thread. What each state means:

=================  ================================================================================================
``NEW``            made; only its caller knows it
``STARTING``       open: in the run's set ``open``; its start is on the way to the thread of the work
``WORKING``        open; the work has begun, and ``call.work`` is what the loop made of it
``CANCELLING``     open; the work was asked to end, and cleans up
``ENDED``          has its outcome, and its caller was notified
``CANCELLED``      the same, after the work was asked to end; its outcome may be any
``LEFT``           in the run's set ``left``: the caller waits no longer, and the work may go on
``LEFT_CANCELLED`` the same, and the work was asked to end
``GONE``           the work of a call that was left has ended, or was never begun
=================  ================================================================================================

Who makes which move:

=============  ==================  ====================================================================================
move           thread              meaning
=============  ==================  ====================================================================================
``OPEN``       the caller's        from now on the end of the loop ends the call
``WITHDRAW``   the caller's        the call was refused, or interrupted, before its start was posted
``START``      the work's          the work begins
``CANCEL``     the work's          the work is asked to end; more than once, if the user asks again
``END``        any                 there is an outcome: of the work, or the error of the loop's end
``LEAVE``      the caller's        the caller waits no longer: its patience is over, or it was interrupted again
=============  ==================  ====================================================================================

**The one decision.** ``END`` and ``LEAVE`` race: in the thread of the work, in the caller's, in one that ends the loop.
``run.open.remove(call)`` decides, because a set's ``remove`` is atomic: the thread in which it succeeds makes its move,
and any other starts again from the state that this made. No lock is held, so Ctrl-C, ``PyThreadState_SetAsyncExc`` or a
fork between two lines leaves none held, and the call is on one side of the decision or on the other.

So a call's state is not one attribute but follows from three facts, each of which one side writes: whether the call is
in ``open``; whether it is in ``left``, which its caller adds it to *before* it leaves ``open``, so that the thread of
the work finds it in one of the two; and ``call.phase``, how far the work is, which the thread of the work writes. In a
forked child the call is in neither set, which is an end as well.

A move that the table does not have for a state is not made: :func:`move` returns None. That is no error, since another
thread may have been faster.
"""

from __future__ import annotations

import enum
from typing import Any, Protocol


class State(enum.Enum):
    """How far a call is."""

    NEW = enum.auto()
    STARTING = enum.auto()
    WORKING = enum.auto()
    CANCELLING = enum.auto()
    ENDED = enum.auto()
    CANCELLED = enum.auto()
    LEFT = enum.auto()
    LEFT_CANCELLED = enum.auto()
    GONE = enum.auto()

    __hash__ = object.__hash__  # Enum's is written in Python; each call looks a state up three times


class Move(enum.Enum):
    """What a thread does to a call."""

    OPEN = enum.auto()
    WITHDRAW = enum.auto()
    START = enum.auto()
    CANCEL = enum.auto()
    END = enum.auto()
    LEAVE = enum.auto()

    __hash__ = object.__hash__


NEW, STARTING, WORKING, CANCELLING, ENDED, CANCELLED, LEFT, LEFT_CANCELLED, GONE = State
OPEN, WITHDRAW, START, CANCEL, END, LEAVE = Move

MOVES: dict[State, dict[Move, State]] = {
    NEW: {OPEN: STARTING},
    STARTING: {WITHDRAW: NEW, START: WORKING, CANCEL: CANCELLING, END: ENDED, LEAVE: LEFT},
    WORKING: {CANCEL: CANCELLING, END: ENDED, LEAVE: LEFT},
    CANCELLING: {CANCEL: CANCELLING, END: CANCELLED, LEAVE: LEFT_CANCELLED},
    ENDED: {},
    CANCELLED: {},
    LEFT: {START: GONE, CANCEL: LEFT_CANCELLED, END: GONE},
    LEFT_CANCELLED: {START: GONE, CANCEL: LEFT_CANCELLED, END: GONE},
    GONE: {},
}
# A call in these states is in the run's set of this name.
IN_OPEN = frozenset({STARTING, WORKING, CANCELLING})
IN_LEFT = frozenset({LEFT, LEFT_CANCELLED})
# The state of a call that is not in ``open``, by its phase: in ``left``, and in neither set.
_LEFT_IN = {STARTING: LEFT, WORKING: LEFT, CANCELLING: LEFT_CANCELLED}
_ENDED_IN = {NEW: NEW, STARTING: ENDED, WORKING: ENDED, CANCELLING: CANCELLED, GONE: GONE}


class Runs(Protocol):
    """What a call's state needs of the run."""

    open: set[Any]
    left: set[Any]


class Stated(Protocol):
    """A call, as :func:`move` needs it. Only :func:`move` and :func:`renew` write ``phase``."""

    run: Any  # a Runs
    phase: State


def state_of(call: Stated) -> State:
    """Return the state of a call. May be called in any thread."""
    run, phase = call.run, call.phase
    if call in run.open:
        return phase
    return _LEFT_IN.get(phase, GONE) if call in run.left else _ENDED_IN[phase]


def move(call: Stated, how: Move) -> State | None:
    """Make a move. Return the new state, or None if the call's state has no such move."""
    run, phase = call.run, call.phase
    if phase is NEW:  # so it is in no set, and no other thread makes a move
        after = MOVES[NEW].get(how)
        if after is not None:
            call.phase = after
            run.open.add(call)
        return after
    if call in run.open:
        after = MOVES[phase].get(how)
        if after in IN_OPEN:
            call.phase = after
        elif after is not None:
            if after in IN_LEFT:
                run.left.add(call)
            try:
                run.open.remove(call)
            except KeyError:
                if after in IN_LEFT:
                    run.left.discard(call)
                return move(call, how)
            if after is NEW:
                call.phase = NEW
        return after
    after = MOVES[state_of(call)].get(how)
    if after is GONE:
        call.phase = GONE
        run.left.discard(call)
    elif after is LEFT_CANCELLED:
        call.phase = CANCELLING
    return after


def renew(call: Stated) -> bool:
    """Make a call new again in a forked child that has called no fork hooks. Return False if its work has begun.

    The call was opened for a run of the parent's, which may have forgotten it meanwhile. No other thread makes a move.
    """
    if call.phase is not STARTING:
        return False
    call.run.open.discard(call)
    call.phase = NEW
    return True
