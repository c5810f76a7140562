"""Tasks on our loop await Deferreds, Futures and anyio calls alike, and cancellation passes both ways."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import anyio
import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from bridge import Bridge, BridgeClosed, block_on, new_event_loop

needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


@pytest.fixture(params=["our loop", "a loop of the user's"])
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge on our own loop class, and one on another."""
    factory = None if request.param == "our loop" else asyncio.SelectorEventLoop
    with Bridge("task", install_reactor=False, loop_factory=factory) as each:
        yield each


def later(bridge: Bridge, result: Any = "value", seconds: float = 0.001) -> Deferred[Any]:
    return deferLater(bridge.reactor, seconds, lambda: result)


async def name() -> str:
    return "coroutine"


def test_a_coroutine_awaits_everything(bridge: Bridge) -> None:
    async def mixed() -> list[object]:
        results: list[object] = [
            await later(bridge),
            await asyncio.sleep(0, "asyncio"),
            await asyncio.gather(later(bridge, 1), name(), later(bridge, 2)),
            await asyncio.wait_for(later(bridge, 3), 5),
            await asyncio.shield(later(bridge, 4)),
            await asyncio.ensure_future(later(bridge, 5)),
            await defer.succeed("fired"),
        ]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(awaiting(bridge))
        results.append(task.result())
        await anyio.sleep(0)
        async with anyio.create_task_group() as scope:
            scope.start_soon(awaiting, bridge)
        for done in asyncio.as_completed([later(bridge, 6)]):
            results.append(await done)
        return results

    expected = ["value", "asyncio", [1, "coroutine", 2], 3, 4, 5, "fired", "value", 6]
    assert bridge.block_on(mixed()) == expected


async def awaiting(bridge: Bridge) -> object:
    return await later(bridge)


def test_a_failure_is_raised_in_the_coroutine(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    error = LookupError("no such thing")

    async def failing() -> None:
        with pytest.raises(LookupError) as caught:
            await deferLater(bridge.reactor, 0, _raise, error)
        assert caught.value is error
        with pytest.raises(LookupError):
            await defer.fail(error)

    bridge.block_on(failing())
    gc.collect()
    assert unhandled == []


def _raise(error: BaseException) -> None:
    raise error


def test_the_error_context_in_the_coroutine_is_its_own(bridge: Bridge) -> None:
    """What drives the coroutine must not show as the context of errors that it raises later."""

    async def raising() -> None:
        try:
            await deferLater(bridge.reactor, 0, _raise, LookupError("handled"))
        except LookupError:
            pass
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - any ValueError is the one above
        bridge.block_on(raising())
    assert caught.value.__context__ is None


def test_a_deferred_is_not_consumed(bridge: Bridge) -> None:
    async def twice() -> list[object]:
        deferred = later(bridge)
        seen: list[object] = []
        results = await asyncio.gather(_await(deferred), _await(deferred))
        deferred.addCallback(seen.append)
        return [*results, *seen]

    assert bridge.block_on(twice()) == ["value"] * 3


async def _await(deferred: Deferred[Any]) -> object:
    return await deferred


@pytest.mark.parametrize("change", ["a value", "an error", "another Deferred"])
def test_a_callback_added_after_the_await_does_not_change_what_is_awaited(bridge: Bridge, change: str) -> None:
    other: Deferred[str] = Deferred()

    def changed(result: object) -> object:
        if change == "an error":
            raise ValueError(result)
        return "changed" if change == "a value" else other

    async def main() -> None:
        for deferred in (Deferred[Any](), Deferred[Any]()):
            task = asyncio.create_task(_await(deferred))
            await asyncio.sleep(0)
            deferred.addBoth(changed)
            if task.done():
                raise AssertionError
            deferred.callback("value")
            assert await task == "value"
            if change == "a value":
                assert deferred.result == "changed"
            elif change == "an error":
                with pytest.raises(ValueError, match="value"):
                    await deferred
            else:
                assert deferred.paused
                other.called or other.callback("from the other")
                assert await deferred == "from the other"
                return

    bridge.block_on(main())


def test_a_callback_added_after_the_await_does_not_change_the_error(bridge: Bridge) -> None:
    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        task = asyncio.create_task(_await(deferred))
        await asyncio.sleep(0)
        deferred.addErrback(lambda _: "recovered")
        deferred.errback(LookupError("no such thing"))
        with pytest.raises(LookupError, match="no such thing"):
            await task
        assert await deferred == "recovered"

    bridge.block_on(main())


def test_a_deferred_fired_in_another_thread_wakes_the_task(bridge: Bridge) -> None:
    async def main() -> object:
        deferred: Deferred[Any] = Deferred()
        threading.Timer(0.02, deferred.callback, ["from a thread"]).start()
        async with asyncio.timeout(5):
            return await deferred

    assert bridge.block_on(main()) == "from a thread"


def test_cancelling_a_task_cancels_the_deferred(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    cancelled: list[object] = []

    async def main() -> None:
        for deferred in (Deferred[Any](cancelled.append), Deferred[Any]()):
            task = asyncio.create_task(_await(deferred))
            await asyncio.sleep(0)
            task.cancel("with a message")
            with pytest.raises(asyncio.CancelledError, match="with a message"):
                await task
            assert deferred.called
            deferred.addErrback(lambda failure: failure.trap(defer.CancelledError))
        deferred = Deferred()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(deferred, 0.01)
        assert deferred.called

    bridge.block_on(main())
    assert len(cancelled) == 1
    gc.collect()
    assert unhandled == []


def test_a_cancelled_task_waits_for_the_cleanup_of_the_deferred(bridge: Bridge) -> None:
    cleaned: list[str] = []

    @inlineCallbacks
    def cleaning() -> Generator[Deferred[Any], Any, None]:
        try:
            yield Deferred()
        finally:
            yield later(bridge)
            cleaned.append("cleaned")

    async def main() -> None:
        task = asyncio.create_task(_await(cleaning()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bridge.block_on(main())
    assert cleaned == ["cleaned"]


def test_a_deferred_that_survives_its_cancellation_gives_its_result(bridge: Bridge) -> None:
    """As a task that catches its cancellation does."""

    async def main() -> object:
        deferred = Deferred[Any](lambda d: d.callback("all the same"))
        task = asyncio.create_task(_await(deferred))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert bridge.block_on(main()) == "all the same"


def test_a_deferred_that_someone_else_cancels_raises_twisteds_error(bridge: Bridge) -> None:
    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        asyncio.get_running_loop().call_soon(deferred.cancel)
        with pytest.raises(defer.CancelledError):
            await deferred

    bridge.block_on(main())


def test_timeouts_and_scopes_work_around_an_awaited_deferred(bridge: Bridge) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Deferred[Any]()
        with anyio.move_on_after(0.01) as scope:
            await Deferred[Any]()
        assert scope.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            async with asyncio.TaskGroup() as group:
                group.create_task(_await(Deferred()))
                group.create_task(_await(defer.fail(LookupError())))

    bridge.block_on(main())


def test_a_task_cancelled_before_its_first_step_leaves_nothing_unawaited(bridge: Bridge) -> None:
    async def main() -> None:
        task = asyncio.create_task(name())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bridge.block_on(main())
        gc.collect()


def test_the_task_shows_the_users_coroutine(bridge: Bridge) -> None:
    async def shown(first: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert task.get_coro().__name__ == "shown"  # type: ignore[union-attr]
        assert "shown()" in repr(task)
        if not first:
            await asyncio.sleep(0)

    async def main() -> None:
        coroutine = shown(False)
        task = asyncio.create_task(coroutine, name="the name")
        assert task.get_coro() is coroutine
        assert task.get_name() == "the name"
        assert "name='the name'" in repr(task)
        assert "coro=<" in repr(task)
        assert "shown()" in repr(task)
        await asyncio.sleep(0)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["shown"]
        await task
        assert task.get_coro() is coroutine
        assert "shown() done" in repr(task)

    bridge.block_on(shown(True))
    bridge.block_on(main())


def test_a_task_factory_of_the_users(bridge: Bridge) -> None:
    """On our loop his tasks await Deferreds too; on another his factory takes the place of ours."""
    made: list[object] = []

    class Task(asyncio.Task[Any]):
        pass

    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return Task(coro, loop=loop, **options)

    async def child() -> object:
        assert type(asyncio.current_task()) is Task
        if type(bridge.loop) is not asyncio.SelectorEventLoop:
            assert await later(bridge) == "value"
        return "child"

    async def main() -> object:
        task = asyncio.create_task(child(), name="the name")
        assert task.get_name() == "the name"
        assert "child()" in repr(task)
        return await task

    bridge.loop.set_task_factory(factory)
    assert bridge.block_on(main()) == "child"
    assert len(made) == 2


def test_a_task_factory_that_raises_reaches_the_caller(bridge: Bridge) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        coro.close()
        raise LookupError("no task today")

    bridge.loop.set_task_factory(factory)
    coroutine = name()
    with pytest.raises(LookupError, match="no task today"):
        bridge.block_on(coroutine)
    coroutine.close()
    bridge.loop.set_task_factory(None)
    assert bridge.block_on(name()) == "coroutine"


def test_an_eager_task_factory(bridge: Bridge) -> None:
    factory: Callable[..., Any] | None = getattr(asyncio, "eager_task_factory", None)
    if factory is None or type(bridge.loop) is asyncio.SelectorEventLoop:
        pytest.skip("eager tasks came with 3.12, and on a loop of the user's his factory takes the place of ours")
    bridge.loop.set_task_factory(factory)

    async def main() -> object:
        return await asyncio.gather(awaiting(bridge), name())

    assert bridge.block_on(main()) == ["value", "coroutine"]


@needs_eager
def test_an_eager_task_that_has_ended_shows_no_coroutine() -> None:
    async def main() -> tuple[str, object]:
        loop: Any = asyncio.get_running_loop()
        task = loop.create_task(name(), eager_start=True)
        assert task.done()
        return repr(task), task.get_coro()

    shown, coroutine = block_on(main())
    assert shown.startswith("<Task finished")
    assert "coro=" not in shown
    assert coroutine is None


def test_tasks_leave_no_reference_cycle(bridge: Bridge) -> None:
    class Result:
        pass

    async def result() -> Result:
        await later(bridge)
        return Result()

    async def main() -> weakref.ref[Result]:
        gc.collect()
        gc.disable()
        return weakref.ref(await asyncio.create_task(result()))

    try:
        seen = bridge.block_on(main())
        bridge.block_on(name())
        assert seen() is None
    finally:
        gc.enable()


def test_a_first_step_runs_in_the_context_of_the_task(bridge: Bridge) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def child() -> str:
        variable.set("child")
        return variable.get()

    async def main() -> tuple[str, str]:
        return await asyncio.create_task(child()), variable.get()

    assert bridge.block_on(main()) == ("child", "unset")


def test_exits_out_of_a_task_that_nobody_waits_for_end_the_loop(bridge: Bridge) -> None:
    async def exiting() -> None:
        raise SystemExit(3)

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(exiting())
        task.add_done_callback(lambda task: task.exception())
        await asyncio.get_running_loop().create_future()

    with pytest.raises(BridgeClosed) as caught:
        bridge.block_on(main())
    assert isinstance(caught.value.__cause__, SystemExit)
    assert bridge.block_on(name()) == "coroutine"


@pytest.mark.parametrize("ends", ["returns", "awaits", "blocks", "fails", "takes it back"])
@pytest.mark.parametrize("is_eager", [False, pytest.param(True, marks=needs_eager)])
def test_a_task_that_cancels_itself_ends_as_on_asyncios_loop(ends: str, is_eager: bool) -> None:
    """Blocking is as awaiting; and from CPython 3.13 on uncancel() revokes it."""

    async def work(blocks: bool) -> str:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancel("by itself")
        assert task.cancelling() == 1
        if ends == "fails":
            raise LookupError
        if ends == "takes it back":
            assert task.uncancel() == 0
        if ends == "blocks" and blocks:
            block_on(asyncio.sleep(0))
        elif ends != "returns":
            await asyncio.sleep(0)
        return "value"

    async def main(blocks: bool) -> list[object]:
        options: dict[str, Any] = {"eager_start": True} if is_eager else {}
        current: Any = asyncio.current_task()
        task: asyncio.Task[Any] = type(current)(work(blocks), loop=asyncio.get_running_loop(), **options)
        seen: list[object] = []
        task.add_done_callback(lambda task: seen.append(task.cancelled()))
        await asyncio.wait([task])
        outcome = None if task.cancelled() else task.exception() or task.result()
        return [*seen, task.cancelled(), type(outcome), str(outcome), task.cancelling()]

    with asyncio.Runner() as stock, asyncio.Runner(loop_factory=new_event_loop) as ours:
        assert ours.run(main(True)) == stock.run(main(False))
