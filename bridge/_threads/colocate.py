"""Colocation: the loop's thread and a caller's on one core while the caller waits.

Over two cores each wake-up may have to rouse an idle one, which takes longer than the whole call does on one core. So
for a short while both threads may run on one core only: that on which the caller stands. docs/performance.md says what
that brings, and why nothing does it by itself.

It is for a caller that waits alone: where several wait, the loop is awake already. And it ends after the time within
which a short call ends (``LONGEST``), so that a long one is not kept on a core that somebody else is busy on.

Where the scheduler has put the two together by itself, to do so costs more than it brings. That changes by the second,
and shows in nothing but the time that calls take. So each call goes the way that was the faster one lately, and every
now and then one goes the other way (``Colocation.choose``).

What a thread starts meanwhile, a thread or a process, inherits its one core. Workers of the loop and processes that it
starts by asyncio or by the reactor do not: the loop's thread gives up its core before (``spread``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

LONGEST = 0.002  # seconds

# How many times are kept of each way, one in how many calls goes the other way, and after how many the ways are
# compared.
_KEPT = 5
_TRY_EVERY = 64
_COMPARE_EVERY = 8
# The part of the present way's time that the other one has to stay below, so that a tie changes nothing.
_FASTER = 0.9


class Colocation:
    """What is needed to bring callers to the thread of one loop, and whether it is worth it."""

    __slots__ = ("_calls", "_is_worth_it", "_taken", "_times", "core_here", "pair", "pid", "thread")

    def __init__(self, core_here: Callable[[], int]) -> None:
        self.core_here = core_here
        self.thread = threading.get_native_id()  # the loop's, which makes this
        self.pid = os.getpid()
        self._taken: dict[None, object] = {}  # by which call; one operation of a dictionary takes it and notes by whom
        self.pair: Pair | None = None  # that is together
        self._calls = 0
        self._is_worth_it = False
        # The last times of calls that were left alone, and of those that were brought together. Of either way, any
        # _KEPT calls in a row and any _KEPT tries in a row fill all places: the numbers have no common divisor.
        self._times = ([LONGEST] * _KEPT, [LONGEST] * _KEPT)

    def choose(self) -> bool:
        """Return whether to bring the next caller and the loop together."""
        self._calls = calls = self._calls + 1
        if calls <= 2 * _KEPT:  # each way in turns, until there are times of both
            return calls % 2 == 0
        return self._is_worth_it is (calls % _TRY_EVERY != 0)

    def note(self, together: bool, seconds: float) -> None:
        """Note how long a call took that was brought together, or was not; whatever is not short takes the same."""
        calls = self._calls
        self._times[together][calls % _KEPT] = seconds if seconds < LONGEST else LONGEST
        if calls % _COMPARE_EVERY == 0:
            now, other = self._times[self._is_worth_it], self._times[not self._is_worth_it]
            if sorted(other)[_KEPT // 2] < _FASTER * sorted(now)[_KEPT // 2]:
                self._is_worth_it = not self._is_worth_it

    def take(self, call: object) -> bool:
        """Return whether the call is the only one here; then nobody else is until it is given back."""
        return self._taken.setdefault(None, call) is call

    def give_back(self, call: object) -> None:
        """Let another call take it. Does nothing if this one has not taken it."""
        if self._taken.get(None) is call:
            self._taken.clear()

    def spread(self) -> None:
        """Let the loop's thread run on its own cores again. Called on it, as it is about to start something."""
        pair = self.pair
        if pair is not None:
            pair.let_go_of_loop()


class Pair:
    """One caller, and the loop's thread, on one core from ``join()`` to ``part()``."""

    __slots__ = ("_callers", "_colocation", "_core", "_loops")

    def __init__(self, colocation: Colocation) -> None:
        self._colocation = colocation
        self._core: set[int] = set()
        self._callers: set[int] | None = None  # the cores that each thread may run on otherwise
        self._loops: set[int] | None = None

    def join(self) -> None:
        """Keep both threads on the core on which the caller runs, unless one of them may not run there."""
        colocation = self._colocation
        colocation.pair = self
        try:
            callers, loops = os.sched_getaffinity(0), os.sched_getaffinity(colocation.thread)
            core = {colocation.core_here()}
            if core <= callers and core <= loops and (len(callers) > 1 or len(loops) > 1):
                self._core = core
                # Noted first: what a signal handler raises between two lines leaves nothing behind.
                self._loops = loops
                os.sched_setaffinity(colocation.thread, core)
                self._callers = callers
                os.sched_setaffinity(0, core)
        except OSError:  # the loop's thread has ended, or the cores have been taken away meanwhile
            pass

    def part(self) -> None:
        """Let both run where they might before. A mask that somebody has set meanwhile stays. Twice does no harm."""
        try:
            callers = self._callers
            if callers is not None:
                self._restore(0, callers)
                self._callers = None
        finally:
            self.let_go_of_loop()
            self._colocation.pair = None

    def let_go_of_loop(self) -> None:
        """Let the loop's thread run where it might before. Called in the caller's thread or in the loop's."""
        loops = self._loops
        # The child of a fork must not touch the parent's thread.
        if loops is not None and os.getpid() == self._colocation.pid:
            self._restore(self._colocation.thread, loops)
        self._loops = None

    def _restore(self, thread: int, cores: set[int]) -> None:
        try:
            if os.sched_getaffinity(thread) == self._core:
                os.sched_setaffinity(thread, cores)
        except OSError:  # the loop's thread has ended, or the cores have been taken away meanwhile
            pass


def colocation() -> Colocation | None:
    """Return a new one for the loop of this thread, None where there is nothing to gain or the system cannot do it.

    There is nothing to gain where the thread may run on one core only, as in a process that is pinned. Linux can do it.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) == 1:
        return None
    import ctypes

    try:
        core_here: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return None
    return Colocation(core_here)
