"""Any asyncio task awaits a Deferred: on any loop, of any class, in debug mode, and whatever made the task."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import ClientSession, web
from paths import ENVIRONMENT
from twisted.internet import defer
from twisted.internet.defer import Deferred, ensureDeferred, inlineCallbacks, maybeDeferred
from twisted.logger import LogEvent

import bridge
from bridge import Bridge, as_future, block_on
from bridge._twisted import arrival, awaits

uvloop = pytest.importorskip("uvloop")

Coro = Coroutine[Any, Any, Any]
HOST = "127.0.0.1"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "ours": bridge.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def by_loop(coro: Coro) -> Any:
    return asyncio.get_running_loop().create_task(coro)


def by_class(coro: Coro) -> Any:
    return asyncio.Task(coro, loop=asyncio.get_running_loop())


def in_python(coro: Coro) -> Any:
    return asyncio.tasks._PyTask(coro, loop=asyncio.get_running_loop())  # type: ignore[attr-defined]


def eager(coro: Coro) -> Any:
    return asyncio.Task(coro, loop=asyncio.get_running_loop(), eager_start=True)


STARTS = [by_loop, by_class, in_python, *([eager] if sys.version_info >= (3, 12) else [])]


@pytest.fixture(autouse=True, scope="module")
def in_place() -> None:
    """As a bridge has it when its loop has started."""
    arrival.begin_awaits(None, True)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Coro], Any]]:
    """Run a coroutine to its end on a loop of each kind."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield lambda coro: runner.run(asyncio.wait_for(coro, 20))


@pytest.fixture(params=STARTS, ids=lambda each: each.__name__)
def start(request: pytest.FixtureRequest) -> Callable[[Coro], Any]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Deferred[Any]]:
    """The Deferreds that a task has awaited before they fired."""
    found: list[Deferred[Any]] = []

    class Counted(awaits.DeferredFuture):
        def __init__(self, deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(deferred, loop)
            found.append(deferred)

    monkeypatch.setattr(awaits, "DeferredFuture", Counted)
    return found


def later(result: Any = "value", seconds: float = 0.001) -> Deferred[Any]:
    deferred: Deferred[Any] = Deferred()
    fire = deferred.errback if isinstance(result, Exception) else deferred.callback
    asyncio.get_running_loop().call_later(seconds, fire, result)
    return deferred


async def awaiting(deferred: Deferred[Any]) -> Any:
    return await deferred


def test_every_task_awaits(run: Any, start: Any, made: list[Any]) -> None:
    @types.coroutine
    def by_iter() -> Generator[Any, Any, Any]:
        return (yield from later("by __iter__"))

    async def work() -> list[Any]:
        with pytest.raises(LookupError, match="no such thing"):
            await later(LookupError("no such thing"))
        return [await later(), await by_iter(), await defer.succeed("fired"), await as_future(later("as_future"))]

    async def main() -> Any:
        return await start(work())

    assert run(main()) == ["value", "by __iter__", "fired", "as_future"]
    assert len(made) >= 3  # but those of as_future, which may have fired before its task begins


def test_debug_mode(start: Any) -> None:
    async def main() -> Any:
        return await start(awaiting(later()))

    for factory in LOOPS.values():
        with asyncio.Runner(loop_factory=factory, debug=True) as runner:
            assert runner.run(main()) == "value"


def test_twisteds_drivers_in_the_step_of_a_task(run: Any, made: list[Any]) -> None:
    """They run in the task's step, which has no part in their waits, and in callbacks of the loop afterwards."""

    @inlineCallbacks
    def generator() -> Generator[Deferred[Any], Any, Any]:
        first = yield later(1)
        second = yield ensureDeferred(awaiting(later(2)))
        return first, second

    async def main() -> Any:
        variable.set("of the task")
        own: Deferred[Any] = Deferred()
        driven = ensureDeferred(awaiting(own))
        own.callback("driven")
        assert driven.called  # Twisted's driver waits for the Deferred itself
        return [await driven, await generator(), await maybeDeferred(awaiting, later(3)), variable.get()]

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    assert run(main()) == ["driven", (1, 2), 3, "of the task"]
    assert made


def test_a_driver_of_twisteds_is_cancelled_in_the_step_of_a_task(run: Any) -> None:
    async def main() -> None:
        cancelled: list[Any] = []
        own: Deferred[Any] = Deferred(cancelled.append)
        driven = ensureDeferred(awaiting(own))
        driven.cancel()
        assert cancelled == [own]
        with pytest.raises(defer.CancelledError):
            await driven

    run(main())


def test_off_a_task_it_does_what_twisteds_does(made: list[Any]) -> None:
    own: Deferred[Any] = Deferred()
    assert next(own.__await__()) is own
    driven = ensureDeferred(awaiting(own))
    own.callback("value")
    assert driven.result == "value"
    assert not made


def test_a_callback_of_a_loop_is_no_task(run: Any, made: list[Any]) -> None:
    async def main() -> Any:
        own: Deferred[Any] = Deferred()
        seen = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: seen.set_result(next(own.__await__()) is own))
        return await seen

    assert run(main()) is True
    assert not made


@pytest.mark.parametrize("message", ["why", None])
def test_a_cancellation_is_asyncios_with_its_message(run: Any, start: Any, message: Any, unhandled: list[Any]) -> None:
    asked: list[Any] = []

    async def main() -> None:
        own: Deferred[Any] = Deferred(asked.append)
        task = start(awaiting(own))
        await asyncio.sleep(0)
        assert task.cancel(message)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == (() if message is None else (message,))
        assert task.cancelled()
        assert asked == [own]

    run(main())
    gc.collect()
    assert unhandled == []


def test_what_has_fired_cannot_be_cancelled(run: Any) -> None:
    """As with a Future: the task is cancelled where it is, and the Future of the Deferred refuses."""

    async def main() -> None:
        own: Deferred[Any] = Deferred()
        future = awaits.DeferredFuture(own, asyncio.get_running_loop())
        future.add_done_callback(lambda _: None)
        thread = threading.Thread(target=own.callback, args=["value"])
        thread.start()
        thread.join()
        assert not future.done()  # the loop has not been there yet
        assert future.cancel() is False
        await future
        assert future.value() == "value"
        assert future.cancel() is False

    run(main())


def test_the_value_is_the_one_that_it_fired_with(run: Any, start: Any) -> None:
    async def main() -> None:
        own: Deferred[Any] = Deferred()
        first, second = start(awaiting(own)), start(awaiting(own))
        await asyncio.sleep(0)
        own.addCallback(lambda result: result + 100)
        own.callback(1)
        assert [await first, await second, await own] == [1, 1, 101]

    run(main())


def test_fired_in_another_thread_it_wakes_the_loop(run: Any, start: Any, unhandled: list[Any]) -> None:
    async def main() -> None:
        own: Deferred[Any] = Deferred()
        failing: Deferred[Any] = Deferred()
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, own.callback, "from a thread")
        assert await start(awaiting(own)) == "from a thread"
        loop.run_in_executor(None, failing.errback, LookupError())
        with pytest.raises(LookupError):
            await start(awaiting(failing))

    run(main())
    gc.collect()
    assert unhandled == []


@pytest.mark.parametrize("kind", LOOPS)
def test_nothing_is_raised_into_the_chain_once_the_loop_is_closed(kind: str) -> None:
    own: Deferred[Any] = Deferred()
    loop = LOOPS[kind]()
    task = loop.create_task(awaiting(own))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    own.callback("value")
    assert own.result == "value"
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_failure_that_nobody_has_got_is_logged_by_twisted(unhandled: list[LogEvent]) -> None:
    deferreds: list[Deferred[Any]] = [Deferred(), Deferred()]

    async def main() -> None:
        coro = awaiting(deferreds[0])
        coro.send(None)
        coro.close()

    with asyncio.Runner() as runner:
        runner.run(main())
    while deferreds:
        deferreds.pop().errback(LookupError())
    gc.collect()
    assert len(unhandled) == 2
    unhandled.clear()


def test_scopes_and_groups_of_anyio(run: Any) -> None:
    async def main() -> None:
        asked: list[Any] = []
        with anyio.move_on_after(0.001) as scope:
            await Deferred[Any](asked.append)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await Deferred[Any](asked.append)
        async with anyio.create_task_group() as group:
            group.start_soon(awaiting, Deferred[Any](asked.append))
            await later()
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            assert await later() == "value"
        assert len(asked) == 3
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main())


def test_a_handler_of_aiohttp_awaits(run: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=await later("of a Deferred"))

    async def main() -> str:
        application = web.Application()
        application.router.add_get("/", handler)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        try:
            async with ClientSession() as client, client.get(f"http://{HOST}:{runner.addresses[0][1]}/") as answer:
                return await answer.text()
        finally:
            await runner.cleanup()

    assert run(main()) == "of a Deferred"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the call graph came with Python 3.14")
def test_the_call_graph_of_a_task_that_awaits(run: Any) -> None:
    async def outer(deferred: Deferred[Any]) -> Any:
        return await awaiting(deferred)

    async def main() -> None:
        own = later(seconds=0.01)
        task = asyncio.create_task(outer(own))
        await asyncio.sleep(0)
        graph = asyncio.capture_call_graph(task)  # type: ignore[attr-defined]
        assert graph is not None
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert [each for each in names if each in ("awaiting", "outer")] == ["awaiting", "outer"]
        assert await task == "value"

    run(main())


def test_a_blocked_coroutine_awaits(bridge: Bridge) -> None:
    async def work() -> list[Any]:
        results = [block_on(awaiting(later())), block_on(later("itself"))]
        with pytest.raises(TimeoutError):
            block_on(awaiting(Deferred()), timeout=0.001)
        return results

    assert bridge.block_on(work()) == ["value", "itself"]


@pytest.mark.process
def test_cancelling_is_posted_to_a_reactor_in_another_thread() -> None:
    """A plain loop, and the reactor on a thread of its own: its Deferreds are cancelled there."""
    assert run_program("other_reactor.py") == ["cancelled", "there"]


@pytest.mark.process
@pytest.mark.parametrize("case", ["by Bridge", "by configure", "changed", "late", "attached"])
def test_when_it_is_put_in_place(case: str) -> None:
    assert run_program("put_in_place.py", case) == ["as expected"]


def run_program(name: str, *arguments: str) -> list[str]:
    """Run a program and return the lines that it prints."""
    command = [sys.executable, str(Path(__file__).parent / "programs" / name), *arguments]
    ended = subprocess.run(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=40
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
