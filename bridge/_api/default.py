"""The default bridge and the plain functions, which call it, or in another bridge's worker thread that bridge."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from types import CoroutineType, ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from .._diagnostics.dump import dump_on, no_dump_on
from .._errors import at
from .._runs.runs import bridge_of_loop, bridges
from .._threads.native import new_lock
from .._values.origin import origin_of, place_of, shown, users_frame
from .._values.outcomes import trim
from .._views.caller import Caller
from .bridge import Bridge
from .engine import after_fork, calls_for, when_loaded
from .verbs import Verbs

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from concurrent.futures._base import DoneAndNotDoneFutures

    from .._runs.options import OptionArguments, Settings
    from .._runs.where import Answer
    from ..strategies.interface import Strategy

P = ParamSpec("P")
T = TypeVar("T")

_calls: ModuleType | None = None
_lock = new_lock()
_settings: Settings | None = None
_default: Bridge | None = None
_aside: Bridge | None = None  # the default bridge while another takes its place; see as_default
_has_reported = False  # that a worker's call goes to the default bridge


@when_loaded
def _use(calls: ModuleType) -> None:
    global _calls
    _calls = calls


@after_fork
def _renew() -> None:
    global _aside, _default, _lock
    _lock = new_lock()  # another thread may have held it
    if _default is not None and _default.runs.is_attached:  # as under 'python -m bridge run'
        _default, _aside = _aside, None


def configure(**options: Unpack[OptionArguments]) -> None:
    """Set options of the default bridge, before its first use. For programs: a library makes a :class:`Bridge`.

    ::

        bridge.configure(strategy="event", stall_after=5)

    The first value that is set for an option holds. A later call with another value, or after the start with another
    one than the default, gives a ``RuntimeWarning`` that names both places, and changes nothing. After
    ``default_bridge().close()`` each option may be set once more. :attr:`Bridge.options` has them all.

    :param options: the options of :class:`Bridge`. A later call adds to the earlier ones. ``await_deferreds=False``
        holds for all loops of ours, also for those that the program runs, but for a bridge that was told otherwise.
    :raises BridgeError: dump_signal is set off the main thread.
    :raises TypeError: there is no such option, or its value is of the wrong type.
    :raises ValueError: a value is out of range.
    :raises StrategyUnavailable: there is no such strategy.
    """
    for ignored in set_options(options, place_of(sys._getframe(1))):
        warnings.warn(ignored + at("option-ignored"), RuntimeWarning, stacklevel=2)


def set_options(options: Mapping[str, Any], place: str) -> list[str]:
    """Set options of the default bridge. Return a sentence on each that is ignored.

    :param place: what sets them.
    """
    from dataclasses import replace

    from .._runs.options import options_from
    from .._values.deferreds import deferreds

    checked = options_from(options)
    default, settings = default_bridge(), _the_settings()
    if default.runs.is_driven:
        default = _the_one_aside()
    with default.runs.starting:
        is_attached = default.runs.is_attached  # to a loop that runs from the beginning, and takes the options
        running = default.options if default.running and not is_attached else None
        accepted, ignored = settings.set({name: getattr(checked, name) for name in options}, place, running)
        if "dump_signal" in accepted:
            dump_on(checked.dump_signal)
            no_dump_on(settings.values.get("dump_signal"))
        settings.keep(accepted, place)
        new = replace(default.options, **accepted)
        if "await_deferreds" in accepted:
            deferreds.to_be_awaited = new.await_deferreds is not False
        default._take(new)
        default.runs.take_options(new)
        if not is_attached:
            default.name = new.name or default.name
    return ignored


def is_configured(option: str) -> bool:
    """Return whether the option has been given to :func:`configure`."""
    return option in _the_settings().values


def _the_settings() -> Settings:
    global _settings
    with _lock:
        if _settings is None:
            from .._runs.options import Settings

            _settings = Settings()
        return _settings


def default_bridge() -> Bridge:
    """Return the bridge behind the plain functions. It starts with its first call, and again after a ``close()``."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = _new_default()
    return _default


def _new_default() -> Bridge:
    from .._runs.factories import DefaultRuns
    from .._runs.options import options_from

    settings = _the_settings()
    return Bridge._with_runs(options_from(settings.values), functools.partial(DefaultRuns, settings=settings))


def _the_one_aside() -> Bridge:
    """Return the default bridge whose place that of a test session's loop takes. Its options are its own."""
    global _aside
    with _lock:
        if _aside is None:
            _aside = _new_default()
        return _aside


def use_as_default(bridge: Bridge) -> None:
    """Put a bridge behind the plain functions. For a program that runs on the loop."""
    global _default
    _default = bridge


@contextlib.contextmanager
def as_default(bridge: Bridge) -> Generator[None]:
    """Put the bridge of a test session's loop behind the plain functions for a while."""
    global _aside, _default
    outer = _default
    is_first = outer is None or not outer.runs.is_driven
    if is_first:
        _aside = outer
    _default = bridge
    try:
        yield
    finally:
        if _default is bridge:
            _default = _aside if is_first else outer


def find_bridge(here: Answer, may_be_deferred: bool = False) -> Bridge:
    """Return the bridge of a call that names none. :mod:`bridge._runs.where` has the table.

    :param here: where the caller stands.
    :param may_be_deferred: the work is a Deferred, or a callable, which may return one.
    """
    found: Bridge | None = None
    if here.loop is not None:
        found = _bridge_of_loop(here, may_be_deferred)
    elif here.is_unknown:
        _report_unknown()
    return found or _default or default_bridge()


def _bridge_of_loop(here: Answer, may_be_deferred: bool) -> Bridge | None:
    """Return the bridge of the loop that runs here, or that this thread works for; None for the default bridge."""
    loop: Any = here.loop
    found: Bridge | None = bridge_of_loop(loop, for_anyio=here.of_anyio)
    is_ours = _calls is not None and _calls.is_ours(loop)
    if found is None and (is_ours or (here.of_anyio and loop.is_running())):
        with _lock:
            found = bridge_of_loop(loop, for_anyio=here.of_anyio)
            if found is None:
                found = Bridge.attach(loop) if is_ours else _for_workers_of(loop)
                with contextlib.suppress(AttributeError):  # it takes none: the bridge lasts for this call
                    # The loop keeps the bridge for the next call.
                    setattr(loop, "bridge" if is_ours else "_bridge_of_workers", found)
    if here.runs_here:
        return found
    if found is None:
        _report_unknown()
    elif may_be_deferred and not is_ours and found.runs.is_attached and _is_elsewhere(found.runs.last.reactor):
        return found if found.runs.is_driven else None  # one that is driven takes its reactor when it runs next
    elif not may_be_deferred and found.runs.last.calls_here and _default is not None and _default.running:
        return None  # the reactor has no asyncio loop, which a coroutine may need; the default bridge beside it has one
    return found


def _for_workers_of(loop: asyncio.AbstractEventLoop) -> Bridge:
    """Return a bridge for anyio's workers of a running loop that nobody has attached."""
    from .._runs.factories import AnyioRuns
    from .._runs.options import Options

    return Bridge._with_runs(Options(name="attached"), functools.partial(AnyioRuns, loop=loop))


def _is_elsewhere(reactor: Any) -> bool:
    """Return whether Twisted's reactor is loaded, and another one, or none, stands on a loop."""
    installed = sys.modules.get("twisted.internet.reactor")
    return installed is not None and installed is not reactor


def _report_unknown() -> None:
    """Report, once a process, that a worker's call does not go back to the loop that the worker works for."""
    global _has_reported
    if _has_reported:
        return
    _has_reported = True
    logging.getLogger("bridge").warning(
        "block_on was called in a worker thread of a loop that is not a bridge's. The call does not go back to that "
        "loop: the default bridge runs it, on a loop in a thread of its own. So Futures, connections and locks of the "
        "one loop cannot be used on the other. To have such calls go back, call bridge.Bridge.attach() once in a "
        "coroutine of that loop, or make the loop by bridge.new_event_loop. This is reported once. The thread is %r, "
        "and it stands at:\n%s" + at("worker-of-another-loop", "\n"),
        threading.current_thread().name,
        shown(origin_of(users_frame())),
    )


bridges.of = find_bridge


@overload
def block_on(
    x: Awaitable[T],
    *,
    timeout: float | None = None,
    strategy: str | Strategy | None = None,
    context_out: bool | None = None,
) -> T: ...
@overload
def block_on(
    x: concurrent.futures.Future[T],
    *,
    timeout: float | None = None,
    strategy: str | Strategy | None = None,
    context_out: bool | None = None,
) -> T: ...
@overload
def block_on(
    x: Callable[[], Awaitable[T]],
    *,
    timeout: float | None = None,
    strategy: str | Strategy | None = None,
    context_out: bool | None = None,
) -> T: ...
@overload
def block_on(
    x: Callable[[], concurrent.futures.Future[T]],
    *,
    timeout: float | None = None,
    strategy: str | Strategy | None = None,
    context_out: bool | None = None,
) -> T: ...
@overload
def block_on(
    x: Callable[[], T],
    *,
    timeout: float | None = None,
    strategy: str | Strategy | None = None,
    context_out: bool | None = None,
) -> T: ...
def block_on(
    x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None, context_out: bool | None = None
) -> Any:
    """Wait for x and return its result, as ``default_bridge().block_on(x)`` does.

    In a worker thread of another bridge, that bridge is used instead of the default one.

    ::

        from bridge import block_on
        page = block_on(lambda: treq.get(url))        # Twisted
        rows = block_on(connection.fetch(query))      # asyncio

    Arguments and errors are those of :meth:`Bridge.block_on`.
    """
    try:
        calls = _calls or calls_for(x)
        if timeout is None and strategy is None and context_out is None:
            loop = calls.get_running_loop()
            if loop is not None and isinstance(loop, calls.SwitchingLoop):
                # The same for the commonest kinds of x, with fewer frames: such a call is short, and a stack that is
                # blocked keeps every frame between its caller and the switch.
                kind: type[object] = x.__class__
                if kind is CoroutineType:
                    return calls.block_coroutine(loop, x)
                if kind is calls.Future:
                    return calls.block_future(loop, x)
        return calls.block_on(None, x, timeout, strategy, context_out)
    except BaseException as error:
        trim(error)
        raise


@overload
def run(fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def run(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def run(fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
    """Call a function on the loop's thread, in a task, and return its result. One of an ``async def`` is awaited.

    ::

        @run
        def main(): ...                       # in which block_on(treq.get(url)) is safe as written

    Arguments and errors are those of :meth:`Bridge.run`.
    """
    try:
        return calls_for(fn).run(None, fn, args, kwargs)
    except BaseException as error:
        trim(error)
        raise


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new asyncio loop of ours, for the program to run.

    Tasks on it await Deferreds, ``block_on`` works in everything that it runs, with no second thread, and it has a
    Twisted reactor from the moment that it runs and Twisted is needed: the installed one, if that is idle or none is
    installed, else its own.

    ::

        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            runner.run(main())
    """
    calls_for()
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
    calls_for()
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
        future: concurrent.futures.Future[Any] = calls_for(x).submit(None, x)
    except BaseException as error:
        trim(error)
        raise
    return future


def wait(
    fs: Iterable[concurrent.futures.Future[T]], timeout: float | None = None, return_when: str = "ALL_COMPLETED"
) -> DoneAndNotDoneFutures[T]:
    """Wait for Futures, like ``concurrent.futures.wait``, but as :func:`block_on` waits.

    On a loop's own thread the stack switches and the loop goes on. In a GUI's thread its events run. In a process that
    gevent has patched only the greenlet blocks. ``concurrent.futures.wait`` stops the thread, and waits for ever for
    work that needs it. The end of the wait (a time-out, Ctrl-C, a cancellation) leaves every Future as it is. ::

        done, not_done = bridge.wait([bridge.submit(fetch(url)) for url in urls], timeout=10)

    :param fs: Futures of ``concurrent.futures`` from anywhere, also from :func:`submit`.
    :param timeout: seconds, None to wait for ever.
    :param return_when: ``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED`` of ``concurrent.futures``.
    :returns: the named tuple ``(done, not_done)`` of two sets; duplicates are left out.
    :raises TypeError: one of fs is not such a Future.
    :raises ValueError: there is no such return_when.
    :raises DeadlockError: the wait would be on the loop's root stack, outside any callback.
    :raises StrategyUnavailable: the work of one of fs needs this very thread, whose loop cannot go on meanwhile.
    """
    try:
        calls_for()
        from .._calls import completed

        return completed.wait(fs, timeout, return_when)
    except BaseException as error:
        trim(error)
        raise


def as_completed(
    fs: Iterable[concurrent.futures.Future[T]], timeout: float | None = None
) -> Iterator[concurrent.futures.Future[T]]:
    """Yield Futures as they end, like ``concurrent.futures.as_completed``, but wait as :func:`block_on` does.

    It takes the same Futures as :func:`wait`. An iterator that is left early leaves nothing behind in them. ::

        for future in bridge.as_completed(bridge.submit(fetch(url)) for url in urls):
            print(future.result())

    :param fs: as for :func:`wait`; duplicates are yielded once.
    :param timeout: seconds for all Futures, from the first item on; None for no limit.
    :raises TimeoutError: the time is up.
    :raises TypeError: as for :func:`wait`.
    :raises DeadlockError: as for :func:`wait`.
    :raises StrategyUnavailable: as for :func:`wait`.
    """
    try:
        calls_for()
        from .._calls import completed

        futures = completed.as_completed(fs, timeout)
        del fs  # it would keep alive what has been yielded
        yield from futures
    except BaseException as error:
        trim(error)
        raise


class _DefaultViews(Verbs):
    """The views and verbs of the default bridge, or in a worker thread of another bridge of that bridge."""

    if not TYPE_CHECKING:
        block_on = staticmethod(block_on)

    def caller(self) -> Caller:
        """Return the bridge that serves this thread."""
        return find_bridge(calls_for().where())

    def __reduce__(self) -> str:
        return "_default_views"

    def __repr__(self) -> str:
        return "<the default bridge>"


_default_views = _DefaultViews()
blocking = _default_views.blocking
iterate = _default_views.iterate
enter = _default_views.enter
call = _default_views.call
map = _default_views.map
