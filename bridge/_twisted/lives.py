"""What is left of a reactor when a life of it ends: connections, timers and the pools that hold them.

Programs keep clients for longer than one life: an ``Agent`` with its pool of connections, a ``ConnectionPool`` of
``adbapi``, a factory that reconnects. Such an object is told by its transport that a connection is lost, and connects
anew. So each transport is told at the end of a life, as ``reactor.stop()`` does. Timers are dropped without a call of
``cancel()``: a client cancels its own timers later, and that must succeed.

In a forked child nobody is told, because the code that hears of it would act for the parent. There the pools of Twisted
alone are given a fresh start.
"""

from __future__ import annotations

import heapq
import sys
import weakref
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.python.log import callWithLogger  # pyright: ignore[reportUnknownVariableType] - it has no annotations

from .guard import GuardedReactor


class LivingReactor(GuardedReactor):
    """A guarded reactor whose connections end with its life, and whose clients go on in the next."""

    # Connections that were paused once. A paused one stands neither among the readers nor among the writers.
    seen: weakref.WeakSet[Any]
    # The timers that were set when connections were lost. Clients reconnect by them in the next life.
    retries: list[Any]

    def removeReader(self, reader: Any) -> None:
        """Stop watching a descriptor for reading."""
        AsyncioSelectorReactor.removeReader(self, reader)  # type: ignore[no-untyped-call]
        if isinstance(reader, Connection) and reader.connected:
            self.seen.add(reader)

    def disconnectAll(self) -> None:
        """Tell every transport that its connection is lost."""
        before = {id(call) for call in self.getDelayedCalls()}
        AsyncioSelectorReactor.disconnectAll(self)
        for connection in list(self.seen):
            if connection.connected:
                callWithLogger(connection, connection.connectionLost, Failure(CONNECTION_LOST))  # type: ignore[no-untyped-call]
        self.retries += [call for call in self.getDelayedCalls() if id(call) not in before]

    def fireSystemEvent(self, eventType: str) -> None:
        """Call the triggers of an event. Database pools that a shutdown closes open again in the next life."""
        if eventType == "shutdown":
            self.keep_databases()
        AsyncioSelectorReactor.fireSystemEvent(self, eventType)

    def keep_databases(self) -> None:
        """Have the database pools that the shutdown closes open again in the next life. Called before its triggers."""
        for pool in database_pools(self):
            self.addSystemEventTrigger("after", "shutdown", open_again, self, pool)

    def drop_timers(self) -> None:
        """Forget every timer but the retries. It stays active, and may still be cancelled."""
        dropped: list[Any] = [*self._pendingTimedCalls, *self._newTimedCalls]
        kept = [call for call in self.retries if call.active() and call in dropped]
        self.retries.clear()
        self._pendingTimedCalls = list(kept)
        heapq.heapify(self._pendingTimedCalls)
        self._newTimedCalls.clear()
        for call in dropped:
            if call not in kept:
                drop(call)


def drop(call: Any) -> None:
    """Part a timer from its reactor, which has dropped it. Any thread may use it now."""
    if isinstance(call, DelayedCall):
        call.__class__ = DelayedCall  # of a guarded reactor, it asks that reactor
        call.canceller = call.resetter = _do_nothing


def _do_nothing(call: object) -> None:
    pass


def database_pools(reactor: Any) -> list[Any]:
    """Return the pools of ``twisted.enterprise.adbapi`` that the reactor's shutdown closes."""
    module: Any = sys.modules.get("twisted.enterprise.adbapi")
    event = reactor._eventTriggers.get("shutdown")
    if module is None or event is None:
        return []
    owners = [getattr(function, "__self__", None) for function, _, _ in event.during]
    return [owner for owner in owners if isinstance(owner, module.ConnectionPool)]


def open_again(reactor: Any, pool: Any) -> None:
    """Open a closed database pool when the reactor starts next. The pool's ``close()`` takes that back."""

    def start() -> None:
        pool.startID = None
        pool.start()

    pool.threadpool = type(pool.threadpool)(pool.min, pool.max)  # one that has stopped takes no more work
    pool.startID = reactor.addSystemEventTrigger("after", "startup", start)


def forget_connections(reactor: Any) -> None:
    """Part the parent's connections and timers from the reactor, in a forked child, and pools from connections.

    A pool of twisted.web has each idle connection among the arguments of a timer. When such a connection is told that
    it is lost, it only notes that, and the pool gives it no request. Nothing is sent, and no code of a program runs.
    """
    reactor.seen.clear()
    reactor.retries.clear()
    lost: Any = Failure(CONNECTION_LOST)  # type: ignore[no-untyped-call]
    for call in reactor.getDelayedCalls():
        for each in pooled(call):
            each.connectionLost(lost)
        drop(call)


def pooled(call: Any) -> list[Any]:
    """Return the idle connections among the arguments of a timer, which is then a pool's of twisted.web."""
    return [each for each in call.args if getattr(each, "state", None) == "QUIESCENT"] if call.active() else []


def renew_databases(reactor: Any, pools: list[Any]) -> list[Any]:
    """Let the parent's database pools open anew in a forked child, and return what they have held.

    The old connections must be kept: a connection that is closed or collected says good-bye to the server, in the name
    of the parent's.
    """
    kept: list[Any] = []
    for pool in pools:
        kept += [pool.connections, pool.threadpool]
        pool.connections = {}
        pool.running = False
        pool.shutdownID = None
        open_again(reactor, pool)
    return kept
