"""The private names of Twisted: those of its reactors, its Deferreds, its contexts and its log."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .rows import AWAITS, CONTEXTS, DEFERREDS, GEVENT, REACTOR, REPORTS, TWISTED_LOG, Name

_ASYNCIO, _BASE = "twisted.internet.asyncioreactor:AsyncioSelectorReactor", "twisted.internet.base:ReactorBase"
_DELAYED, _EVENT = "twisted.internet.base:DelayedCall", "twisted.internet.base:_ThreePhaseEvent"
_POSIX, _GLIB = "twisted.internet.posixbase:PosixReactorBase", "twisted.internet._glibbase:GlibReactorBase"
_PROCESS, _DEFER = "twisted.internet.process", "twisted.internet.defer"
_LATE, _ALL = "Twisted 24.10 to 26.10", "Twisted 15 to 26"

NAMES = (
    # The reactor of a loop.
    Name(_ASYNCIO, "_asyncioEventloop", "sets", REACTOR, "the loop that the reactor runs on", 0, _LATE),
    Name(_ASYNCIO, "_readers", "sets", REACTOR, "what an adopted reactor watches", 0, _LATE),
    Name(_ASYNCIO, "_writers", "sets", REACTOR, "what an adopted reactor watches", 0, _LATE),
    Name(_ASYNCIO, "_continuousPolling", "sets", REACTOR, "files that are always ready", 0, _LATE),
    Name(_ASYNCIO, "_scheduledAt", "sets", REACTOR, "the timer moves to the new loop", 0, _LATE),
    Name(_ASYNCIO, "_timerHandle", "sets", REACTOR, "the timer moves to the new loop", 0, _LATE),
    Name(_ASYNCIO, "_reschedule", "overrides", REACTOR, "a timer is set on the reactor's own loop", 1, _LATE),
    Name(_ASYNCIO, "_onTimer", "overrides", REACTOR, "timers that are due stop where a stack blocks", 1, _LATE),
    Name(_ASYNCIO, "_readOrWrite", "calls", REACTOR, "a writer is called as the reactor calls it", 3, _LATE),
    Name(_BASE, "_started", "sets", REACTOR, "a reactor starts again on another loop", 0, _LATE),
    Name(_BASE, "_startedBefore", "sets", REACTOR, "a reactor starts again on another loop", 0, _LATE),
    Name(_BASE, "_stopped", "sets", REACTOR, "a reactor starts again on another loop", 0, _LATE),
    Name(_BASE, "_justStopped", "sets", REACTOR, "a reactor starts again on another loop", 0, _LATE),
    Name(_BASE, "_internalReaders", "sets", REACTOR, "an adopted reactor's waker goes", 0, _LATE),
    Name(_BASE, "_eventTriggers", "sets", REACTOR, "triggers of start and shutdown move to the new class", 0, _LATE),
    Name(_BASE, "_pendingTimedCalls", "sets", REACTOR, "timers move to the new loop", 0, _LATE),
    Name(_BASE, "_newTimedCalls", "sets", REACTOR, "timers move to the new loop", 0, _LATE),
    Name(_BASE, "_insertNewDelayedCalls", "overrides", REACTOR, "timers are guarded", 1, _LATE),
    Name(_BASE, "_cancelCallLater", "reads", REACTOR, "timers move to the new class", 0, _LATE),
    Name(_BASE, "_moveCallLaterSooner", "reads", REACTOR, "timers move to the new class", 0, _LATE),
    Name(_BASE, "_reallyStartRunning", "calls", REACTOR, "a trigger of the start moves to the new class", 1, _LATE),
    Name(_BASE, "_initThreadPool", "overrides", REACTOR, "the pool's threads know their loop", 1, _LATE),
    Name(_BASE, "_registerAsIOThread", "sets", REACTOR, "a private reactor is not the process's", 0, _LATE),
    Name(_BASE, "_threadpoolStartupID", "sets", REACTOR, "an abandoned reactor starts no pool", 0, _LATE),
    Name(_BASE, "_signalsFactory", "overrides", REACTOR, "no handler of SIGCHLD is set", 1, _LATE),
    Name(_BASE, "_signals", "sets", REACTOR, "no handler of SIGCHLD is set", 0, _LATE),
    Name(_BASE, "_nameResolver", "reads", REACTOR, "the resolver is guarded", 0, _LATE),
    Name("twisted.internet.posixbase", "_ContinuousPolling", "calls", REACTOR, "files that are always ready", 0, _LATE),
    Name("twisted.internet._resolver", "GAIResolver", "overrides", REACTOR, "the resolver is guarded", 0, _LATE),
    Name("twisted.internet._resolver:GAIResolver", "_reactor", "reads", REACTOR, "the resolver's reactor", 0, _LATE),
    Name(_DELAYED, "canceller", "sets", REACTOR, "timers move to the new class", 0, _LATE),
    Name(_DELAYED, "resetter", "sets", REACTOR, "timers move to the new class", 0, _LATE),
    Name(_EVENT, "before", "sets", REACTOR, "triggers move to the new class", 0, _LATE),
    Name(_EVENT, "during", "sets", REACTOR, "triggers move to the new class", 0, _LATE),
    Name(_EVENT, "after", "sets", REACTOR, "triggers move to the new class", 0, _LATE),
    Name(_GLIB, "_simtag", "sets", REACTOR, "an adopted reactor of GLib's sets no timer", 0, _LATE, of_loaded=True),
    Name(_GLIB, "_source_remove", "reads", REACTOR, "an adopted reactor of GLib's lets go", 0, _LATE, of_loaded=True),
    Name(_PROCESS, "reapProcessHandlers", "sets", REACTOR, "children are reaped by the reactor", 0, _LATE),
    Name(_PROCESS, "unregisterReapProcessHandler", "calls", REACTOR, "children are reaped by us", 2, _LATE),
    Name(f"{_PROCESS}:_BaseProcess", "reapProcess", "calls", REACTOR, "a child that has ended", 1, _LATE),
    Name(
        "twisted.internet._baseprocess:BaseProcess",
        "processEnded",
        "calls",
        REACTOR,
        "a child that others reaped",
        2,
        _LATE,
    ),
    *(
        Name(f"twisted.internet.{owner}", name, "reads", REACTOR, "it lets its poller go", 0, _LATE, of_loaded=True)
        for owner, name in (
            *(("epollreactor:EPollReactor", "_poller"), ("epollreactor:EPollReactor", "_selectables")),
            *(("epollreactor:EPollReactor", "_reads"), ("epollreactor:EPollReactor", "_writes")),
            *(("kqreactor:KQueueReactor", "_kq"), ("kqreactor:KQueueReactor", "_selectables")),
        )
    ),
    # Deferreds.
    Name(f"{_DEFER}:Deferred", "__await__", "overrides", AWAITS, "what it yields suits a task as well", 1, _LATE),
    Name(f"{_DEFER}:Deferred", "__iter__", "overrides", AWAITS, "it is the same function", 1, _LATE),
    Name(f"{_DEFER}:Deferred", "__init_subclass__", "reads", AWAITS, "drivers know a class of ours", 0, _LATE),
    Name(f"{_DEFER}:Deferred", "_debugInfo", "sets", DEFERREDS, "the error that nobody has handled", 0, _ALL),
    Name(_DEFER, "DebugInfo", "overrides", DEFERREDS, "it notes that error, and logs it when it goes", 0, _ALL),
    Name(f"{_DEFER}:Deferred", "_runningCallbacks", "reads", DEFERREDS, "a wait in its own callback", 0, _ALL),
    Name(f"{_DEFER}:Deferred", "_runCallbacks", "reads", DEFERREDS, "a wait in its own callback", 0, _ALL),
    Name(
        *("twisted.python.context:ContextTracker", "contexts", "sets", CONTEXTS, "a blocked stack keeps its own"),
        *(0, _ALL),
    ),
    # The log.
    Name("twisted.logger._global:LogBeginner", "_temporaryObserver", "reads", TWISTED_LOG, "is it begun?", 0, _ALL),
    Name("twisted.logger._global:LogBeginner", "_initialBuffer", "reads", TWISTED_LOG, "the latest events", 0, _ALL),
    Name("twisted.logger._observer:LogPublisher", "_observers", "reads", TWISTED_LOG, "who observes", 0, _ALL),
    Name(
        *("twisted.logger._legacy:LegacyLogObserverWrapper", "legacyObserver", "reads", TWISTED_LOG, "who observes"),
        *(0, _ALL),
    ),
    # Real threads for a reactor under gevent.
    Name("twisted.python.threadpool:ThreadPool", "_pool", "sets", GEVENT, "what makes a pool's team", 0, _ALL),
    Name("twisted._threads", "Team", "calls", GEVENT, "the team of a pool", 0, _ALL),
    Name("twisted._threads", "LockWorker", "calls", GEVENT, "the coordinator of a team", 0, _ALL),
    Name("twisted._threads", "ThreadWorker", "calls", GEVENT, "a worker of a team", 0, _ALL),
    # Reports.
    Name(f"{_DEFER}:Deferred", "_chainedTo", "reads", REPORTS, "what a Deferred waits for", 0, _ALL),
    Name(f"{_DEFER}:Deferred", "_canceller", "reads", REPORTS, "the generator behind a Deferred", 0, _ALL),
    Name(f"{_DEFER}:DeferredList", "_deferredList", "reads", REPORTS, "what a DeferredList waits for", 0, _ALL),
    Name("twisted.python.threadpool:ThreadPool", "_team", "reads", REPORTS, "the work that waits", 0, _ALL),
)


if TYPE_CHECKING:
    from twisted.internet._resolver import GAIResolver as GAIResolver
    from twisted.internet.defer import DebugInfo as DebugInfo

# Private classes that modules of ours import from this module, each with its own module and name.
_CLASSES = {
    "ContinuousPolling": ("twisted.internet.posixbase", "_ContinuousPolling"),
    "DebugInfo": ("twisted.internet.defer", "DebugInfo"),
    "GAIResolver": ("twisted.internet._resolver", "GAIResolver"),
}


class _Missing:
    """Placeholder for a class that Twisted has no more, so that our modules can be imported. It is never used."""


def __getattr__(name: str) -> Any:
    try:
        module, private = _CLASSES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    try:
        return getattr(importlib.import_module(module), private, _Missing)
    except ImportError:
        return _Missing
