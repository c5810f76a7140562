"""The Twisted reactor of a loop: build a new one, adopt an idle one, bind it to a new loop when the old one has ended.

For users of Twisted the reactor is one object for the whole process: modules import it and keep it. So it is never
replaced. An installed reactor of another class gets the class of Twisted's asyncio reactor, and in any case the methods
of :class:`BridgeReactor` as its own. Its descriptors, its timers and its triggers of startup and shutdown are carried
over to the loop that it now runs on.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from types import CodeType, ModuleType
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor  # pyright: ignore[reportUnknownVariableType] - it has no annotations
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.tcp import Connection
from twisted.logger import Logger

from .._errors import ReactorConflict, at
from .._loop.base import BridgeLoop
from .._loop.switching import new_event_loop
from .._loop.task import set_once
from .._private.abilities import lost, unavailable
from .._private.rows import REACTOR
from .._private.twisted import ContinuousPolling
from . import children, lives
from .closed import drop_closed
from .guard import is_guarded, refuses
from .makers import keep_maker
from .restartable import BridgeReactor, become
from .runners import TRIAL, any_frame, is_in_trial

_log = Logger()


@refuses(["append"])
class _NewCalls(list[Any]):
    """The delayed calls of an adopted reactor that are not in its heap yet.

    Code that took ``reactor.callLater`` before the adoption, as by ``from twisted.internet.reactor import callLater``,
    has the method of the old class. That method adds to this list, and expects the old main loop to read the list.
    """

    def __init__(self, reactor: BridgeReactor, calls: list[Any]) -> None:
        super().__init__(calls)
        self._reactor = reactor

    loop_thread = property(attrgetter("_reactor.loop_thread"))

    def refuse_other_threads(self, method: str) -> None:
        """Raise WrongThreadError if the loop runs in another thread."""
        self._reactor.refuse_other_threads("callLater")

    def append(self, call: Any) -> None:
        """Add a call, and set the timer of the loop if the call is due before it."""
        reactor = self._reactor
        super().append(call)
        keep_maker(call)
        due = reactor._asyncioEventloop.time() + call.time - reactor.seconds()
        if reactor._scheduledAt is None or due < reactor._scheduledAt:
            reactor._reschedule()


class _Rebound:
    """An adopted reactor's new method. It equals that of the old class, so a trigger's id stays valid."""

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
    """Return a reactor for the loop: a new one, or the installed one if it can be adopted. The loop need not run yet.

    :param install: True installs the new reactor as ``twisted.internet.reactor``, or adopts the one that is installed
        there. None does the same unless another bridge owns the installed one. False makes a private reactor.
    :param owner: the loop, or a weak reference to the bridge that the loop belongs to.
    :raises StrategyUnavailable: Twisted lacks a private name that a reactor of ours needs.
    :raises ReactorConflict: the installed reactor runs, belongs to another bridge (with True), or is of a kind that
        cannot be adopted.
    """
    if lost(REACTOR):
        raise unavailable(REACTOR, "run the reactor by itself, and attach to it: Bridge.attach(reactor)")
    installed = _installed()
    if install is False:
        return _new(loop, owner, private=True)
    if not is_guarded(installed) and not isinstance(owner, asyncio.AbstractEventLoop) and is_in_trial():
        raise ReactorConflict(TRIAL + at("reactor-under-trial"))
    if installed is None:
        reactor = _new(loop, owner, private=False)
        _install(reactor)
        return reactor
    if is_guarded(installed) and not _is_free(installed) and installed.owner is not owner:
        if install is None:
            return _new(loop, owner, private=True)
        raise ReactorConflict(
            "twisted.internet.reactor belongs to another bridge; use that bridge, or keep this one's reactor private: "
            "Bridge(install_reactor=False)" + at("reactor-of-another-bridge")
        )
    _check_adoptable(installed)
    bind(installed, loop)
    installed.owner = owner
    return installed  # type: ignore[no-any-return]


def build_elsewhere(loop: asyncio.AbstractEventLoop, owner: object, thread: int | None) -> BridgeReactor:
    """Return a new, installed reactor for a loop that runs in another thread, without touching the loop.

    :param thread: the ident of the loop's thread. That thread may use the reactor from now on, and starts it.
    """
    reactor = _new(loop, owner, private=False, is_elsewhere=True)
    reactor.loop_thread = thread
    _install(reactor)
    return reactor


def _installed() -> Any:
    installed = sys.modules.get("twisted.internet.reactor")
    return None if type(installed) is ModuleType else installed  # it is a module during the import; see arrival


def _install(reactor: BridgeReactor) -> None:
    if type(sys.modules.get("twisted.internet.reactor")) is ModuleType:
        del sys.modules["twisted.internet.reactor"]
    installReactor(reactor)  # type: ignore[no-untyped-call]


def claim(owner: object) -> None:
    """Ask the owner of the installed reactor to leave it to this one, if the reactor is idle there.

    Called before :func:`build`, and without its lock: the other owner may have to ask a thread of its own.
    """
    installed = _installed()
    if is_guarded(installed) and installed.owner is not owner and installed.leave is not None:
        installed.leave()


def part(reactor: BridgeReactor) -> None:
    """Take a reactor off its loop, with its timers and connections, for another owner. Called where the loop runs."""
    readers, writers = _release(reactor)
    reactor._asyncioEventloop = _no_loop()
    reactor._readers = {reader: reader.fileno() for reader in readers}
    reactor._writers = {writer: writer.fileno() for writer in writers}
    reactor.running = reactor._started = False
    reactor.owner = reactor.leave = reactor.on_crash = None


@functools.cache
def _no_loop() -> asyncio.AbstractEventLoop:
    """Return a closed loop, on which a reactor without a loop waits for the next."""
    loop = asyncio.SelectorEventLoop()
    loop.close()
    return loop


def connections_of(reactor: BridgeReactor) -> set[Any]:
    """Return the ports and connections of the reactor, without its own waker."""
    watched: Any = reactor
    return {*watched.getReaders(), *watched.getWriters()} - reactor._internalReaders


def is_unused(reactor: BridgeReactor) -> bool:
    """Return whether the reactor has nothing to do but to keep idle connections of pools for later requests."""
    connections = connections_of(reactor)
    idle = 0
    timers: Any = reactor.getDelayedCalls()
    for call in timers:
        pooled = lives.pooled(call)
        if call.active() and not pooled:
            return False
        idle += len(pooled)
    return len(connections) <= idle and not reactor.children


def _is_free(reactor: BridgeReactor) -> bool:
    """Return whether the owner will not run the reactor again: a program's loop that is closed, or a bridge that is.

    A program may run its reactor on a loop that is open, unless it has stopped the reactor for good.
    """
    owner = reactor.owner
    if isinstance(owner, asyncio.AbstractEventLoop):
        return owner.is_closed() or (reactor._startedBefore and not owner.is_running())
    return owner is None or (isinstance(owner, weakref.ref) and owner() is None)


def _new(loop: asyncio.AbstractEventLoop, owner: object, *, private: bool, is_elsewhere: bool = False) -> BridgeReactor:
    twisteds = AsyncioSelectorReactor.__new__(AsyncioSelectorReactor)
    reactor = become(twisteds)
    if is_elsewhere:  # the loop must not be touched; start_late() installs the waker on the loop's thread
        vars(reactor)["installWaker"] = lambda: None
    AsyncioSelectorReactor.__init__(twisteds, loop)
    vars(reactor).pop("installWaker", None)
    reactor.owner = owner
    reactor.guard_parts()
    if private:
        # twisted.python.threadable knows one I/O thread per process: that of the installed reactor.
        reactor._registerAsIOThread = False
    return reactor


def _check_adoptable(reactor: Any) -> None:
    name = type(reactor).__name__
    loop = getattr(reactor, "_asyncioEventloop", None)
    if getattr(reactor, "running", False) or (loop is not None and loop.is_running()):
        raise ReactorConflict(
            f"a {name} that this package did not start runs in this process, and a program has one installed reactor "
            "only; write Bridge.attach(reactor) for calls to the reactor that runs, such as "
            "Bridge.attach(reactor).block_on(lambda: treq.get(url)), or write Bridge(install_reactor=False), or "
            "bridge.configure(install_reactor=False) before the first call, for a loop and a reactor beside it "
            "(bridge.reactor; pass it to the code that is to use it)" + at("reactor-that-runs")
        )
    if _is_in_main_loop(reactor):
        raise ReactorConflict(
            f"a {name} that this package did not start has been stopped, and its run() has not returned yet; wait "
            "until it has, such as by join() of the thread that runs it, or write Bridge(install_reactor=False)"
            + at("reactor-that-stops")
        )
    if not isinstance(reactor, PosixReactorBase):
        raise ReactorConflict(
            f"the installed reactor is a {name}, which is not built on Twisted's PosixReactorBase and cannot be "
            "carried over to an asyncio loop; let the bridge install its own before anything imports "
            "twisted.internet.reactor, or write Bridge(install_reactor=False)" + at("reactor-not-adoptable")
        )
    if _main_loop_module(reactor) not in _CARRIED:
        # For example Qt's reactor: only the application's thread may touch its timers and notifiers, and these go on
        # to run the reactor there. Adopting it crashed the process.
        raise ReactorConflict(
            f"the installed reactor is a {name}, which a main loop that is not Twisted's drives; it cannot be carried "
            "over to another loop; run it and write Bridge.attach(reactor), or write Bridge(install_reactor=False), or "
            "bridge.configure(install_reactor=False) before the first call, for a loop and a reactor beside it"
            + at("foreign-main-loop")
        )


# The modules of the main loops from which _release() can take a reactor.
_CARRIED = {
    *(f"twisted.internet.{name}reactor" for name in ("asyncio", "epoll", "kq", "poll", "select")),
    "twisted.internet._glibbase",
}


def _main_loop_module(reactor: Any) -> str | None:
    """Return the module whose main loop watches descriptors for the reactor."""
    return next((each.__module__ for each in type(reactor).__mro__ if "addReader" in vars(each)), None)


def _is_in_main_loop(reactor: Any) -> bool:
    """Return whether some thread is still in the main loop of a reactor that has stopped.

    If the reactor were adopted and started on our loop now, that thread would see it running and never leave the loop.
    """
    return any_frame(lambda each: each.f_code.co_name == "mainLoop" and each.f_locals.get("self") is reactor)


def bind(reactor: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Make an idle reactor one of ours, on the loop. Its descriptors, timers, triggers and children are kept.

    The loop must not run yet, or it must run in the calling thread.

    :raises ReactorConflict: the reactor's class cannot be changed.
    """
    from_threads = _calls_from_threads(reactor)
    drop_closed(reactor)
    readers, writers = _release(reactor)
    try:
        reactor.__class__ = AsyncioSelectorReactor
    except TypeError as error:
        raise ReactorConflict(
            f"the installed reactor, a {type(reactor).__name__}, cannot be carried over to an asyncio loop ({error}); "
            "write Bridge(install_reactor=False)" + at("reactor-not-adoptable")
        ) from None
    become(reactor)
    reactor._asyncioEventloop = loop
    reactor._readers, reactor._writers = {}, {}
    reactor._continuousPolling = ContinuousPolling(reactor)
    reactor._scheduledAt = reactor._timerHandle = reactor.loop_thread = None
    reactor._started = reactor._startedBefore = reactor.running = reactor._justStopped = False
    reactor._stopped = True
    reactor.on_crash = reactor.leave = None
    # The signal handlers that run() has installed can be removed in the main thread only. Without this line
    # startRunning() would try to remove them.
    vars(reactor).pop("_signals", None)
    _rebind_triggers(reactor)
    reactor._newTimedCalls = _NewCalls(reactor, reactor._newTimedCalls)
    for call in reactor._pendingTimedCalls + reactor._newTimedCalls:
        call.canceller, call.resetter = reactor._cancelCallLater, reactor._moveCallLaterSooner
    reactor.guard_parts()
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
    # This queue is for later, when the startup triggers have run. Our callFromThread does not use it and would not wake
    # the loop for it. So a timer makes the reactor empty it.
    if reactor.threadCallQueue:
        reactor.callLater(0, lambda: None)
    reactor._reschedule()


def _bind_to_new(reactor: BridgeReactor) -> None:
    loop = new_event_loop()
    bind(reactor, loop)
    reactor.owner = loop
    if isinstance(loop, BridgeLoop):
        loop.before_block = reactor.keep_time


BridgeReactor.on_new_loop = _bind_to_new


def _release(reactor: Any) -> tuple[list[Any], list[Any]]:
    """Remove every descriptor from the reactor's own poller or old loop. Return the readers and writers."""
    _leave_glib(reactor)
    readers = [reader for reader in reactor.getReaders() if reader.fileno() >= 0]
    writers = [writer for writer in reactor.getWriters() if writer.fileno() >= 0]
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is not None:
        handle, reactor._timerHandle = reactor._timerHandle, None
        if handle is not None:
            handle.cancel()
        if loop.is_closed():  # the loop has closed its selector, and with it dropped the descriptors
            return readers, writers
    # The descriptor of epoll or kqueue is closed without unregistering anything. The process may have been forked, and
    # unregistering in the child would unregister in the parent too.
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
    """Remove the reactor's timer and waker from GLib's main loop, which a GTK program runs and so would run them."""
    timer = getattr(reactor, "_simtag", None)
    if timer is not None:
        reactor._source_remove(timer)
        reactor._simtag = None
    waker = reactor.waker
    if waker is not None and hasattr(waker, "reactor"):  # GLib's waker calls a method that the reactor is about to lose
        reactor.removeReader(waker)
        reactor._internalReaders.discard(waker)
        waker.connectionLost(None)  # closes its two descriptors
        reactor.waker = None


def _calls_from_threads(reactor: Any) -> list[Callable[[], object]]:
    """Return the functions that callFromThread of an asyncio reactor has posted to the reactor's old, idle loop."""
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
    """Point triggers that are methods of the reactor to its new class. Add default triggers that a shutdown used up."""
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
    """Fire the reactor's shutdown triggers unless this run has fired them. Then drop its timers and connections.

    :param deadline: the limit for triggers that return a Deferred, in seconds of ``loop.time()``.
    :returns: False if some trigger has not finished by the deadline.
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
    _drop_all(reactor)
    return finished


def shut_down_now(reactor: BridgeReactor) -> None:
    """Call the shutdown triggers that were not called yet, and drop timers and connections. No loop runs.

    A trigger that waits for a Deferred does not hold up the others, since nothing could fire it.
    """
    reactor._stopped = True
    reactor.keep_databases()
    event: Any = reactor._eventTriggers.get("shutdown")
    for triggers in () if event is None else (event.before, event.during, event.after):
        while triggers:  # they are taken out first, as Twisted does: each is called once
            function, args, kwargs = triggers.pop(0)
            try:
                function(*args, **kwargs)
            except BaseException:
                _log.failure("while calling a trigger of the shutdown")
    _drop_all(reactor)


def _drop_all(reactor: BridgeReactor) -> None:
    reactor.drop_timers()
    reactor.disconnectAll()


def forget(reactor: BridgeReactor) -> list[Any]:
    """Make the parent's reactor an idle one in a forked child. Return the objects that must not be collected there.

    Its timers, triggers, threads and descriptors belong to the parent. The descriptors of connections are closed: see
    :mod:`bridge._runs.fork`. Pools get fresh connections.
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
    databases = lives.database_pools(reactor)
    lives.forget_connections(reactor)
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
    return kept + lives.renew_databases(reactor, databases)


def release(reactor: BridgeReactor, owner: object) -> None:
    """Give up an idle reactor for good. Another bridge may adopt it if it is installed; a private one is closed."""
    if reactor.owner is not owner:
        return
    reactor.owner = reactor.leave = None
    children.forget(reactor)
    if _installed() is not reactor and reactor.waker is not None:
        reactor._internalReaders.clear()
        reactor.waker.connectionLost(None)  # closes its two descriptors
        reactor.waker = None
