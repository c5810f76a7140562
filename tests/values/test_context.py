"""Context variables go into a call and come out of it, as with a function call; and what a copied context cannot do.

The awaited code runs in a copy of its caller's context, and what it has set there is set in the caller's when the call
ends. The limits of a copy are the pain of django/asgiref#534: each has a test here that shows it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import decimal
import gc
import signal
import sys
import threading
import timeit
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import pytest
import sniffio
from places import PLACES, usable
from told import Told
from twisted.internet import defer
from twisted.internet.defer import Deferred, ensureDeferred, inlineCallbacks
from twisted.internet.task import deferLater

from bridge import Bridge, as_deferred, as_future, block_on, in_thread

PATIENCE = 10.0  # seconds
variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default="unset")
without_default: contextvars.ContextVar[Any] = contextvars.ContextVar("without_default")


@pytest.fixture(params=usable(), scope="module")
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies; no test here ends its loop."""
    with Bridge("context", strategy=request.param, install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


@pytest.fixture(autouse=True)
def in_a_context_of_its_own() -> Iterator[None]:
    """Undo what a test sets, by tokens of this very context, which the test runs in."""
    tokens = [variable.set("from the caller")]
    yield
    for token in tokens:
        token.var.reset(token)


async def set_to(value: Any) -> Any:
    """Set the variable and return what it was."""
    before = variable.get()
    variable.set(value)
    await asyncio.sleep(0)
    return before


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


# --- in and out


@pytest.mark.parametrize("place", PLACES)
def test_in_and_out_in_every_place(bridge: Bridge, place: Callable[[Callable[[], Any]], Any]) -> None:
    def call() -> None:
        token = variable.set("in")
        assert bridge.block_on(set_to("out")) == "in"
        assert variable.get() == "out"
        variable.reset(token)

    place(call)


class Awaitable:
    def __await__(self) -> Generator[Any, Any, Any]:
        return set_to("out").__await__()


def set_at_once() -> str:
    before: str = variable.get()
    variable.set("out")
    return before


@pytest.mark.parametrize(
    "make",
    [
        lambda: set_to("out"),
        Awaitable,
        lambda: set_at_once,
        lambda: lambda: set_to("out"),
        lambda: lambda: as_future(set_to("not seen")).get_loop() and set_at_once(),
        lambda: lambda: defer.succeed(set_at_once()),
    ],
    ids=["coroutine", "awaitable", "callable", "coroutine function", "callable with a task", "deferred of a callable"],
)
def test_in_and_out_by_every_kind_of_work_with_code_in_it(bridge: Bridge, make: Callable[[], Any]) -> None:
    assert bridge.block_on(make()) == "from the caller"
    assert variable.get() == "out"


def test_a_variable_set_for_the_first_time_comes_out(bridge: Bridge) -> None:
    async def first() -> None:
        without_default.set("out")

    def call() -> Any:
        bridge.block_on(first())
        return without_default.get()

    assert contextvars.Context().run(call) == "out"


def test_many_variables_and_many_changes_come_out(bridge: Bridge) -> None:
    variables = [contextvars.ContextVar[int](f"number {number}") for number in range(100)]

    async def change(numbers: range) -> int:
        seen = sum(each.get(0) for each in variables)
        for number in numbers:
            variables[number].set(number)
            await asyncio.sleep(0)
        return seen

    def call() -> list[int]:
        for each in variables[:50]:
            each.set(-1)
        assert bridge.block_on(change(range(25, 75))) == -50
        return [each.get(0) for each in variables]

    assert contextvars.Context().run(call) == [-1] * 25 + list(range(25, 75)) + [0] * 25


def test_the_last_call_wins_and_each_sees_the_one_before(bridge: Bridge) -> None:
    for number in range(20):
        before = variable.get()
        assert bridge.block_on(set_to(number)) == before
    assert variable.get() == 19


def test_what_is_set_comes_out_of_a_call_that_fails(bridge: Bridge) -> None:
    async def fail() -> None:
        variable.set("out")
        await asyncio.sleep(0)
        raise LookupError

    for work in (fail, lambda: fail()):
        variable.set("in")
        with pytest.raises(LookupError):
            bridge.block_on(work())
        assert variable.get() == "out"


def test_what_is_set_comes_out_of_a_call_that_times_out(bridge: Bridge) -> None:
    async def time_out() -> None:
        variable.set("out")
        try:
            await for_ever()
        finally:
            without_default.set("by the cleanup")

    def call() -> None:
        with pytest.raises(TimeoutError):
            bridge.block_on(time_out(), timeout=0.01)
        assert variable.get() == "out"
        assert without_default.get() == "by the cleanup"

    contextvars.copy_context().run(call)


def test_what_is_set_comes_out_of_work_that_still_runs(bridge: Bridge) -> None:
    """Up to the moment at which the caller stops waiting."""
    started, cancelled, release, ended = [threading.Event() for _ in range(4)]

    async def stubborn() -> None:
        variable.set("out")
        started.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                cancelled.set()
        variable.set("too late")
        ended.set()

    with pytest.raises(TimeoutError, match="did not finish"):
        bridge.block_on(stubborn(), timeout=5, strategy=Told(started, cancelled))
    assert variable.get() == "out"
    release.set()
    assert ended.wait(10)
    bridge.block_on(asyncio.sleep(0))
    assert variable.get() == "out"


def test_what_is_set_comes_out_of_a_call_that_ctrl_c_ends(bridge: Bridge) -> None:
    async def interrupting() -> None:
        variable.set("out")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await for_ever()

    with pytest.raises(KeyboardInterrupt):
        bridge.block_on(interrupting())
    assert variable.get() == "out"


def test_what_a_signal_handler_sets_during_the_wait_stays(bridge: Bridge) -> None:
    """What the awaited code has left alone is not written back, so it cannot undo what has changed meanwhile."""

    async def signalling() -> None:
        without_default.set("out")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        await asyncio.sleep(0.02)

    before = signal.signal(signal.SIGUSR1, lambda *_: bridge.block_on(set_to("by the handler")))
    try:

        def call() -> None:
            bridge.block_on(signalling())
            assert variable.get() == "by the handler"
            assert without_default.get() == "out"

        contextvars.copy_context().run(call)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_callers_in_many_threads_do_not_see_each_other(bridge: Bridge) -> None:
    async def add(number: int) -> None:
        variable.set([*variable.get(), number])
        await asyncio.sleep(0)

    def work(number: int) -> list[int]:
        variable.set([])
        for _ in range(20):
            bridge.block_on(add(number))
        result: list[int] = variable.get()
        return result

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        for number, result in enumerate(pool.map(work, range(5))):
            assert result == [number] * 20


# --- nested


async def nested(depth: int) -> int:
    number: int = variable.get()
    assert isinstance(number, int)
    variable.set(number + 1)
    if depth:
        await in_thread(nested_sync, depth - 1)
    return variable.get()  # type: ignore[no-any-return]


def nested_sync(depth: int) -> None:
    number = variable.get()
    assert block_on(nested(depth)) == number + 1
    assert variable.get() == number + 1


def test_nested_calls_see_all_that_is_above_them(bridge: Bridge) -> None:
    """What a worker thread sets stays in it, as with asyncio.to_thread: so here each level adds its own one."""
    variable.set(0)
    assert bridge.block_on(nested(3)) == 1
    assert variable.get() == 1


def test_a_call_inside_a_call_comes_out_through_both(bridge: Bridge) -> None:
    def inside() -> str:
        with Bridge("inner", install_reactor=False) as inner:
            assert inner.block_on(set_to("from the inner one")) == "from the caller"
            assert variable.get() == "from the inner one"
        return "done"

    assert bridge.block_on(inside) == "done"
    assert variable.get() == "from the inner one"


def test_a_call_on_the_loops_own_thread_comes_out_like_any_other(bridge: Bridge) -> None:
    async def in_a_task() -> None:
        token = variable.set("in the task")
        assert bridge.block_on(set_to("from the inner one")) == "in the task"
        assert variable.get() == "from the inner one"
        variable.reset(token)  # in a task it is the same context, as with await

    bridge.block_on(in_a_task())
    assert variable.get() == "from the caller"

    def in_a_callable() -> None:
        assert bridge.block_on(set_to("from the inner one")) == "from the caller"
        assert variable.get() == "from the inner one"

    bridge.block_on(in_a_callable)
    assert variable.get() == "from the inner one"


# --- tokens, and what a copy cannot do


def test_the_caller_resets_its_own_tokens_after_the_call(bridge: Bridge) -> None:
    outer = variable.set("outer")
    inner = variable.set("inner")
    bridge.block_on(set_to("out"))
    assert variable.get() == "out"
    variable.reset(inner)
    assert variable.get() == "outer"
    bridge.block_on(set_to("out again"))
    variable.reset(outer)
    assert variable.get() == "from the caller"


def test_the_caller_unsets_after_the_call_what_was_unset_before(bridge: Bridge) -> None:
    async def change() -> None:
        without_default.set("out")

    def call() -> None:
        token = without_default.set("in")
        bridge.block_on(change())
        without_default.reset(token)
        assert without_default.get("unset") == "unset"

    contextvars.Context().run(call)


def test_the_callee_resets_its_own_tokens(bridge: Bridge) -> None:
    async def set_and_reset() -> None:
        token = variable.set("meanwhile")
        await asyncio.sleep(0)
        variable.reset(token)

    bridge.block_on(set_and_reset())
    assert variable.get() == "from the caller"


def test_the_callee_cannot_reset_a_token_of_the_callers(bridge: Bridge) -> None:
    token = variable.set("from the caller again")

    async def reset() -> None:
        variable.reset(token)

    with pytest.raises(ValueError, match="was created in a different Context"):
        bridge.block_on(reset())
    assert variable.get() == "from the caller again"
    variable.reset(token)  # it is still good here


def test_the_caller_cannot_reset_a_token_of_the_callees(bridge: Bridge) -> None:
    async def give_token() -> contextvars.Token[Any]:
        return variable.set("out")

    token = bridge.block_on(give_token())
    with pytest.raises(ValueError, match="was created in a different Context"):
        variable.reset(token)
    assert variable.get() == "out"
    variable.set(token.old_value)  # what works instead
    assert variable.get() == "from the caller"


def test_a_token_of_one_call_cannot_be_reset_by_the_next(bridge: Bridge) -> None:
    """Two calls are two copies. One coroutine for both is what works, or ``enter`` for a context manager."""

    async def give_token() -> contextvars.Token[Any]:
        return variable.set("out")

    async def reset(token: contextvars.Token[Any]) -> None:
        variable.reset(token)

    token = bridge.block_on(give_token())
    with pytest.raises(ValueError, match="was created in a different Context"):
        bridge.block_on(reset(token))
    assert variable.get() == "out"


def test_a_variable_cannot_be_unset_from_within(bridge: Bridge) -> None:
    """Only a token unsets, and the token that could has been made in another context than the callee's."""

    def call() -> None:
        token = without_default.set("in")

        async def unset() -> None:
            with pytest.raises(ValueError, match="was created in a different Context"):
                without_default.reset(token)

        bridge.block_on(unset())
        assert without_default.get() == "in"

        async def set_and_unset() -> None:
            mine = without_default.set("meanwhile")
            without_default.reset(mine)

        bridge.block_on(set_and_unset())
        assert without_default.get() == "in"

    contextvars.Context().run(call)


# --- submit


@pytest.mark.parametrize("place", PLACES)
def test_nothing_comes_out_of_a_call_that_says_so(bridge: Bridge, place: Callable[[Callable[[], Any]], Any]) -> None:
    def call() -> None:
        token = variable.set("in")
        assert bridge.block_on(set_to("out"), context_out=False) == "in"
        assert bridge.block_on(lambda: (variable.set("out"), set_to("out"))[1], context_out=False) == "out"
        assert bridge.block_on(Awaitable(), context_out=False) == "in"
        assert bridge.block_on(lambda: variable.set("out"), context_out=False, timeout=PATIENCE)
        assert block_on(set_to("out"), context_out=False) == "in"
        assert variable.get() == "in"
        with pytest.raises(TimeoutError):
            bridge.block_on(set_and_wait(), timeout=0.01, context_out=False)
        with pytest.raises(SystemExit):
            bridge.block_on(set_and_exit(), context_out=False)
        assert variable.get() == "in"
        variable.reset(token)

    place(call)


async def set_and_wait() -> None:
    variable.set("out")
    await for_ever()


async def set_and_exit() -> None:
    variable.set("out")
    sys.exit(3)


def test_nothing_comes_out_of_a_bridge_that_says_so() -> None:
    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        without_default.set("entered")
        yield variable.get()
        without_default.set("left")

    async def numbers() -> AsyncIterator[Any]:
        for number in range(3):
            without_default.set(number)
            yield variable.get()

    async def add(number: int) -> int:
        variable.set((number, *variable.get()))
        return len(variable.get())

    with Bridge("mine", install_reactor=False, context_out=False) as mine:
        before = contextvars.copy_context()
        assert mine.block_on(set_to("out")) == "from the caller"
        assert mine.run(lambda: variable.set("out")) is not None
        with mine.enter(connection()) as seen:
            assert seen == "from the caller"
        items = mine.iterate(numbers())
        assert next(items) == "from the caller"
        variable.set("changed by the caller")
        assert list(items) == ["changed by the caller"] * 2
        variable.set("from the caller")
        assert dict(contextvars.copy_context()) == dict(before)
        assert mine.block_on(set_to("out"), context_out=True) == "from the caller"
        assert variable.get() == "out"
        # What async code adds to and never resets does not pile up in a thread that calls often.
        variable.set(())
        assert {mine.block_on(add(number)) for number in range(100)} == {1}
        assert [mine.block_on(add(number), context_out=True) for number in range(100)][-1] == 100


def test_submit_takes_variables_in_and_never_out(bridge: Bridge) -> None:
    for work in (set_to("out"), lambda: set_to("out"), set_at_once, Awaitable()):
        future = bridge.submit(work)
        variable.set("changed meanwhile")  # which the work does not see
        assert future.result(5) == "from the caller"
        assert variable.get() == "changed meanwhile"
        variable.set("from the caller")


def test_submit_in_an_empty_context(bridge: Bridge) -> None:
    def call() -> None:
        assert not len(contextvars.copy_context())
        assert bridge.submit(set_to("out")).result(5) == "unset"
        assert bridge.block_on(set_to("out")) == "unset"
        assert variable.get() == "out"

    contextvars.Context().run(call)


def test_waiting_for_submitted_work_takes_nothing_out(bridge: Bridge) -> None:
    assert bridge.block_on(bridge.submit(set_to("out"))) == "from the caller"
    assert variable.get() == "from the caller"


# --- child tasks and threads


def test_child_tasks_see_the_callers_variables_and_keep_what_they_set(bridge: Bridge) -> None:
    async def main() -> list[Any]:
        results = [await asyncio.create_task(set_to("by a task"))]
        results += await asyncio.gather(set_to("gathered"), set_to("gathered"))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(set_to("in a group"))
        results.append(task.result())
        async with anyio.create_task_group() as scope:
            scope.start_soon(set_to, "in anyio's group")
        results.append(await asyncio.to_thread(set_at_once))
        results.append(await in_thread(set_at_once))
        results.append(await as_deferred(set_to("as a Deferred")))
        return results

    assert bridge.block_on(main()) == ["from the caller"] * 7
    assert variable.get() == "from the caller"


def test_wait_for_keeps_variables_from_3_12_on(bridge: Bridge) -> None:
    """asyncio's own rule: before, wait_for ran the coroutine in a task of its own."""

    async def main() -> None:
        await asyncio.wait_for(set_to("out"), 5)

    bridge.block_on(main())
    assert variable.get() == ("out" if sys.version_info >= (3, 12) else "from the caller")


def test_a_task_in_a_context_given_by_hand(bridge: Bridge) -> None:
    context = contextvars.copy_context()

    async def main() -> None:
        await asyncio.get_running_loop().create_task(set_to("in its own"), context=context)

    bridge.block_on(main())
    assert context[variable] == "in its own"
    assert variable.get() == "from the caller"


# --- Twisted


def test_a_coroutine_keeps_its_variables_over_awaited_deferreds(bridge: Bridge) -> None:
    async def main() -> None:
        variable.set("before")
        await deferLater(bridge.reactor, 0, lambda: None)
        assert variable.get() == "before"
        variable.set("out")
        await deferLater(bridge.reactor, 0, lambda: None)

    bridge.block_on(main())
    assert variable.get() == "out"


def test_callbacks_that_run_at_once_see_and_set_the_callers_variables(bridge: Bridge) -> None:
    def start() -> Deferred[Any]:
        return defer.succeed(None).addCallback(lambda _: set_at_once())

    assert bridge.block_on(start) == "from the caller"
    assert variable.get() == "out"


@pytest.mark.parametrize("kind", ["inlineCallbacks", "ensureDeferred"])
def test_inline_callbacks_see_the_callers_variables_and_keep_what_they_set(bridge: Bridge, kind: str) -> None:
    """Twisted runs each in a copy of its own, so nothing comes out. ``async def`` passed as it is has no such limit."""

    @inlineCallbacks
    def inline() -> Generator[Deferred[Any], Any, list[Any]]:
        seen = [variable.get()]
        variable.set("kept")
        yield deferLater(bridge.reactor, 0, lambda: None)
        return [*seen, variable.get()]

    async def coroutine() -> list[Any]:
        seen = [variable.get()]
        variable.set("kept")
        await deferLater(bridge.reactor, 0, lambda: None)
        return [*seen, variable.get()]

    start = inline if kind == "inlineCallbacks" else lambda: ensureDeferred(coroutine())
    assert bridge.block_on(start) == ["from the caller", "kept"]
    assert variable.get() == "from the caller"
    if kind == "ensureDeferred":
        assert bridge.block_on(coroutine()) == ["from the caller", "kept"]
        assert variable.get() == "kept"


def test_what_a_callback_that_the_reactor_fires_sets_does_not_come_out(bridge: Bridge) -> None:
    """Twisted calls timers and protocols in no context of anybody's, so the limit is plain: use a coroutine, or take
    the context along by hand."""

    def start() -> Deferred[Any]:
        return deferLater(bridge.reactor, 0.001, lambda: None).addCallback(lambda _: variable.set("lost"))

    bridge.block_on(start)
    assert variable.get() == "from the caller"

    def with_its_context() -> Deferred[Any]:
        run = contextvars.copy_context().run
        return deferLater(bridge.reactor, 0.001, lambda: None).addCallback(lambda _: run(variable.get))

    assert bridge.block_on(with_its_context) == "from the caller"


def test_a_deferred_that_was_passed_itself_takes_nothing_in_or_out(bridge: Bridge) -> None:
    deferred: Deferred[Any] = Deferred()
    deferred.addCallback(lambda _: variable.set("lost"))
    bridge.loop.call_soon_threadsafe(deferred.callback, None, context=contextvars.Context())
    bridge.block_on(deferred)
    assert variable.get() == "from the caller"


# --- values


class Hostile:
    """A value that cannot be compared, hashed or asked for its truth, such as a large array."""

    def __eq__(self, other: object) -> Any:
        raise AssertionError("compared")

    def __ne__(self, other: object) -> Any:
        raise AssertionError("compared")

    def __bool__(self) -> bool:
        raise AssertionError("asked for its truth")

    def __len__(self) -> int:
        raise AssertionError("asked for its length")

    __hash__ = None  # type: ignore[assignment]


def test_values_are_never_compared(bridge: Bridge) -> None:
    others = [contextvars.ContextVar[Any](f"hostile {number}") for number in range(20)]

    async def change(value: Any) -> Any:
        seen = variable.get()
        variable.set(value)
        others[0].set(value)
        return seen

    def call() -> None:
        first, second = Hostile(), Hostile()
        variable.set(first)
        for each in others:
            each.set(Hostile())
        assert bridge.block_on(change(second)) is first
        assert variable.get() is second
        assert others[0].get() is second
        assert bridge.block_on(change(second)) is second
        bridge.submit(change(first)).result(5)

    contextvars.copy_context().run(call)


def test_an_equal_value_that_is_another_object_comes_out(bridge: Bridge) -> None:
    first, second = [1], [1]
    variable.set(first)
    bridge.block_on(set_to(second))
    assert variable.get() is second


def test_a_value_is_not_kept_alive_by_a_call(bridge: Bridge) -> None:
    class Value:
        alive = 0

        def __init__(self) -> None:
            type(self).alive += 1

        def __del__(self) -> None:
            type(self).alive -= 1

    gc.collect()
    gc.disable()
    try:

        def call() -> None:
            variable.set(Value())
            bridge.block_on(set_to(Value()))

        contextvars.copy_context().run(call)
        for _ in range(50):
            bridge.block_on(asyncio.sleep(0))
            if not Value.alive:
                break
        assert Value.alive == 0
    finally:
        gc.enable()


def test_the_decimal_context_goes_in_and_comes_out(bridge: Bridge) -> None:
    async def third() -> decimal.Decimal:
        return decimal.Decimal(1) / 3

    async def set_precision() -> None:
        decimal.setcontext(decimal.Context(prec=7))

    async def local() -> decimal.Decimal:
        with decimal.localcontext(prec=2):
            await asyncio.sleep(0)
            return decimal.Decimal(1) / 3

    def call() -> None:
        decimal.setcontext(decimal.Context(prec=4))
        assert str(bridge.block_on(third())) == "0.3333"
        assert str(bridge.block_on(local())) == "0.33"
        assert str(decimal.Decimal(1) / 3) == "0.3333"
        bridge.block_on(set_precision())
        assert str(decimal.Decimal(1) / 3) == "0.3333333"
        with decimal.localcontext(prec=3):
            assert str(bridge.block_on(third())) == "0.333"
            bridge.block_on(set_precision())
        assert str(decimal.Decimal(1) / 3) == "0.3333333"

    contextvars.Context().run(call)


# --- generators and context managers within one call


def test_an_async_generator_shares_the_context_of_its_call(bridge: Bridge) -> None:
    async def generate() -> AsyncIterator[str]:
        for number in range(3):
            variable.set(number)
            yield variable.get()

    async def consume() -> list[Any]:
        seen = []
        async for number in generate():
            seen.append((number, variable.get()))
        return seen

    assert bridge.block_on(consume()) == [(0, 0), (1, 1), (2, 2)]
    assert variable.get() == 2


def test_an_async_context_manager_resets_within_its_call(bridge: Bridge) -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        token = variable.set("inside")
        yield
        variable.reset(token)

    async def main() -> Any:
        async with manager():
            await asyncio.sleep(0)
            return variable.get()

    assert bridge.block_on(main()) == "inside"
    assert variable.get() == "from the caller"


def test_a_generator_driven_by_several_calls_cannot_reset_its_own_token(bridge: Bridge) -> None:
    """Each call is a copy of its own: ``iterate`` is what drives a generator in one context."""

    async def generate() -> AsyncIterator[None]:
        token = variable.set("inside")
        yield
        variable.reset(token)

    generator: Any = generate()
    bridge.block_on(anext(generator))
    assert variable.get() == "inside"
    with pytest.raises(ValueError, match="was created in a different Context"):
        bridge.block_on(anext(generator))


# --- what belongs to the loop stays there


def test_nothing_of_anyio_or_sniffio_leaks_into_the_callers_thread(bridge: Bridge) -> None:
    async def main() -> None:
        assert sniffio.current_async_library() == "asyncio"
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        with anyio.move_on_after(1):
            await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 0)
        await in_thread(lambda: block_on(anyio.sleep(0)))
        await asyncio.to_thread(block_on, anyio.sleep(0))
        assert sniffio.current_async_library() == "asyncio"

    def call() -> None:
        bridge.block_on(main())
        assert not list(contextvars.copy_context())
        with pytest.raises(sniffio.AsyncLibraryNotFoundError):
            sniffio.current_async_library()
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    contextvars.Context().run(call)


def test_a_call_leaves_no_variables_of_its_own(bridge: Bridge) -> None:
    before = set(contextvars.copy_context())
    bridge.block_on(asyncio.sleep(0))
    bridge.block_on(lambda: deferLater(bridge.reactor, 0, lambda: None))
    bridge.submit(asyncio.sleep(0)).result(5)
    assert set(contextvars.copy_context()) == before


# --- what it costs


def test_a_context_refers_to_its_mapping_and_to_nothing_else() -> None:
    """What the writing back rests on: two contexts with one mapping have had nothing set in them since they split."""
    for count in (0, 1, 50):
        context = contextvars.Context()
        variables = [contextvars.ContextVar[Any](f"number {number}") for number in range(count)]
        for each in variables:
            context.run(each.set, Hostile())
        copy = context.copy()
        (mine,), (other,) = gc.get_referents(context), gc.get_referents(copy)
        assert mine is other
        copy.run(variable.set, Hostile())
        assert gc.get_referents(copy)[0] is not mine
        assert gc.get_referents(context)[0] is mine


def test_writing_back_nothing_costs_the_same_with_a_thousand_variables() -> None:
    from bridge._values.context import take_variables

    def seconds(count: int) -> float:
        def measure() -> float:
            for number in range(count):
                contextvars.ContextVar[int](f"number {number}").set(number)
            before = contextvars.copy_context()
            after = before.copy()
            return min(timeit.repeat(lambda: take_variables(before, after), number=200, repeat=20))

        return contextvars.Context().run(measure)

    assert seconds(1000) < 5 * seconds(1)  # it was some 300 times as much when it looked at each
