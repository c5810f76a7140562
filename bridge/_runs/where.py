"""where(): where the calling thread stands. A call asks it once, and then knows where its work goes and how to wait.

======================  ===============================================  ==============================================
answer                  the thread                                       ``bridges.of(answer)``: the bridge of a call
                                                                         that names none
======================  ===============================================  ==============================================
:class:`NoLoop`         runs no loop, and works for none; or asgiref's,  the default bridge
                        for thread-sensitive work, as Django's views
:class:`OnLoop`         runs a loop, ours or not                         the loop's bridge; one that is made for it if
                                                                         the loop is ours; else the default bridge
:class:`Worker`         works for a loop: one of ours, or one that was   the same; the default bridge with one report,
                        attached                                         if the bridge that was attached is closed
:class:`AnyioWorker`    anyio's, works for any loop                      the same; one that is made for such workers
:class:`UnknownWorker`  an executor's, which works for any other loop    the default bridge, with one report a process
======================  ===============================================  ==============================================

Two things are asked elsewhere. :func:`is_thread_of` tells whether this is the thread of a given run, whose loop may not
run yet or any more, and which may be a reactor without an asyncio loop. The root stack of a loop is refused by the
loop itself, when a stack is about to block there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._loop.worker_threads import NO_LOOP, Job, NoLoop, Worker, here, place_of_this_thread
from .._private.cpython import get_running_loop
from .._threads.native import get_ident

if TYPE_CHECKING:
    from .run import Run

__all__ = ["NO_LOOP", "Answer", "Job", "NoLoop", "OnLoop", "Worker", "is_thread_of", "loop_here", "where"]


class OnLoop:
    """The thread of a loop, which runs in it. ``loop``: that loop, of whatever class."""

    __slots__ = ("loop",)
    __match_args__ = ("loop",)
    runs_here = True
    is_unknown = of_anyio = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


Answer = OnLoop | NoLoop


def where() -> Answer:
    """Return where the calling thread stands.

    :raises StrategyUnavailable: in an anyio worker, and anyio lacks a private name by which to find its loop.
    """
    running = get_running_loop()
    if running is not None:
        return OnLoop(running)
    try:
        return here.place
    except AttributeError:
        return place_of_this_thread()


def is_thread_of(run: Run) -> bool:
    """Return whether the calling thread is the thread of the run's loop or reactor, be that running or not."""
    return get_ident() == run.ident


def loop_here() -> Any:
    """Return the loop that runs in this thread, else the loop that this worker thread works for; None without one."""
    return where().loop
