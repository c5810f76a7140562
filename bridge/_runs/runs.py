"""The sequence of runs of one bridge, and the register of these sequences for all bridges.

The exit of the process and a forked child walk the register, and so does the search for the bridge that owns the
current loop. The register refers to no ``Bridge``, so a bridge that is dropped is closed by its finalizer. Importing
this module imports neither asyncio nor Twisted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._threads.native import get_ident, new_lock
from .._watch.meter import Meter

if TYPE_CHECKING:
    import asyncio

    from .options import Options
    from .run import Owner, Run

# By id. Another thread may add an item at any moment. So readers call valuerefs(), which is atomic.
_register: weakref.WeakValueDictionary[int, Runs] = weakref.WeakValueDictionary()


class Runs:
    """The runs of one bridge. The subclasses define how the next run is made."""

    is_attached = False  # True if the program, and not the bridge, runs the loop
    is_driven = False  # True if the thread that waits runs the loop
    serves_anyio_only = False  # True if nobody has attached the loop, and a worker of anyio's has found it

    def __init__(self, owner: Owner, options: Options) -> None:
        self._owner = weakref.ref(owner)
        self.options = options
        self.meter = Meter()
        self.last: Any = None  # the current Run, else the latest one
        self.parents: Any = None  # in a forked child: the last run of the parent
        self.is_closed = False
        # Re-entrant: a signal handler that interrupts the start of a loop may call block_on.
        self.starting = new_lock()
        _register[id(self)] = self

    @property
    def owner(self) -> Owner | None:
        """The bridge; None if it was garbage-collected."""
        return self._owner()

    def current(self) -> Run:
        """Return the run that accepts calls; :meth:`bridge._runs.run.Owner.current_run` has the contract."""
        raise NotImplementedError

    def know_workers(self) -> None:
        """Have the worker threads of a loop that was attached know which loop they work for."""

    def take_options(self, options: Options) -> None:
        """Use other options from now on."""
        self.options = options

    def begin_to_close(self) -> Run | None:
        """Refuse further calls. Return the run whose end the caller has to wait for, if there is one.

        May be interrupted anywhere, and called again: see *interrupts* in :mod:`.run`.
        """
        raise NotImplementedError

    def drop(self) -> bool:
        """Close because the bridge was garbage-collected. Return whether the user should have closed it."""
        raise NotImplementedError

    def forget(self) -> None:
        """Start afresh in a forked child."""
        raise NotImplementedError


def registered() -> list[Runs]:
    """Return the runs of every bridge that exists."""
    return [runs for ref in _register.valuerefs() if (runs := ref()) is not None]


def bridge_of_loop(loop: asyncio.AbstractEventLoop, *, for_anyio: bool = False) -> Any:
    """Return the bridge that a loop belongs to, or None. A bridge that was attached, and closed, is none.

    :param for_anyio: a bridge that serves anyio's workers of the loop only will do, if there is no other.
    """
    found: Any = None
    for runs in registered():
        if runs.last is None or not runs.last.has(loop) or (runs.is_attached and runs.is_closed):
            continue
        owner = runs.owner
        if owner is None or (runs.serves_anyio_only and not for_anyio):
            continue
        if not runs.serves_anyio_only:
            return owner
        found = owner
    return found


def run_of_this_thread() -> Run | None:
    """Return the run whose loop or reactor runs in the calling thread, or None."""
    ident = get_ident()
    for runs in registered():
        run: Run | None = runs.last
        if run is not None and run.over is None and run.ident == ident:
            return run
    return None


class _Bridges:
    """``of(answer)`` returns the bridge of a call that names none, for an answer of :func:`bridge._runs.where.where`.

    It takes a second argument: whether the work is a Deferred, or may return one. Such work goes to the loop of its
    reactor. A higher room, ``_api/default.py``, sets the function.
    """

    of: Callable[..., Owner]


bridges = _Bridges()


class _Engine:
    """Hooks around the runs of a process. The layer that imports the whole package sets them."""

    load: Callable[[], object]  # called before the first run
    # Called in a forked child whose fork has called no hook. It does nothing once the child has been renewed.
    renew: Callable[[], object]


engine = _Engine()


def run_of_this_process(bridge: Owner) -> Run:
    """Return the current run of a bridge, in a forked child its own, though the fork has called no hook."""
    engine.renew()
    return bridge.current_run()
