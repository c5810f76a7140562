"""Work that is bound to a loop: the route to it; refused where it can never end and that can be known, else explained.

An argument is evaluated before the call. So ``block_on(asyncpg.create_pool(...))`` makes the pool in the caller's
thread, on a loop of that thread which does not run, or which stands still while the thread waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any

from .._errors import BridgeError, DeadlockError, at
from .._private.cpython import get_running_loop
from .._runs.run import Run
from .._values.deferreds import deferreds
from .._values.kinds import Kind, describe
from .._values.origin import users_frame

# Futures, which may belong to another loop than the bridge's, or to none.
ROUTED = frozenset({Kind.FUTURE, Kind.CONCURRENT})
# What may wait for another loop than the bridge's.
BOUND = ROUTED | {Kind.AWAITABLE, Kind.DEFERRED}


def route_of(run: Run, x: Any, kind: Kind, waits: bool = False) -> Callable[[Callable[[], object]], object]:
    """Return the function that carries a callback to the thread of the work: that in which a Future's callbacks run.

    :param waits: whether this thread is about to wait for x.
    :raises DeadlockError: x is bound to the loop that runs in this thread.
    :raises BridgeError: x is bound to a loop that does not run.
    """
    if kind not in ROUTED:
        check(run, x, kind, waits)
        return run.post
    if kind is Kind.CONCURRENT or x.done():
        return here
    loop: asyncio.AbstractEventLoop = x.get_loop()
    if loop is run.loop:
        return run.post
    if loop is get_running_loop():
        raise stands_still(f"{describe(x)} is")
    if loop.is_closed() or not loop.is_running():
        raise does_not_run(f"{describe(x)} is", loop)
    return loop.call_soon_threadsafe


def here(callback: Callable[[], object]) -> None:
    """Call the callback: the route of what is done, and of a Future whose callbacks run in any thread."""
    callback()


def check(run: Run, x: Any, kind: Kind, waits: bool) -> None:
    """Refuse an awaitable or a Deferred that waits for a loop on which it can never end.

    :param waits: whether this thread is about to wait for x.
    :raises BridgeError: that loop does not run.
    :raises DeadlockError: that loop runs in this thread, and cannot go on while the thread waits.
    """
    waited_for = deferreds.future_behind(x) if kind is Kind.DEFERRED else x
    loop = loop_of(waited_for)
    if loop is None or loop is run.loop or (waited_for is not x and waited_for.done()):
        return
    what = f"{describe(x)} is" if waited_for is x else f"{describe(x)} waits for {describe(waited_for)}, which is"
    if not loop.is_running():
        raise does_not_run(what, loop)
    if waits and loop is get_running_loop():
        raise stands_still(what)


def loop_of(x: Any) -> asyncio.AbstractEventLoop | None:
    """Return the loop that a Future, or a library's object, says it is bound to; None if it says nothing.

    Attributes are read without calling code of the object's: a property may make a loop, a proxy may ask its server.
    """
    if asyncio.isfuture(x):
        return x.get_loop()
    cls: type[object] = x.__class__
    get: Any = None
    with contextlib.suppress(Exception):  # one with slots has no attributes, and a proxy of werkzeug's may refuse them
        get = x.__dict__.get
    for name in ("_loop", "loop"):
        loop: Any = None if get is None else get(name)
        slot = getattr(cls, name, None)
        if loop is None and isinstance(slot, MemberDescriptorType):
            with contextlib.suppress(AttributeError):  # it has no value
                loop = slot.__get__(x)
        if isinstance(loop, asyncio.AbstractEventLoop):
            return loop
    return None


def stands_still(what: str) -> DeadlockError:
    """Return the error for work of the loop that runs in this thread.

    :param what: the work, with a verb.
    """
    return DeadlockError(
        f"{what} bound to the loop that runs in this very thread, and that loop stands still while the thread waits; "
        f"write 'await' in a coroutine of that loop instead, or let the bridge make it on its own loop: {_form()}"
        + at("loop-of-this-thread", "\n")
    )


def does_not_run(what: str, loop: asyncio.AbstractEventLoop) -> BridgeError:
    """Return the error for work of a loop that does not run.

    :param what: the work, with a verb.
    """
    state = "is closed" if loop.is_closed() else "does not run"
    return BridgeError(
        f"{what} bound to a loop that {state}, so it can never finish; let the bridge make it on its own loop: "
        + _form()
        + at("loop-not-running", "\n")
    )


def _form() -> str:
    """Return the user's call in the form that works, or examples of that form."""
    from .._values.source import moved_to_the_loop

    return moved_to_the_loop(users_frame()) or "block_on(coroutine), block_on(lambda: asyncio.gather(...))"


_NO_LOOP = ("no running event loop", "There is no current event loop")


def explain_missing(error: BaseException) -> None:
    """Add a note to the error of a Deferred that was made in the caller's thread, where asyncio has found no loop."""
    if isinstance(error, RuntimeError) and str(error).startswith(_NO_LOOP):
        _note(
            error,
            "What has made the Deferred was called in a thread where no loop runs. Let the bridge's loop call it: "
            "block_on(lambda: ...)",
        )


def _note(error: BaseException, note: str) -> None:
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def explain(error: BaseException, run: Run) -> None:
    """Add a note to a RuntimeError of work on the run's loop that used an object of another loop.

    Such errors of asyncio and of libraries say "attached to a different loop", "inside a task" and the like.
    """
    if not isinstance(error, RuntimeError) or isinstance(error, BridgeError) or run.calls_here:
        return
    if getattr(error, "__notes__", None):  # it has been explained, as by the loop that was closed
        return
    traceback = error.__traceback__
    while traceback is not None:
        used: Any = traceback.tb_frame.f_locals.get("self")
        other = None if used is None else loop_of(used)
        if other is not None and other is not run.loop:
            state = "runs in another thread" if other.is_running() else "does not run"
            _note(
                error,
                f"The {type(used).__qualname__} that was used here is bound to another loop, which {state}. An object "
                "of asyncio's is for the loop on which it was made: make it on the bridge's loop, in a coroutine or by "
                "block_on(lambda: ...)",
            )
            return
        traceback = traceback.tb_next
