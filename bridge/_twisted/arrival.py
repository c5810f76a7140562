"""Put a reactor on a loop that already runs when Twisted is first imported or needed, and connect log and contexts.

A loop that starts after Twisted was imported gets its reactor at its start. A loop that starts before imports nothing
of Twisted. It waits in its :class:`Place` until a reactor is needed, which happens in three ways:

* a call of :meth:`Place.get`;
* a Deferred on the loop, if the program has installed a reactor meanwhile: the loop adopts that one;
* an import of ``twisted.internet.reactor`` in any thread, which then gets the loop's reactor. An import of Scrapy
  counts as one.

Of several loops the one that has waited for longest gets its reactor installed, as if each had built one at its start.

A finder in ``sys.meta_path`` sees the import. It stands there only while a loop waits. Another one sees the import of
Deferreds; from then on Twisted's log and its contexts are handled too. The importing thread holds the lock of the
module, and code on the loop may import the same module at this moment. So the importing thread never waits for the
loop. It makes the reactor without touching the loop (see :func:`.reactor.build_elsewhere`) and posts the rest. From
then on the loop's thread may use the reactor, even before the reactor has been started there.

``_lock`` is held while a reactor is made. Its holder imports nothing and waits for nobody. So any thread may take it,
the loop's included, and also while it holds the lock of a module.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from contextvars import Context
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

from .._errors import ReactorConflict
from .._loop.switching import SwitchingLoop
from .._private.abilities import lost
from .._private.cpython import get_running_loop
from .._private.rows import REACTOR
from .._threads.imports import AfterImport, replace_finders
from .._threads.latch import Latch
from .._threads.native import ThreadRLock, get_ident
from .._values.deferreds import deferreds

_REACTOR = "twisted.internet.reactor"
# This module looks whether a reactor is installed, and imports none.
_LOOKS = "scrapy.utils.reactor"
# All code that uses Deferreds or Twisted's log imports this module. Its own import uses neither the log nor a context.
_DEFER = "twisted.internet.defer"
# Seconds between two checks that the loop still runs, by a thread that waits for the reactor's start.
_LOOK = 0.1

_lock = ThreadRLock()
_waiting: list[Place] = []  # places of loops that run without a reactor, the oldest first
_awaiting: set[object] = set()  # the owners for which tasks are to await Deferreds, once these are imported


def is_loaded() -> bool:
    """Return whether Twisted has been imported in this process."""
    return "twisted" in sys.modules


class Place:
    """The slot for the reactor of one loop of ours, empty until a reactor is needed.

    :param install: as for ``reactor.build``.
    :param owner: as for ``reactor.build``.
    :param taken: called with the new reactor before that is started, in any thread. It must not block.
    :param awaits: whether all tasks of the process are to await Deferreds from this loop's start on; None does as
        :func:`configure` was told.
    :param gives_way: if the installed reactor cannot be adopted, give this loop a private one instead of raising.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        install: bool | None,
        owner: object,
        taken: Callable[[Any], None],
        *,
        gives_way: bool = False,
        awaits: bool | None = None,
    ) -> None:
        deferreds.with_reactor.add(loop)
        begin_awaits(self, awaits)
        self.loop = loop
        self.reactor: Any = None
        self.has_started = False
        self._is_starting = False
        self.is_over = False  # the loop is ending: it gets no reactor, and no reactor is started
        self.ident: int | None = None  # of the loop's thread
        self._install = install
        self._owner = owner
        self._taken = taken
        self._gives_way = gives_way
        self._awaits = awaits

    @property
    def wants_to_install(self) -> bool:
        """Whether an import of ``twisted.internet.reactor`` may return the reactor of this loop."""
        return self._install is not False

    def wait(self) -> None:
        """Add this place to those that wait for Twisted. Called on the loop's thread; does not block."""
        self.ident = get_ident()
        with _lock:
            if self not in _waiting and self.reactor is None:
                _waiting.append(self)
            if _are_wanted(self._awaits):
                _awaiting.add(self)
            _update_finders()
        _await_if_loaded(self)

    def leave(self) -> None:
        """Remove this place from those that wait, because the loop stops."""
        with _lock:
            if self in _waiting:
                _waiting.remove(self)
            _awaiting.discard(self)
            _update_finders()

    def end(self) -> None:
        """Remove this place from those that wait, and refuse to start a reactor, because the loop ends."""
        with _lock:
            self.is_over = True
        self.leave()

    def build(self) -> Any:
        """Return the reactor of the loop, building one if there is none.

        Called while the loop does not run, or on its thread.

        :raises ReactorConflict: the installed reactor cannot be adopted.
        :raises StrategyUnavailable: Twisted lacks a private name that a reactor of ours needs.
        """
        from . import reactor as reactors

        tell()
        begin_awaits(self, self._awaits)
        with _lock:
            if self.reactor is None:
                self.ident = get_ident()
                # In an empty context: the reactor would keep the context of the caller that needs it first.
                self._take(Context().run(self._built, reactors))
        return self.reactor

    def _built(self, reactors: Any) -> Any:
        try:
            return reactors.build(self.loop, self._install, self._owner)
        except ReactorConflict:
            if not self._gives_way:
                raise
            return reactors.build(self.loop, False, self._owner)

    def take_over(self, reactor: Any) -> None:
        """Bind the reactor of the previous run to this loop. Called before the loop runs.

        :raises ReactorConflict: the reactor cannot be carried over.
        """
        from . import reactor as reactors

        tell()
        begin_awaits(self, self._awaits)
        reactors.bind(reactor, self.loop)
        self._take(reactor)

    def make_elsewhere(self, reactors: Any) -> None:
        """Make the reactor in a thread other than the loop's, and post its start. Called with ``_lock`` held."""
        self._take(reactors.build_elsewhere(self.loop, self._owner, self.ident))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.start, context=Context())

    def _take(self, reactor: Any) -> None:
        self.reactor = reactor
        if self in _waiting:
            _waiting.remove(self)
            _update_finders()
        self._taken(reactor)

    def start(self) -> None:
        """Start the reactor, once. Called on the loop's thread, in the loop."""
        if not self._is_starting and not self.is_over:
            self._is_starting = True  # what is called as it starts may come here again
            self.reactor.start_late()
            self.has_started = True  # and only then: another thread takes it for running

    def get(self, is_over: Callable[[], bool]) -> Any:
        """Return the reactor, building and starting one if there is none. Return None if the loop ends first.

        :param is_over: returns whether the loop has ended.
        :raises ReactorConflict: the installed reactor cannot be adopted.
        """
        if self.reactor is not None and self.has_started:
            return self.reactor
        if get_running_loop() is self.loop:
            self._provide()
            return self.reactor
        from . import reactor  # imported here and not on the loop, which would stand still meanwhile

        del reactor

        errors: list[BaseException] = []
        done = Latch()

        def provide() -> None:
            try:
                self._provide()
            except BaseException as error:
                errors.append(error)
            finally:
                done.open()

        try:
            self.loop.call_soon_threadsafe(provide, context=Context())
        except RuntimeError:  # the loop is closed
            return self.reactor
        while not done.wait(_LOOK) and not is_over() and not self.loop.is_closed():
            pass
        try:
            if errors:
                raise errors[0].with_traceback(None)
        finally:
            errors.clear()
        return self.reactor

    def _provide(self) -> None:
        if not self.is_over:
            self.build()
            Context().run(self.start)


def _adopt_installed(loop: asyncio.AbstractEventLoop) -> None:
    """Adopt the reactor that the program has installed meanwhile. Called when the loop meets a Deferred.

    :raises ReactorConflict: the reactor cannot be adopted.
    """
    if _REACTOR in sys.modules and get_running_loop() is loop and not lost(REACTOR):
        for place in list(_waiting):
            if place.loop is loop and place.wants_to_install:
                place._provide()


def begin_awaits(owner: object, wanted: bool | None) -> None:
    """Have all tasks of the process await Deferreds, now or when ``twisted.internet.defer`` is imported.

    :param owner: the place of a loop that starts, or whatever else calls :func:`end_awaits` when it ends.
    :param wanted: None does as ``deferreds.to_be_awaited`` says.
    """
    if not _are_wanted(wanted):
        return
    with _lock:
        _awaiting.add(owner)
        _update_finders()
    _await_if_loaded(owner)


def _are_wanted(wanted: bool | None) -> bool:
    return deferreds.to_be_awaited if wanted is None else wanted


def _await_if_loaded(owner: object) -> None:
    if owner in _awaiting and _DEFER in sys.modules:
        end_awaits(owner)
        _put_awaits_in_place()


def end_awaits(owner: object) -> None:
    """Have tasks await Deferreds no more on behalf of this owner, if Twisted has not been imported until now."""
    with _lock:
        _awaiting.discard(owner)
        _update_finders()


def _put_awaits_in_place() -> None:
    from .awaits import put_in_place

    put_in_place()


def tell() -> None:
    """Connect Twisted's log, and give the waiting loops the tracker of its contexts. Does nothing the second time."""
    from . import logging, tracker

    del logging
    if _awaiting:
        _put_awaits_in_place()
    if deferreds.tracker is None:
        tracker.register()
        for place in list(_waiting):
            loop = place.loop
            if isinstance(loop, SwitchingLoop):
                if get_running_loop() is loop:
                    _set_tracker(loop)
                else:
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        loop.call_soon_threadsafe(_set_tracker, loop)


def _set_tracker(loop: SwitchingLoop) -> None:
    if deferreds.tracker is not None:
        loop.stacks.tracker = deferreds.tracker()


class _Finder:
    """Finder for ``twisted.internet.reactor``; it stands in ``sys.meta_path`` while a loop waits."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for ``twisted.internet.reactor``; None for every other module."""
        if fullname == _REACTOR and any(place.wants_to_install for place in list(_waiting)):
            return ModuleSpec(_REACTOR, cast(Any, _Loader()))
        return None


class _Loader:
    """Loader of ``twisted.internet.reactor``: replaces the module by a reactor, as Twisted's own module does."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None: the import system makes the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Install the reactor of the loop that has waited for longest. If no loop waits, install Twisted's default."""
        from . import reactor as reactors

        can_be_ours = not lost(REACTOR)
        with _lock:
            if sys.modules.get(_REACTOR) is not module:  # another thread has just installed a reactor
                return
            place = next((each for each in _waiting if each.wants_to_install and can_be_ours), None)
            if place is not None and get_running_loop() is not place.loop:
                place.make_elsewhere(reactors)
                return
        if place is not None:
            place._provide()
        if sys.modules.get(_REACTOR) is module:  # the last waiting loop has ended, or can have no reactor
            del sys.modules[_REACTOR]
            default: Any = import_module("twisted.internet.default")
            default.install()


def _install() -> None:
    if any(place.wants_to_install for place in list(_waiting)):
        import_module(_REACTOR)


_finder = _Finder()
# tell() runs in the importing thread: its imports would hold up the loop.
_deferreds = AfterImport(_DEFER, tell)
_looks = AfterImport(_LOOKS, _install)
_standing: list[Any] = []  # those of these finders that stand in sys.meta_path


def _update_finders() -> None:
    """Put the finders into ``sys.meta_path`` if a loop waits, else remove them."""
    wanted: list[Any] = []
    if _waiting:
        deferreds.met = _adopt_installed
        wanted = [_finder] if _LOOKS in sys.modules else [_finder, _looks]
    else:
        deferreds.met = None
    if (_waiting or _awaiting) and _DEFER not in sys.modules:
        wanted.append(_deferreds)
    if wanted != _standing or sys.meta_path[: len(wanted)] != wanted:
        replace_finders(_standing, wanted)
        _standing[:] = wanted


def after_fork() -> None:
    """Reset the lock and the waiting places in a forked child.

    Only the place of a program's loop whose own thread has forked stays. Another thread may have held the lock.
    """
    global _lock
    _lock = ThreadRLock()
    _waiting[:] = [place for place in _waiting if place.ident == get_ident() and not place.is_over]
    _awaiting.intersection_update(_waiting)
    _update_finders()
