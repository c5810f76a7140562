"""The functions of ``crochet``, on the default bridge, for programs that use it: ``from bridge.ext import crochet``.

::

    from bridge.ext.crochet import setup, wait_for
    setup()

    @wait_for(timeout=5.0)
    def resolve(name):
        return lookupAddress(name)      # a Deferred; an ``async def`` may await Futures of asyncio's as well

    print(resolve("localhost"))         # in any thread but the reactor's

What differs from crochet:

* Results that are open as the reactor stops raise :class:`ReactorStopped`, also if its thread has died. The next call
  starts it again, where crochet raises ``ReactorStopped`` for ever.
* :class:`TimeoutError` and :class:`ReactorStopped` are also the ``TimeoutError`` of Python and :class:`BridgeClosed`.
* A call that is interrupted, as by Ctrl-C in ``wait_for``, is cancelled as one that has timed out is.
* A wait is one of a bridge's: the events of a GUI go on, and under gevent only the greenlet waits.
* There are no threads besides the bridge's, and no polling. Twisted's log goes to the logger "twisted", as on any
  bridge.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import concurrent.futures
import contextlib
import functools
import itertools
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure

from .. import BridgeClosed, ReactorConflict, as_deferred, default_bridge, submit, wait
from .._errors import at

__all__ = [
    "EventualResult",
    "ReactorStopped",
    "TimeoutError",
    "no_setup",
    "retrieve_result",
    "run_in_reactor",
    "setup",
    "wait_for",
]

P = ParamSpec("P")
T = TypeVar("T")

_logger = Logger()
_new_failure: Callable[..., Failure] = Failure  # whose own parameters have no types


class TimeoutError(builtins.TimeoutError):
    """The time is up, and there is no result yet."""


class ReactorStopped(BridgeClosed):
    """The reactor has stopped, so there will never be a result."""


class EventualResult(Generic[T]):
    """The result of a function of :func:`run_in_reactor`, which other threads wait for.

    :param deferred: what the result comes from.
    :param _reactor: that :meth:`cancel` posts the cancellation to.
    """

    def __init__(self, deferred: Deferred[T] | None, _reactor: Any) -> None:
        self._put = _Put(self)
        self._deferred: Deferred[Any] | None = None
        self._reactor = _reactor
        self._is_cancelled = False
        self._was_retrieved = False
        self._future: concurrent.futures.Future[Any] = concurrent.futures.Future()  # of the value, or of a Failure
        if deferred is not None:
            self._connect_deferred(deferred)

    def wait(self, timeout: float | None) -> T:
        """Return the result, or raise its error. Called again, it returns or raises the same.

        ::

            result = download(url)           # a function with @run_in_reactor
            page = result.wait(timeout=5)

        :param timeout: seconds, None to wait for ever. The work goes on when the time is up.
        :raises TimeoutError: the time is up.
        :raises ReactorStopped: the reactor has stopped.
        :raises RuntimeError: this is the reactor's thread.
        :raises BaseException: what the function has raised, or its Deferred has failed with.
        """
        _check_thread()
        result = self._result(timeout)
        if isinstance(result, Failure):
            result.raiseException()
        value: T = result
        return value

    def cancel(self) -> None:
        """Cancel the Deferred, on the reactor's thread. Its canceller decides whether that ends the work."""
        self._reactor.callFromThread(self._cancel)

    def stash(self) -> int:
        """Keep this in memory, and return a number by which :func:`retrieve_result` returns it once."""
        return _stash.add(self)

    def original_failure(self) -> Failure | None:
        """Return the Failure that the result is; None if there is no result yet, or if it is a value."""
        result = self._result(0.0) if self.has_ended else None
        return result if isinstance(result, Failure) else None

    @property
    def has_ended(self) -> bool:
        """Whether there is a result, or an error."""
        return self._future.done()

    def __del__(self) -> None:
        future: Any = getattr(self, "_future", None)
        if future is not None and future.done() and not self._was_retrieved:
            self._put.log_unseen(future.result())

    def _result(self, timeout: float | None) -> Any:
        if not self.has_ended:
            wait([self._future], timeout)
        if not self.has_ended:
            raise TimeoutError(f"there is no result after {timeout} seconds")
        self._was_retrieved = True
        return self._future.result()

    def _connect_deferred(self, deferred: Deferred[Any]) -> None:
        """Take the result from a Deferred. Called once, on the reactor's thread."""
        self._put.take(deferred)

    def _take(self, deferred: Deferred[Any]) -> None:
        """Cancel this Deferred from now on; at once, if that was asked for before."""
        self._deferred = deferred
        if self._is_cancelled:
            deferred.cancel()

    def _cancel(self) -> None:
        self._is_cancelled = True
        self._put.expected = (ReactorStopped, CancelledError)
        if self._deferred is not None:
            self._deferred.cancel()

    def _set_result(self, result: Any) -> None:
        # The reactor may stop as the Deferred fires.
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self._future.set_result(result)


class _Put:
    """The callback that sets a result. It does not keep the result alive, whose ``__del__`` logs an unseen error."""

    expected: tuple[type[BaseException], ...] = (ReactorStopped,)  # errors that are not logged

    def __init__(self, eventual: EventualResult[Any]) -> None:
        self._eventual = weakref.ref(eventual)

    def __call__(self, result: Any) -> None:
        """Take what the Deferred has fired with."""
        eventual = self._eventual()
        if eventual is None:
            self.log_unseen(result)
        else:
            eventual._set_result(result)

    def take(self, deferred: Deferred[Any]) -> Deferred[None]:
        """Take the result from a Deferred, and return another that fires afterwards."""
        connected = deferred.addBoth(self)
        eventual = self._eventual()
        if eventual is not None:
            eventual._take(deferred)
        return connected

    def stop(self, reason: str) -> None:
        """Let those who wait for the result know that the reactor has stopped."""
        self.expected = (BaseException,)  # the end of the loop cancels the work
        eventual = self._eventual()
        if eventual is not None:
            eventual._set_result(_new_failure(ReactorStopped(reason)))

    def log_unseen(self, result: Any, text: str = "Unhandled error in EventualResult") -> None:
        """Log an error that nobody has asked for."""
        if isinstance(result, Failure) and not isinstance(result.value, self.expected):
            _logger.failure(text, result)


class _Stash:
    """Results that are kept until somebody retrieves them."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._kept: dict[int, EventualResult[Any]] = {}

    def add(self, result: EventualResult[Any]) -> int:
        """Keep a result, and return its number."""
        number = next(self._numbers)
        if number == 1:
            atexit.register(self._log_errors)
        self._kept[number] = result
        return number

    def take(self, number: int) -> EventualResult[Any]:
        """Return a result, and keep it no more."""
        return self._kept.pop(number)

    def _log_errors(self) -> None:
        for result in list(self._kept.values()):
            result._put.log_unseen(result.original_failure(), "Unhandled error in stashed EventualResult")


_stash = _Stash()


# Where the functions run.


class _OnDefaultBridge:
    """The default bridge, after :func:`setup`. Its next call starts it again after an end."""

    @property
    def reactor(self) -> Any:
        """The reactor of its loop."""
        return default_bridge().reactor

    def start(self, eventual: EventualResult[Any], begin: Callable[[], Deferred[Any]]) -> None:
        """Call a function on the reactor's thread, and set its result."""
        put = eventual._put

        def ended(future: concurrent.futures.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                put.stop(str(error))

        # The Deferred of take() never fails. So the call fails only if the loop ends, in whatever way.
        submit(lambda: put.take(begin())).add_done_callback(ended)


class _OnReactor:
    """The reactor that the program runs, or is going to run, after :func:`no_setup`."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(Any, reactor)
        self._has_stopped = False
        # By id. Another thread may add an item at any moment; valuerefs() is atomic.
        self._results: weakref.WeakValueDictionary[int, EventualResult[Any]] = weakref.WeakValueDictionary()
        self.reactor.addSystemEventTrigger("before", "shutdown", self._stop)

    def start(self, eventual: EventualResult[Any], begin: Callable[[], Deferred[Any]]) -> None:
        """Call a function on the reactor's thread, as soon as the reactor runs, and set its result.

        :raises ReactorStopped: the reactor has stopped.
        """
        put = eventual._put
        # First this, and then the look: the end of the reactor comes either before the look, or finds the result.
        self._results[id(eventual)] = eventual
        if self._has_stopped:
            raise ReactorStopped("the reactor has stopped; call the function before that" + at("reactor-stopped"))
        self.reactor.callFromThread(lambda: put.take(begin()))

    def _stop(self) -> None:
        self._has_stopped = True
        for ref in self._results.valuerefs():
            eventual = ref()
            if eventual is not None:
                eventual._put.stop("the reactor has stopped" + at("reactor-stopped"))


_places: dict[str, _OnDefaultBridge | _OnReactor] = {}  # at most one item: the place


def setup() -> None:
    """Start the default bridge, whose reactor the functions run on. Further calls do nothing.

    :raises ReactorConflict: a reactor runs already, or cannot be adopted. A program that runs its own reactor calls
        :func:`no_setup` first.
    """
    _set_up()


def _set_up() -> _OnDefaultBridge | _OnReactor:
    place = _places.get("")
    if place is None:
        try:
            default_bridge().reactor  # noqa: B018 - this starts it
        except ReactorConflict as error:
            error.add_note("A program that runs a reactor itself calls crochet.no_setup() before anything else.")
            raise
        place = _places.setdefault("", _OnDefaultBridge())
    return place


def no_setup() -> None:
    """Use the reactor that the program runs itself, now or later. :func:`setup` does nothing from then on.

    Functions that are called before the reactor runs begin when it does.

    :raises RuntimeError: :func:`setup` or this was called before.
    """
    if _places:
        raise RuntimeError(
            "no_setup() is called once, by a program that runs the reactor itself, before it imports the libraries "
            "that call setup()" + at("crochet-setup")
        )
    _places[""] = _OnReactor()


@overload
def run_in_reactor(function: Callable[P, Awaitable[T]]) -> Callable[P, EventualResult[T]]: ...
@overload
def run_in_reactor(function: Callable[P, T]) -> Callable[P, EventualResult[T]]: ...
def run_in_reactor(function: Any) -> Any:
    """Return a function that runs another on the reactor's thread, and returns an :class:`EventualResult` at once.

    ::

        @run_in_reactor
        def download(url):
            return treq.get(url).addCallback(treq.content)

    :param function: returns a value, a Deferred or any other awaitable; a method, a class method too. The function
        itself is the attribute ``__wrapped__``.
    :raises ReactorStopped: by the returned function: the process exits.
    :raises ReactorConflict: by the returned function, as by :func:`setup`, which it calls if nobody has.
    """
    return _wrapped(function, _start)


class _WaitFor(Protocol):
    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> Callable[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, function: Any, /) -> Any: ...


def wait_for(timeout: float | None) -> _WaitFor:
    """Return a decorator: a function runs on the reactor's thread, and its caller waits for the result.

    ::

        @wait_for(timeout=5.0)
        def fetch(url):
            return treq.get(url).addCallback(treq.content)

        fetch("https://example.org/")       # b'...'

    :param timeout: seconds, None to wait for ever. Then the Deferred is cancelled, and the function raises
        :class:`TimeoutError`. Ctrl-C and any other exception in the waiting thread cancel it too.
    :raises RuntimeError: by the function: this is the reactor's thread.
    :raises BaseException: by the function: as :meth:`EventualResult.wait` and :func:`run_in_reactor`.
    """

    def call(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        _check_thread()
        eventual = _start(function, args, kwargs)
        try:
            return eventual.wait(timeout)
        except BaseException:
            if not eventual.has_ended:
                eventual.cancel()
            raise

    def decorate(function: Any, /) -> Any:
        return _wrapped(function, call)

    return decorate


def retrieve_result(result_id: int) -> EventualResult[Any]:
    """Return the result that was kept by :meth:`EventualResult.stash` under this number, and keep it no more.

    :raises KeyError: there is none, or it was retrieved before.
    """
    return _stash.take(result_id)


def _wrapped(function: Any, call: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a sync function for another, of the same name and signature."""
    if isinstance(function, classmethod | staticmethod):
        kind: Any = cast(Any, function).__class__
        return kind(_wrapped(function.__func__, call))

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(function, args, kwargs)

    return wrapper


def _start(function: Callable[..., Any], args: Any, kwargs: Any) -> EventualResult[Any]:
    try:
        place = _set_up()
        eventual: EventualResult[Any] = EventualResult(None, place.reactor)
        place.start(eventual, functools.partial(_begin, function, args, kwargs))
    except ReactorStopped:
        raise
    except BridgeClosed as error:
        raise ReactorStopped(str(error)) from error
    return eventual


def _begin(function: Callable[..., Any], args: Any, kwargs: Any) -> Deferred[Any]:
    """Call a function on the reactor's thread, and return a Deferred of its result or error."""
    call = functools.partial(function, *args, **kwargs)
    try:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it is a reactor without an asyncio loop
            return maybeDeferred(call)
        return as_deferred(call)()
    except BaseException:
        return fail(_new_failure())


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_thread() -> None:
    # Twisted keeps the number of the thread where a reactor has run, which is no sign if no loop runs there any more.
    twisted: Any = threadable
    if twisted.isInIOThread() and (twisted.ioThread != threading.get_ident() or _runs_a_loop()):
        raise RuntimeError(
            "EventualResult.wait() must not be run in the reactor thread; bridge.block_on() may, on a loop of ours"
            + at("crochet-wait")
        )
