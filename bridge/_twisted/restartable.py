"""BridgeReactor: the reactor of a loop of ours. It can start again on another loop, and it reaps its children itself.

No reactor *has* this class. Programs compare the class of the installed reactor, as Scrapy does, and expect exactly
Twisted's ``AsyncioSelectorReactor``. So each reactor of ours is an instance of that, and :func:`become` gives it the
methods of BridgeReactor as attributes of its own. Since it is no instance of the classes that define these methods,
they call the methods of Twisted's class by its name instead of ``super()``.

:mod:`.reactor` describes how a reactor becomes one of ours, and how it moves from loop to loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import weakref
from collections import deque
from collections.abc import Callable
from types import FrameType, FunctionType, MethodType
from typing import Any, ClassVar, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.error import ReactorAlreadyRunning, ReactorNotRestartable
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.tcp import Connection
from twisted.python.log import callWithLogger  # pyright: ignore[reportUnknownVariableType] - it has no annotations

from .._errors import BridgeClosed, at
from .._loop.base import BridgeLoop
from .._loop.ending import end_tasks, run_to_end
from .._loop.switching import SwitchingLoop
from .._loop.worker_threads import PoolThread
from .._private.cpython import get_running_loop
from .._threads.native import get_ident
from . import children
from .guard import REFUSED, GuardedReactor, guard, is_guarded, refuses
from .lives import LivingReactor
from .pool import make_real
from .runners import runs_already, was_stopped

# Seconds that tasks get for their cleanup when a program's own reactor has stopped.
_CLEAN_UP = 5.0


class _Unwatched(int):
    """A writer's descriptor that the loop does not watch yet."""


@refuses(REFUSED["reactor"])
class BridgeReactor(LivingReactor):
    """A guarded reactor that can start again on another loop, and that notifies its bridge when it ends."""

    # Called when the reactor stops or crashes, before anything that its shutdown may wait for.
    on_crash: Callable[[], object] | None
    # Called, in any thread, when another loop wants this reactor. The owner parts the reactor from its loop if the
    # reactor is idle. None if the owner keeps it in any case.
    leave: Callable[[], object] | None
    on_new_loop: ClassVar[Callable[[BridgeReactor], object]]  # binds an idle reactor to a new loop
    children: dict[Any, int | None]  # the watched child processes, each with its pidfd or None
    _writers: Any  # descriptors by writer; Twisted annotates it otherwise
    _from_threads: deque[tuple[Callable[..., Any], tuple[object, ...], dict[str, object]]]

    def crash(self) -> None:
        """Stop the loop, as in Twisted; but call ``on_crash`` instead if it is set: our shutdown needs the loop."""
        PosixReactorBase.crash(self)
        if self.on_crash is not None:
            self.on_crash()
        else:
            self._asyncioEventloop.stop()

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run the loop in this thread until the reactor is stopped or crashes. The loop stays open.

        After stop() the tasks that are left are cancelled and clean up. After crash() they go on in the next run.

        If another owner has closed the loop, a new one is made.

        :raises ReactorAlreadyRunning: the reactor runs, or its loop does.
        :raises ReactorNotRestartable: the reactor was stopped before.
        """
        if self._started:
            raise ReactorAlreadyRunning(self._runs_already(sys._getframe(1)))
        if self._asyncioEventloop.is_closed():
            if self.leave is not None:
                self.leave()
            if self.owner is None:
                BridgeReactor.on_new_loop(self)
        loop = self._asyncioEventloop
        if self._startedBefore:
            raise ReactorNotRestartable(was_stopped(sys._getframe(1)))
        if loop.is_running():
            raise ReactorAlreadyRunning(self._runs_already(sys._getframe(1)))
        errors: list[BaseException] = []

        def start() -> None:
            # In the loop, because functions that were given to callWhenRunning may block.
            try:
                self.startRunning(installSignalHandlers=installSignalHandlers)
            except BaseException as error:
                errors.append(error)
                loop.stop()

        loop.call_soon(start)
        if isinstance(loop, BridgeLoop):
            loop.run_first()  # startup comes before timers that are due already
        try:
            loop.run_forever()
        finally:
            self._justStopped = False
            if not errors and not self._has_crashed():
                _end_tasks(loop)
        if errors:
            raise errors.pop()

    def _runs_already(self, frame: FrameType) -> str:
        is_here = get_running_loop() is self._asyncioEventloop
        is_of_bridge = not isinstance(self.owner, asyncio.AbstractEventLoop)
        return runs_already(frame, get_ident() if is_here else self.loop_thread, is_of_bridge)

    def _has_crashed(self) -> bool:
        return not self._started and not self._startedBefore

    def start_late(self) -> None:
        """Start the reactor on a loop that runs already. Called on the loop's thread."""
        cast(Any, self).installWaker()  # does nothing if it has one
        self.startRunning(installSignalHandlers=False)

    def wakeUp(self) -> None:
        """Make the loop process the reactor's queues. Any thread may call this.

        Between two runs the queues wait for the next run.
        """
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._asyncioEventloop.call_soon_threadsafe(self._onTimer)

    def _is_elsewhere(self) -> bool:
        """Return whether this is a callback of a loop that the reactor has left."""
        running = get_running_loop()
        return running is not None and running is not self._asyncioEventloop

    def _onTimer(self, *more: Any, **options: Any) -> None:
        if self._is_elsewhere():
            return
        AsyncioSelectorReactor._onTimer(self, *more, **options)  # type: ignore[no-untyped-call]
        if self._scheduledAt is None:
            # The handle keeps the context of the code that set the timer, and so the call that the code ran in.
            handle, self._timerHandle = self._timerHandle, None
            if handle is not None:
                handle.cancel()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:  # type: ignore[override]
        """Call a function on the loop's thread, soon. Between two runs, call it when the next run begins."""
        # Kept in a queue of the reactor, since a loop that is closed at this moment drops its callbacks.
        self._from_threads.append((callable, args, kwargs))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._asyncioEventloop.call_soon_threadsafe(self._take_from_thread)

    def take_from_threads(self) -> None:
        """Schedule the functions that callFromThread got while the previous loop was ending."""
        for _ in range(len(self._from_threads)):
            self._asyncioEventloop.call_soon_threadsafe(self._take_from_thread)

    def _take_from_thread(self) -> None:
        if self._is_elsewhere():  # take_from_threads() has posted this again, to the other loop
            return
        self.callLater(0, self._call_from_thread)

    def _call_from_thread(self) -> None:
        try:
            function, args, kwargs = self._from_threads.popleft()  # not before: a reactor that stops drops its timers
        except IndexError:
            return
        function(*args, **kwargs)

    def _insertNewDelayedCalls(self, *more: Any, **options: Any) -> None:
        new = self._newTimedCalls
        AsyncioSelectorReactor._insertNewDelayedCalls(self, *more, **options)
        new.clear()
        self._newTimedCalls = new

    # Between two runs the loop is closed. Timers, readers and writers that are added then wait for the next run.

    def _reschedule(self, *more: Any, **options: Any) -> None:
        try:
            AsyncioSelectorReactor._reschedule(self, *more, **options)  # type: ignore[no-untyped-call]
        except RuntimeError:
            if not self._asyncioEventloop.is_closed():
                raise

    def addReader(self, reader: Any) -> None:
        """Watch a descriptor for reading."""
        try:
            AsyncioSelectorReactor.addReader(self, reader)  # type: ignore[no-untyped-call]
        except RuntimeError:
            if not self._asyncioEventloop.is_closed():
                raise
            self._readers[reader] = reader.fileno()

    def addWriter(self, writer: Any) -> None:
        """Watch a descriptor for writing.

        A connection tries to write in the loop's next iteration, without a poll. Most often the system takes all data.
        The descriptor is watched only if data are left. That saves adding and removing the descriptor in the poller for
        each message.
        """
        if isinstance(writer, Connection) and writer.connected and writer not in self._writers:
            fd = writer.fileno()
            if fd >= 0 and not self._asyncioEventloop.is_closed():
                unwatched = self._writers[writer] = _Unwatched(fd)
                self._asyncioEventloop.call_soon(self._write, writer, unwatched)
                return
        try:
            AsyncioSelectorReactor.addWriter(self, writer)  # type: ignore[no-untyped-call]
        except RuntimeError:
            if not self._asyncioEventloop.is_closed():
                raise
            self._writers[writer] = writer.fileno()

    def removeWriter(self, writer: Any) -> None:
        """Stop watching a descriptor for writing."""
        if type(self._writers.get(writer)) is not _Unwatched:
            AsyncioSelectorReactor.removeWriter(self, writer)  # type: ignore[no-untyped-call]
            return
        del self._writers[writer]

    def _write(self, writer: Any, unwatched: _Unwatched) -> None:
        if self._writers.get(writer) is unwatched:
            callWithLogger(writer, self._readOrWrite, writer, False)  # type: ignore[no-untyped-call]
            if self._writers.get(writer) is unwatched:  # the system has not taken all data
                del self._writers[writer]
                AsyncioSelectorReactor.addWriter(self, cast(Any, writer))  # type: ignore[no-untyped-call]

    # Each child is watched separately, without a handler of SIGCHLD: see children.py.

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        """Start a process and watch it, so that it is reaped when it ends."""
        child = AsyncioSelectorReactor.spawnProcess(self, *args, **kwargs)  # type: ignore[no-untyped-call]
        children.watch(self, child)
        return child

    def _signalsFactory(self, *more: Any, **options: Any) -> Any:
        return ReactorBase._signalsFactory(self, *more, **options)

    def keep_time(self) -> None:
        """Set the timer of the loop before a stack blocks: the stack may be inside the method that runs the timers."""
        if (self._newTimedCalls or self._pendingTimedCalls) and self._scheduledAt is None:
            self._reschedule()

    def _initThreadPool(self, *more: Any, **options: Any) -> None:
        LivingReactor._initThreadPool(self, *more, **options)
        self._tie_pool()

    def _tie_pool(self) -> None:
        """Make the pool start threads that know the loop which they work for."""
        pool: Any = self.threadpool
        if pool is not None:
            make_real(pool)
            # Daemon threads: Python joins all other threads before the shutdown of the reactor, so a thread that the
            # main thread has started would keep the process from exiting.
            pool.threadFactory = functools.partial(PoolThread, lambda: self._asyncioEventloop, daemon=True)


# What become() gives to a reactor. Only methods: a property cannot be an attribute of an instance (see guard()).
_METHODS = {
    name: each
    for cls in (GuardedReactor, LivingReactor, BridgeReactor)
    for name, each in vars(cls).items()
    if isinstance(each, FunctionType)
}


def become(reactor: Any) -> BridgeReactor:
    """Make a reactor of Twisted's asyncio class one of ours, unless it is one already. Return it."""
    if not is_guarded(reactor):
        vars(reactor).update(
            {name: MethodType(method, reactor) for name, method in _METHODS.items()},
            **{"owner": None, "leave": None, "on_crash": None, "loop_thread": None, "_from_threads": deque()},
            **{"children": {}, "retries": [], "seen": weakref.WeakSet()},
        )
        guard(reactor)
    return cast(BridgeReactor, reactor)


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """End the tasks of a loop that has stopped. Blocked stacks get BridgeClosed."""
    blocked = False
    if isinstance(loop, SwitchingLoop):
        blocked = bool(loop.waits)
        loop.end_waits(_closed)
    if blocked or asyncio.all_tasks(loop):
        deadline = loop.time() + _CLEAN_UP
        run_to_end(loop, lambda: end_tasks(loop, deadline))


def _closed() -> BridgeClosed:
    return BridgeClosed("the loop was closed; the call was not completed" + at("loop-ended"))
