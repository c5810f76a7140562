"""The states of a run, and the moves between them, in one table.

Every kind of run goes by this table: a loop in a thread of the bridge's own, and a loop or reactor that the program
runs. A run goes through each state once at the most, so the states form a path::

    NEW -> LAUNCHED -> STARTING -> RUNNING -> REFUSING -> ENDING -> ENDED

No run has to pass all of them. A loop that the program runs goes from NEW to RUNNING.

Moves race: calls, ``close()``, the loop's own thread, the exit of the process and signal handlers move a run at the
same time. Whether a run may leave a state, and to which one, is decided by *one* atomic operation: the first
``dict.setdefault`` for that state. The value is the whole move, with the reason and the cause, so none of them is ever
seen without the others. A move that comes second is tried again from the state that the first has led to.

An attribute that holds the state would not do. A thread that has decided a move could be late in writing it, and so
put a run that has ended meanwhile back to RUNNING; a call would then be accepted by a run that has failed all its
calls already. A lock would not do either: a signal handler or a finalizer may move a run in the middle of another move
of the same thread, and in a forked child the lock may be held by a thread that is not there. ``_known`` is no more than
where to begin the search, and may be behind.

A move that was interrupted (see *interrupts* in :mod:`.run`) is either decided or not. What has to follow the move is
done by whoever asks for it again, whether or not his own move has been the one: see :meth:`.run.Run.end`.
"""

from __future__ import annotations

from typing import NamedTuple


class State:
    """A state of a run. Compared by identity, which is what makes it fast as a key."""

    def __init__(self, name: str, *, is_over: bool = False, is_gone: bool = False) -> None:
        self.name = name
        self.is_over = is_over  # calls are refused, and the open ones fail
        self.is_gone = is_gone  # nothing of the run is executed any more, in this process

    def __repr__(self) -> str:
        return self.name


NEW = State("NEW")  # made; nobody has started it. Attached: the reactor does not run yet
LAUNCHED = State("LAUNCHED")  # owned only: its thread is being started
STARTING = State("STARTING")  # owned only: its thread makes the loop
RUNNING = State("RUNNING")  # calls are accepted
REFUSING = State("REFUSING")  # the process exits: calls of exit handlers and daemon threads only
ENDING = State("ENDING", is_over=True)  # tasks clean up, triggers run
ENDED = State("ENDED", is_over=True, is_gone=True)
FAILED = State("FAILED", is_over=True, is_gone=True)  # the loop could not be made; who waits for the start gets `cause`
LOST = State("LOST", is_over=True, is_gone=True)  # this process is a forked child, and the loop is the parent's


class Event:
    """Something that moves a run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


# Each with the threads in which it may happen.
LAUNCH = Event("LAUNCH")  # any thread: it is about to start the loop's thread
ABORT = Event("ABORT")  # any thread: the loop's thread was not started, as an exception came between
BEGIN = Event("BEGIN")  # the loop's: its first step
FAIL = Event("FAIL")  # the loop's: the loop cannot be made
SERVE = Event("SERVE")  # the loop's; for an attached loop, any: calls may come
REFUSE = Event("REFUSE")  # the main thread, as the process exits: the grace period is over
END = Event("END")  # any thread: a close, a crash, a stop, the exit of the process
FINISH = Event("FINISH")  # the loop's, as its last step; for an attached loop, any
FORK = Event("FORK")  # the only thread of a forked child

MOVES: dict[State, dict[Event, State]] = {
    # A run that ends before its thread has begun has nothing to clean up: a thread that begins later ends at once.
    NEW: {LAUNCH: LAUNCHED, SERVE: RUNNING, ABORT: ENDED, END: ENDED, FORK: LOST},
    LAUNCHED: {BEGIN: STARTING, ABORT: ENDED, END: ENDED, FORK: LOST},
    STARTING: {SERVE: RUNNING, FAIL: FAILED, END: ENDING, FORK: LOST},
    RUNNING: {REFUSE: REFUSING, END: ENDING, FORK: LOST},
    REFUSING: {END: ENDING, FORK: LOST},
    ENDING: {FINISH: ENDED, FORK: LOST},
    # An attached loop may run although its run has ended. In a forked child it is the parent's all the same.
    ENDED: {FORK: LOST},
    FAILED: {},
    LOST: {},
}


class Move(NamedTuple):
    """A move that was decided."""

    target: State
    reason: str | None  # of the end; None for the other moves
    cause: BaseException | None


class Stateful:
    """An object in one of the states."""

    def __init__(self) -> None:
        self._moves: dict[State, Move] = {}  # by the state that was left, in the order of the moves
        self._known = NEW
        # Two facts for the calls, which cost them one look-up each. Each is set once, after the move was decided. The
        # first may stay False after an interrupt: the call then asks for the current run.
        self.has_served = False  # calls are, or were, accepted
        self.refuses = False  # not every call is accepted any more, or while the run is claimed
        self.is_claimed = False  # it is being decided whether another loop takes the reactor, and the run ends

    @property
    def state(self) -> State:
        """The present state."""
        state = self._known
        if state in self._moves:
            while state in self._moves:
                state = self._moves[state].target
            self._known = state
        return state

    def move(self, event: Event, reason: str | None = None, cause: BaseException | None = None) -> bool:
        """Move by the table. Return whether this call has moved; False if the event changes nothing in this state.

        :param reason: for the events after which a run is over.
        """
        while (target := MOVES[state := self.state].get(event)) is not None:
            move = Move(target, reason, cause)
            if self._moves.setdefault(state, move) is move:  # the one atomic decision
                self._note(state, target)
                self.moved(target)
                return True
        return False

    def _note(self, left: State, state: State) -> None:
        if state is RUNNING:
            self.has_served = True
        elif left is RUNNING or state.is_over:
            self.refuses = True

    def moved(self, state: State) -> None:
        """Wake who waits for the state. Called by the thread that has moved, unless it was interrupted."""

    def has_been(self, state: State) -> bool:
        """Return whether the state is, or was, the present one."""
        return state in self._moves or self.state is state

    @property
    def accepts(self) -> bool:
        """Whether every call is accepted."""
        return self.state is RUNNING and not self.is_claimed

    @property
    def over(self) -> str | None:
        """The reason for the end; None before it."""
        return self._end().reason if self.state.is_over else None

    @property
    def cause(self) -> BaseException | None:
        """The error that has caused the end; None if there is none."""
        return self._end().cause if self.state.is_over else None

    def _end(self) -> Move:
        """Return the first move that says why: later ones say only how far the end has come."""
        return next(move for move in list(self._moves.values()) if move.target.is_over)
