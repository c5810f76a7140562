"""A run that nobody uses ends, and leaves the installed reactor to a loop that the program begins to run.

So a program may use the default bridge and loops of :func:`bridge.new_event_loop` in turn, as tests do, and the
Deferreds of the one reactor fire on each. A bridge that is in use keeps the reactor: open calls, tasks, servers, child
processes, timers and connections count, but not the idle connections that a pool of twisted.web keeps. These go along.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from .._loop.switching import SwitchingLoop
from .._threads import native
from .._threads.latch import Latch
from .owned import LoopThread
from .states import RUNNING

# Seconds that a loop has to answer whether it leaves its reactor to another.
_ANSWER = 1.0


def leave_reactor(run: LoopThread) -> None:
    """End the run if nobody uses it. Called in another thread, with the lock under which runs start.

    A call that begins meanwhile finds that the run does not accept it. It then asks for the run of the bridge, which
    takes the same lock, and so waits for the decision. A call that began before is among the open ones.
    """
    if run.has_gone:  # its loop is closed
        for reactor in run.hand_over():
            reactor.owner = reactor.leave = None
        run.reactor = None
        return
    if not run.accepts or run.ident == native.get_ident() or not isinstance(run.loop, SwitchingLoop):
        return
    answered = Latch()
    deciding = native.allocate_lock()  # for good, by the thread that decides: that of the loop, or this one on time-out

    def answer() -> None:
        if deciding.acquire(False):
            try:
                _leave_if_unused(run)
            finally:
                answered.open()

    try:
        run.is_claimed = run.refuses = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            run.post(answer)
            if not answered.wait(_ANSWER) and not deciding.acquire(False):
                answered.wait()
    finally:
        run.is_claimed = False
        if run.state is RUNNING:
            run.refuses = False
            if run.state is not RUNNING:  # it has ended just then: fail the calls that have taken it for running
                run.end("the loop has ended")


def _leave_if_unused(run: LoopThread) -> None:
    loop: Any = run.loop
    reactor = run.reactor
    if reactor is None or run.over is not None or run.open or run.left:
        return
    if len(asyncio.all_tasks(loop)) > 1 or loop.waits:  # the one serves the bridge
        return
    from .._twisted import reactor as reactors

    if not reactors.is_unused(reactor) or _watches_more(loop, reactor):
        return
    with contextlib.suppress(ValueError):  # a shutdown has used it up
        reactor.removeSystemEventTrigger(run.trigger)
    run.hand_over()  # to nobody
    run.reactor = loop.before_block = None
    reactors.part(reactor)
    run.has_given_way = True
    run.begin_to_close("another loop has taken its reactor")


def _watches_more(loop: Any, reactor: Any) -> bool:
    """Return whether the loop watches descriptors besides its own and those of the reactor: asyncio's clients."""
    selector = getattr(loop, "_selector", None)
    if selector is None:
        return True
    watched = {each.fileno() for each in (*reactor.getReaders(), *reactor.getWriters())}
    return len(selector.get_map()) > len(watched | loop.own_descriptors())
