"""The Twisted reactor of a loop: built new, adopted from an idle one, bound again after its loop died.

A reactor is one object for the whole process as far as Twisted's users are concerned: modules import it and keep
it. So it is never replaced. Whichever of Twisted's it was, its class is set to :class:`BridgeReactor` and what it
watched, timed and was told to do at start and shutdown is carried over to the loop that it now runs on.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections import deque
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor  # pyright: ignore[reportUnknownVariableType] - it has no annotations
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.tcp import Connection

from .._errors import ReactorConflict
from .._loop.task import set_once
from .._private.abilities import lost, unavailable
from .._private.rows import REACTOR
from .._private.twisted import ContinuousPolling
from .._threads.native import current_frames, get_ident
from . import children
from .restartable import BridgeReactor as BridgeReactor


class _NewCalls(list[Any]):
    """The delayed calls of an adopted reactor that are not in its heap yet.

    Whoever took ``reactor.callLater`` before the adoption, as by ``from twisted.internet.reactor import callLater``,
    has the method of the old class, which adds to this list and trusts the old main loop to look here.
    """

    def __init__(self, reactor: BridgeReactor, calls: list[Any]) -> None:
        super().__init__(calls)
        self._reactor = reactor

    def append(self, call: Any) -> None:
        """Add a call, and see that the loop wakes up for it."""
        reactor = self._reactor
        if get_ident() != reactor.loop_thread:
            reactor.refuse_other_threads("callLater")
        super().append(call)
        due = reactor._asyncioEventloop.time() + call.time - reactor.seconds()
        if reactor._scheduledAt is None or due < reactor._scheduledAt:
            reactor._reschedule()


class _Rebound:
    """A method of an adopted reactor, as its new class has it. It equals that of the old one, in a trigger's id."""

    def __init__(self, old: Any, new: Callable[..., object]) -> None:
        self._old = old
        self._new = new

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self._new(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return other == self._old or other == self._new

    def __hash__(self) -> int:
        return hash(self._old)


def build(loop: asyncio.AbstractEventLoop, install: bool | None, owner: object) -> BridgeReactor:
    """Return a reactor for the loop, which need not run yet: a new one, or the installed one if it can be adopted.

    :param install: True installs it as ``twisted.internet.reactor`` or adopts what is installed there; None does so
        if no other bridge has the installed one; False keeps it private.
    :param owner: the loop that it is for, or a weak reference to the bridge.
    :raises StrategyUnavailable: Twisted lacks a private name that a reactor of ours needs.
    :raises ReactorConflict: the installed reactor runs, belongs to another bridge (with True), or is of a kind that
        cannot be adopted.
    """
    if lost(REACTOR):
        raise unavailable(REACTOR, "run the reactor by itself, and attach to it: Bridge.attach(reactor)")
    installed = _installed()
    if install is False:
        return _new(loop, owner, private=True)
    if installed is None:
        reactor = _new(loop, owner, private=False)
        _install(reactor)
        return reactor
    if isinstance(installed, BridgeReactor) and not _is_free(installed) and installed.owner is not owner:
        if install is None:
            return _new(loop, owner, private=True)
        raise ReactorConflict(
            "twisted.internet.reactor belongs to another bridge; use that bridge, or keep this one's reactor private: "
            "Bridge(install_reactor=False)"
        )
    _check_adoptable(installed)
    bind(installed, loop)
    installed.owner = owner
    return installed  # type: ignore[no-any-return]


class _WithoutWaker(BridgeReactor):
    """A reactor while it is made: its waker is added to the loop by the loop's own thread."""

    def installWaker(self) -> None:
        """Leave it to :meth:`BridgeReactor.start_late`."""


def build_elsewhere(loop: asyncio.AbstractEventLoop, owner: object, thread: int | None) -> BridgeReactor:
    """Return a new reactor, which is installed, for a loop that runs in another thread. Nothing there is touched.

    :param thread: the ident of the loop's thread, which may use the reactor from now on, and starts it.
    """
    reactor = _new(loop, owner, private=False, make=_WithoutWaker)
    reactor.__class__ = BridgeReactor
    reactor.loop_thread = thread
    _install(reactor)
    return reactor


def _installed() -> Any:
    installed = sys.modules.get("twisted.internet.reactor")
    return None if type(installed) is ModuleType else installed  # a module while the reactor is imported; see arrival


def _install(reactor: BridgeReactor) -> None:
    if type(sys.modules.get("twisted.internet.reactor")) is ModuleType:
        del sys.modules["twisted.internet.reactor"]
    installReactor(reactor)  # type: ignore[no-untyped-call]


def _is_free(reactor: BridgeReactor) -> bool:
    """Return whether no bridge will run the reactor again: it has none, or one that was dropped without a close."""
    return reactor.owner is None or (isinstance(reactor.owner, weakref.ref) and reactor.owner() is None)


def _new(
    loop: asyncio.AbstractEventLoop, owner: object, *, private: bool, make: type[BridgeReactor] = BridgeReactor
) -> BridgeReactor:
    reactor = make(loop)
    reactor._from_threads = deque()
    reactor.owner = owner
    reactor.guard()
    if private:
        # The process has one I/O thread for twisted.python.threadable: that of the installed reactor.
        reactor._registerAsIOThread = False
    return reactor


def _check_adoptable(reactor: Any) -> None:
    name = type(reactor).__name__
    loop = getattr(reactor, "_asyncioEventloop", None)
    if getattr(reactor, "running", False) or (loop is not None and loop.is_running()):
        raise ReactorConflict(
            f"a {name} that this package did not start runs in this process, and a program has one installed reactor "
            "only; write Bridge(install_reactor=False), or bridge.configure(install_reactor=False) before the first "
            "call, for a loop and a reactor beside it (bridge.reactor; pass it to the code that is to use it)"
        )
    if _is_being_left(reactor):
        raise ReactorConflict(
            f"a {name} that this package did not start has been stopped, and its run() has not returned yet; wait "
            "until it has, such as by join() of the thread that runs it, or write Bridge(install_reactor=False)"
        )
    if not isinstance(reactor, PosixReactorBase):
        raise ReactorConflict(
            f"the installed reactor is a {name}, which is not built on Twisted's PosixReactorBase and cannot be "
            "carried over to an asyncio loop; let the bridge install its own before anything imports "
            "twisted.internet.reactor, or write Bridge(install_reactor=False)"
        )
    if _watches_by(reactor) not in _CARRIED:
        # Qt's, for one, has timers and notifiers that only the thread of the application may touch, and that go on to
        # run it there: to adopt it crashed the process.
        raise ReactorConflict(
            f"the installed reactor is a {name}, which a main loop that is not Twisted's drives; it cannot be carried "
            "over to another loop; run it and write Bridge.attach(reactor), or write Bridge(install_reactor=False), or "
            "bridge.configure(install_reactor=False) before the first call, for a loop and a reactor beside it"
        )


# The modules of the main loops that _release() takes a reactor from.
_CARRIED = {
    *(f"twisted.internet.{name}reactor" for name in ("asyncio", "epoll", "kq", "poll", "select")),
    *("twisted.internet._glibbase", BridgeReactor.__module__),
}


def _watches_by(reactor: Any) -> str | None:
    """Return the module whose main loop watches descriptors for the reactor."""
    return next((each.__module__ for each in type(reactor).__mro__ if "addReader" in vars(each)), None)


def _is_being_left(reactor: Any) -> bool:
    """Return whether some thread stands in the main loop of a reactor that has stopped.

    It would take the start of our loop for a reason to go on, for ever, in a reactor that is not its own any more.
    """
    stacks: list[FrameType | None] = [*current_frames().values()]
    while stacks:  # which are let go of one by one: a name that stays with our own frame would make a cycle
        each = stacks.pop()
        while each is not None:
            if each.f_code.co_name == "mainLoop" and each.f_locals.get("self") is reactor:
                return True
            each = each.f_back
    return False


def bind(reactor: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Make an idle reactor a BridgeReactor on the loop, with all that it was given before.

    The loop must not run yet, or run in the calling thread.

    :raises ReactorConflict: the reactor's class cannot be changed.
    """
    from_threads = _calls_from_threads(reactor)
    readers, writers = _release(reactor)
    vars(reactor).setdefault("_from_threads", deque())
    try:
        reactor.__class__ = BridgeReactor
    except TypeError as error:
        raise ReactorConflict(
            f"the installed reactor, a {type(reactor).__name__}, cannot be carried over to an asyncio loop ({error}); "
            "write Bridge(install_reactor=False)"
        ) from None
    reactor._asyncioEventloop = loop
    reactor._readers, reactor._writers = {}, {}
    reactor._continuousPolling = ContinuousPolling(reactor)
    reactor._scheduledAt = reactor._timerHandle = reactor.loop_thread = None
    reactor._started = reactor._startedBefore = reactor.running = reactor._justStopped = False
    reactor._stopped = True
    reactor.on_crash = None
    # What run() has installed can be uninstalled in the main thread only; without this startRunning() would try.
    vars(reactor).pop("_signals", None)
    _rebind_triggers(reactor)
    reactor._newTimedCalls = _NewCalls(reactor, reactor._newTimedCalls)
    for call in reactor._pendingTimedCalls + reactor._newTimedCalls:
        call.canceller, call.resetter = reactor._cancelCallLater, reactor._moveCallLaterSooner
    reactor.guard()
    for reader in readers:
        reactor.addReader(reader)
    for writer in writers:
        reactor.addWriter(writer)
    reactor._tie_pool()
    children.watch_again(reactor)
    reactor.installWaker()  # unless it has one; in a forked child it has none
    for from_thread in from_threads:
        loop.call_soon_threadsafe(from_thread)
    reactor.take_from_threads()
    if reactor.threadCallQueue:  # for later, when the startup triggers have run: our class does it by way of the loop
        reactor.callLater(0, lambda: None)
    reactor._reschedule()


def _release(reactor: Any) -> tuple[list[Any], list[Any]]:
    """Take every descriptor from the reactor's own poller or dead loop, and return readers and writers."""
    _leave_glib(reactor)
    readers = [reader for reader in reactor.getReaders() if reader.fileno() >= 0]
    writers = [writer for writer in reactor.getWriters() if writer.fileno() >= 0]
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is not None:
        handle, reactor._timerHandle = reactor._timerHandle, None
        if handle is not None:
            handle.cancel()
        if loop.is_closed():  # it has forgotten its descriptors with its selector
            return readers, writers
    # epoll's and kqueue's own descriptor. It is closed as it is: the process may have been forked, and what the child
    # unregisters is unregistered for the parent, too.
    closes = [getattr(getattr(reactor, name, None), "close", None) for name in ("_poller", "_kq")]
    if any(closes):
        for close in filter(None, closes):
            close()
        for name in ("_reads", "_writes", "_selectables"):
            getattr(reactor, name).clear()
        polling = reactor._continuousPolling
        for reader in polling.getReaders():
            polling.removeReader(reader)
        for writer in polling.getWriters():
            polling.removeWriter(writer)
        return readers, writers
    for reader in readers:
        reactor.removeReader(reader)
    for writer in writers:
        reactor.removeWriter(writer)
    return readers, writers


def _leave_glib(reactor: Any) -> None:
    """Take from GLib's main loop what would run the reactor there, as in a GTK program, whose main loop that is too."""
    timer = getattr(reactor, "_simtag", None)
    if timer is not None:
        reactor._source_remove(timer)
        reactor._simtag = None
    waker = reactor.waker
    if waker is not None and hasattr(waker, "reactor"):  # GLib's: it calls a method that the reactor is about to lose
        reactor.removeReader(waker)
        reactor._internalReaders.discard(waker)
        waker.connectionLost(None)  # closes its two descriptors
        reactor.waker = None


def _calls_from_threads(reactor: Any) -> list[Callable[[], object]]:
    """Return what callFromThread of an asyncio reactor has left with the idle loop that the reactor was on."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    functions = [
        each for each in AsyncioSelectorReactor.callFromThread.__code__.co_consts if isinstance(each, CodeType)
    ]
    callbacks = [handle._callback for handle in getattr(loop, "_ready", ()) if not handle.cancelled()]
    return [
        callback
        for callback in callbacks
        if getattr(callback, "__code__", None) in functions
        and any(cell.cell_contents is reactor for cell in callback.__closure__)
    ]


def _rebind_triggers(reactor: Any) -> None:
    """Point the triggers that are methods of the reactor at those of its new class; add those a shutdown consumed."""
    for event in reactor._eventTriggers.values():
        for phase in (event.before, event.during, event.after):
            for index, (function, args, kwargs) in enumerate(phase):
                if getattr(function, "__self__", None) is reactor:
                    phase[index] = _Rebound(function, getattr(reactor, function.__name__, function)), args, kwargs
    defaults = (
        ("startup", reactor._reallyStartRunning),
        ("shutdown", reactor.crash),
        ("shutdown", reactor.disconnectAll),
    )
    for name, method in defaults:
        event = reactor._eventTriggers.get(name)
        if event is None or (method, (), {}) not in event.during:
            reactor.addSystemEventTrigger("during", name, method)


async def shut_down(reactor: BridgeReactor, fired: bool, deadline: float) -> bool:
    """Fire the reactor's shutdown triggers unless this run has fired them already, and drop what is left on it.

    :param deadline: the loop's time, in seconds, until which triggers that return a Deferred are waited for.
    :returns: False if some trigger had not finished by then.
    """
    loop = asyncio.get_running_loop()
    finished = True
    if not fired:
        done = loop.create_future()
        reactor.addSystemEventTrigger("after", "shutdown", set_once, done)
        reactor._stopped = True
        reactor.fireSystemEvent("shutdown")
        await asyncio.wait([done], timeout=max(0.0, deadline - loop.time()))
        finished = done.done()
    delayed_calls: Any = reactor.getDelayedCalls()
    for call in delayed_calls:
        call.cancel()
    reactor.disconnectAll()
    return finished


def forget(reactor: BridgeReactor) -> list[Any]:
    """Make a reactor that ran in the parent an idle one, in a forked child, and return what must be kept alive there.

    Its timers, triggers, threads and descriptors are the parent's; those of its connections are closed. See fork.py.
    """
    state = (
        *("_readers", "_writers", "_continuousPolling", "_pendingTimedCalls", "_newTimedCalls", "_eventTriggers"),
        *("_internalReaders", "waker", "threadpool", "threadCallQueue", "_timerHandle", "_from_threads"),
    )
    kept = [list(reactor.children), *(getattr(reactor, name) for name in state)]
    for each in {*reactor._readers, *reactor._writers}:
        if isinstance(each, Connection) and hasattr(each, "socket"):
            each.socket.close()
    if reactor.waker is not None:
        reactor.waker.connectionLost(None)  # closes its two descriptors
    children.leave_to_parent(reactor)
    reactor.leave_threads()
    reactor._readers, reactor._writers = {}, {}
    reactor._pendingTimedCalls, reactor._newTimedCalls, reactor.threadCallQueue = [], [], []
    reactor._from_threads = deque()
    reactor._eventTriggers, reactor._internalReaders = {}, set()
    reactor._continuousPolling = ContinuousPolling(reactor)
    reactor._timerHandle = reactor._scheduledAt = None
    reactor.waker = reactor.threadpool = reactor._threadpoolStartupID = reactor.threadpoolShutdownID = None
    reactor.running = reactor._started = reactor._startedBefore = reactor._justStopped = False
    reactor._stopped = True
    return kept


def release(reactor: BridgeReactor, owner: object) -> None:
    """Give up an idle reactor for good: the installed one may be adopted by another bridge, a private one is closed."""
    if reactor.owner is not owner:
        return
    reactor.owner = None
    children.forget(reactor)
    if _installed() is not reactor and reactor.waker is not None:
        reactor._internalReaders.clear()
        reactor.waker.connectionLost(None)  # closes its two descriptors
        reactor.waker = None
