"""In a task, ``block_on(x)`` is ``await x``: every case here runs both ways, and must leave the same trace.

A case gets ``wait``, which awaits or blocks, and ``note``, which records what happens and when: also what other tasks
and callbacks do meanwhile. Those that need no Deferred run on the standard library's own loop as well, so that what is
compared is asyncio's behaviour and not two faults of ours that agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from twisted.internet.defer import CancelledError as DeferredCancelled
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from bridge import block_on
from bridge._loop.switching import SwitchingLoop

Wait = Callable[[Any], Awaitable[Any]]
Note = Callable[..., None]
Case = Callable[[Wait, Note], Coroutine[Any, Any, Any]]

CASES: list[Any] = []
variable: ContextVar[str] = ContextVar("variable", default="unset")


async def awaiting(x: Any) -> Any:
    return await x


async def blocking(x: Any) -> Any:
    return block_on(x)


async def blocking_deep(x: Any) -> Any:
    """Block in a coroutine that a blocked call drives."""

    async def inner() -> Any:
        return block_on(x)

    return block_on(inner())


def case(function: Case) -> Case:
    CASES.append(pytest.param(function, id=function.__name__))
    return function


def with_deferreds(function: Case) -> Case:
    function.needs_deferreds = True  # type: ignore[attr-defined]
    return case(function)


def trace_of(function: Case, wait: Wait, loop_factory: Callable[[], Any]) -> list[Any]:
    trace: list[Any] = []

    def note(*what: object) -> None:
        trace.append(what if len(what) > 1 else what[0])

    async def main() -> None:
        task = asyncio.create_task(function(wait, note), name="the case")
        await asyncio.wait([task], timeout=20)
        note("ended", *outcome_of(task))
        note("left", sorted(each.get_name() for each in asyncio.all_tasks() - {asyncio.current_task()}))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    return trace


def outcome_of(task: asyncio.Task[Any]) -> tuple[Any, ...]:
    if not task.done():
        return ("hangs",)
    if task.cancelled():
        return "cancelled", task.cancelling()
    error = task.exception()
    return ("value", task.result(), task.cancelling()) if error is None else ("error", *shown(error))


def shown(error: BaseException | None) -> tuple[Any, ...]:
    """Return what an error says, with what it was caused by, as something that can be compared."""
    if error is None:
        return ()
    # anyio says by which task, where a scope's time is up as it is entered.
    texts = [re.sub("(scope [0-9a-f]+) by <.*>", r"\1", str(each)) for each in error.args]
    parts: tuple[Any, ...] = tuple(re.sub("<.*>|scope [0-9a-f]+", "...", text) for text in texts)
    if isinstance(error, BaseExceptionGroup):
        parts = tuple(shown(each) for each in error.exceptions)
    return type(error).__name__, parts, shown(error.__cause__), shown(error.__context__)


# --- what the cases are made of


@contextlib.contextmanager
def noting(note: Note, name: str) -> Iterator[None]:
    """Note the error that passes, and hold it."""
    try:
        yield
    except BaseException as error:
        note(name, *shown(error))
    else:
        note(name, "no error")


async def ticks(note: Note, name: str, count: int = 4) -> None:
    for number in range(count):
        note(name, number)
        await asyncio.sleep(0)


def me() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def forever() -> None:
    await asyncio.Event().wait()


async def fails(note: Note, name: str = "child") -> None:
    await turns(2)
    note(name, "fails")
    raise LookupError(name)


# --- results, errors, order


@case
async def results(wait: Wait, note: Note) -> None:
    async def value() -> str:
        await turns(3)
        return "value"

    async def at_once() -> str:
        return "at once"

    note(await wait(value()), await wait(at_once()), await wait(asyncio.sleep(0, "slept")))
    note(await wait(asyncio.sleep(0.001, "slept longer")))


@case
async def order_among_others(wait: Wait, note: Note) -> None:
    others = [asyncio.create_task(ticks(note, name)) for name in "ab"]
    for number in range(4):
        note("self", number)
        await wait(asyncio.sleep(0))
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, "by a callback")
    asyncio.get_running_loop().call_soon(note, "a callback after it")
    note(await wait(future))
    await wait(asyncio.gather(*others))


@case
async def order_of_those_that_wait_for_one_future(wait: Wait, note: Note) -> None:
    future = asyncio.get_running_loop().create_future()

    async def one(name: str) -> None:
        await wait(future)
        note(name)
        await wait(asyncio.sleep(0))
        note(name, "again")

    tasks = [asyncio.create_task(one(name)) for name in "abc"]
    await turns(2)
    future.add_done_callback(lambda _: note("callback"))
    future.set_result(None)
    await asyncio.wait(tasks)


@case
async def errors(wait: Wait, note: Note) -> None:
    async def raises(error: BaseException, when: int) -> None:
        await turns(when)
        raise error

    async def raises_from() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            await asyncio.sleep(0)
            raise LookupError("second") from error

    async def raises_while_handling() -> None:
        try:
            await raises(KeyError("first"), 1)
        finally:
            await raises(LookupError("second"), 1)

    for when in (0, 2):
        for error in (
            LookupError("error"),
            ExceptionGroup("group", [KeyError(1), ExceptionGroup("inner", [ValueError(2)])]),
            asyncio.CancelledError("raised by hand"),
            TimeoutError("raised by hand"),
            GeneratorExit("raised by hand"),
            StopAsyncIteration("raised by hand"),
        ):
            with noting(note, "raised"):
                await wait(raises(error, when))
        with noting(note, "stop iteration"):
            await wait(raises(StopIteration("raised by hand"), when))
    with noting(note, "from"):
        await wait(raises_from())
    with noting(note, "while handling"):
        await wait(raises_while_handling())
    try:
        raise OSError("outer")
    except OSError:
        with noting(note, "in a handler"):
            await wait(raises(LookupError("inner"), 1))
    raise LookupError("out of the case")


@case
async def the_error_being_handled_is_the_coroutines_own(wait: Wait, note: Note) -> None:
    async def looks() -> None:
        note("before", *shown(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]))
        await asyncio.sleep(0)
        with noting(note, "raised"):
            raise LookupError("of its own")

    await wait(looks())
    note("after", *shown(sys.exc_info()[1]))


@case
async def futures(wait: Wait, note: Note) -> None:
    loop = asyncio.get_running_loop()
    for end in (
        lambda future: future.set_result("value"),
        lambda future: future.set_exception(LookupError("failed")),
        lambda future: future.cancel("cancelled by another"),
    ):
        for when in ("before", "during"):
            future = loop.create_future()
            if when == "before":
                end(future)
            else:
                loop.call_soon(end, future)
            with noting(note, when):
                note(await wait(future))
            note("again")
            with noting(note, when):
                note(await wait(future))
            note(me().cancelling())


@case
async def tasks(wait: Wait, note: Note) -> None:
    async def value() -> str:
        await turns(2)
        return "value"

    task = asyncio.create_task(value())
    note(await wait(task), await wait(task))
    failing = asyncio.create_task(fails(note))
    with noting(note, "failed"):
        await wait(failing)
    cancelled = asyncio.create_task(forever())
    asyncio.get_running_loop().call_later(0.001, cancelled.cancel, "by a timer")
    with noting(note, "cancelled"):
        await wait(cancelled)
    note(me().cancelling())


@case
async def what_cannot_be_awaited(wait: Wait, note: Note) -> None:
    class Yields:
        def __init__(self, what: object) -> None:
            self.what = what

        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield self.what)

    try:
        await wait(me())
    except RuntimeError as error:  # blocked, it is a DeadlockError, which is one
        note("itself", str(error).partition(": ")[0])
    other = asyncio.new_event_loop()
    foreign = Yields(other.create_future())
    foreign.what._asyncio_future_blocking = True  # type: ignore[attr-defined]
    try:
        await wait(foreign)
    except RuntimeError as error:
        note("another loop's", str(error).partition(" got ")[2].partition(" <")[0], str(error)[-30:])
    other.close()
    with noting(note, "no future"):
        await wait(Yields("a string"))
    note("nothing", await wait(Yields(None)))


@case
async def objects_with_await(wait: Wait, note: Note) -> None:
    class Object:
        def __await__(self) -> Generator[Any, Any, str]:
            yield from asyncio.sleep(0).__await__()
            note("in the object", me().get_name())
            return "value"

    note(await wait(Object()))


@case
async def nested(wait: Wait, note: Note) -> None:
    async def level(number: int) -> int:
        note(number, me().get_name())
        if not number:
            await wait(asyncio.sleep(0))
            return 0
        below = await wait(level(number - 1))
        await asyncio.sleep(0)
        return int(below) + 1

    note(await wait(level(5)))


# --- the task and its context


@case
async def current_task(wait: Wait, note: Note) -> None:
    task = me()

    async def looks() -> bool:
        before = me() is task
        await asyncio.sleep(0)
        return before and me() is task and task in asyncio.all_tasks()

    note(await wait(looks()), me() is task, task.get_name(), task.done())


@case
async def context_variables(wait: Wait, note: Note) -> None:
    async def sets(value: str) -> Any:
        token = variable.set(value)
        await asyncio.sleep(0)
        note("inside", variable.get())
        return token

    async def resets(token: Any) -> None:
        await asyncio.sleep(0)
        variable.reset(token)

    variable.set("mine")
    token = await wait(sets("theirs"))
    note(variable.get())
    await wait(resets(token))
    note(variable.get())
    token = variable.set("mine again")
    await wait(resets(token))
    note(variable.get())
    with noting(note, "used"):
        variable.reset(token)

    async def child() -> None:
        note("child", variable.get())
        variable.set("of the child")
        await wait(asyncio.sleep(0))
        note("child", variable.get())

    await wait(asyncio.create_task(child()))
    note(variable.get())


# --- cancellation


async def cancel_while(wait: Wait, note: Note, work: Coroutine[Any, Any, Any], *messages: object, gap: int = 3) -> None:
    """Run the work in a task, cancel it some turns apart, and note what becomes of it."""
    task = asyncio.create_task(work)
    await turns(3)
    for message in messages:
        note("cancel", task.cancel(message), task.cancelling())
        await turns(gap)
    with noting(note, "awaited"):
        await task
    note("done", *outcome_of(task), task.cancel())


@case
async def cancel_before_the_first_step(wait: Wait, note: Note) -> None:
    async def work() -> None:
        note("never")
        await wait(forever())

    task = asyncio.create_task(work())
    note(task.cancel("early"))
    with noting(note, "awaited"):
        await task
    note(*outcome_of(task))


@case
async def cancel_during(wait: Wait, note: Note) -> None:
    async def work() -> None:
        with noting(note, "inside"):
            await wait(forever())
        note(me().cancelling())
        raise asyncio.CancelledError

    await cancel_while(wait, note, work(), "the message")


@case
async def cancel_without_a_message(wait: Wait, note: Note) -> None:
    async def work() -> None:
        await wait(forever())

    await cancel_while(wait, note, work(), None)


@case
async def cancel_after_what_is_awaited_is_done(wait: Wait, note: Note) -> None:
    future = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            note("result", await wait(future))
        except asyncio.CancelledError as error:
            note("cancelled", *error.args)
            raise
        return "goes on"

    task = asyncio.create_task(work())
    await turns(3)
    future.set_result("value")
    note(task.cancel("late"))
    await asyncio.wait([task])
    note(*outcome_of(task))


@case
async def cancel_twice_in_a_turn(wait: Wait, note: Note) -> None:
    async def work() -> None:
        with noting(note, "first"):
            await wait(forever())
        with noting(note, "second"):
            await wait(asyncio.sleep(0))
        note(me().cancelling())

    await cancel_while(wait, note, work(), "one", "two", gap=0)


@case
async def cancel_twice_with_a_cleanup(wait: Wait, note: Note) -> None:
    async def work() -> None:
        try:
            await wait(forever())
        finally:
            note("cleanup", me().cancelling())
            try:
                await wait(forever())
            finally:
                note("cleanup of the cleanup", me().cancelling())
                await wait(asyncio.sleep(0))
                note("cleaned up")

    await cancel_while(wait, note, work(), "one", "two")


@case
async def cancel_that_is_swallowed(wait: Wait, note: Note) -> None:
    async def work() -> str:
        for number in range(3):
            with noting(note, str(number)):
                await wait(forever())
        note(me().cancelling())
        return "all the same"

    await cancel_while(wait, note, work(), "one", "two", "three")


@case
async def cancel_and_uncancel(wait: Wait, note: Note) -> None:
    async def work() -> str:
        for _ in range(2):
            with noting(note, "inside"):
                await wait(forever())
            note("uncancel", me().uncancel(), me().uncancel(), me().cancelling())
            await wait(asyncio.sleep(0))
        return "goes on"

    await cancel_while(wait, note, work(), "one", "two")


@case
async def cancel_itself(wait: Wait, note: Note) -> None:
    async def work() -> str:
        note(me().cancel("by itself"), me().cancelling())
        with noting(note, "inside"):
            await wait(forever())
        note(me().cancelling())
        await wait(asyncio.sleep(0))
        note(me().cancel(), me().uncancel())
        if sys.version_info >= (3, 13):
            note(me().uncancel(), me().cancelling())
        with noting(note, "taken back, or not"):
            await wait(asyncio.sleep(0))
        return "goes on"

    task = asyncio.create_task(work())
    await asyncio.wait([task])
    note(*outcome_of(task))


@case
async def cancel_itself_and_return(wait: Wait, note: Note) -> None:
    async def work() -> str:
        await wait(asyncio.sleep(0))
        me().cancel("at the end")
        return "a value that is lost"

    task = asyncio.create_task(work())
    with noting(note, "awaited"):
        await wait(task)
    note(*outcome_of(task))


@case
async def cancel_by_what_is_awaited(wait: Wait, note: Note) -> None:
    async def cancels() -> str:
        me().cancel("from inside")
        await asyncio.sleep(0)
        return "never"

    async def cancels_and_ends() -> str:
        await asyncio.sleep(0)
        me().cancel("from inside, and ended")
        return "value"

    with noting(note, "inside"):
        note(await wait(cancels()))
    with noting(note, "ended"):
        note(await wait(cancels_and_ends()))
        note("goes on")
        await wait(asyncio.sleep(0))
    note(me().cancelling())


@case
async def an_error_in_a_cleanup(wait: Wait, note: Note) -> None:
    async def work() -> None:
        try:
            await wait(forever())
        finally:
            await wait(asyncio.sleep(0))
            raise LookupError("in the cleanup")

    await cancel_while(wait, note, work(), "one")


@case
async def cancel_of_who_awaits_a_task(wait: Wait, note: Note) -> None:
    async def inner() -> None:
        with noting(note, "inner"):
            await wait(forever())
        note("inner goes on", me().cancelling())

    async def work() -> str:
        await wait(asyncio.create_task(inner()))
        return "inner has swallowed it"

    await cancel_while(wait, note, work(), "one")


@case
async def waits_for_a_cancelled_task_from_inside(wait: Wait, note: Note) -> None:
    async def inner() -> None:
        try:
            await wait(forever())
        finally:
            note("inner ends")

    task = asyncio.create_task(inner())
    await wait(asyncio.sleep(0))
    note(task.cancel())
    with noting(note, "awaited"):
        await wait(task)
    note(me().cancelling())


@case
async def shield(wait: Wait, note: Note) -> None:
    async def inner() -> str:
        await turns(10)
        note("inner goes on")
        return "value"

    task = asyncio.create_task(inner())

    async def work() -> None:
        await wait(asyncio.shield(task))

    await cancel_while(wait, note, work(), "one")
    note(await wait(asyncio.shield(task)))
    other = asyncio.create_task(forever())
    shielded = asyncio.shield(other)
    asyncio.get_running_loop().call_soon(other.cancel)
    with noting(note, "the inner is cancelled"):
        await wait(shielded)


# --- time-outs


@case
async def timeout(wait: Wait, note: Note) -> None:
    async def cleans_up() -> None:
        try:
            await forever()
        finally:
            await wait(asyncio.sleep(0.001))
            note("cleaned up")

    with noting(note, "expired"):
        async with asyncio.timeout(0.001) as limit:
            await wait(cleans_up())
    note(limit.expired(), me().cancelling())
    async with asyncio.timeout(10) as limit:
        note(await wait(asyncio.sleep(0, "in time")))
    note(limit.expired())
    with noting(note, "at once"):
        async with asyncio.timeout(0):
            await wait(forever())
    with noting(note, "rescheduled"):
        async with asyncio.timeout(None) as limit:
            limit.reschedule(asyncio.get_running_loop().time())
            await wait(forever())
    note("swallowed")
    async with asyncio.timeout(10) as limit:
        limit.reschedule(0)
        with noting(note, "inside"):
            await wait(forever())
    note(me().cancelling(), limit.expired())


@case
async def nested_timeouts(wait: Wait, note: Note) -> None:
    for outer, inner in ((0.001, 10), (10, 0.001), (0, 0)):
        with noting(note, "outer"):
            async with asyncio.timeout(outer) as first:
                with noting(note, "inner"):
                    async with asyncio.timeout(inner) as second:
                        await wait(forever())
                note("between", second.expired(), me().cancelling())
                await wait(asyncio.sleep(0))
        note(first.expired(), me().cancelling())


@case
async def a_timeout_and_a_cancel(wait: Wait, note: Note) -> None:
    async def work() -> None:
        async with asyncio.timeout(10) as limit:
            try:
                await wait(forever())
            finally:
                limit.reschedule(0)
                with noting(note, "cleanup"):
                    await wait(forever())
                note(me().cancelling())

    await cancel_while(wait, note, work(), "one", gap=8)


@case
async def wait_for(wait: Wait, note: Note) -> None:
    note(await wait(asyncio.wait_for(asyncio.sleep(0, "in time"), 10)))
    with noting(note, "expired"):
        await wait(asyncio.wait_for(forever(), 0.001))

    async def ignores() -> str:
        with noting(note, "inside"):
            await wait(forever())
        return "all the same"

    with noting(note, "ignored"):
        note(await wait(asyncio.wait_for(ignores(), 0.001)))

    async def work() -> None:
        await asyncio.wait_for(wait(forever()), 10)  # type: ignore[arg-type]

    await cancel_while(wait, note, work(), "one")


# --- groups


@case
async def task_group(wait: Wait, note: Note) -> None:
    async def child(name: str) -> str:
        await wait(asyncio.sleep(0))
        note(name)
        return name

    async with asyncio.TaskGroup() as group:
        children = [group.create_task(child(name)) for name in "ab"]
        note(await wait(children[1]))
    note([each.result() for each in children])


@case
async def task_group_with_a_failing_child(wait: Wait, note: Note) -> None:
    async def waits(name: str) -> None:
        with noting(note, name):
            await wait(forever())
        raise asyncio.CancelledError

    with noting(note, "group"):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(note))
            group.create_task(waits("other child"))
            with noting(note, "body"):
                await wait(forever())
            raise asyncio.CancelledError
    note(me().cancelling())
    await wait(asyncio.sleep(0))


@case
async def task_group_whose_body_fails(wait: Wait, note: Note) -> None:
    async def waits() -> None:
        try:
            await wait(forever())
        finally:
            await wait(asyncio.sleep(0))
            note("child cleaned up", me().cancelling())

    with noting(note, "group"):
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            await wait(asyncio.sleep(0))
            raise LookupError("body")


@case
async def task_group_whose_parent_is_cancelled(wait: Wait, note: Note) -> None:
    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(forever())
                await wait(forever())
        finally:
            note("left", me().cancelling())
            await wait(asyncio.sleep(0))

    await cancel_while(wait, note, work(), "one")


@case
async def nested_task_groups(wait: Wait, note: Note) -> None:
    with noting(note, "outer"):
        async with asyncio.TaskGroup() as outer:
            outer.create_task(fails(note, "of the outer"))
            with noting(note, "inner"):
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(forever())
                    await wait(forever())
            note("between", me().cancelling())
            await wait(asyncio.sleep(0))
    note(me().cancelling())


@case
async def gather(wait: Wait, note: Note) -> None:
    async def child(name: str) -> str:
        await wait(asyncio.sleep(0))
        note(name)
        return name

    note(await wait(asyncio.gather(child("a"), child("b"))))
    with noting(note, "failed"):
        await wait(asyncio.gather(child("c"), fails(note), child("d")))
    results = await wait(asyncio.gather(fails(note), child("e"), return_exceptions=True))
    note([type(each).__name__ for each in results])

    async def work() -> None:
        await wait(asyncio.gather(child("f"), forever()))

    await cancel_while(wait, note, work(), "one")


# --- anyio


@case
async def anyio_scopes(wait: Wait, note: Note) -> None:
    with anyio.move_on_after(0.001) as scope:
        await wait(forever())
    note("moved on", scope.cancelled_caught, me().cancelling())
    with noting(note, "failed"), anyio.fail_after(0.001):
        await wait(anyio.sleep(10))
    with anyio.CancelScope() as scope:
        scope.cancel()
        with noting(note, "cancelled before"):
            await wait(anyio.sleep(0))
        with noting(note, "and again"):
            await wait(anyio.sleep(0))
    note(scope.cancelled_caught, me().cancelling())
    with anyio.CancelScope() as outer:
        with anyio.CancelScope(shield=True):
            outer.cancel()
            note("shielded", await wait(asyncio.sleep(0, "goes on")))
        with noting(note, "no longer"):
            await wait(anyio.sleep(0))
    note(outer.cancelled_caught, me().cancelling())
    with anyio.move_on_after(10) as scope:
        note(await wait(asyncio.sleep(0, "in time")))
    note(scope.cancelled_caught)


@case
async def an_anyio_scope_cancelled_by_another(wait: Wait, note: Note) -> None:
    scopes = [anyio.CancelScope() for _ in range(2)]

    async def child(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await wait(forever())
            finally:
                with anyio.CancelScope(shield=True):
                    await wait(anyio.sleep(0.001))
                note("cleaned up")
        note("after", scope.cancelled_caught, me().cancelling())
        await wait(asyncio.sleep(0))

    children = [asyncio.create_task(child(scope)) for scope in scopes]
    await turns(2)
    for scope in scopes:
        scope.cancel()
    await asyncio.wait(children)
    note([outcome_of(each) for each in children])


@case
async def anyio_groups(wait: Wait, note: Note) -> None:
    async def child(name: str) -> None:
        await wait(anyio.sleep(0))
        note(name)

    async def waits() -> None:
        with noting(note, "child"):
            await wait(forever())
        raise asyncio.CancelledError

    async with anyio.create_task_group() as group:
        group.start_soon(child, "a")
        await wait(anyio.sleep(0.001))
    with noting(note, "failed"):
        async with anyio.create_task_group() as group:
            group.start_soon(fails, note)
            group.start_soon(waits)
            await wait(forever())
    async with anyio.create_task_group() as group:
        group.start_soon(waits)
        await wait(anyio.sleep(0.001))
        group.cancel_scope.cancel()
    note(me().cancelling())


@case
async def anyio_start(wait: Wait, note: Note) -> None:
    async def server(*, task_status: Any) -> None:
        await wait(anyio.sleep(0))
        task_status.started("ready")
        await wait(forever())

    async with anyio.create_task_group() as group:
        note(await wait(group.start(server)))
        group.cancel_scope.cancel()


@case
async def threads_of_anyio_and_asyncio(wait: Wait, note: Note) -> None:
    note(await wait(anyio.to_thread.run_sync(lambda: "anyio")))
    note(await wait(asyncio.to_thread(lambda: "asyncio")))
    with noting(note, "failed"):
        await wait(asyncio.to_thread(lambda: 1 // 0))


# --- what synchronizes


@case
async def locks_queues_and_their_order(wait: Wait, note: Note) -> None:
    lock = asyncio.Lock()
    condition = asyncio.Condition()
    queue: asyncio.Queue[Any] = asyncio.Queue(1)

    async def locks(name: str) -> None:
        await wait(lock.acquire())
        note(name, "has the lock")
        await wait(asyncio.sleep(0))
        lock.release()

    async def takes(name: str) -> None:
        async with condition:
            await wait(condition.wait())
            note(name, "was notified")

    async def gets(name: str) -> None:
        note(name, await wait(queue.get()))

    tasks = [asyncio.create_task(work(name)) for work in (locks, takes, gets) for name in "abc"]
    for number in range(3):
        await wait(queue.put(number))
    await turns(5)
    async with condition:
        condition.notify_all()
    cancelled = asyncio.create_task(locks("cancelled"))
    await wait(lock.acquire())
    cancelled.cancel()
    lock.release()
    await asyncio.wait([*tasks, cancelled])
    note(outcome_of(cancelled), lock.locked())


@case
async def async_generators(wait: Wait, note: Note) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(5):
                await wait(asyncio.sleep(0))
                yield number
        finally:
            with noting(note, "inside"):
                await wait(asyncio.sleep(0))
            note("closed")

    async for number in numbers():
        note(number)
    generator: Any = numbers()
    note(await wait(anext(generator)))
    with noting(note, "thrown"):
        await wait(generator.athrow(LookupError("thrown")))
    generator = numbers()
    note(await wait(generator.asend(None)))
    await wait(generator.aclose())
    with noting(note, "after its end"):
        await wait(anext(generator))
    generator = numbers()

    async def work() -> None:
        async with contextlib.aclosing(generator):
            async for number in generator:
                note("item", number)
                await wait(forever())

    await cancel_while(wait, note, work(), "one", gap=10)


@case
async def context_managers(wait: Wait, note: Note) -> None:
    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[str]:
        await wait(asyncio.sleep(0))
        try:
            yield "entered"
        except LookupError as error:
            await wait(asyncio.sleep(0))
            note("left by", *shown(error))

    async with manager() as value:
        note(value)
        await wait(asyncio.sleep(0))
        raise LookupError("body")


# --- Deferreds


@with_deferreds
async def deferreds(wait: Wait, note: Note) -> None:
    loop = asyncio.get_running_loop()
    note(await wait(succeed("fired before")))
    with noting(note, "failed before"):
        await wait(fail(LookupError("failure")))
    deferred: Deferred[str] = Deferred()
    loop.call_soon(deferred.callback, "fired during")
    note(await wait(deferred), await wait(deferred))
    deferred = Deferred()
    loop.call_soon(deferred.errback, LookupError("failure"))
    with noting(note, "failed during"):
        await wait(deferred)
    deferred = Deferred()
    deferred.addCallback(lambda result: f"{result}, changed before")
    loop.call_soon(deferred.callback, "value")
    loop.call_soon(deferred.addCallback, lambda result: f"{result}, changed after")
    note(await wait(deferred))


@with_deferreds
async def deferreds_that_are_cancelled(wait: Wait, note: Note) -> None:
    def canceller(deferred: Deferred[Any]) -> None:
        note("canceller")

    def fires(deferred: Deferred[Any]) -> None:
        deferred.callback("fired by its canceller")

    async def work(deferred: Deferred[Any]) -> Any:
        try:
            return await wait(deferred)
        except BaseException as error:
            note("inside", *shown(error), me().cancelling())
            raise

    await cancel_while(wait, note, work(Deferred(canceller)), "one")
    await cancel_while(wait, note, work(Deferred(fires)), "one")
    deferred: Deferred[Any] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.cancel)
    with noting(note, "by another"):
        await wait(work(deferred))
    with noting(note, "a timeout"):
        async with asyncio.timeout(0.001):
            await wait(Deferred(canceller))
    with anyio.move_on_after(0.001) as scope:
        await wait(Deferred(canceller))
    note(scope.cancelled_caught, me().cancelling())


@with_deferreds
async def a_deferred_that_another_thread_fires(wait: Wait, note: Note) -> None:
    for result in ("value", Failure(LookupError("failure"))):
        deferred: Deferred[Any] = Deferred()
        fired = threading.Thread(target=deferred.callback, args=[result])
        asyncio.get_running_loop().call_later(0.001, fired.start)
        with noting(note, "fired"):
            note(await wait(deferred))
        fired.join()


@with_deferreds
async def inline_callbacks(wait: Wait, note: Note) -> None:
    @inlineCallbacks
    def work(end: str) -> Generator[Deferred[Any], Any, str]:
        deferred: Deferred[str] = Deferred()
        asyncio.get_running_loop().call_soon(deferred.callback, "yielded")
        note((yield deferred))
        if end == "raises":
            raise LookupError(end)
        if end == "waits":
            try:
                yield Deferred()
            except DeferredCancelled:
                note("cancelled inside")
                raise
        return end

    note(await wait(work("returns")))
    with noting(note, "raised"):
        await wait(work("raises"))
    with noting(note, "timed out"):
        async with asyncio.timeout(0.005):
            await wait(work("waits"))


# --- both ways


@pytest.mark.parametrize("function", CASES)
def test_leaves_the_same_trace(function: Case) -> None:
    awaited = trace_of(function, awaiting, SwitchingLoop)
    assert awaited[-2][:2] != ("ended", "hangs"), awaited
    assert len(awaited) > 2, "the case notes nothing"
    assert trace_of(function, blocking, SwitchingLoop) == awaited
    assert trace_of(function, blocking_deep, SwitchingLoop) == awaited
    if not hasattr(function, "needs_deferreds"):
        assert trace_of(function, awaiting, asyncio.SelectorEventLoop) == awaited


def loop_of_plain_tasks() -> SwitchingLoop:
    """Return a loop whose tasks are of C's own class, by a task factory as a user may set one."""
    loop = SwitchingLoop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    return loop


@pytest.mark.parametrize("function", CASES)
def test_leaves_the_same_trace_in_tasks_that_are_not_ours(function: Case) -> None:
    awaited = trace_of(function, awaiting, SwitchingLoop)
    assert trace_of(function, awaiting, loop_of_plain_tasks) == awaited
    if function in (cancel_itself, cancel_by_what_is_awaited) and sys.version_info < (3, 13):
        return  # C's task cancels its next step as well; see test_asyncio_tasks.py, of a task that cancels itself
    assert trace_of(function, blocking, loop_of_plain_tasks) == awaited
    assert trace_of(function, blocking_deep, loop_of_plain_tasks) == awaited


# --- eager tasks


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_that_never_suspend() -> None:
    """One that blocks in its eager step stands still together with its parent; where none suspends they are alike."""

    async def eager(wait: Wait, note: Note) -> None:
        async def child(name: str) -> str:
            note(name)
            note(await wait(returns(name)), me().get_name() == name)
            return name

        async def returns(name: str) -> str:
            return f"{name} at once"

        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child("a"), name="a")
        note("made", task.done(), await wait(task))
        async with asyncio.TaskGroup() as group:
            group.create_task(child("b"), name="b")
            note("made")
        loop.set_task_factory(None)
        loop.create_task(child("c"), name="c").add_done_callback(lambda _: note("done"))
        await wait(asyncio.sleep(0))
        await wait(asyncio.sleep(0))

    awaited = trace_of(eager, awaiting, SwitchingLoop)
    assert trace_of(eager, blocking, SwitchingLoop) == awaited
    assert trace_of(eager, awaiting, asyncio.SelectorEventLoop) == awaited


# --- Deferreds whose callbacks have not ended


@pytest.mark.parametrize("wait", [awaiting, blocking, blocking_deep])
def test_a_failure_is_raised_while_a_later_callback_is_blocked(wait: Wait) -> None:
    """Twisted itself notes the failure only when all callbacks have run, and its own await insists on that note."""
    trace: list[Any] = []

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        gate = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            with noting(lambda *what: trace.append(what), "waits"):
                await wait(deferred)
            gate.set_result(None)

        task = asyncio.create_task(waits())
        await turns(2)
        deferred.addErrback(lambda failure: (block_on(gate), trace.append("the callback goes on"), failure)[-1])
        deferred.addErrback(lambda failure: trace.append(failure.type.__name__))
        deferred.errback(LookupError("failure"))
        await task
        deferred.addCallback(trace.append)

    with asyncio.Runner(loop_factory=SwitchingLoop) as runner:
        runner.run(main())
    assert trace == [("waits", "LookupError", ("failure",), (), ()), "the callback goes on", "LookupError", None]


@pytest.mark.parametrize("wait", [awaiting, blocking])
def test_a_failure_of_another_thread_is_not_logged_and_a_later_one_is(wait: Wait) -> None:
    logged: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if "log_failure" in event:
            logged.append(event["log_failure"].value.args)

    async def main() -> None:
        for number in range(50):
            deferred: Deferred[Any] = Deferred()
            fired = threading.Thread(target=deferred.errback, args=[LookupError("raised")])
            asyncio.get_running_loop().call_soon(fired.start)
            with pytest.raises(LookupError):
                await wait(deferred)
            fired.join()
            if not number:
                deferred.addErrback(lambda _: 1 // 0)
            del deferred, fired

    gc.collect()  # what earlier tests have left, which would be logged in this one
    globalLogPublisher.addObserver(observe)
    try:
        with asyncio.Runner(loop_factory=SwitchingLoop) as runner:
            runner.run(main())
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert logged == [("division by zero",)] or logged == [("integer division or modulo by zero",)]
