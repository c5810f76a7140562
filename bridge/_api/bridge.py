"""Bridge: the calls into one loop. Its ``Runs`` starts that loop, or finds it (_runs/factories.py).

Importing this module starts nothing and imports no asyncio: the first call does. Twisted is imported when it is needed.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .._diagnostics.dump import dump_on, no_dump_on
from .._errors import BridgeClosed, BridgeError, at
from .._runs.runs import Runs, bridge_of_loop, engine, run_of_this_process
from .._values.outcomes import trim
from .._views.caller import Caller
from .engine import calls_for, flush_log, when_loaded
from .verbs import Verbs

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

    from anyio.from_thread import BlockingPortal

    from .._runs.options import Options
    from .._runs.run import Run
    from .._watch.stats import Stats
    from ..strategies.interface import Strategy

    How = str | Strategy | None  # a strategy, for the overloads

P = ParamSpec("P")
T = TypeVar("T")

_calls: ModuleType | None = None


@when_loaded
def _use(calls: ModuleType) -> None:
    global _calls
    _calls = calls


class Bridge(Verbs):
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
    :param stall_after: seconds after which a call that still waits is logged once as a warning, with the stacks of both
        threads; None for never.
    :param shutdown_timeout: seconds that work which was cancelled is given to clean up, by a call that timed out, by
        :meth:`close` and as the process exits.
    :param exit_grace: seconds for which other threads may go on to call after the main thread has ended; then their
        calls fail. None sets no limit. Daemon threads may call until the exit handlers have run.
    :param dump_signal: a signal, such as ``signal.SIGUSR1``, on which :func:`dump` prints every open call. The earlier
        handler is called as well, and :meth:`close` puts it back. To be set in the main thread.
    :param await_deferreds: whether all asyncio tasks of the process can await Deferreds from this bridge's start on,
        as soon as Twisted is imported. False leaves Twisted's ``Deferred.__await__`` as it is, unless another loop of
        ours has replaced it. None is True, unless :func:`configure` says otherwise.
    :param context_out: whether context variables that the work sets are set for the caller when the call ends. False
        keeps the threads of a pool, of a web server for instance, from collecting what nobody resets. On the loop's own
        thread ``block_on`` is an ``await``, and shares the variables whatever this says.
    :raises BridgeError: dump_signal was given, and this is not the main thread.
    :raises StrategyUnavailable: there is no such strategy.
    :raises ValueError: a number of seconds is negative or NaN.
    :raises TypeError: an argument is of the wrong type.
    """

    _dump_signal: int | None

    def __init__(
        self,
        name: str | None = None,
        *,
        strategy: str | Strategy = "auto",
        install_reactor: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        stall_after: float | None = 30.0,
        shutdown_timeout: float = 5.0,
        exit_grace: float | None = 0.0,
        dump_signal: int | None = None,
        await_deferreds: bool | None = None,
        context_out: bool = True,
    ) -> None:
        from .._runs.factories import OwnedRuns
        from .._runs.options import Options

        options = Options(
            name=name or "bridge",
            strategy=strategy,
            install_reactor=install_reactor,
            loop_factory=loop_factory,
            stall_after=stall_after,
            shutdown_timeout=shutdown_timeout,
            exit_grace=exit_grace,
            dump_signal=dump_signal,
            await_deferreds=await_deferreds,
            context_out=context_out,
        )
        self._set_up(options, OwnedRuns)
        dump_on(options.dump_signal)
        self._dump_signal = options.dump_signal

    @classmethod
    def _with_runs(cls, options: Options, make_runs: Callable[[Bridge, Options], Runs]) -> Bridge:
        """Return a bridge with runs of another kind. No signal makes it dump."""
        made = cls.__new__(cls)
        made._set_up(options, make_runs)
        return made

    def _set_up(self, options: Options, make_runs: Callable[[Bridge, Options], Runs]) -> None:
        """Give the bridge its options and its runs."""
        self._dump_signal = None
        self.name = options.name or "bridge"
        self._take(options)
        self.runs = make_runs(self, options)
        self.current_run: Callable[[], Run] = self.runs.current  # an attribute: as a method it would cost a frame

    def _take(self, options: Options) -> None:
        """Copy the options that the calls read."""
        self.strategy: Strategy = options.strategy
        self.stall_after = options.stall_after
        self.exit_grace = options.exit_grace
        self.context_out = options.context_out

    # The calls.

    @overload
    def block_on(
        self, x: Awaitable[T], *, timeout: float | None = None, strategy: How = None, context_out: bool | None = None
    ) -> T: ...
    @overload
    def block_on(
        self,
        x: concurrent.futures.Future[T],
        *,
        timeout: float | None = None,
        strategy: How = None,
        context_out: bool | None = None,
    ) -> T: ...
    @overload
    def block_on(
        self,
        x: Callable[[], Awaitable[T]],
        *,
        timeout: float | None = None,
        strategy: How = None,
        context_out: bool | None = None,
    ) -> T: ...
    @overload
    def block_on(
        self,
        x: Callable[[], concurrent.futures.Future[T]],
        *,
        timeout: float | None = None,
        strategy: How = None,
        context_out: bool | None = None,
    ) -> T: ...
    @overload
    def block_on(
        self, x: Callable[[], T], *, timeout: float | None = None, strategy: How = None, context_out: bool | None = None
    ) -> T: ...
    def block_on(
        self,
        x: Any,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        context_out: bool | None = None,
    ) -> Any:
        """Wait for x in this thread, while the loop runs it in its own, and return its result.

        ::

            bridge.block_on(asyncio.sleep(1, "done"))                  # a coroutine: 'done'
            bridge.block_on(lambda: treq.get(url), timeout=10)         # called on the loop's thread

        The awaited code sees the caller's context variables, and what it sets in them is set for the caller when the
        call ends.

        :param x: a coroutine, any awaitable, a Deferred, an asyncio or concurrent Future, or a callable without
            arguments, which is called on the loop's thread and returns one of these or another value.
        :param timeout: seconds, 0 for one iteration of the loop, None to wait for ever. Then the work is cancelled and
            given ``shutdown_timeout`` seconds to clean up. A result that comes all the same is returned.
        :param strategy: how to wait; None for the bridge's own strategy.
        :param context_out: False leaves the caller's context variables as they are; None for the bridge's own option.
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
            return (_calls or calls_for(x)).block_on(self, x, timeout, strategy, context_out)
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
        ``exception()`` wait as :meth:`block_on` does; a time-out or Ctrl-C there leaves the work running. For
        several Futures there are :func:`bridge.wait` and :func:`bridge.as_completed`. May be called in any thread, the
        loop's own included.

        :param x: as for :meth:`block_on`.
        :raises TypeError: x cannot be waited for.
        :raises BridgeError: x is a coroutine that was awaited before, or bound to a loop that does not run.
        :raises BridgeClosed: the bridge is closed. A loop that ends later is the Future's exception.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        try:
            future: concurrent.futures.Future[Any] = calls_for(x).submit(self, x)
        except BaseException as error:
            trim(error)
            raise
        return future

    @overload
    def run(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call a function on the loop's thread, in a task, and return its result.

        ``block_on`` in it switches stacks, so the loop goes on meanwhile. The function may touch the reactor, as in
        ``block_on(treq.get(url))``. If this is that thread already, the function is just called. What the function of
        an ``async def`` returns is awaited in that task.

        ::

            bridge.run(main)

        :param fn: the function, with its arguments after it.
        :raises BaseException: what the function raised.
        :raises TypeError: fn is not a function; for ``run(main())`` the message says what to write.
        :raises BridgeClosed: as for :meth:`block_on`.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        try:
            return calls_for(fn).run(self, fn, args, kwargs)
        except BaseException as error:
            trim(error)
            raise

    @staticmethod
    def attach(
        loop_or_reactor: Any = None,
        *,
        strategy: str | Strategy = "auto",
        stall_after: float | None = 30.0,
        context_out: bool = True,
    ) -> Bridge:
        """Return a bridge on a loop that someone else runs: uvicorn's, Jupyter's, twistd's, a GUI's.

        Other threads have all the verbs on it. On the loop's own thread ``block_on`` works if the loop is ours, and is
        refused otherwise. ``close()`` only detaches. If the loop stops, open calls fail; when it runs again the
        bridge serves again.

        A reactor without an asyncio loop, such as epoll's or Qt's, serves Deferreds, callables and coroutines that
        await Deferreds; a coroutine that needs asyncio raises a ``BridgeError`` that says so.

        ::

            bridge = Bridge.attach()                       # in a coroutine, or on the reactor's thread
            await asyncio.to_thread(legacy, bridge)        # which calls bridge.block_on(...)

        :param loop_or_reactor: an asyncio loop, or a reactor of any kind; None for what runs here.
        :param strategy: as for :class:`Bridge`.
        :param stall_after: as for :class:`Bridge`.
        :param context_out: as for :class:`Bridge`.
        :raises BridgeError: nothing runs here, or the loop is closed.
        :raises TypeError: it is neither a loop nor a reactor.
        """
        calls_for()
        from .._runs.factories import AttachedRuns
        from .._runs.options import Options
        from .._runs.program import loop_of

        loop = loop_of(loop_or_reactor)
        found: Bridge | None = bridge_of_loop(loop)
        if found is not None:
            return found
        options = Options(name="attached", strategy=strategy, stall_after=stall_after, context_out=context_out)
        attached = Bridge._with_runs(options, functools.partial(AttachedRuns, loop=loop))
        attached.runs.know_workers()
        return attached

    def caller(self) -> Caller:
        """Return the bridge itself: blocking(), iterate() and enter() call this one."""
        return self

    @property
    def options(self) -> Options:
        """The options of this bridge, to read: ``bridge.options.stall_after``. The next start uses them."""
        return self.runs.options

    # Its runs.

    @property
    def last_run(self) -> Run | None:
        """The run that runs or ran last."""
        run: Run | None = self.runs.last
        return run

    @property
    def running(self) -> bool:
        """Whether the loop runs. Reading this does not start it."""
        run = self.runs.last
        return run is not None and run.over is None

    @property
    def was_started(self) -> bool:
        """Whether a loop of this bridge is starting, runs or has run."""
        run = self.runs.last
        return run is not None and (run.is_ready or run.over is None)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop, which is started if need be.

        :raises BridgeClosed: the bridge is closed.
        :raises BridgeError: the bridge is attached to a reactor without an asyncio loop, or its loop does not run.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        run = run_of_this_process(self)
        if run.calls_here:
            raise BridgeError(f"a bridge has no loop on {run.loop!r}" + at("reactor-without-asyncio"))
        return run.loop

    @property
    def reactor(self) -> Any:
        """The Twisted reactor on this bridge's loop; either is started if need be.

        It belongs to the loop's thread: call its methods there, as in ``block_on(lambda: reactor.listenTCP(...))``.

        :raises BridgeClosed: the bridge is closed.
        :raises BridgeError: the bridge is attached to a loop that no reactor stands on, or that does not run.
        :raises ReactorConflict: as for :meth:`block_on`.
        :raises StrategyUnavailable: Twisted lacks a private name that a reactor of ours needs.
        """
        reactor = run_of_this_process(self).needed_reactor()
        if reactor is None:
            raise BridgeError("no Twisted reactor stands on the loop that the bridge is attached to" + at("no-reactor"))
        return reactor

    @property
    def portal(self) -> BlockingPortal:
        """A ``BlockingPortal`` of anyio's on this bridge's loop, which is started if need be.

        It serves until the loop ends; the next run has another one. Use it where a library asks for a portal.

        :raises BridgeClosed: the bridge is closed.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        run = run_of_this_process(self)
        if run.portal is None:
            from .._loop.conversion import open_portal

            opened = self.block_on(open_portal())
            from .._calls.conditions import serve_portal

            serve_portal(opened, self.block_on)
            with self.runs.starting:
                if run.portal is None:
                    run.portal = opened
            if run.portal is not opened:  # another thread was faster
                self.submit(opened.stop())
        portal: BlockingPortal = run.portal
        return portal

    @property
    def thread(self) -> threading.Thread | None:
        """The loop's thread; None while the bridge does not run, and where the thread is somebody else's."""
        run = self.runs.last
        return run.own_thread if run is not None and run.over is None else None

    def stats(self) -> Stats:
        """Return statistics of the calls since the bridge was made: how many, how they ended, how long they took.

        ::

            bridge.stats().timed_out
            bridge.stats().percentile(99)      # seconds

        Calls from other threads count, and calls of :meth:`submit`. On the loop's own thread each block of a stack is
        counted. This starts nothing, and may be called in any thread.
        """
        run, meter = self.runs.last, self.runs.meter
        return meter.stats(0, 0) if run is None else meter.stats(len(run.open), run.switches)

    def start(self) -> None:
        """Start the loop, if it does not run. The first call does so by itself.

        :raises BridgeClosed: the bridge is closed.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        run_of_this_process(self)

    def close(self, *, cancel_remaining: bool = True) -> None:
        """End the loop for good. Every open call and every later one raises ``BridgeClosed``.

        Tasks are cancelled and given ``shutdown_timeout`` seconds to clean up, asynchronous generators closed, and the
        shutdown triggers of the reactor run. This waits for all that. On the loop's own thread it only starts the
        closing. Closing a closed bridge does nothing. The default bridge starts again with its next call, and a bridge
        that is attached only detaches.

        :param cancel_remaining: False waits first, without a time limit, for what :attr:`portal` still runs, as a
            portal of anyio's own does at the end of its ``with`` block. The portal takes no more work meanwhile.
        """
        engine.renew()  # or a forked child might wait for a thread of its parent's
        try:
            if not cancel_remaining:
                self._finish_portal()
        finally:
            self._close()

    def _finish_portal(self) -> None:
        run = self.runs.last
        if run is not None and run.portal is not None and not run.state.is_over:
            from .._loop.conversion import finish_portal

            with contextlib.suppress(BridgeClosed):  # the run has ended, and with it the portal
                self.block_on(finish_portal(run.portal))

    def _close(self) -> None:
        try:
            run = self.runs.begin_to_close()
        except BaseException:  # Ctrl-C: a later call must not meet a half closed loop
            self.runs.begin_to_close()
            raise
        number, self._dump_signal = self._dump_signal, None
        no_dump_on(number)
        if run is not None:
            run.wait_closed()
            flush_log(self.runs.options.shutdown_timeout)

    def __enter__(self) -> Bridge:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.runs.is_closed else "running" if self.running else "not started"
        return f"<Bridge {self.name!r}, {state}>"

    def __del__(self) -> None:
        runs = getattr(self, "runs", None)
        if runs is None:  # an option was refused
            return
        no_dump_on(self._dump_signal)
        text = f"unclosed {self!r}; call close(), or use 'with Bridge()'"  # drop() changes the repr
        if runs.drop():
            warnings.warn(text + at("unclosed-bridge"), ResourceWarning, 1, self)
