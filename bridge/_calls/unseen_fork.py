"""Calls in a child process whose fork has called no ``os.register_at_fork`` hook, as under uWSGI's default preload.

Such a child still takes its parent's loops for its own, and their threads do not exist there. So a call that has waited
for a while compares the process id. The id is not compared at the beginning of each call: the system call would take
some hundredths of the time of a short one.
"""

from __future__ import annotations

import os
from typing import Any

from .._runs.run import Run
from .._runs.runs import engine, registered
from . import state
from .call import BlockedCall
from .state import OPEN, move

# Seconds that a call waits before it compares the process id.
A_WHILE = 0.02


def is_of_parent(run: Run) -> bool:
    """Return whether the run was made by the process that this one was forked from."""
    return run.process != os.getpid()


def renew(run: Run) -> Any:
    """Do what the hooks would have done, unless another thread has done it. Return the sequence of the run."""
    runs = next((each for each in registered() if each.last is run), None)
    engine.renew()
    return runs


def move_to_new_run(call: BlockedCall) -> bool:
    """Post a call of this thread to the next run of its bridge, as its own run is the parent's.

    :returns: True if the call has ended meanwhile: a fork that calls the hooks, in a signal handler, fails it.
    :raises BridgeClosed: the bridge is attached to a loop of the parent's, or the work has begun there.
    """
    old = call.run
    if old.over is not None and (call in old.open or call.waiter.wait(A_WHILE)):
        return call not in old.open
    # Before the run forgets its calls, which would fail this one. Work that has begun goes on in the parent only.
    if not state.renew(call):
        raise old.closed_error()
    is_posted = call.route == old.post
    runs = renew(old)
    if runs is None:  # another thread has renewed this process
        runs = next((each for each in registered() if each.parents is old), None)
    if runs is None:
        raise old.closed_error()
    call.run = run = runs.current()
    if is_posted:
        call.route = run.post
    move(call, OPEN)
    call.post()
    return False
