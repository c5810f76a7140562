"""BridgeReactor: the reactor of a loop of ours. It can start again on another loop, and it reaps its children itself.

How an object becomes one, and moves from loop to loop, is told in :mod:`.reactor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.base import ReactorBase
from twisted.internet.error import ReactorAlreadyRunning
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.tcp import Connection
from twisted.python.log import callWithLogger  # pyright: ignore[reportUnknownVariableType] - it has no annotations

from .._errors import BridgeClosed
from .._loop.switching import SwitchingLoop
from .._loop.worker_threads import PoolThread
from .._threads.native import get_ident
from . import children
from .guard import GuardedReactor, guarded
from .pool import make_real

# Seconds that tasks are given to clean up when a program's own reactor has stopped.
_CLEAN_UP = 5.0


class _Unwatched(int):
    """The number of a writer's descriptor that the loop does not watch yet."""


class BridgeReactor(GuardedReactor):
    """A guarded reactor that can start again on another loop, and that tells its bridge when it ends."""

    # Called as the reactor stops or crashes, before anything that its shutdown may wait for.
    on_crash: Callable[[], object] | None = None
    _writers: Any  # by writer, the number of its descriptor; Twisted's own annotation is another
    _from_threads: deque[tuple[Callable[..., Any], tuple[object, ...], dict[str, object]]]

    @guarded
    def crash(self) -> None:
        """Stop the loop, as Twisted's own; while a shutdown of ours is running, the loop is needed to finish it."""
        PosixReactorBase.crash(self)
        if self.on_crash is not None:
            self.on_crash()
        else:
            self._asyncioEventloop.stop()

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run the loop in this thread, until the reactor is stopped; for a program that has called install()."""
        loop = self._asyncioEventloop
        if self._started or loop.is_running():
            raise ReactorAlreadyRunning
        errors: list[BaseException] = []

        def start() -> None:
            # In the loop, because what was given to callWhenRunning may block.
            try:
                self.startRunning(installSignalHandlers=installSignalHandlers)
            except BaseException as error:
                errors.append(error)
                loop.stop()

        loop.call_soon(start)
        try:
            loop.run_forever()
        finally:
            self._justStopped = False
            if not errors:
                _end_tasks(loop)
            loop.close()  # what is still blocked gets BridgeClosed; a reactor's run() is its last
        if errors:
            raise errors.pop()

    def start_late(self) -> None:
        """Start in the loop, which has run for a while."""
        cast(Any, self).installWaker()  # unless it has one
        self.startRunning(installSignalHandlers=False)

    def wakeUp(self) -> None:
        """Do what waits in the reactor's queues; any thread may call this. Between two lives it waits for the next."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._asyncioEventloop.call_soon_threadsafe(self._onTimer)

    def _onTimer(self, *more: Any, **options: Any) -> None:
        super()._onTimer(*more, **options)  # type: ignore[no-untyped-call]
        if self._scheduledAt is None:
            # The timer's handle has the context of who set it, and so the call that it was set in.
            handle, self._timerHandle = self._timerHandle, None
            if handle is not None:
                handle.cancel()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:  # type: ignore[override]
        """Call a function on the loop's thread, soon; between two lives of the loop, when the next begins."""
        # Kept here, since a loop that is closed just now throws away what it was given.
        self._from_threads.append((callable, args, kwargs))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._asyncioEventloop.call_soon_threadsafe(self._take_from_thread)

    def take_from_threads(self) -> None:
        """Do what callFromThread was given while the last loop was ending, soon."""
        for _ in range(len(self._from_threads)):
            self._asyncioEventloop.call_soon_threadsafe(self._take_from_thread)

    def _take_from_thread(self) -> None:
        self.callLater(0, self._call_from_thread)

    def _call_from_thread(self) -> None:
        try:
            function, args, kwargs = self._from_threads.popleft()  # only now: a reactor that stops drops its timers
        except IndexError:
            return
        function(*args, **kwargs)

    def _insertNewDelayedCalls(self, *more: Any, **options: Any) -> None:
        new = self._newTimedCalls
        super()._insertNewDelayedCalls(*more, **options)
        new.clear()
        self._newTimedCalls = new

    # Between two lives the loop is closed, and what the reactor is given waits for the next.

    def _reschedule(self, *more: Any, **options: Any) -> None:
        try:
            super()._reschedule(*more, **options)  # type: ignore[no-untyped-call]
        except RuntimeError:
            if not self._asyncioEventloop.is_closed():
                raise

    def addReader(self, reader: Any) -> None:
        """Watch a descriptor for reading."""
        try:
            super().addReader(reader)
        except RuntimeError:
            if not self._asyncioEventloop.is_closed():
                raise
            self._readers[reader] = reader.fileno()

    def addWriter(self, writer: Any) -> None:
        """Watch a descriptor for writing.

        A connection writes in the loop's next turn, without asking the system whether it can, which it most often can;
        only what is left then is watched. That spares two changes of what is watched for each message.
        """
        if isinstance(writer, Connection) and writer.connected and writer not in self._writers:
            if get_ident() != self.loop_thread:
                self.refuse_other_threads("addWriter")
            fd = writer.fileno()
            if fd >= 0 and not self._asyncioEventloop.is_closed():
                unwatched = self._writers[writer] = _Unwatched(fd)
                self._asyncioEventloop.call_soon(self._write, writer, unwatched)
                return
        try:
            super().addWriter(writer)
        except RuntimeError:
            if not self._asyncioEventloop.is_closed():
                raise
            self._writers[writer] = writer.fileno()

    def removeWriter(self, writer: Any) -> None:
        """Stop watching a descriptor for writing."""
        if type(self._writers.get(writer)) is not _Unwatched:
            super().removeWriter(writer)
            return
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("removeWriter")
        del self._writers[writer]

    def _write(self, writer: Any, unwatched: _Unwatched) -> None:
        if self._writers.get(writer) is unwatched:
            callWithLogger(writer, self._readOrWrite, writer, False)  # type: ignore[no-untyped-call]
            if self._writers.get(writer) is unwatched:  # there is more than the system takes now
                del self._writers[writer]
                super().addWriter(writer)

    # Children are watched one by one, and SIGCHLD stays the program's own.

    @functools.cached_property
    def children(self) -> dict[Any, int | None]:
        """The processes that are watched, each with its pidfd, if it has one."""
        return {}

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        """Start a process, and see that it is reaped as it ends."""
        child = super().spawnProcess(*args, **kwargs)  # type: ignore[no-untyped-call]
        children.watch(self, child)
        return child

    def _signalsFactory(self, *more: Any, **options: Any) -> Any:
        return ReactorBase._signalsFactory(self, *more, **options)

    def keep_time(self) -> None:
        """See that timers go on while a stack is blocked, maybe inside the very method that runs them."""
        if (self._newTimedCalls or self._pendingTimedCalls) and self._scheduledAt is None:
            self._reschedule()

    def _initThreadPool(self, *more: Any, **options: Any) -> None:
        super()._initThreadPool(*more, **options)
        self._tie_pool()

    def _tie_pool(self) -> None:
        """Let the threads of the pool know the loop that they work for."""
        pool: Any = self.threadpool
        if pool is not None:
            make_real(pool)
            # Daemons, as a thread that was started from the main thread would keep the process at its exit, where the
            # shutdown of the reactor comes after the interpreter has joined all others.
            pool.threadFactory = functools.partial(PoolThread, lambda: self._asyncioEventloop, daemon=True)


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on a loop that has stopped, and let it clean up; what is blocked gets BridgeClosed."""
    left = asyncio.all_tasks(loop)
    if isinstance(loop, SwitchingLoop):
        loop.end_waits(_closed)
    for task in left:
        task.cancel()
    if left:
        with contextlib.suppress(RuntimeError):  # somebody stops the loop again
            loop.run_until_complete(_wait(left))


async def _wait(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=_CLEAN_UP)


def _closed() -> BridgeClosed:
    return BridgeClosed("the loop was closed; the call was not completed")
