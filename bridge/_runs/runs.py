"""The runs of a bridge, one after another, and the register of all bridges' runs.

The exit of the process, a forked child, and a thread that asks on whose loop it stands, walk the register. It holds no
``Bridge``: one that is dropped is closed by its finalizer. Importing this module imports neither asyncio nor Twisted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._threads.condition import new_lock
from .._threads.native import get_ident
from .._watch.meter import Meter

if TYPE_CHECKING:
    import asyncio

    from .options import Options
    from .run import Owner, Run

# By id. Of this dictionary, valuerefs() is one step: another thread may add to it at any moment.
_register: weakref.WeakValueDictionary[int, Runs] = weakref.WeakValueDictionary()


class Runs:
    """The runs of one bridge. The subclasses say how the next one comes to be."""

    is_attached = False  # to a loop that somebody else runs

    def __init__(self, owner: Owner, options: Options) -> None:
        self._owner = weakref.ref(owner)
        self.options = options
        self.meter = Meter()
        self.last: Any = None  # the Run that runs, or ran last
        self.is_closed = False
        # Re-entrant: a signal handler that interrupts the start of a loop may call block_on.
        self.starting = new_lock()
        _register[id(self)] = self

    @property
    def owner(self) -> Owner | None:
        """The bridge; None if it has been dropped."""
        return self._owner()

    def current(self) -> Run:
        """Return the run that takes calls; :meth:`bridge._runs.run.Owner.current_run` has the contract."""
        raise NotImplementedError

    def begin_to_close(self) -> Run | None:
        """Take no more calls. Return the run that is to be waited for, if one is.

        Ctrl-C may end it anywhere. To call it again does what is left.
        """
        raise NotImplementedError

    def drop(self) -> bool:
        """Close without the bridge, which has been dropped. Return whether it should have been closed."""
        raise NotImplementedError

    def forget(self) -> None:
        """Begin anew in a forked child."""
        raise NotImplementedError


def registered() -> list[Runs]:
    """Return the runs of every bridge that there is."""
    return [runs for ref in _register.valuerefs() if (runs := ref()) is not None]


def bridge_here(loop: asyncio.AbstractEventLoop | None) -> Any:
    """Return the bridge whose loop that is, None if it is no bridge's."""
    if loop is not None:
        for runs in registered():
            if runs.last is not None and runs.last.has(loop):
                return runs.owner
    return None


def run_of_this_thread() -> Run | None:
    """Return the run of the loop or reactor whose thread this is, None if it is no bridge's."""
    ident = get_ident()
    for runs in registered():
        run: Run | None = runs.last
        if run is not None and run.over is None and run.ident == ident:
            return run
    return None


class _Engine:
    """What has to be done before the first run of the process: set by the layer that knows all of the package."""

    load: Callable[[], object]


engine = _Engine()
