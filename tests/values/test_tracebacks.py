"""The very exception comes out of a call, shown as if one function had called another; and nothing stays behind.

What is shown of an error is checked frame by frame: each must stand in this file, and none may be a part of what
carried it: not the package's, asyncio's, Twisted's or anyio's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import gc
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator
from types import CodeType, TracebackType
from typing import Any

import anyio
import pytest
from isolated import isolated
from places import in_a_thread, usable
from twisted.internet import defer
from twisted.internet.defer import Deferred, ensureDeferred, inlineCallbacks, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from bridge import Bridge, DeadlockError, as_completed, as_deferred, as_future, block_on, in_thread, wait
from bridge._calls import mapping


@pytest.fixture(params=usable(), scope="module")
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies; no test here ends its loop."""
    with Bridge("tracebacks", strategy=request.param, install_reactor=False, shutdown_timeout=1.0) as each:
        yield each


def shown(error: BaseException) -> list[str]:
    """Return the functions that the traceback shows, which must all stand in this file."""
    frames = traceback.extract_tb(error.__traceback__)
    strangers = [frame for frame in frames if frame.filename != __file__]
    assert not strangers, f"a traceback shows {strangers}"
    return [frame.name for frame in frames]


def call(bridge: Bridge, x: Any) -> BaseException:
    """Block on x, which must fail, and return its error; the traceback begins with this function."""
    try:
        bridge.block_on(x)
    except BaseException as error:
        return error
    raise AssertionError("no error came out")


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def raising() -> None:
    raise LookupError("no such thing")


async def later() -> None:
    await asyncio.sleep(0)
    await raising()


def sync_raising() -> None:
    raise LookupError("no such thing")


# --- through coroutines and tasks


async def awaiting() -> None:
    await later()


async def gathering() -> None:
    await asyncio.gather(later(), value())


async def awaiting_a_task() -> None:
    await asyncio.create_task(awaiting())


async def waiting_for() -> None:
    await asyncio.wait_for(later(), 5)


async def shielding() -> None:
    await asyncio.shield(later())


async def as_completing() -> None:
    for each in asyncio.as_completed([later()]):
        await each


async def timing() -> None:
    async with asyncio.timeout(5):
        await later()


async def in_an_asyncio_thread() -> None:
    await asyncio.to_thread(sync_raising)


async def in_an_anyio_thread() -> None:
    await anyio.to_thread.run_sync(sync_raising)


async def in_our_thread() -> None:
    await in_thread(sync_raising)


async def in_an_executor() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, sync_raising)


async def awaiting_a_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(LookupError("never raised"))
    await future


class Awaitable_:
    def __await__(self) -> Generator[Any, Any, None]:
        return later().__await__()


COROUTINES: list[tuple[Callable[[], Any], list[str]]] = [
    (raising, ["raising"]),
    (later, ["later", "raising"]),
    (awaiting, ["awaiting", "later", "raising"]),
    (gathering, ["gathering", "later", "raising"]),
    (awaiting_a_task, ["awaiting_a_task", "awaiting", "later", "raising"]),
    (waiting_for, ["waiting_for", "later", "raising"]),
    (shielding, ["shielding", "later", "raising"]),
    (as_completing, ["as_completing", "later", "raising"]),
    (timing, ["timing", "later", "raising"]),
    (in_an_asyncio_thread, ["in_an_asyncio_thread", "sync_raising"]),
    (in_an_anyio_thread, ["in_an_anyio_thread", "sync_raising"]),
    (in_our_thread, ["in_our_thread", "sync_raising"]),
    (in_an_executor, ["in_an_executor", "sync_raising"]),
    (awaiting_a_future, ["awaiting_a_future"]),
    (Awaitable_, ["later", "raising"]),
]


@pytest.mark.parametrize(("function", "frames"), COROUTINES, ids=lambda each: getattr(each, "__name__", ""))
def test_through_coroutines_and_tasks(bridge: Bridge, function: Callable[[], Any], frames: list[str]) -> None:
    error = call(bridge, function())
    assert type(error) is LookupError
    assert shown(error) == ["call", *frames]
    error = call(bridge, function)  # as a callable
    assert shown(error) == ["call", *frames]


def test_through_a_callable(bridge: Bridge) -> None:
    assert shown(call(bridge, sync_raising)) == ["call", "sync_raising"]


# --- through Deferreds. The reactor is the last argument.


def chain(reactor: Any) -> Deferred[Any]:
    return deferLater(reactor, 0, lambda: None).addCallback(lambda _: "passed on").addCallback(callback)


def callback(_: object) -> None:
    sync_raising()


@inlineCallbacks
def inline(reactor: Any) -> Generator[Deferred[Any], Any, None]:
    yield deferLater(reactor, 0, lambda: None)
    yield chain(reactor)


@inlineCallbacks
def inline_inline(reactor: Any) -> Generator[Deferred[Any], Any, None]:
    yield inline(reactor)


@inlineCallbacks
def inline_coroutine(reactor: Any) -> Generator[Deferred[Any], Any, None]:
    yield deferLater(reactor, 0, lambda: None)
    yield Deferred.fromCoroutine(coroutine_of_deferreds(reactor))


async def coroutine_of_deferreds(reactor: Any) -> None:
    await inline(reactor)


def ensured(reactor: Any) -> Deferred[Any]:
    return ensureDeferred(coroutine_of_deferreds(reactor))


def errbacks(reactor: Any) -> Deferred[Any]:
    return chain(reactor).addErrback(reraising)


def reraising(failure: Failure) -> None:
    failure.raiseException()


def threaded(reactor: Any) -> Deferred[Any]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), sync_raising)


def maybe(reactor: Any) -> Deferred[Any]:
    return maybeDeferred(sync_raising)


def chained(reactor: Any) -> Deferred[Any]:
    return defer.succeed(None).addCallback(lambda _: chain(reactor))


async def coroutine_inline_coroutine(reactor: Any) -> None:
    await inline_coroutine(reactor)


async def through_as_deferred(reactor: Any) -> None:
    await as_deferred(later())


async def through_as_future(reactor: Any) -> None:
    await as_future(chain(reactor))


async def gathering_deferreds(reactor: Any) -> None:
    await asyncio.gather(chain(reactor), deferLater(reactor, 0, lambda: None))


def never_raised(reactor: Any) -> Deferred[Any]:
    return defer.fail(LookupError("never raised"))


def cleaned(reactor: Any) -> Deferred[Any]:
    try:
        sync_raising()
    except LookupError:
        failure = Failure()
    failure.cleanFailure()
    return defer.fail(failure)


DEFERREDS: list[tuple[Callable[[Any], Any], list[str]]] = [
    (chain, ["callback", "sync_raising"]),
    (inline, ["inline", "callback", "sync_raising"]),
    (inline_inline, ["inline_inline", "inline", "callback", "sync_raising"]),
    (inline_coroutine, ["inline_coroutine", "coroutine_of_deferreds", "inline", "callback", "sync_raising"]),
    (ensured, ["coroutine_of_deferreds", "inline", "callback", "sync_raising"]),
    (errbacks, ["reraising", "callback", "sync_raising"]),
    (threaded, ["sync_raising"]),
    (maybe, ["sync_raising"]),
    (chained, ["callback", "sync_raising"]),
    (coroutine_of_deferreds, ["coroutine_of_deferreds", "inline", "callback", "sync_raising"]),
    (
        coroutine_inline_coroutine,
        [
            "coroutine_inline_coroutine",
            "inline_coroutine",
            "coroutine_of_deferreds",
            "inline",
            "callback",
            "sync_raising",
        ],
    ),
    (through_as_deferred, ["through_as_deferred", "later", "raising"]),
    (through_as_future, ["through_as_future", "callback", "sync_raising"]),
    (gathering_deferreds, ["gathering_deferreds", "callback", "sync_raising"]),
    (never_raised, []),
    (cleaned, []),
]


@pytest.mark.parametrize(("function", "frames"), DEFERREDS, ids=lambda each: getattr(each, "__name__", ""))
def test_through_deferreds(bridge: Bridge, function: Callable[[Any], Any], frames: list[str]) -> None:
    error = call(bridge, start := lambda: function(bridge.reactor))
    assert type(error) is LookupError
    assert shown(error) == ["call", *frames]
    del start


def test_the_first_error_of_a_list_of_deferreds_has_its_own_error_inside(bridge: Bridge) -> None:
    error = LookupError("no such thing")
    for gather in (defer.gatherResults, lambda each: defer.DeferredList(each, fireOnOneErrback=True)):
        first = call(bridge, lambda: gather([defer.fail(error), Deferred()]))  # noqa: B023
        assert type(first) is defer.FirstError
        assert first.subFailure.value is error
        assert shown(first) == ["call"]


# --- nested calls


async def outermost(bridge: Bridge, depth: int) -> None:
    if depth:
        await in_thread(blocking, bridge, depth)
    else:
        await inline(bridge.reactor)


def blocking(bridge: Bridge, depth: int) -> None:
    block_on(outermost(bridge, depth - 1))


def test_through_nested_blocking_calls(bridge: Bridge) -> None:
    error = call(bridge, outermost(bridge, 3))
    assert type(error) is LookupError
    nested = ["outermost", "blocking"] * 3
    assert shown(error) == ["call", *nested, "outermost", "inline", "callback", "sync_raising"]


async def switching(bridge: Bridge) -> None:
    blocking_inline(bridge)


def blocking_inline(bridge: Bridge) -> None:
    bridge.block_on(inline(bridge.reactor))


def test_through_blocking_calls_on_the_loops_own_thread(bridge: Bridge) -> None:
    """Where the stack switches: in a task, in a callable, and in a Deferred's callback."""
    nested = ["blocking_inline", "inline", "callback", "sync_raising"]
    assert shown(call(bridge, switching(bridge))) == ["call", "switching", *nested]
    assert shown(call(bridge, lambda: blocking_inline(bridge))) == ["call", "<lambda>", *nested]
    blocked = call(bridge, lambda: deferLater(bridge.reactor, 0, blocking_inline, bridge))
    assert shown(blocked) == ["call", *nested]
    assert shown(call(bridge, lambda: switching(bridge))) == ["call", "switching", *nested]


def test_through_two_bridges(bridge: Bridge) -> None:
    async def asking(other: Bridge) -> None:
        await asyncio.wrap_future(other.submit(later()))

    with Bridge("other", install_reactor=False) as other:
        assert shown(call(bridge, lambda: other.block_on(later()))) == ["call", "<lambda>", "later", "raising"]
        assert shown(call(bridge, asking(other))) == ["call", "asking", "later", "raising"]


# --- once more


def test_waiting_twice_does_not_grow_the_traceback(bridge: Bridge) -> None:
    def started(start: Callable[[], Any]) -> Any:
        return bridge.block_on(lambda: [start()])[0]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        of_an_executor = pool.submit(sync_raising)
        for x, frames in (
            (started(lambda: Deferred.fromCoroutine(raising())), ["raising"]),
            (started(lambda: chain(bridge.reactor)), ["callback", "sync_raising"]),
            (started(lambda: asyncio.ensure_future(later())), ["later", "raising"]),
            (started(lambda: as_future(chain(bridge.reactor))), ["callback", "sync_raising"]),
            (bridge.submit(later()), ["later", "raising"]),
            (of_an_executor, ["sync_raising"]),
        ):
            for way in (x, x, lambda: x, lambda: x, x):  # noqa: B023
                assert shown(call(bridge, way)) == ["call", *frames]


def test_blocking_twice_in_a_worker_thread_does_not_grow_the_traceback(bridge: Bridge) -> None:
    """There the work is a part of the worker's cancel scope, so another way leads to it."""

    async def main() -> None:
        future = asyncio.ensure_future(later())
        deferred = chain(bridge.reactor)
        for x, frames in ((future, ["later", "raising"]), (deferred, ["callback", "sync_raising"])):
            for _ in range(4):
                assert shown(await in_thread(call, bridge, x)) == ["call", *frames]

    bridge.block_on(main())


def test_the_same_error_raised_again_by_other_work_does_not_keep_the_first_callers_frames(bridge: Bridge) -> None:
    error = LookupError("one for all")

    async def raise_it() -> None:
        raise error.with_traceback(None)

    for _ in range(3):
        assert call(bridge, raise_it()) is error
        assert shown(error) == ["call", "raise_it"]
    for _ in range(3):
        assert call(bridge, defer.fail(error.with_traceback(None))) is error
        assert shown(error) == ["call"]


def test_a_submitted_futures_result_shows_the_users_frames_and_does_not_grow(bridge: Bridge) -> None:
    future = bridge.submit(later())
    for _ in range(4):
        with pytest.raises(LookupError) as caught:
            future.result(5)
        here = "test_a_submitted_futures_result_shows_the_users_frames_and_does_not_grow"
        assert shown(caught.value) == [here, "later", "raising"]
    assert future.exception() is caught.value
    endless = bridge.submit(asyncio.sleep(1000))
    with pytest.raises(TimeoutError) as refused:
        endless.result(0)
    endless.cancel()
    assert shown(refused.value) == [here]


def test_one_error_raised_in_many_threads_does_not_grow(bridge: Bridge) -> None:
    """Threads that raise one object at a time share its traceback, as in any Python program; it must stay bounded."""
    deferred = bridge.block_on(lambda: [Deferred.fromCoroutine(raising())])[0]
    futures = [deferred, bridge.submit(raising()), bridge.block_on(lambda: [asyncio.ensure_future(raising())])[0]]

    def work() -> None:
        for _ in range(50):
            for x in futures:
                assert isinstance(call(bridge, x), LookupError)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x in futures:
        assert shown(call(bridge, x)) == ["call", "raising"]


# --- groups, causes, contexts, notes


async def group_of_tasks(bridge: Bridge) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(later())
        group.create_task(awaiting_a_deferred(bridge))


async def group_of_anyio(bridge: Bridge) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(later)
        group.start_soon(awaiting_a_deferred, bridge)


async def awaiting_a_deferred(bridge: Bridge) -> None:
    await inline(bridge.reactor)


async def nested_groups(bridge: Bridge) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(group_of_tasks(bridge))


def leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves(each)]


@pytest.mark.parametrize("function", [group_of_tasks, group_of_anyio, nested_groups])
def test_the_errors_of_a_group_are_trimmed_too(bridge: Bridge, function: Callable[[Bridge], Any]) -> None:
    error = call(bridge, function(bridge))
    assert isinstance(error, ExceptionGroup)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[:2] == ["call", function.__name__]
    assert all(names[0] in ("later", "awaiting_a_deferred") for names in map(shown, leaves(error)))
    assert "bridge/" not in "".join(traceback.format_exception(error)).replace("bridge/tests", "")
    assert "/_call.py" not in "".join(traceback.format_exception(error))


def test_causes_and_contexts_come_through_trimmed(bridge: Bridge) -> None:
    async def from_a_child() -> None:
        try:
            await asyncio.create_task(later())
        except LookupError as error:
            raise ValueError("from the child") from error

    async def while_handling() -> None:
        try:
            await inline(bridge.reactor)
        except LookupError:
            raise ValueError("while handling")  # noqa: B904

    error = call(bridge, from_a_child())
    assert shown(error) == ["call", "from_a_child"]
    assert error.__cause__ is not None
    assert shown(error.__cause__) == ["from_a_child", "later", "raising"]

    error = call(bridge, while_handling())
    assert error.__cause__ is None
    assert error.__context__ is not None
    assert shown(error.__context__) == ["while_handling", "inline", "callback", "sync_raising"]


def test_an_error_that_never_came_through_us_is_left_alone(bridge: Bridge) -> None:
    """The cause may be an error of the user's with frames of asyncio's in it, which are his."""

    async def in_a_loop_of_his_own() -> None:
        await asyncio.wait_for(later(), 5)

    with pytest.raises(LookupError) as before:
        asyncio.run(in_a_loop_of_his_own())
    whole = traceback.format_tb(before.value.__traceback__)

    async def raise_from_it() -> None:
        raise ValueError from before.value

    error = call(bridge, raise_from_it())
    assert error.__cause__ is before.value
    assert traceback.format_tb(before.value.__traceback__) == whole


def test_we_add_no_context(bridge: Bridge) -> None:
    errors: list[BaseException] = []

    async def later_on() -> None:
        await asyncio.sleep(0)
        try:
            await asyncio.create_task(later())
        except LookupError:
            pass
        await asyncio.sleep(0)
        raise ValueError

    @inlineCallbacks
    def inline_later_on() -> Generator[Deferred[Any], Any, None]:
        try:
            yield as_deferred(later())
        except LookupError:
            pass
        raise ValueError

    async def cancelled() -> None:
        raise asyncio.CancelledError

    @inlineCallbacks
    def after_a_cancellation() -> Generator[Deferred[Any], Any, None]:
        try:
            yield as_deferred(cancelled())
        except defer.CancelledError:
            pass
        raise ValueError

    for x in (raising(), later(), sync_raising, lambda: chain(bridge.reactor), lambda: inline(bridge.reactor)):
        errors.append(call(bridge, x))
    for x in (later_on(), inline_later_on, after_a_cancellation):
        errors.append(call(bridge, x))
        assert type(errors[-1]) is ValueError
    for error in errors:
        assert error.__context__ is None, error
        assert error.__cause__ is None
        assert not hasattr(error, "__notes__")


def test_a_callback_of_a_submitted_future_sees_no_error_of_ours(bridge: Bridge) -> None:
    handled: list[BaseException | None] = []
    release = threading.Event()

    async def failing() -> None:
        await asyncio.to_thread(release.wait)
        raise LookupError

    for x in (failing(), lambda: as_future(failing())):
        release.clear()
        future = bridge.submit(x)
        called = threading.Event()
        future.add_done_callback(lambda _: handled.append(sys.exception()))
        future.add_done_callback(lambda _: called.set())  # noqa: B023
        release.set()
        assert called.wait(5)
    assert handled == [None, None]


def test_the_callers_own_context_and_notes_stay(bridge: Bridge) -> None:
    cause = KeyError("the cause")

    async def noted() -> None:
        error = LookupError("no such thing")
        error.add_note("a note")
        raise error from cause

    outer = ValueError("handled by the caller")
    try:
        raise outer
    except ValueError:
        error = call(bridge, noted())
    assert error.__context__ is outer  # as with any call in an except block
    assert error.__cause__ is cause
    assert error.__notes__ == ["a note"]


# --- errors of every make


def test_exits_out_of_every_kind_of_work_reach_the_caller_and_the_loop_lives(bridge: Bridge) -> None:
    thread = bridge.thread

    def raise_it(error: BaseException) -> None:
        raise error

    async def in_a_coroutine(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    async def in_a_worker(error: BaseException) -> None:
        await in_thread(raise_it, error)

    async def in_a_deferred(error: BaseException) -> None:
        await defer.fail(error)

    for make in (lambda: SystemExit(3), KeyboardInterrupt):
        for work in (in_a_coroutine, in_a_worker, in_a_deferred, defer.fail):
            error = make()
            assert call(bridge, work(error)) is error
            error = make()
            assert bridge.submit(work(error)).exception(5) is error
    assert bridge.thread is thread
    assert bridge.block_on(value()) == "value"


class WithArguments(Exception):
    def __init__(self, first: int, *, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.first, self.second = first, second


class Slotted(Exception):
    __slots__ = ("code",)


class Equal(Exception):
    """Equal to nothing, not even comparable, and neither true nor false."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __bool__(self) -> bool:
        raise AssertionError("asked for its truth")

    def __len__(self) -> int:
        raise AssertionError("asked for its length")

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """A frozen dataclass refuses ``error.__traceback__ = ...``, as every attribute."""

    code: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise AssertionError("printed")

    __repr__ = __str__


MADE = [
    lambda: WithArguments(1, second="two"),
    lambda: Slotted("slotted"),
    Equal,
    lambda: Frozen(3),
    Unprintable,
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    lambda: OSError(2, "No such file", "name"),
    lambda: GeneratorExit("raised by hand"),
    lambda: StopAsyncIteration("raised by hand"),
    lambda: asyncio.CancelledError("raised by hand"),
    lambda: defer.CancelledError("raised by hand"),
    lambda: TimeoutError("raised by hand"),
    lambda: BaseExceptionGroup("group", [KeyboardInterrupt()]),
]


@pytest.mark.parametrize("make", MADE, ids=lambda make: type(make()).__name__)
def test_errors_of_every_make_come_through_as_they_are(bridge: Bridge, make: Callable[[], BaseException]) -> None:
    async def at_once(error: BaseException) -> None:
        raise error

    async def after_a_turn(error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    async def from_a_child(error: BaseException) -> None:
        await asyncio.ensure_future(after_a_turn(error))

    async def from_a_thread(error: BaseException) -> None:
        await in_thread(raise_it, error)

    def raise_it(error: BaseException) -> None:
        raise error

    @inlineCallbacks
    def generator(error: BaseException) -> Generator[Deferred[Any], Any, None]:
        yield deferLater(bridge.reactor, 0, lambda: None)
        raise error

    def of_a_deferred_later(error: BaseException) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        bridge.reactor.callLater(0, deferred.errback, error)
        return deferred

    for work in (at_once, after_a_turn, from_a_child, from_a_thread, defer.fail, of_a_deferred_later, generator):
        if isinstance(make(), GeneratorExit) and work in (generator, from_a_child, from_a_thread):
            continue  # thrown into a generator or coroutine it closes that, by Python's own rules
        for _ in range(2):
            error = make()
            assert call(bridge, lambda: work(error)) is error, work  # noqa: B023
            traceback.extract_tb(error.__traceback__)
    for work in (raise_it, at_once, defer.fail):
        error = make()
        assert bridge.submit(lambda: work(error)).exception(5) is error  # noqa: B023


def test_stop_iteration_comes_through_where_python_lets_it(bridge: Bridge) -> None:
    """Out of a coroutine or a generator Python itself makes it a RuntimeError, as with a plain await."""
    stop = StopIteration("value")

    def raise_it() -> None:
        raise stop

    async def coroutine() -> None:
        raise stop

    async def awaiting_a_deferred() -> None:
        await defer.fail(stop)

    async def from_a_thread() -> None:
        await in_thread(raise_it)

    assert call(bridge, raise_it) is stop
    assert call(bridge, defer.fail(stop)) is stop
    assert bridge.submit(raise_it).exception(5) is stop
    assert call(bridge, bridge.submit(raise_it)) is stop
    for x in (coroutine(), awaiting_a_deferred(), from_a_thread()):
        error = call(bridge, x)
        assert type(error) is RuntimeError
        assert error.__cause__ is stop


def test_a_failure_of_something_that_is_no_exception_is_raised_itself(bridge: Bridge) -> None:
    error = call(bridge, defer.fail(Failure("a string")))
    assert isinstance(error, Failure)
    assert error.value == "a string"
    assert isinstance(bridge.submit(defer.fail(Failure("a string"))).exception(5), Failure)


def test_a_failure_with_a_traceback_of_its_own_shows_that(bridge: Bridge) -> None:
    try:
        sync_raising()
    except LookupError:
        failure = Failure()
    failure.value.__traceback__ = None
    here = "test_a_failure_with_a_traceback_of_its_own_shows_that"
    assert shown(call(bridge, defer.fail(failure))) == ["call", here, "sync_raising"]


# --- our own refusals


def test_a_refusal_shows_the_callers_frame_only(bridge: Bridge) -> None:
    async def taken() -> None:
        pass

    coroutine = taken()
    bridge.block_on(coroutine)
    for x in (1, coroutine, lambda needed: None, asyncio.new_event_loop):
        if x is asyncio.new_event_loop:
            continue
        assert shown(call(bridge, x)) == ["call"]
        with pytest.raises((TypeError, RuntimeError)) as caught:
            bridge.submit(x)
        assert shown(caught.value) == ["test_a_refusal_shows_the_callers_frame_only"]
    for keywords in ({"timeout": -1}, {"timeout": "soon"}, {"strategy": "no such"}):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            bridge.block_on(value(), **keywords)  # type: ignore[call-overload]
        assert shown(caught.value) == ["test_a_refusal_shows_the_callers_frame_only"]


def test_a_time_out_shows_the_callers_frame_only(bridge: Bridge) -> None:
    for x in (for_ever(), Deferred()):
        with pytest.raises(TimeoutError) as caught:
            bridge.block_on(x, timeout=0.01)
        assert shown(caught.value) == ["test_a_time_out_shows_the_callers_frame_only"]


def test_a_time_out_has_no_frames_of_ours_in_its_cause(bridge: Bridge) -> None:
    with pytest.raises(TimeoutError) as caught:
        bridge.block_on(for_ever(), timeout=0.01)
    if caught.value.__cause__ is not None:
        assert shown(caught.value.__cause__) == ["for_ever"]


def test_a_future_of_a_foreign_loop_of_this_thread_shows_the_callers_frame_only(bridge: Bridge) -> None:
    async def main() -> None:
        error = call(bridge, asyncio.get_running_loop().create_future())
        assert type(error) is DeadlockError
        assert shown(error) == ["call"]

    asyncio.run(main())


def test_ctrl_c_shows_where_the_caller_stood(bridge: Bridge) -> None:
    async def interrupting() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await for_ever()

    error = call(bridge, interrupting())
    assert type(error) is KeyboardInterrupt
    assert_shows_the_caller(error)


def assert_shows_the_caller(error: BaseException) -> None:
    """Check that the traceback begins here, and has no frame of ours."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[0] == __file__
    assert not any("/bridge/_" in name or "/bridge/strategies" in name for name in frames)


WAITS_FOR_SEVERAL: dict[str, Callable[[Bridge, Callable[[int], Any]], object]] = {
    "map": lambda bridge, function: list(bridge.map(function, range(2))),
    "wait": lambda bridge, function: wait([bridge.submit(function(number)) for number in range(2)]),
    "as_completed": lambda bridge, function: list(as_completed([bridge.submit(function(each)) for each in range(2)])),
}


@pytest.mark.parametrize("verb", WAITS_FOR_SEVERAL)
def test_ctrl_c_in_a_wait_for_several_shows_where_the_caller_stood(bridge: Bridge, verb: str) -> None:
    work: list[Any] = []

    async def interrupting(number: int) -> None:
        work.append(asyncio.current_task())
        if number:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await for_ever()

    with pytest.raises(KeyboardInterrupt) as caught:
        WAITS_FOR_SEVERAL[verb](bridge, interrupting)
    assert_shows_the_caller(caught.value)
    bridge.block_on(lambda: [each.cancel() for each in work])


def _stands_in(code: CodeType) -> bool:
    """Return whether the main thread is in a call of a function."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def test_the_second_ctrl_c_in_map_shows_the_callers_line_twice(bridge: Bridge) -> None:
    cleans_up = threading.Event()

    async def interrupting(_: int) -> None:
        # Where a call begins, Ctrl-C would cancel it, and map would not know of it.
        while not _stands_in(mapping._Calls.wait.__code__):
            await asyncio.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await for_ever()
        finally:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            while not cleans_up.is_set():
                await asyncio.sleep(0.001)

    with pytest.raises(KeyboardInterrupt) as caught:
        list(bridge.map(interrupting, range(1)))
    cleans_up.set()
    first = caught.value.__context__
    assert type(first) is KeyboardInterrupt
    assert_shows_the_caller(caught.value)
    assert not any("/bridge/_" in frame.filename for frame in traceback.extract_tb(first.__traceback__))


def test_an_error_in_map_shows_the_users_frames(bridge: Bridge) -> None:
    with pytest.raises(LookupError) as caught:
        list(bridge.map(lambda _: later(), range(3)))
    assert shown(caught.value) == ["test_an_error_in_map_shows_the_users_frames", "later", "raising"]


# --- as shown in the end


_MARKS = r"[ ^~\n]*"  # the lines of carets and tildes, which differ from version to version
_CALLER = rf"""Traceback \(most recent call last\):
  File "<string>", line 1, in <module>
[^\n]*{_MARKS}  File "[^"]*isolated.py", line \d+, in child
[^\n]*{_MARKS}  File "[^"]*test_tracebacks.py", line \d+, in test_\w+
    block_on\(\w+\(\)\){_MARKS}"""


@isolated(
    status=1,
    stderr=_CALLER
    + r"""File "[^"]*test_tracebacks.py", line \d+, in outer
    await asyncio.gather\(inner\(\), asyncio.sleep\(5\)\)\s+File "[^"]*test_tracebacks.py", line \d+, in inner
    raise LookupError\("no such thing"\)\s+LookupError: no such thing""",
    fresh=True,
)
def test_an_uncaught_error_of_a_coroutine_looks_as_one_of_plain_code() -> None:
    import asyncio

    from bridge import block_on

    async def outer() -> None:
        await asyncio.gather(inner(), asyncio.sleep(5))

    async def inner() -> None:
        await asyncio.sleep(0)
        raise LookupError("no such thing")

    block_on(outer())


@isolated(
    status=1,
    stderr=_CALLER
    + r"""File "[^"]*test_tracebacks.py", line \d+, in inner
    raise LookupError\("no such thing"\)\s+LookupError: no such thing""",
    options=("-X", "dev", "-W", "error"),
)
def test_an_uncaught_error_of_a_deferred_looks_as_one_of_plain_code_in_development_mode() -> None:
    import logging

    from twisted.internet.defer import inlineCallbacks

    from bridge import block_on

    # asyncio's remark on a callback that has taken long, as any does on a machine that is busy.
    logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing"))

    def start():  # type: ignore[no-untyped-def]
        return inner

    @inlineCallbacks
    def inner():  # type: ignore[no-untyped-def]
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        yield deferLater(reactor, 0, lambda: None)
        raise LookupError("no such thing")

    block_on(start())


@isolated(options=("-X", "dev", "-W", "error"))
def test_development_mode_changes_nothing() -> None:
    import asyncio
    import logging
    import traceback

    from places import usable
    from twisted.internet.defer import Deferred, fail, inlineCallbacks
    from twisted.internet.task import deferLater

    from bridge import as_deferred, block_on, default_bridge, in_thread, submit

    # asyncio's remark on a callback that has taken long, as any does on a machine that is busy.
    logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing"))

    async def raising() -> None:
        await asyncio.sleep(0)
        raise LookupError

    @inlineCallbacks
    def inline():  # type: ignore[no-untyped-def]
        yield deferLater(default_bridge().reactor, 0, lambda: None)
        yield as_deferred(raising())

    async def gathering() -> None:
        await asyncio.gather(raising(), inline(), return_exceptions=True)
        await asyncio.create_task(raising())

    async def nested() -> None:
        await in_thread(block_on, inline)

    assert block_on(lambda: asyncio.get_running_loop().get_debug())
    for strategy in usable():
        for x, frames in (
            (raising, ["raising"]),
            (inline, ["inline", "raising"]),
            (gathering, ["gathering", "raising"]),
            (nested, ["nested", "inline", "raising"]),
            (lambda: fail(LookupError()), []),
        ):
            try:
                block_on(x, strategy=strategy)
            except LookupError as error:
                names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                assert names == ["test_development_mode_changes_nothing", *frames], names
            else:
                raise AssertionError
        try:
            block_on(Deferred(), timeout=0.01, strategy=strategy)
        except TimeoutError:
            pass
    assert isinstance(submit(raising()).exception(5), LookupError)


# --- nothing stays behind


class Local:
    """An object that stands in a local variable of the awaited code."""


class Error(LookupError):
    pass


class Seen:
    """Weak references to what must be gone when a call is over."""

    def __init__(self) -> None:
        self.references: list[weakref.ref[Any]] = []

    def add(self, x: object) -> Any:
        self.references.append(weakref.ref(x))
        return x

    async def succeeding(self) -> None:
        local = self.add(Local())
        await asyncio.sleep(0)
        del local

    async def failing(self) -> None:
        local = self.add(Local())
        await asyncio.sleep(0)
        try:
            raise self.add(Error())
        finally:
            del local

    async def failing_at_once(self) -> None:
        local = self.add(Local())
        assert local is not None
        raise self.add(Error())

    async def failing_in_a_child(self) -> None:
        await asyncio.create_task(self.failing_at_once())

    async def gathering(self) -> None:
        await asyncio.gather(self.failing_at_once(), value())

    async def endless(self) -> None:
        local = self.add(Local())
        await for_ever()
        del local

    async def interrupting(self) -> None:
        local = self.add(Local())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await for_ever()
        del local

    async def awaiting_a_deferred(self) -> None:
        await deferLater(self.reactor, 0, self.raise_it)

    def raise_it(self) -> None:
        local = self.add(Local())
        assert local is not None
        raise self.add(Error())

    @inlineCallbacks
    def inline(self) -> Generator[Deferred[Any], Any, None]:
        local = self.add(Local())
        yield deferLater(self.reactor, 0, lambda: None)
        assert local is not None
        raise self.add(Error())

    def chain(self) -> Deferred[Any]:
        return deferLater(self.reactor, 0, lambda: None).addCallback(lambda _: self.raise_it())

    def unfired(self) -> Deferred[Any]:
        return self.add(Deferred())  # type: ignore[no-any-return]

    async def in_a_thread(self) -> None:
        await in_thread(self.raise_it)

    async def nested(self) -> None:
        await in_thread(self.blocking)

    def blocking(self) -> None:
        block_on(self.failing())

    async def switching(self) -> None:
        block_on(self.failing())

    def switching_in_a_callable(self) -> None:
        block_on(self.failing())

    def switching_for_a_deferred(self) -> None:
        block_on(self.chain())

    reactor: Any = None


PATHS: list[tuple[str, dict[str, Any], type[BaseException] | None]] = [
    ("succeeding", {}, None),
    ("failing", {}, Error),
    ("failing_at_once", {}, Error),
    ("failing_in_a_child", {}, Error),
    ("gathering", {}, Error),
    ("endless", {"timeout": 0.01}, TimeoutError),
    ("endless", {"timeout": 0}, TimeoutError),
    ("interrupting", {}, KeyboardInterrupt),
    ("raise_it", {}, Error),
    ("awaiting_a_deferred", {}, Error),
    ("chain", {}, Error),
    ("inline", {}, Error),
    ("unfired", {"timeout": 0.01}, TimeoutError),
    ("in_a_thread", {}, Error),
    ("nested", {}, Error),
    ("switching", {}, Error),
    ("switching_in_a_callable", {}, Error),
    ("switching_for_a_deferred", {}, Error),
]


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize(
    ("work", "keywords", "expected"), PATHS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_no_reference_cycle_is_left(
    bridge: Bridge, work: str, keywords: dict[str, Any], expected: type[BaseException] | None
) -> None:
    seen = Seen()
    seen.reactor = bridge.reactor

    def once() -> None:
        try:
            bridge.block_on(getattr(seen, work), **keywords)
        except BaseException as error:
            assert type(error) is expected  # noqa: PT017 - some expect none
            if isinstance(error, Error):  # of the builtin ones there are no weak references
                seen.add(error)
        else:
            assert expected is None

    for _ in range(2):
        once()
        left = remaining(bridge, seen)
        assert not left


def remaining(bridge: Bridge, seen: Seen) -> list[Any]:
    """Return what is still there when the loop's thread and anyio's workers have let go of the last call."""
    deadline = time.monotonic() + 20
    while True:
        bridge.block_on(value())
        bridge.block_on(lambda: bridge.block_on(asyncio.sleep(0)))  # so have the loop's stacks of what they ran last
        if all(each() is None for each in seen.references) or time.monotonic() > deadline:
            break
        time.sleep(0.001)
    return [each() for each in seen.references if each() is not None]


@pytest.mark.usefixtures("no_gc")
def test_a_submitted_call_leaves_no_reference_cycle(bridge: Bridge) -> None:
    seen = Seen()
    seen.reactor = bridge.reactor

    def once(work: str) -> None:
        future = bridge.submit(getattr(seen, work))
        for _ in range(2):
            try:
                future.result(5)
            except Error:
                pass
        seen.add(future)
        del future  # the error that it holds has this frame in its traceback, as with any Future

    def cancelled() -> None:
        future = seen.add(bridge.submit(seen.endless()))
        bridge.block_on(value())
        future.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(5)

    for work in ("succeeding", "failing", "failing_at_once", "raise_it", "chain", "inline"):
        once(work)
        left = remaining(bridge, seen)
        assert not left, work
    cancelled()
    assert not remaining(bridge, seen)


@pytest.mark.usefixtures("no_gc")
def test_converting_leaves_no_reference_cycle(bridge: Bridge) -> None:
    seen = Seen()
    seen.reactor = bridge.reactor

    async def by_a_deferred() -> None:
        await as_deferred(seen.failing())

    async def by_a_future() -> None:
        await as_future(seen.chain())

    for work in (by_a_deferred, by_a_future):
        in_a_thread(lambda: isinstance(call(bridge, work), Error) or pytest.fail("no error"))  # noqa: B023
        left = remaining(bridge, seen)
        assert not left, work.__name__


def test_the_traceback_of_a_user_who_holds_it_stays_whole(bridge: Bridge) -> None:
    held: list[TracebackType | None] = []

    async def holding() -> None:
        try:
            await asyncio.wait_for(later(), 5)
        except LookupError as error:
            held.append(error.__traceback__)
            raise

    call(bridge, holding())
    names = [frame.name for frame in traceback.extract_tb(held[0])]
    assert "wait_for" in names
