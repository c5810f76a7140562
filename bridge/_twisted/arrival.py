"""Twisted comes into a process whose loop runs already: its reactor is put on that loop, its log and context are told.

A loop that starts where Twisted is imported has its reactor from the start. Where it is not, nothing of Twisted is
imported. The loop then waits here in its :class:`Place`, until somebody needs a reactor: by :meth:`Place.get`, by a
Deferred where another reactor is installed, or by an import of ``twisted.internet.reactor``, in any thread, which gets
ours. Of several loops the one that began to wait first has it installed, as if each had built its own at its start.

The import is seen by a finder in ``sys.meta_path``, which stands there only while a loop waits. So is that of
Deferreds, from which on Twisted's log and its context are looked after. The importing thread holds the lock of the
module, and code on the loop may import the same module in this very moment. So that thread never waits for the loop.
It makes the reactor itself, all but what touches the loop (see :func:`.reactor.build_elsewhere`), and posts the rest.
From then on the loop's thread may use the reactor, also before it has been started there.

``_lock`` is held as a reactor is made, and nothing is imported and nobody waited for meanwhile. So it may be taken
while the lock of a module is held, and by the loop's thread.
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
from .._threads.condition import ThreadRLock
from .._threads.imports import AfterImport, add_finder, remove_finder
from .._threads.latch import Latch
from .._threads.native import get_ident
from .._values.deferreds import deferreds

_REACTOR = "twisted.internet.reactor"
# Imported by all that has to do with Deferreds or with Twisted's log; itself it needs neither the log nor the context.
_DEFER = "twisted.internet.defer"
# How often a thread that waits for the reactor's start looks whether the loop still runs, in seconds.
_LOOK = 0.1

_lock = ThreadRLock()
_waiting: list[Place] = []  # the places whose loops run without Twisted, the oldest first


def is_loaded() -> bool:
    """Return whether Twisted has been imported in this process."""
    return "twisted" in sys.modules


class Place:
    """Where the reactor of a loop of ours stands.

    :param install: as for ``reactor.build``.
    :param owner: the same.
    :param taken: called with the reactor as it is there, in any thread, before it is started. It must not block.
    :param gives_way: whether a reactor that cannot be adopted leaves this loop a private one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        install: bool | None,
        owner: object,
        taken: Callable[[Any], None],
        *,
        gives_way: bool = False,
    ) -> None:
        self.loop = loop
        self.reactor: Any = None
        self.has_started = False
        self._is_starting = False
        self.is_over = False  # the loop ends: it gets no reactor any more, and none is started
        self.ident: int | None = None  # of the loop's thread
        self._install = install
        self._owner = owner
        self._taken = taken
        self._gives_way = gives_way

    @property
    def wants_to_install(self) -> bool:
        """Whether an import of ``twisted.internet.reactor`` is to get the reactor of this loop."""
        return self._install is not False

    def wait(self) -> None:
        """Wait for Twisted, from now on. Called on the loop's thread."""
        self.ident = get_ident()
        with _lock:
            if self not in _waiting and self.reactor is None:
                _waiting.append(self)
            _look_out()

    def leave(self) -> None:
        """Wait no more: the loop stops."""
        with _lock:
            if self in _waiting:
                _waiting.remove(self)
            _look_out()

    def end(self) -> None:
        """Wait no more, and start no reactor any more: the loop ends."""
        with _lock:
            self.is_over = True
        self.leave()

    def build(self) -> Any:
        """Return the reactor of the loop, which is built if there is none. The loop does not run, or does so here.

        :raises ReactorConflict: the installed reactor cannot be adopted.
        :raises StrategyUnavailable: Twisted lacks a private name that a reactor of ours needs.
        """
        from . import reactor as reactors

        tell()
        with _lock:
            if self.reactor is None:
                self.ident = get_ident()
                # Outside the context of whoever needs it first, which the reactor would keep.
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
        """Take over the reactor of the loop that ran before. The loop does not run yet.

        :raises ReactorConflict: it cannot be carried over.
        """
        from . import reactor as reactors

        tell()
        reactors.bind(reactor, self.loop)
        self._take(reactor)

    def make_elsewhere(self, reactors: Any) -> None:
        """Make the reactor in another thread than the loop's, with ``_lock`` held, and post its start."""
        self._take(reactors.build_elsewhere(self.loop, self._owner, self.ident))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.start, context=Context())

    def _take(self, reactor: Any) -> None:
        self.reactor = reactor
        if self in _waiting:
            _waiting.remove(self)
            _look_out()
        self._taken(reactor)

    def start(self) -> None:
        """Start the reactor, once. Called on the loop's thread, in the loop."""
        if not self._is_starting and not self.is_over:
            self._is_starting = True  # what is called as it starts may come here again
            self.reactor.start_late()
            self.has_started = True  # and only then: another thread takes it for running

    def get(self, is_over: Callable[[], bool]) -> Any:
        """Return the reactor, which is built and started if there is none; None if the loop ends first.

        :param is_over: whether the loop has ended.
        :raises ReactorConflict: the installed reactor cannot be adopted.
        """
        if self.reactor is not None and self.has_started:
            return self.reactor
        if get_running_loop() is self.loop:
            self._provide()
            return self.reactor
        from . import reactor  # here and not on the loop, which would stand still meanwhile

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


def _met(loop: asyncio.AbstractEventLoop) -> None:
    """Put a reactor that the program has installed meanwhile on the loop, on which a Deferred is met.

    :raises ReactorConflict: the reactor cannot be adopted.
    """
    if _REACTOR in sys.modules and get_running_loop() is loop and not lost(REACTOR):
        for place in list(_waiting):
            if place.loop is loop and place.wants_to_install:
                place._provide()


def tell() -> None:
    """Tell the log and the loops that Twisted is there."""
    from . import logging, tracker

    del logging
    if deferreds.tracker is None:
        tracker.register()
        for place in list(_waiting):
            loop = place.loop
            if isinstance(loop, SwitchingLoop):
                if get_running_loop() is loop:
                    _track(loop)
                else:
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        loop.call_soon_threadsafe(_track, loop)


def _track(loop: SwitchingLoop) -> None:
    if deferreds.tracker is not None:
        loop.stacks.tracker = deferreds.tracker()


class _Finder:
    """Gives ``twisted.internet.reactor`` to whoever imports it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load the reactor; None for every other module."""
        if fullname == _REACTOR and any(place.wants_to_install for place in list(_waiting)):
            return ModuleSpec(_REACTOR, cast(Any, _Loader()))
        return None


class _Loader:
    """Loads ``twisted.internet.reactor``: puts a reactor in its place, as Twisted's own module of that name does."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Install the reactor of the loop that has waited for longest; without one Twisted's default reactor."""
        from . import reactor as reactors

        can_be_ours = not lost(REACTOR)
        with _lock:
            if sys.modules.get(_REACTOR) is not module:  # another thread has just built it
                return
            place = next((each for each in _waiting if each.wants_to_install and can_be_ours), None)
            if place is not None and get_running_loop() is not place.loop:
                place.make_elsewhere(reactors)
                return
        if place is not None:
            place._provide()
        if sys.modules.get(_REACTOR) is module:  # the last loop has ended meanwhile, or cannot have a reactor
            del sys.modules[_REACTOR]
            default: Any = import_module("twisted.internet.default")
            default.install()


_finder = _Finder()
_deferreds = AfterImport(_DEFER, tell)  # by the importing thread, as the loop would stand still meanwhile


def _look_out() -> None:
    """Have the finders stand in ``sys.meta_path`` if any loop waits, and only then."""
    deferreds.met = _met if _waiting else None
    if not _waiting:
        _deferreds.stop()
    elif _DEFER not in sys.modules:
        _deferreds.watch()
    (add_finder if _waiting else remove_finder)(_finder)


def after_fork() -> None:
    """Know only of a loop of the program's that has forked, in the child; another thread may have held the lock."""
    global _lock
    _lock = ThreadRLock()
    _waiting[:] = [place for place in _waiting if place.ident == get_ident() and not place.is_over]
    _look_out()
