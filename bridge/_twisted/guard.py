"""The guarded reactor: what only the thread of its loop may do is refused to any other while the loop runs.

A reactor is not thread-safe. A timer set by another thread does not wake the loop, a reader is added to a poller in the
midst of a poll, a Deferred fires between two lines of the code that builds it; and most often it seems to work. So
these methods raise :class:`~bridge.WrongThreadError`, before they do anything.

Free are: what Twisted says that any thread may call (``callFromThread``, ``wakeUp``), what starts on a thread of the
pool (``callInThread``, ``getThreadPool``, ``suggestThreadPoolSize``), what only looks (``getReaders``, ``getWriters``,
``getDelayedCalls``, ``seconds``, ``running``), and what adds to a list that the loop reads later (triggers of system
events, the installation of a resolver). While no loop runs, before the first run and between two of them, any thread
may do anything, as ever.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.posixbase import PosixReactorBase

from .._private.cpython import get_running_loop
from .._private.twisted import GAIResolver
from .._threads.condition import new_lock
from .._threads.native import get_ident
from .wrong_thread import Target, wrong_thread

P = ParamSpec("P")
T = TypeVar("T")


_reactors: weakref.WeakSet[Any] = weakref.WeakSet()  # the guarded ones


def guarded(method: Callable[P, T]) -> Callable[P, T]:
    """Make a method of a guarded reactor refuse every thread but the loop's."""
    name = method.__name__

    @functools.wraps(method)
    def on_the_loops_thread(*args: P.args, **kwargs: P.kwargs) -> T:
        reactor: Any = args[0]
        if get_ident() != reactor.loop_thread:
            reactor.refuse_other_threads(name)
        return method(*args, **kwargs)

    return on_the_loops_thread


class TimedCall(DelayedCall):
    """A delayed call that only the thread of the reactor's loop may cancel and move."""

    # What is over raises AlreadyCalled or AlreadyCancelled, in any thread.

    def cancel(self) -> None:
        """Unschedule this call."""
        if get_ident() != self.canceller.__self__.loop_thread and self.active():  # type: ignore[attr-defined]
            self._refuse("cancel")
        DelayedCall.cancel(self)

    def reset(self, secondsFromNow: float) -> None:
        """Schedule this call for so many seconds from now."""
        if get_ident() != self.canceller.__self__.loop_thread and self.active():  # type: ignore[attr-defined]
            self._refuse("reset")
        DelayedCall.reset(self, secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Schedule this call for so many seconds later."""
        if get_ident() != self.canceller.__self__.loop_thread and self.active():  # type: ignore[attr-defined]
            self._refuse("delay")
        DelayedCall.delay(self, secondsLater)

    def _refuse(self, method: str) -> None:
        reactor: Any = self.canceller.__self__  # type: ignore[attr-defined]
        reactor.refuse_other_threads(f"callLater(...).{method}")


class GuardedResolver(GAIResolver):
    """The default name resolver. It needs no thread of the loop's, but what waits for its result does."""

    def resolveHostName(self, *args: Any, **kwargs: Any) -> Any:
        """Resolve a host name in a thread of the pool."""
        reactor: Any = self._reactor
        if get_ident() != reactor.loop_thread:
            reactor.refuse_other_threads("nameResolver.resolveHostName")
        return super().resolveHostName(*args, **kwargs)


class GuardedReactor(AsyncioSelectorReactor):
    """An asyncio reactor that is used by the thread of its loop only, while that runs."""

    # The loop that runs this reactor, or a weak reference to the bridge that does or will run it again; None once that
    # is closed.
    owner: object = None
    # The ident of the thread that the loop runs in, or last ran in. It is compared first, for that costs nothing.
    loop_thread: int | None = None
    _exempt: frozenset[int] = frozenset()
    _pool_lock = new_lock()

    def refuse_other_threads(self, method: str) -> None:
        """Raise WrongThreadError if the loop runs in another thread than this; called where the idents differ.

        :raises WrongThreadError: it does.
        """
        loop = self._asyncioEventloop
        if not loop.is_running() or get_running_loop() is loop or get_ident() in self._exempt:
            return
        owner: Any = cast(Any, self.owner)() if isinstance(self.owner, weakref.ref) else None
        names = [each.name for each in threading.enumerate() if each.ident == self.loop_thread]
        installed: Any = sys.modules.get("twisted.internet.reactor")
        running = get_running_loop()
        has_own = running is not None and any(each._asyncioEventloop is running for each in list(_reactors))
        raise wrong_thread(Target(self, method, owner, names[0] if names else "?", installed is self, has_own))

    @contextmanager
    def _at_leave(self) -> Generator[None]:
        """Let this thread do as the loop's may; for what Twisted itself does in any thread."""
        with self._pool_lock:
            self._exempt |= {get_ident()}
            try:
                yield
            finally:
                self._exempt -= {get_ident()}

    def leave_threads(self) -> None:
        """Know of no thread any more, in a forked child. Another one may have held the lock."""
        self.loop_thread = None
        self._exempt = frozenset()
        self._pool_lock = new_lock()

    def guard(self) -> None:
        """Guard what the reactor has had since before its class was ours: its timers and its name resolver."""
        _reactors.add(self)
        for call in self._pendingTimedCalls + self._newTimedCalls:
            if type(call) is DelayedCall:
                call.__class__ = TimedCall
        resolver = cast(Any, self)._nameResolver
        if type(resolver) is GAIResolver:
            resolver.__class__ = GuardedResolver

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        """Start, in the loop that runs in this thread."""
        self.loop_thread = get_ident()
        super().startRunning(installSignalHandlers)

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        """Call a function after so many seconds."""
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("callLater")
        call = PosixReactorBase.callLater(self, delay, callable, *args, **kw)
        call.__class__ = TimedCall
        timeout = self.timeout()
        assert timeout is not None
        if self._scheduledAt is None or self._asyncioEventloop.time() + timeout < self._scheduledAt:
            self._reschedule()  # type: ignore[no-untyped-call]
        return call

    def addReader(self, reader: Any) -> None:
        """Watch a descriptor for reading."""
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("addReader")
        super().addReader(reader)  # type: ignore[no-untyped-call]

    def addWriter(self, writer: Any) -> None:
        """Watch a descriptor for writing."""
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("addWriter")
        super().addWriter(writer)  # type: ignore[no-untyped-call]

    def removeReader(self, reader: Any) -> None:
        """Stop watching a descriptor for reading."""
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("removeReader")
        super().removeReader(reader)  # type: ignore[no-untyped-call]

    def removeWriter(self, writer: Any) -> None:
        """Stop watching a descriptor for writing."""
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("removeWriter")
        super().removeWriter(writer)  # type: ignore[no-untyped-call]

    def callWhenRunning(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """Call a function as the reactor starts; if it runs, at once: in this thread, which has to be the loop's."""
        if get_ident() != self.loop_thread:
            self.refuse_other_threads("callWhenRunning")
        return super().callWhenRunning(callable, *args, **kwargs)

    @property
    def nameResolver(self) -> IHostnameResolver:
        """The name resolver.

        Making an endpoint reads it, which any thread may do. But a request of twisted.web's makes its endpoint just
        before it takes a connection out of the pool; there is the last place where it can be refused whole.
        """
        if get_ident() != self.loop_thread and _is_in_a_request(sys._getframe(1)):
            self.refuse_other_threads("nameResolver")
        return cast(IHostnameResolver, cast(Any, self)._nameResolver)

    def _initThreadPool(self, *more: Any, **options: Any) -> None:
        # Any thread may be the first to need the pool.
        with self._at_leave():
            if self.threadpool is None:
                super()._initThreadPool(*more, **options)
        if get_ident() != self.loop_thread:  # the reactor may just start there, and not see the trigger any more
            cast(Any, self).callFromThread(self._start_pool)

    def _start_pool(self) -> None:
        if self.threadpool is not None and not self.threadpool.started:
            self.threadpool.start()


def _is_in_a_request(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__", "").startswith("twisted."):
        if frame.f_globals["__name__"] == "twisted.web.client":
            return True
        frame = frame.f_back
    return False


# Methods that are called rarely enough for a wrapper. connectSSL and listenSSL call others of these: they are here for
# an error that names what was called.
_OTHERS = (
    *("stop", "iterate", "resolve", "disconnectAll", "removeAll", "spawnProcess", "fireSystemEvent"),
    *("connectTCP", "listenTCP", "connectSSL", "listenSSL", "listenUDP", "listenMulticast"),
    *("connectUNIX", "listenUNIX", "connectUNIXDatagram", "listenUNIXDatagram"),
    *("adoptStreamPort", "adoptStreamConnection", "adoptDatagramPort"),
)
for _method in _OTHERS:
    setattr(GuardedReactor, _method, guarded(getattr(GuardedReactor, _method)))


# All that is refused; ``crash`` is guarded where it is defined.
GUARDED = frozenset(
    {"callLater", "addReader", "addWriter", "removeReader", "removeWriter", "callWhenRunning", "crash", *_OTHERS}
)
