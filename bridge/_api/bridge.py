"""Bridge: a loop in a thread of its own and the calls into it; and the default one, behind the plain functions.

Importing this module starts nothing and imports no asyncio: the first call does. Twisted is imported when it is needed.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import CoroutineType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .._diagnostics.dump import checked_signal, dump_on, no_dump_on
from .._errors import BridgeClosed, BridgeError
from .._runs.exit import Exit
from .._threads.condition import new_lock
from .._threads.native import get_ident
from .._threads.seconds import checked_seconds
from .._values.outcomes import trim
from .._views.caller import Caller
from .._views.facade import Facade
from .._watch.meter import Meter
from ..strategies import renew_after_fork, resolve

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from concurrent.futures._base import DoneAndNotDoneFutures

    from anyio.from_thread import BlockingPortal

    from .._runs.owned import LoopThread
    from .._runs.run import Run
    from .._watch.stats import Stats
    from ..strategies.interface import Strategy

P = ParamSpec("P")
T = TypeVar("T")

_bridges: weakref.WeakSet[Bridge] = weakref.WeakSet()
_lock = new_lock()
_exit = Exit(lambda: list(_bridges))


def _engine(x: Any = None) -> ModuleType:
    """Return the module of the calls, which imports asyncio.

    :param x: what is to be called; a coroutine is closed if it cannot be.
    :raises BridgeClosed: the process is exiting.
    """
    try:
        return _loaded or _load()
    except BaseException:  # the exit, or Ctrl-C in the imports
        if isinstance(x, CoroutineType):
            x.close()
        raise


def _load() -> ModuleType:
    global _loaded
    with _lock:
        if _loaded is None:
            _exit.watch()
            from .._calls import block_on as engine
            from .._calls import waiting
            from .._watch.watchdog import watchdog

            watchdog.report = _report
            watchdog.is_held_up = _is_held_up
            waiting.set_finder(_find_bridge)
            # After the imports, because what those modules do in a forked child has to be done before ours.
            os.register_at_fork(after_in_child=_forked)
            _loaded = engine
    return _loaded


_loaded: ModuleType | None = None


def _report(target: Any, calls: list[Any]) -> None:
    from .._diagnostics import reports

    reports.report(target, calls)


def _is_held_up(call: Any) -> bool:
    from .._diagnostics import reports

    return reports.is_held_up(call)


class Bridge(Facade):
    """A loop thread of its own, with the calls into it; the first call starts it, or ``with``.

    ::

        with Bridge() as bridge:
            page = bridge.block_on(lambda: treq.get(url))

    :param name: of the thread; in logs and stacks.
    :param strategy: how callers wait, by name or as an object; see :func:`strategies`.
    :param install_reactor: None installs this bridge's reactor as ``twisted.internet.reactor`` if none is installed,
        adopts an idle one that is, and keeps a private one beside another bridge's; True insists on the installed one;
        False keeps it private. The reactor is :attr:`reactor` in every case. Where Twisted is not imported as the loop
        starts, the reactor comes when it is needed: with :attr:`reactor`, or an import of ``twisted.internet.reactor``.
        With True it is there from the start.
    :param loop_factory: makes the asyncio loop, which must be a selector loop; None for ours.
    :param colocate: keep the loop's thread and a thread that waits alone on one core for the first two milliseconds of
        the wait, as long as that is the faster way. It makes short calls two to four times as fast where the scheduler
        has placed the two apart; where it has not, they are left alone (docs/performance.md). What the awaited code
        starts meanwhile by other means than the loop's and the reactor's inherits the one core. Without effect on a
        loop of the user's, and where the system cannot do it: only Linux can.
    :param stall_after: seconds after which a call that still waits is logged once as a warning, with the stacks of both
        threads; None for never.
    :param shutdown_timeout: seconds that work which was cancelled is given to clean up, by a call that timed out, by
        :meth:`close` and as the process exits.
    :param exit_grace: seconds that other threads may go on to call when the main thread has ended; then their calls
        fail. None gives them all the time that they take. Daemon threads have until the exit handlers have run.
    :param dump_signal: a signal, such as ``signal.SIGUSR1``, on which :func:`dump` prints every open call; the handler
        that was there before is called as well, and put back by :meth:`close`. To be set in the main thread.
    :raises BridgeError: dump_signal was given, and this is not the main thread.
    :raises StrategyUnavailable: there is no such strategy.
    :raises ValueError: a number of seconds is negative or NaN.
    :raises TypeError: an argument is of the wrong type.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        strategy: str | Strategy = "auto",
        install_reactor: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        colocate: bool = False,
        stall_after: float | None = 30.0,
        shutdown_timeout: float = 5.0,
        exit_grace: float | None = 0.0,
        dump_signal: int | None = None,
    ) -> None:
        self.name = name or "bridge"
        self.strategy = resolve(strategy)
        self._install_reactor = install_reactor
        self._loop_factory = loop_factory
        self._colocate = colocate
        self.stall_after = checked_seconds(stall_after, "stall_after")
        seconds = checked_seconds(shutdown_timeout, "shutdown_timeout")
        if seconds is None:
            raise ValueError("shutdown_timeout must be a finite number of seconds: it bounds how long a close may take")
        self._shutdown_timeout = seconds
        self.exit_grace = checked_seconds(exit_grace, "exit_grace")
        self._dump_signal = checked_signal(dump_signal)
        self._meter = Meter()
        self._run: Any = None  # the LoopThread that runs or ran last
        self._parents_run: Any = None  # in a forked child: the one of the parent
        self._closed = False
        # Re-entrant: a signal handler that interrupts the start of the loop may call block_on.
        self._starting = new_lock()
        self._begin_dumping()

    def _begin_dumping(self) -> None:
        dump_on(self._dump_signal)

    def _end_dumping(self) -> None:
        number, self._dump_signal = self._dump_signal, None
        no_dump_on(number)

    # The calls.

    @overload
    def block_on(
        self, x: Awaitable[T], *, timeout: float | None = None, strategy: str | Strategy | None = None
    ) -> T: ...
    @overload
    def block_on(
        self, x: concurrent.futures.Future[T], *, timeout: float | None = None, strategy: str | Strategy | None = None
    ) -> T: ...
    @overload
    def block_on(
        self, x: Callable[[], Awaitable[T]], *, timeout: float | None = None, strategy: str | Strategy | None = None
    ) -> T: ...
    @overload
    def block_on(
        self,
        x: Callable[[], concurrent.futures.Future[T]],
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
    ) -> T: ...
    @overload
    def block_on(
        self, x: Callable[[], T], *, timeout: float | None = None, strategy: str | Strategy | None = None
    ) -> T: ...
    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x in this thread, while the loop runs it in its own, and return its result.

        ::

            bridge.block_on(asyncio.sleep(1, "done"))                  # a coroutine: 'done'
            bridge.block_on(lambda: treq.get(url), timeout=10)         # called on the loop's thread

        The awaited code sees the caller's context variables, and what it sets in them is set for the caller when the
        call ends.

        :param x: a coroutine, any awaitable, a Deferred, an asyncio or concurrent Future, or a callable without
            arguments, which is called on the loop's thread and returns one of these or a plain value.
        :param timeout: seconds, 0 for one turn of the loop, None to wait for ever. Then the work is cancelled and
            given ``shutdown_timeout`` seconds to clean up. A result that comes all the same is returned.
        :param strategy: how to wait, if not in the bridge's own way.
        :returns: the result of x.
        :raises BaseException: what the awaited code raised, the very object.
        :raises TimeoutError: the time is up.
        :raises TypeError: x cannot be waited for, or timeout is not a number.
        :raises ValueError: timeout is negative or NaN.
        :raises BridgeError: x is a coroutine that was awaited before, or bound to a loop that does not run.
        :raises BridgeClosed: the bridge is closed, or its loop ended during the call.
        :raises DeadlockError: the call could never end: it waits for a Future of a loop that runs in this thread, or
            for a loop, a task or a Deferred that waits for the caller.
        :raises StrategyUnavailable: there is no such strategy, or it cannot be used here.
        :raises ReactorConflict: another reactor runs in this process; raised by the call that would start the bridge,
            or, where Twisted was imported later, by one with a Deferred.
        """
        try:
            return (_loaded or _engine(x)).block_on(self, _find_bridge, x, timeout, strategy)
        except BaseException as error:
            trim(error)
            raise

    @overload
    def submit(self, x: Awaitable[T]) -> concurrent.futures.Future[T]: ...
    @overload
    def submit(self, x: concurrent.futures.Future[T]) -> concurrent.futures.Future[T]: ...
    @overload
    def submit(self, x: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]: ...
    @overload
    def submit(self, x: Callable[[], concurrent.futures.Future[T]]) -> concurrent.futures.Future[T]: ...
    @overload
    def submit(self, x: Callable[[], T]) -> concurrent.futures.Future[T]: ...
    def submit(self, x: Any) -> concurrent.futures.Future[Any]:
        """Start x on the loop and return a Future of its result at once.

        ::

            futures = [bridge.submit(fetch(url)) for url in urls]
            pages = [future.result() for future in futures]

        The work sees the caller's context variables; what it sets in them stays with it. ``cancel()`` of the Future
        asks for the work to be cancelled, and the Future is cancelled when the work has ended. ``result()`` and
        ``exception()`` wait in the way of :meth:`block_on`; a time-out or Ctrl-C there leaves the work running. For
        several Futures there are :func:`bridge.wait` and :func:`bridge.as_completed`. May be called in any thread, the
        loop's own included.

        :param x: as for :meth:`block_on`.
        :raises TypeError: x cannot be waited for.
        :raises BridgeError: x is a coroutine that was awaited before, or bound to a loop that does not run.
        :raises BridgeClosed: the bridge is closed. A loop that ends later is the Future's exception.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        try:
            future: concurrent.futures.Future[Any] = _engine(x).submit(self, _find_bridge, x)
        except BaseException as error:
            trim(error)
            raise
        return future

    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a sync function on the loop's thread, in a task, and return its result.

        ``block_on`` in it switches stacks, so the loop goes on meanwhile; and what it calls may touch the reactor, as
        in ``block_on(treq.get(url))``. On that thread already, the function is just called.

        ::

            bridge.run(main)

        :param fn: the function, with its arguments after it.
        :raises BaseException: what the function raised.
        :raises BridgeClosed: as for :meth:`block_on`.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        try:
            result: T = _engine().run(self, _find_bridge, functools.partial(fn, *args, **kwargs))
        except BaseException as error:
            trim(error)
            raise
        return result

    @staticmethod
    def attach(
        loop_or_reactor: Any = None, *, strategy: str | Strategy = "auto", stall_after: float | None = 30.0
    ) -> Bridge:
        """Return a bridge on a loop that someone else runs: uvicorn's, Jupyter's, twistd's, a GUI's.

        Other threads have all the verbs on it. On the loop's own thread ``block_on`` works if the loop is of ours, and
        is refused otherwise. ``close()`` only detaches. If the loop stops, open calls fail; when it runs again the
        bridge serves again.

        A reactor without an asyncio loop, such as epoll's or Qt's, serves Deferreds, callables and coroutines that
        await Deferreds; a coroutine that needs asyncio raises a ``BridgeError`` that says so.

        ::

            bridge = Bridge.attach()                       # in a coroutine, or on the reactor's thread
            await asyncio.to_thread(legacy, bridge)        # which calls bridge.block_on(...)

        :param loop_or_reactor: an asyncio loop, or a reactor of any kind; None for what runs here.
        :param strategy: as for :class:`Bridge`.
        :param stall_after: as for :class:`Bridge`.
        :raises BridgeError: nothing runs here, or the loop is closed.
        :raises TypeError: it is neither a loop nor a reactor.
        """
        _engine()
        from .._runs.program import loop_of

        loop = loop_of(loop_or_reactor)
        return bridge_here(loop) or _AttachedBridge(loop, strategy=strategy, stall_after=stall_after)

    def caller(self) -> Caller:
        """Return the bridge itself: blocking(), iterate() and enter() call this one."""
        return self

    # Its run.

    @property
    def running(self) -> bool:
        """Whether the loop runs; looking does not start it."""
        run = self._run
        return run is not None and run.over is None

    @property
    def was_started(self) -> bool:
        """Whether a loop of this bridge is starting, runs or has run."""
        run = self._run
        return run is not None and (run.is_ready or run.over is None)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop, which is started if need be.

        :raises BridgeClosed: the bridge is closed.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        return self.current_run().loop

    @property
    def reactor(self) -> Any:
        """The Twisted reactor on this bridge's loop; either is started if need be.

        It belongs to the loop's thread: call its methods there, as in ``block_on(lambda: reactor.listenTCP(...))``.

        :raises BridgeClosed: the bridge is closed.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        return self.current_run().needed_reactor()

    @property
    def portal(self) -> BlockingPortal:
        """A ``BlockingPortal`` of anyio's on this bridge's loop, which is started if need be.

        It serves until the loop ends; the next run has another one. Use it where a library asks for a portal.

        :raises BridgeClosed: the bridge is closed.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        run = self.current_run()
        if run.portal is None:
            from .._loop.conversion import open_portal

            opened = self.block_on(open_portal())
            from .._calls.conditions import serve_portal

            serve_portal(opened, self.block_on)
            with self._starting:
                if run.portal is None:
                    run.portal = opened
            if run.portal is not opened:  # somebody else was faster
                self.submit(opened.stop())
        portal: BlockingPortal = run.portal
        return portal

    @property
    def thread(self) -> threading.Thread | None:
        """The loop's thread; None while the bridge does not run."""
        run = self._run
        return run.thread if run is not None and run.over is None else None

    def stats(self) -> Stats:
        """Return what the calls came to since the bridge was made: how many, how they ended, how long they took.

        ::

            bridge.stats().timed_out
            bridge.stats().percentile(99)      # seconds

        Calls from other threads count, and those of :meth:`submit`. On the loop's own thread it is counted how often a
        stack has blocked. Looking starts nothing, and may be done in any thread.
        """
        run = self._run
        return self._meter.stats(0, 0) if run is None else self._meter.stats(len(run.open), run.switches)

    def start(self) -> None:
        """Start the loop, if it does not run. The first call does so by itself.

        :raises BridgeClosed: the bridge is closed.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        self.current_run()

    def close(self) -> None:
        """End the loop for good; ``BridgeClosed`` is what every open call and every later one gets.

        Tasks are cancelled and given ``shutdown_timeout`` seconds to clean up, asynchronous generators closed, and the
        shutdown triggers of the reactor run; this waits for all that. On the loop's own thread it only starts the
        closing. Closing a closed bridge does nothing.
        """
        try:
            run = self._begin_to_close()
        except BaseException:  # Ctrl-C: no later call may meet a loop that is only half closed
            self._begin_to_close()
            raise
        if run is not None:
            run.wait_closed()
            _flush_log(self._shutdown_timeout)

    def _begin_to_close(self) -> LoopThread | None:
        """Begin, and return what is being closed: another thread may start the next run before this one has ended."""
        self._closed = True
        run: LoopThread | None = self._run
        if run is not None:
            run.begin_to_close(f"{self!r} was closed", final=True)
        self._end_dumping()
        return run

    def __enter__(self) -> Bridge:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self.running else "not started"
        return f"<Bridge {self.name!r}, {state}>"

    def __del__(self) -> None:
        no_dump_on(getattr(self, "_dump_signal", None))
        run = getattr(self, "_run", None)
        if run is not None and run.over is None:
            warnings.warn(f"unclosed {self!r}; call close(), or use 'with Bridge()'", ResourceWarning, 1, self)
            run.begin_to_close("its Bridge was dropped without close()")

    # For the calls.

    def current_run(self) -> Run:
        """Return the loop thread that runs; start one if none does.

        :raises BridgeClosed: the bridge is closed, or the loop ended as it started.
        :raises BaseException: what kept the loop from starting.
        """
        run: Run | None = self._run
        if run is not None and run.accepts:
            return run
        return self._start()

    def _start(self) -> Run:
        engine = _engine()
        if _exit.has_begun:
            return _exit.run_of(self._run)
        from .._runs.owned import LoopThread

        run: LoopThread | None = self._run
        if run is not None and run.over is not None and run.has(engine.loop_here()):
            # The loop's own thread, or a worker that it waits for, while it is shutting down.
            raise run.closed_error()
        with self._starting:
            if self._closed:
                raise BridgeClosed(f"{self!r} takes no more calls; make a new Bridge()")
            run = self._run
            if run is None or run.over is not None:
                if run is not None:
                    run.wait_ended()
                new = LoopThread(
                    name=self.name,
                    loop_factory=self._loop_factory,
                    install_reactor=self._install_reactor,
                    owner=self,
                    previous=run or self._parents_run,
                    shutdown_timeout=self._shutdown_timeout,
                    colocate=self._colocate,
                )
                if self._run is run:  # else a signal handler has started one since
                    new.watch(self.stall_after, self._meter)
                    _bridges.add(self)
                    self._run = new
                    _exit.check(new)
                started: Any = self._run or new
            else:
                started = run
            _exit.watch_child()
            # Here, and not only after it was made: a signal handler may block between the two, or raise.
            started.start()
        if self._closed:  # meanwhile; close() may have looked for a run before there was one
            started.begin_to_close(f"{self!r} was closed", final=True)
        started.wait_ready()
        if started.over is not None:
            if started.was_interrupted:
                return self._start()
            raise started.closed_error()
        new_run: LoopThread = started
        return new_run

    def forget_run(self) -> None:
        """Begin anew in a forked child: the loop is the parent's."""
        run = self._parents_run = self._run
        self._run = None
        self._starting = new_lock()
        if run is not None:
            run.forget()


class _DefaultBridge(Bridge):
    """The bridge behind the plain functions: after ``close()`` the next call starts it again."""

    def _begin_dumping(self) -> None:
        """Do nothing: configure() does it, once for this bridge and those that it makes to check the options."""

    def close(self) -> None:
        """End the loop; the next call starts a new one."""
        super().close()

    def _begin_to_close(self) -> LoopThread | None:
        run: LoopThread | None = self._run
        if run is not None:
            run.begin_to_close("the default bridge was closed")
        return run

    def __del__(self) -> None:
        pass


class _AttachedBridge(Bridge):
    """A bridge on a loop that someone else runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__("attached", **options)
        self._is_parents = False  # it ran when this process was forked
        self._attached = loop
        self._run = self._attach()
        _bridges.add(self)

    def take_options(self, other: Bridge) -> None:
        """Take over those of the options of another bridge that have a meaning for this one."""
        self.strategy = other.strategy
        self.stall_after = other.stall_after
        self.exit_grace = other.exit_grace
        self._run.watch(self.stall_after, self._meter)

    def _attach(self) -> Run:
        from .._runs.program import attach

        _exit.check()
        run = attach(self._attached, self._shutdown_timeout)
        _exit.check(run)
        run.watch(self.stall_after, self._meter)
        return run

    def current_run(self) -> Run:
        run: Run = self._run
        if run.accepts and self._attached.is_running():
            run.check()
            return run
        if _exit.has_begun:
            return _exit.run_of(run)
        with self._starting:
            if self._is_parents:
                raise BridgeClosed(
                    f"the loop that {self!r} is attached to runs in the process that this one was forked from; attach "
                    "to a loop of this one, or use a Bridge()"
                )
            if self._closed:
                raise BridgeClosed(f"{self!r} takes no more calls; attach another: Bridge.attach(loop)")
            run = self._run
            if run.calls_here and run.over is not None and self._attached.is_closed():
                raise run.closed_error()  # a reactor that has stopped never runs again
            if not self._attached.is_running():
                state = "is closed" if self._attached.is_closed() else "does not run"
                raise BridgeError(
                    f"the loop that {self!r} is attached to, {self._attached!r}, {state}; run it, or use a Bridge() of "
                    "its own"
                )
            if run.over is not None:
                self._run = run = self._attach()
                if not self._attached.is_running():  # it has stopped meanwhile, and told nobody
                    run.end("the loop that the bridge is attached to has stopped")
            run.check()
            return run

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop.

        :raises BridgeError: the bridge is attached to a reactor that has none.
        """
        run = self.current_run()
        if run.calls_here:
            raise BridgeError(f"a bridge has no loop on {self._attached!r}")
        return run.loop

    @property
    def reactor(self) -> Any:
        """The Twisted reactor on the loop.

        :raises BridgeError: there is none.
        """
        reactor = self.current_run().needed_reactor()
        if reactor is None:
            raise BridgeError("no Twisted reactor stands on the loop that the bridge is attached to")
        return reactor

    @property
    def thread(self) -> threading.Thread | None:
        """None: the thread is someone else's."""
        return None

    def close(self) -> None:
        """Detach from the loop, which goes on; open calls fail with ``BridgeClosed``."""
        self._closed = True
        self._run.detach(f"{self!r} was closed")

    def __del__(self) -> None:
        run = getattr(self, "_run", None)
        if run is not None:
            run.detach("its Bridge was dropped")

    def forget_run(self) -> None:
        """Begin anew in a forked child, where the loop runs no more if it ran; one that did not may be run there."""
        self._starting = new_lock()
        self._is_parents = self._attached.is_running()
        self._run.forget()


def _forked() -> None:
    """Begin anew in a forked child. Of the parent's threads there is only the one that has forked."""
    global _bridges, _default, _lock
    _lock = new_lock()  # another thread may have held it
    known = list(_bridges)
    _bridges = weakref.WeakSet(known)  # and have been iterating over this
    if isinstance(_default, _AttachedBridge):  # as under 'python -m bridge run'
        _default = None
    for bridge in known:
        bridge.forget_run()
    from .._calls import deadlock, errands
    from .._loop.worker_threads import forget_worker_loop
    from .._twisted import arrival
    from .._watch.records import records
    from .._watch.watchdog import watchdog

    forget_worker_loop()
    watchdog.after_fork()
    records.after_fork()
    arrival.after_fork()
    deadlock.after_fork()
    errands.after_fork()
    renew_after_fork()


def _flush_log(seconds: float) -> None:
    """Wait for the handlers of what was logged; not on a loop, which would stand still meanwhile."""
    from .._loop.worker_threads import loop_here
    from .._watch.records import records

    if loop_here() is None:
        records.flush(seconds)


_options: dict[str, Any] = {}
_default: Bridge | None = None


def configure(**options: Any) -> None:
    """Set options of the default bridge, before its first use.

    ::

        bridge.configure(strategy="event", stall_after=5)

    :param options: those of :class:`Bridge`; a later call adds to the earlier ones.
    :raises BridgeError: the default bridge is in use already, or dump_signal is set off the main thread.
    :raises TypeError: there is no such option, or its value is of the wrong type.
    :raises ValueError: a value is out of range.
    :raises StrategyUnavailable: there is no such strategy.
    """
    global _options
    with _lock:
        if isinstance(_default, _AttachedBridge):  # under 'python -m bridge run' its loop runs from the beginning
            _default.take_options(_DefaultBridge(**options))
            return
        starting = new_lock() if _default is None else _default._starting
        with starting:
            if _default is not None and _default.was_started:
                raise BridgeError(
                    "the default bridge is in use already; call bridge.configure() before the first call, or make a "
                    "Bridge(...) of your own with these options"
                )
            merged = _options | options
            _DefaultBridge(**merged)  # refuses what is wrong; nothing starts
            dump_on(merged.get("dump_signal"))
            no_dump_on(_options.get("dump_signal"))
            _options = merged
            if _default is not None:
                Bridge.__init__(_default, **merged)
                _default._starting = starting  # on which another thread may wait


def default_bridge() -> Bridge:
    """Return the bridge behind the plain functions. It starts with its first call, and again after a ``close()``."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = _DefaultBridge(**_options)
    return _default


def use_as_default(bridge: Bridge) -> None:
    """Put a bridge behind the plain functions; for a program that is run on the loop."""
    global _default
    _default = bridge


def exit_begins() -> None:
    """Say nothing from now on of calls that the end of the program fails; for a program that is run on the loop."""
    _exit.be_quiet()


def bridge_here(loop: asyncio.AbstractEventLoop | None) -> Bridge | None:
    """Return the bridge whose loop that is, None if it is no bridge's."""
    if loop is not None:
        for bridge in list(_bridges):
            run = bridge._run
            if run is not None and run.has(loop):
                return bridge
    return None


def run_of_this_thread() -> Run | None:
    """Return the run of the loop or reactor whose thread this is, None if it is no bridge's."""
    ident = get_ident()
    for bridge in list(_bridges):
        run: Run | None = bridge._run
        if run is not None and run.over is None and run.ident == ident:
            return run
    return None


def _find_bridge(loop: asyncio.AbstractEventLoop | None) -> Bridge:
    """Return the bridge of that loop, which runs in this thread or handed it its work; else the default one."""
    found = bridge_here(loop)
    if found is None and loop is not None and _loaded is not None and _loaded.is_ours(loop):
        with _lock:
            # A worker thread of a loop of ours that the program runs. The loop keeps the bridge for the next call.
            found = bridge_here(loop)
            if found is None:
                found = loop.bridge = Bridge.attach(loop)  # type: ignore[attr-defined]
    return found or _default or default_bridge()


@overload
def block_on(x: Awaitable[T], *, timeout: float | None = None, strategy: str | Strategy | None = None) -> T: ...
@overload
def block_on(
    x: concurrent.futures.Future[T], *, timeout: float | None = None, strategy: str | Strategy | None = None
) -> T: ...
@overload
def block_on(
    x: Callable[[], Awaitable[T]], *, timeout: float | None = None, strategy: str | Strategy | None = None
) -> T: ...
@overload
def block_on(
    x: Callable[[], concurrent.futures.Future[T]],
    *,
    timeout: float | None = None,
    strategy: str | Strategy | None = None,
) -> T: ...
@overload
def block_on(x: Callable[[], T], *, timeout: float | None = None, strategy: str | Strategy | None = None) -> T: ...
def block_on(x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
    """Wait for x and return its result: ``default_bridge().block_on(x)``, or in a worker thread of another bridge its.

    ::

        from bridge import block_on
        page = block_on(lambda: treq.get(url))        # Twisted
        rows = block_on(connection.fetch(query))      # asyncio

    Arguments and errors are those of :meth:`Bridge.block_on`.
    """
    try:
        verbs = _loaded or _engine(x)
        if timeout is None and strategy is None:
            loop = verbs.get_running_loop()
            block_here = None if loop is None else verbs.short_way(loop, x)
            if block_here is not None:
                return block_here(loop, x)
        return verbs.block_on(None, _find_bridge, x, timeout, strategy)
    except BaseException as error:
        trim(error)
        raise


def run(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function on the loop's thread, in a task, and return its result.

    ::

        @run
        def main(): ...                       # in which block_on(treq.get(url)) is safe as written

    Arguments and errors are those of :meth:`Bridge.run`.
    """
    try:
        result: T = _engine().run(None, _find_bridge, functools.partial(fn, *args, **kwargs))
    except BaseException as error:
        trim(error)
        raise
    return result


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new asyncio loop of ours, for the program to run.

    Tasks on it await Deferreds, ``block_on`` works in everything that it runs, with no second thread, and it has a
    Twisted reactor from the moment that it runs and Twisted is needed: the installed one, if that is idle or none is
    installed, else its own.

    ::

        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            runner.run(main())
    """
    _engine()
    from .._runs.program import new_event_loop as make

    return make()


def install() -> Any:
    """Put the reactor on a loop of ours, in this thread, and return it; the program runs it.

    ::

        reactor = bridge.install()
        reactor.callWhenRunning(main)          # in which block_on works
        reactor.run()

    :raises ReactorConflict: a reactor runs already, belongs to a bridge, or cannot be adopted.
    """
    _engine()
    from .._runs.program import install as put

    return put()


@overload
def submit(x: Awaitable[T]) -> concurrent.futures.Future[T]: ...
@overload
def submit(x: concurrent.futures.Future[T]) -> concurrent.futures.Future[T]: ...
@overload
def submit(x: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]: ...
@overload
def submit(x: Callable[[], concurrent.futures.Future[T]]) -> concurrent.futures.Future[T]: ...
@overload
def submit(x: Callable[[], T]) -> concurrent.futures.Future[T]: ...
def submit(x: Any) -> concurrent.futures.Future[Any]:
    """Start x and return a ``concurrent.futures.Future`` of its result at once.

    Arguments and errors are those of :meth:`Bridge.submit`.
    """
    try:
        future: concurrent.futures.Future[Any] = _engine(x).submit(None, _find_bridge, x)
    except BaseException as error:
        trim(error)
        raise
    return future


def wait(
    fs: Iterable[concurrent.futures.Future[T]], timeout: float | None = None, return_when: str = "ALL_COMPLETED"
) -> DoneAndNotDoneFutures[T]:
    """Wait for Futures, as ``concurrent.futures.wait`` does, in the way of :func:`block_on`.

    On a loop's own thread the stack switches and the loop goes on, in a GUI's thread its events run, in a process that
    gevent has patched the greenlet blocks only. ``concurrent.futures.wait`` stops the thread, and waits for ever for
    work that needs it. What ends the wait (the time-out, Ctrl-C, a cancellation) leaves every Future as it is. ::

        done, not_done = bridge.wait([bridge.submit(fetch(url)) for url in urls], timeout=10)

    :param fs: Futures of ``concurrent.futures`` from anywhere, those of :func:`submit` among them.
    :param timeout: seconds, None to wait for ever.
    :param return_when: ``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED`` of ``concurrent.futures``.
    :returns: the named tuple ``(done, not_done)`` of two sets; duplicates are left out.
    :raises TypeError: one of fs is no such Future.
    :raises ValueError: there is no such return_when.
    :raises DeadlockError: it would have to wait on the loop's root stack, outside any callback.
    :raises StrategyUnavailable: work of one of fs needs this very thread, whose loop cannot go on meanwhile.
    """
    try:
        _engine()
        from .._calls import completed

        return completed.wait(_find_bridge, fs, timeout, return_when)
    except BaseException as error:
        trim(error)
        raise


def as_completed(
    fs: Iterable[concurrent.futures.Future[T]], timeout: float | None = None
) -> Iterator[concurrent.futures.Future[T]]:
    """Yield Futures as they end, as ``concurrent.futures.as_completed`` does, in the way of :func:`block_on`.

    It waits as :func:`wait` does, takes the same Futures, and leaves nothing behind in them when it is left early. ::

        for future in bridge.as_completed(bridge.submit(fetch(url)) for url in urls):
            print(future.result())

    :param fs: as for :func:`wait`; duplicates are yielded once.
    :param timeout: seconds that all of it may take, from the first item on; None for no limit.
    :raises TimeoutError: the time is up.
    :raises TypeError: as for :func:`wait`.
    :raises DeadlockError: as for :func:`wait`.
    :raises StrategyUnavailable: as for :func:`wait`.
    """
    try:
        _engine()
        from .._calls import completed

        futures = completed.as_completed(_find_bridge, fs, timeout)
        del fs  # which would keep alive what has been yielded
        yield from futures
    except BaseException as error:
        trim(error)
        raise


class _DefaultViews(Facade):
    """The default bridge, or in a worker thread of another bridge that one."""

    if not TYPE_CHECKING:
        block_on = staticmethod(block_on)

    def caller(self) -> Caller:
        """Return the bridge that serves this thread."""
        return _find_bridge(_engine().loop_here())

    def __reduce__(self) -> str:
        return "_plain"

    def __repr__(self) -> str:
        return "<the default bridge>"


_plain = _DefaultViews()
blocking = _plain.blocking
iterate = _plain.iterate
enter = _plain.enter
