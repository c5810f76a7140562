"""The guarded reactor: while its loop runs, it refuses calls from threads other than the loop's.

A reactor is not thread-safe. A timer set by another thread does not wake the loop. A reader may be added to a poller
in the middle of a poll. A Deferred may fire between two lines of the code that builds it. Most often such calls seem to
work. So the guarded methods raise :class:`~bridge.WrongThreadError` before they do anything.

Any thread may still call:

* the methods that Twisted documents as thread-safe: ``callFromThread``, ``wakeUp``;
* the methods that use the thread pool: ``callInThread``, ``getThreadPool``, ``suggestThreadPoolSize``;
* the methods that only read: ``getReaders``, ``getWriters``, ``getDelayedCalls``, ``seconds``, ``running``;
* the methods that add to a list which the loop reads later: triggers of system events, the installation of a resolver.

While no loop runs, before the first run and between two runs, any thread may call any method, as in Twisted.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from operator import attrgetter
from types import FrameType
from typing import Any, TypeVar, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.posixbase import PosixReactorBase

from .._private.cpython import get_running_loop
from .._private.twisted import GAIResolver
from .._threads.native import get_ident, new_lock
from .forms import Target
from .makers import keep_maker
from .wrong_thread import wrong_thread

T = TypeVar("T", bound=type)


_BEGIN = ("callLater", "connect", "listen", "spawnProcess", "nameResolver")  # how the names of methods begin
_reactors: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()  # all guarded reactors

# What is refused: of the reactor, of the timers that it returns, and of its name resolver. connectSSL and listenSSL
# call other guarded methods; they stand here so that the error names the method that the user has called.
REFUSED = {
    "reactor": (
        *("callLater", "callWhenRunning", "addReader", "addWriter", "removeReader", "removeWriter"),
        *("stop", "crash", "iterate", "resolve", "disconnectAll", "removeAll", "spawnProcess", "fireSystemEvent"),
        *("connectTCP", "listenTCP", "connectSSL", "listenSSL", "listenUDP", "listenMulticast"),
        *("connectUNIX", "listenUNIX", "connectUNIXDatagram", "listenUNIXDatagram"),
        *("adoptStreamPort", "adoptStreamConnection", "adoptDatagramPort"),
    ),
    "callLater(...)": ("cancel", "reset", "delay"),
    "nameResolver": ("resolveHostName",),
}
GUARDED = frozenset(REFUSED["reactor"])


def refuses(methods: Iterable[str]) -> Callable[[T], T]:
    """Decorate a class so that these methods refuse every thread but the loop's.

    The class has ``loop_thread``, the ident of that thread, and ``refuse_other_threads(method)``, which raises. It has
    to be the last one of its line: a guarded method that calls an inherited one would be checked twice.
    """

    def decorate(cls: T) -> T:
        for name in methods:
            method = getattr(cls, name, None)
            if method is not None:  # a class lacks it whose base, a private one of Twisted's, is gone
                setattr(cls, name, guarded(method))
        return cls

    return decorate


def guarded(method: Any) -> Any:
    """Return the method with the check. The comparison of the idents comes first, since it is cheap."""
    name = method.__name__

    @functools.wraps(method)
    def on_the_loops_thread(self: Any, *args: Any, **kwargs: Any) -> Any:
        if get_ident() != self.loop_thread:
            self.refuse_other_threads(name)
        return method(self, *args, **kwargs)

    return on_the_loops_thread


@refuses(REFUSED["callLater(...)"])
class TimedCall(DelayedCall):
    """A delayed call that only the thread of the reactor's loop may cancel and move."""

    loop_thread = property(attrgetter("canceller.__self__.loop_thread"))  # without a frame: timers are cancelled often

    def refuse_other_threads(self, method: str) -> None:
        """Raise WrongThreadError, unless any thread gets AlreadyCalled or AlreadyCancelled."""
        if self.active():
            reactor: Any = self.canceller.__self__  # type: ignore[attr-defined]
            reactor.refuse_other_threads(f"callLater(...).{method}")


@refuses(REFUSED["nameResolver"])
class GuardedResolver(GAIResolver):
    """The default name resolver. It resolves in any thread, but its result may be used on the loop's thread only."""

    loop_thread = property(attrgetter("_reactor.loop_thread"))

    def refuse_other_threads(self, method: str) -> None:
        """Raise WrongThreadError if the loop runs in another thread."""
        self._reactor.refuse_other_threads(f"nameResolver.{method}")


class GuardedReactor(AsyncioSelectorReactor):
    """An asyncio reactor that only the thread of its loop may use while the loop runs.

    The methods that refuse other threads are those of the class that is made last: ``BridgeReactor``. Its head says
    why no reactor has this class, and why no method uses ``super()``.
    """

    # The loop that runs this reactor, or a weak reference to the bridge that runs it or will run it again. None once
    # the owner is closed.
    owner: object
    # The ident of the thread that the loop runs in, or last ran in.
    loop_thread: int | None
    _exempt: frozenset[int]
    _pool_lock: Any

    def refuse_other_threads(self, method: str) -> None:
        """Raise WrongThreadError if the loop runs in another thread. Called if this thread is not ``loop_thread``.

        An idle reactor begins nothing where another one runs: that would wait for ever.

        :raises WrongThreadError: the loop runs in another thread, or the reactor is idle and this thread runs another.
        """
        loop, running = self._asyncioEventloop, get_running_loop()
        if running is loop or get_ident() in self._exempt:
            return
        # keyrefs() copies at once: another thread may guard a reactor meanwhile.
        loops = [getattr(each(), "_asyncioEventloop", None) for each in _reactors.keyrefs()]
        has_own = running is not None and running in loops
        begins = has_own and self.loop_thread is not None and method.startswith(_BEGIN) and "(" not in method
        if not (loop.is_running() or begins):
            return
        owner: Any = cast(Any, self.owner)() if isinstance(self.owner, weakref.ref) else None
        names = [each.name for each in threading.enumerate() if each.ident == self.loop_thread]
        installed: Any = sys.modules.get("twisted.internet.reactor")
        thread = (names[0] if names else "?") if loop.is_running() else None
        raise wrong_thread(Target(self, method, owner, thread, installed is self, has_own))

    @contextmanager
    def _at_leave(self) -> Generator[None]:
        """Exempt this thread from the guard, for work that Twisted itself does in any thread."""
        with self._pool_lock:
            self._exempt |= {get_ident()}
            try:
                yield
            finally:
                self._exempt -= {get_ident()}

    def leave_threads(self) -> None:
        """Forget all threads, in a forked child. Another thread may have held the lock."""
        self.loop_thread = None
        self._exempt = frozenset()
        self._pool_lock = new_lock()

    def guard_parts(self) -> None:
        """Guard the timers and the name resolver that the reactor had before it became a guarded one."""
        for call in self._pendingTimedCalls + self._newTimedCalls:
            if type(call) is DelayedCall:
                call.__class__ = TimedCall
        resolver = cast(Any, self)._nameResolver
        if type(resolver) is GAIResolver:
            resolver.__class__ = GuardedResolver

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        """Start the reactor. Called on the loop's thread, which is recorded."""
        self.loop_thread = get_ident()
        AsyncioSelectorReactor.startRunning(self, installSignalHandlers)

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        """Call a function after ``delay`` seconds."""
        call = PosixReactorBase.callLater(self, delay, callable, *args, **kw)
        call.__class__ = TimedCall
        keep_maker(call)
        timeout = self.timeout()
        assert timeout is not None
        if self._scheduledAt is None or self._asyncioEventloop.time() + timeout < self._scheduledAt:
            self._reschedule()  # type: ignore[no-untyped-call]
        return call

    def _initThreadPool(self, *more: Any, **options: Any) -> None:
        # Exempt, since any thread may be the first to need the pool.
        with self._at_leave():
            if self.threadpool is None:
                AsyncioSelectorReactor._initThreadPool(self, *more, **options)
        if get_ident() != self.loop_thread:  # the reactor may be starting there, too late to see the pool's trigger
            cast(Any, self).callFromThread(self._start_pool)

    def _start_pool(self) -> None:
        if self.threadpool is not None and not self.threadpool.started:
            self.threadpool.start()


def is_guarded(reactor: object) -> bool:
    """Return whether the reactor is one of ours."""
    return isinstance(reactor, AsyncioSelectorReactor) and reactor in _reactors


def _name_resolver(self: Any) -> IHostnameResolver:
    """Return the name resolver of a reactor, which need not be one of ours.

    Any thread may read it, since the making of an endpoint does. But a request of twisted.web makes its endpoint just
    before it takes a connection from the pool. This is the last point at which the guard can refuse the whole request.
    """
    if self in _reactors and get_ident() != self.loop_thread and _is_in_web_request(sys._getframe(1)):
        self.refuse_other_threads("nameResolver")
    return cast(IHostnameResolver, self._nameResolver)


def guard(reactor: Any) -> None:
    """Note that a reactor has the methods of a guarded one, and give it the attributes that they need."""
    vars(reactor).update(_exempt=frozenset(), _pool_lock=new_lock())
    _reactors[reactor] = None
    if "nameResolver" not in vars(AsyncioSelectorReactor):  # an instance cannot have a property of its own
        AsyncioSelectorReactor.nameResolver = property(_name_resolver)  # type: ignore[method-assign, assignment]


def _is_in_web_request(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__", "").startswith("twisted."):
        if frame.f_globals["__name__"] == "twisted.web.client":
            return True
        frame = frame.f_back
    return False
