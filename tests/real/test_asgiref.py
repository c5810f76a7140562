"""asgiref's sync_to_async and async_to_sync beside our calls: thread-sensitive work runs in the thread that waits."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

sync = pytest.importorskip("asgiref.sync")

from asgiref.current_thread_executor import CurrentThreadExecutor, _WorkItem  # noqa: E402
from asgiref.local import Local  # noqa: E402
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async  # noqa: E402

from bridge import Bridge, block_on, default_bridge, enter, in_caller, in_thread, iterate, submit  # noqa: E402
from bridge._calls.asgiref import CallerExecutor  # noqa: E402

get_ident = threading.get_ident


async def ident() -> int:
    return await sync_to_async(get_ident)()


def single_thread() -> int:
    """Return asgiref's own thread, where work goes for which nobody waits."""
    return SyncToAsync.single_thread_executor.submit(get_ident).result()


def in_a_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


# --- the names that bridge/_calls/asgiref.py stands on


def test_names() -> None:
    assert isinstance(AsyncToSync.executors, Local)
    assert SyncToAsync.single_thread_executor.submit(int).result() == 0
    executor: Any = CurrentThreadExecutor(*[None] * (CurrentThreadExecutor.__init__.__code__.co_argcount - 1))
    assert executor._broken is False
    assert getattr(executor, "_old_executor", None) is None
    item = _WorkItem(sync.Future(), int)
    item.run()
    assert item.future.result() == 0
    variable = AsyncToSync.executors._storage._data
    assert isinstance(variable, contextvars.ContextVar)


def test_locals_belong_to_a_thread_and_can_be_moved() -> None:
    from asgiref import local

    if not hasattr(local, "_Storage"):
        pytest.skip("asgiref before 3.12")
    moved = local._rehome(local._Storage(0, {"a": 1}))
    assert (moved.thread_id, moved.data) == (get_ident(), {"a": 1})


# --- where it runs


def test_runs_in_the_thread_that_waits() -> None:
    assert block_on(ident()) == get_ident()
    assert in_a_thread(lambda: block_on(ident()) == get_ident())


def test_tasks_of_the_work_find_it() -> None:
    async def work() -> set[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ident()) for _ in range(5)]
        return {task.result() for task in tasks} | {await asyncio.create_task(ident())}

    assert block_on(work()) == {get_ident()}


def test_under_an_asgi_server() -> None:
    """What Django does for a sync view: the request's own thread, which waits, is where the work of the view runs."""

    def view() -> tuple[int, int]:
        return get_ident(), block_on(ident(), timeout=20)

    async def server() -> tuple[tuple[int, int], int]:
        async with ThreadSensitiveContext():
            return await sync_to_async(view)(), await ident()

    (thread, of_work), of_request = asyncio.run(server())
    assert thread == of_work == of_request


def test_a_caller_whose_thread_runs_a_loop_is_passed_by() -> None:
    async def handler() -> int:
        return block_on(ident())

    async def server() -> tuple[int, int]:
        async with ThreadSensitiveContext():
            return await handler(), await ident()

    in_request, of_request = asyncio.run(server())
    assert in_request == of_request != get_ident()
    assert asyncio.run(handler()) == single_thread()


def test_an_outer_caller_serves_if_a_loop_runs_in_the_inner_ones_thread() -> None:
    async def work() -> int:
        async def handler() -> int:
            return other.block_on(ident())

        return await asyncio.to_thread(lambda: asyncio.run(handler()))

    with Bridge(install_reactor=False) as other:
        assert block_on(work()) == get_ident()


def test_work_that_was_submitted_goes_to_the_thread_of_asgirefs_own() -> None:
    assert submit(ident()).result() == single_thread()


def test_when_the_caller_has_left_it_goes_to_the_thread_of_asgirefs_own() -> None:
    async def work() -> None:
        tasks.append(asyncio.create_task(late()))

    async def late() -> int:
        await go.wait()
        return await ident()

    async def release() -> int:
        go.set()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_result(tasks[0]), default_bridge().loop))

    async def _result(task: asyncio.Task[int]) -> int:
        return await task

    tasks: list[asyncio.Task[int]] = []
    go = asyncio.Event()
    block_on(work())
    assert block_on(release()) == single_thread()


def test_when_the_caller_has_left_it_goes_to_an_outer_one_that_waits() -> None:
    async def late(go: asyncio.Event) -> int:
        await go.wait()
        return await ident()

    async def work() -> int:
        go = asyncio.Event()
        tasks: list[asyncio.Task[int]] = []

        async def inner() -> None:
            tasks.append(asyncio.create_task(late(go)))

        await in_thread(lambda: block_on(inner()))
        go.set()
        return await tasks[0]

    assert block_on(work()) == get_ident()


def test_what_is_queued_when_the_caller_leaves_runs_elsewhere() -> None:
    done: list[int] = []

    async def late() -> None:
        done.append(await sync_to_async(get_ident)())

    async def work(release: threading.Event) -> None:
        busy = asyncio.create_task(in_caller(release.wait))
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(late()))
        await asyncio.sleep(0.01)
        asyncio.current_task().add_done_callback(lambda _: release.set())  # type: ignore[union-attr]
        busy.cancel()

    async def wait_for_it() -> None:
        await tasks.pop()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(10):
        block_on(work(threading.Event()))
        block_on(wait_for_it())
        assert done.pop() in (get_ident(), single_thread())


def test_iterations_and_with_blocks() -> None:
    seen: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            seen.append(await ident())
            yield number
        seen.append(await ident())

    class Manager:
        async def __aenter__(self) -> None:
            seen.append(await ident())

        async def __aexit__(self, *_: object) -> None:
            seen.append(await ident())

    assert list(iterate(numbers())) == [0, 1, 2]
    with enter(Manager()):
        pass
    assert in_a_thread(lambda: list(iterate(numbers()))) == [0, 1, 2]
    assert seen[:6] == [get_ident()] * 6
    assert get_ident() not in seen[6:]


def test_a_function_of_in_caller_may_block_and_the_work_inside_finds_the_thread() -> None:
    async def work() -> int:
        return await in_caller(block_on, ident())

    assert block_on(work()) == get_ident()


def test_on_the_loops_own_thread_it_goes_where_asgiref_sends_it() -> None:
    async def work() -> int:
        return block_on(ident())  # a stack of the loop's thread; the one that waits for all of it is the main thread

    assert block_on(work()) == get_ident()


def test_not_thread_sensitive_work_goes_to_the_pool() -> None:
    async def work() -> int:
        return await sync_to_async(get_ident, thread_sensitive=False)()

    assert block_on(work()) != get_ident()


# --- errors, cancellations, interruptions


def test_errors_come_out() -> None:
    error = LookupError()

    def failing() -> None:
        raise error

    async def work() -> None:
        with pytest.raises(LookupError):
            await sync_to_async(failing)()
        await sync_to_async(failing)()

    with pytest.raises(LookupError) as caught:
        block_on(work())
    assert caught.value is error


@pytest.mark.parametrize("exit_", [KeyboardInterrupt, SystemExit])
def test_an_exit_is_the_callers(exit_: type[BaseException]) -> None:
    thread = default_bridge().current_run() and default_bridge().thread

    def leaving() -> None:
        raise exit_

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sync_to_async(leaving)())
            await asyncio.Event().wait()

    with pytest.raises(exit_):
        block_on(work())
    assert default_bridge().thread is thread
    assert block_on(ident()) == get_ident()


def test_a_time_out_comes_after_the_work() -> None:
    ran: list[str] = []

    def slow(until: float) -> None:
        while time.monotonic() < until:
            pass
        ran.append("to its end")

    async def work(until: float) -> None:
        await sync_to_async(slow)(until)
        await asyncio.Event().wait()

    for timeout in (0.01, 0.1, 1.0, 10.0):
        with pytest.raises(TimeoutError):
            block_on(work(time.monotonic() + timeout + 0.02), timeout=timeout)
        if ran:  # else the time was up before it had begun
            break
    assert ran == ["to its end"]


# --- async_to_sync beside it


def test_async_to_sync_in_the_thread_inside_a_call() -> None:
    async def innermost() -> tuple[int, int]:
        return await ident(), get_ident()

    async def work() -> tuple[int, int]:
        return await sync_to_async(lambda: async_to_sync(innermost)())()

    of_work, of_loop = block_on(work())
    assert of_work == get_ident()
    assert of_loop == default_bridge().thread.ident  # type: ignore[union-attr]


def test_a_call_inside_async_to_sync() -> None:
    async def outer() -> tuple[int, int]:
        return await sync_to_async(lambda: block_on(ident()))(), await ident()

    assert async_to_sync(outer)() == (get_ident(), get_ident())


def test_a_call_in_a_coroutine_of_async_to_sync_finds_the_thread_outside() -> None:
    async def outer() -> int:
        return block_on(ident())  # in the thread of the loop that async_to_sync has made

    assert async_to_sync(outer)() == get_ident()


def test_a_task_that_outlives_async_to_sync_finds_the_call_around_it() -> None:
    async def work() -> int:
        tasks: list[asyncio.Task[int]] = []
        go = asyncio.Event()

        async def late() -> int:
            await go.wait()
            return await ident()

        async def inner() -> None:
            tasks.append(asyncio.create_task(late()))

        await sync_to_async(async_to_sync(inner))()
        go.set()
        return await tasks[0]

    assert block_on(work()) == get_ident()


def test_they_nest_in_any_order() -> None:
    def call(depth: int) -> list[int]:
        if not depth:
            return [get_ident()]
        way: Callable[[int], Any] = (lambda d: block_on(deeper(d))) if depth % 2 else async_to_sync(deeper)
        return [get_ident(), *way(depth - 1)]

    async def deeper(depth: int) -> list[int]:
        return await sync_to_async(call)(depth)

    for depth in (6, 7):
        assert call(depth) == [get_ident()] * (depth + 1)


# --- context variables


def test_the_executor_is_not_left_with_the_caller() -> None:
    async def work() -> None:
        assert isinstance(AsyncToSync.executors.current, CallerExecutor)
        await ident()

    async def numbers() -> AsyncIterator[int]:
        assert isinstance(AsyncToSync.executors.current, CallerExecutor)
        yield await ident()

    def call() -> None:
        before = getattr(AsyncToSync.executors, "current", None)
        block_on(work())
        assert list(iterate(numbers())) == [get_ident()]
        assert getattr(AsyncToSync.executors, "current", None) is before

    call()

    async def outer() -> None:
        await sync_to_async(call)()

    async_to_sync(outer)()


def test_locals_go_in_and_come_out() -> None:
    local = Local()

    async def work(act: Callable[[], Awaitable[object]]) -> str:
        seen: str = local.language
        await act()
        assert local.language == seen
        local.other = "set by the work"
        return seen

    def call(act: Callable[[], Awaitable[object]]) -> None:
        local.language = "de"
        assert block_on(work(act)) == "de"
        assert (local.language, local.other) == ("de", "set by the work")
        del local.other

    async def in_the_caller() -> None:
        assert await in_caller(getattr, local, "language") == "de"
        await in_caller(setattr, local, "third", "set by the function")
        assert local.third == "set by the function"

    def use(act: Callable[[], Awaitable[object]]) -> None:
        in_a_thread(lambda: call(act))
        call(act)

    use(ident)
    use(in_the_caller)
    use(lambda: asyncio.sleep(0))

    async def languages() -> AsyncIterator[str]:
        for language in ("fr", "it"):
            yield local.language
            await ident()
            local.language = language

    seen = []
    for language in iterate(languages()):
        seen.append(language)
    assert seen == ["de", "fr"]
    assert local.language == "it"


def test_a_call_leaves_no_reference_cycle() -> None:
    class Value:
        pass

    async def work(value: Value) -> None:
        await asyncio.sleep(0)

    def call() -> weakref.ref[Value]:
        value = Value()
        held.set(value)
        block_on(work(value))
        return weakref.ref(value)

    held: contextvars.ContextVar[Value] = contextvars.ContextVar("held")
    gc.collect()
    gc.disable()
    try:
        gone = contextvars.copy_context().run(call)
        for _ in range(50):
            block_on(asyncio.sleep(0))  # the loop's last context refers to it
            if gone() is None:
                break
        assert gone() is None
    finally:
        gc.enable()
