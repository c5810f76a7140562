"""Colocation: the loop's thread and a caller's on one core while the caller waits.

Over two cores each wake-up may have to rouse an idle one, which takes longer than the whole call does on one core. So
for a short while both threads may run on one core only: that on which the caller stands. docs/performance.md says what
that brings, and why nothing does it by itself.

It is for a caller that waits alone: where several wait, the loop is awake already. And it ends after the time within
which a short call ends (``LONGEST``), so that a long one is not kept on a core that somebody else is busy on.

What a thread starts meanwhile, a thread or a process, inherits its one core. Workers of the loop and processes that it
starts by asyncio or by the reactor do not: the loop's thread gives up its core before (``spread``).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

LONGEST = 0.002  # seconds


class Colocation:
    """What is needed to bring callers to the thread of one loop."""

    __slots__ = ("_free", "_pair", "core_here", "pid", "thread")

    def __init__(self, core_here: Callable[[], int]) -> None:
        self.core_here = core_here
        self.thread = threading.get_native_id()  # the loop's, which makes this
        self.pid = os.getpid()
        self._free = threading.Lock()
        self._pair: Pair | None = None

    def pair(self) -> Pair:
        """Return what brings the calling thread and the loop's together. Each is used once."""
        return Pair(self)

    def take(self, pair: Pair) -> bool:
        """Note that the pair is together. Return False if there is another one."""
        if os.getpid() != self.pid or not self._free.acquire(False):
            return False
        self._pair = pair
        return True

    def give_back(self) -> None:
        """Note that the pair has parted."""
        self._pair = None
        self._free.release()

    def spread(self) -> None:
        """Let the loop's thread run on its own cores again. Called on it, as it is about to start something."""
        pair = self._pair
        if pair is not None:
            pair.let_go_of_loop()


class Pair:
    """One caller, and the loop's thread, on one core from ``join()`` to ``part()``."""

    __slots__ = ("_callers", "_colocation", "_core", "_is_taken", "_loops")

    def __init__(self, colocation: Colocation) -> None:
        self._colocation = colocation
        self._core: set[int] = set()
        self._callers: set[int] | None = None  # the cores that each thread may run on otherwise
        self._loops: set[int] | None = None
        self._is_taken = False

    def join(self) -> None:
        """Keep both threads on the core on which the caller runs, unless one of them may not run there."""
        colocation = self._colocation
        self._is_taken = colocation.take(self)
        if not self._is_taken:
            return
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
            try:
                self.let_go_of_loop()
            finally:
                if self._is_taken:
                    self._is_taken = False
                    self._colocation.give_back()

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
    try:
        core_here: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return None
    return Colocation(core_here)
