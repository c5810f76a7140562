"""Greenlets that are not ours on the loop's thread: what they send arrives where a loop of asyncio's would have it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import io
import random
import threading
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import greenlet as greenlets
import pytest
from greenlet import GreenletExit, getcurrent, greenlet
from points import interrupt
from scripts import python
from twisted.internet.defer import Deferred

from bridge import Bridge, BridgeClosed, DeadlockError, block_on, dump, serialized
from bridge._loop.forwarding import Charge
from bridge._loop.switching import SwitchingLoop


def wait(awaitable: Any) -> Any:
    """Wait in a greenlet of spawn()'s for what its task awaits."""
    return getcurrent().parent.switch(awaitable)  # type: ignore[union-attr]


async def spawn(function: Callable[..., Any], *args: Any) -> Any:
    """Run sync code in a greenlet, as SQLAlchemy does."""
    inner = greenlet(function)
    result = inner.switch(*args)
    while not inner.dead:
        try:
            value = await result
        except BaseException as error:
            result = inner.throw(error)
        else:
            result = inner.switch(value)
    return result


async def value(of: Any, seconds: float = 0.001) -> Any:
    await asyncio.sleep(seconds)
    return of


async def failing() -> None:
    await asyncio.sleep(0.001)
    raise LookupError("no such thing")


def run(loop: SwitchingLoop, main: Callable[[], Awaitable[Any]]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(main(), 20))


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns or raises; an exception by its type."""
    try:
        result = function(*args)
    except BaseException as error:
        return type(error)
    return type(result) if isinstance(result, BaseException) else result


# --- a greenlet that is resumed under another runner than the one that is its parent


def returns(_: greenlet) -> str:
    return "value"


def raises(_: greenlet) -> None:
    raise LookupError


def exits(_: greenlet) -> None:
    raise SystemExit(3)


def interrupts(_: greenlet) -> None:
    raise KeyboardInterrupt


def ends_itself(_: greenlet) -> None:
    raise GreenletExit


def switches_to_its_parent(_: greenlet) -> str:
    assert getcurrent().parent.switch("first") == "again"  # type: ignore[union-attr]
    return "last"


def throws_into_its_parent(_: greenlet) -> str:
    assert getcurrent().parent.throw(LookupError()) == "again"  # type: ignore[union-attr]
    return "last"


def switches_to_one_that_it_knows(runner: greenlet) -> str:
    assert runner.switch("first") == "again"
    return "last"


def throws_into_one_that_it_knows(runner: greenlet) -> str:
    assert runner.throw(LookupError) == "again"
    return "last"


def sends_several_values(runner: greenlet) -> str:
    assert runner.switch("one", "two") == "again"
    return "last"


def ends_in_a_greenlet_that_has_ended(_: greenlet) -> str:
    inner = greenlet(lambda: None)
    inner.switch()
    inner.parent, getcurrent().parent = getcurrent().parent, inner
    return "value"


ENDS: dict[Callable[[greenlet], Any], list[Any]] = {
    returns: ["value"],
    raises: [LookupError],
    exits: [SystemExit],
    interrupts: [KeyboardInterrupt],
    ends_itself: [GreenletExit],
    switches_to_its_parent: ["first", "last"],
    throws_into_its_parent: [LookupError, "last"],
    switches_to_one_that_it_knows: ["first", "last"],
    throws_into_one_that_it_knows: [LookupError, "last"],
    sends_several_values: [("one", "two"), "last"],
    ends_in_a_greenlet_that_has_ended: ["value"],
}


def made(function: Callable[[greenlet], Any]) -> Callable[[], list[Any]]:
    """Return what resumes a greenlet that is made here, until it has ended, and returns what came of it."""
    each = greenlet(function)
    here = getcurrent()

    def resume() -> list[Any]:
        outcomes = [outcome(each.switch, here)]
        while not each.dead:
            outcomes.append(outcome(each.switch, "again"))
        return outcomes

    return resume


async def in_the_same(loop: Any, function: Callable[[greenlet], Any]) -> list[Any]:
    return made(function)()


async def while_it_is_blocked(loop: SwitchingLoop, function: Callable[[greenlet], Any]) -> list[Any]:
    resume, future = made(function), loop.create_future()
    loop.call_soon(lambda: future.set_result(resume()))
    return block_on(future)  # type: ignore[no-any-return]


async def while_it_is_parked(loop: SwitchingLoop, function: Callable[[greenlet], Any]) -> list[Any]:
    future = loop.create_future()
    loop.call_soon(lambda: future.set_result(made(function)))
    resume = block_on(future)
    assert loop._stacks.parked
    return resume()  # type: ignore[no-any-return]


async def when_it_has_ended(loop: SwitchingLoop, function: Callable[[greenlet], Any]) -> list[Any]:
    future = loop.create_future()
    loop.call_soon(lambda: future.set_result(made(function)))
    resume = block_on(future)
    loop._retire(0)
    assert not loop._stacks.parked
    return resume()  # type: ignore[no-any-return]


async def while_a_greenlet_above_it_is_blocked(loop: SwitchingLoop, function: Callable[[greenlet], Any]) -> list[Any]:
    resume, future = made(function), loop.create_future()
    loop.call_soon(lambda: future.set_result(resume()))
    return greenlet(block_on).switch(future)  # type: ignore[no-any-return]


async def when_the_root_is_its_parent(loop: SwitchingLoop, function: Callable[[greenlet], Any]) -> list[Any]:
    def make(_: greenlet) -> Any:
        getcurrent().parent = root
        return function(root)

    root = loop._stacks.root
    assert root is not None
    return made(make)()


async def when_several_have_ended_above_one_that_is_blocked(
    loop: SwitchingLoop, function: Callable[[greenlet], Any]
) -> list[Any]:
    """The parent has ended, and its parent is in the middle of a switch."""
    resume = None

    def outer() -> None:
        nonlocal resume
        resume = made(function)

    future = loop.create_future()
    greenlet(outer).switch()
    loop.call_soon(lambda: future.set_result(resume()))  # type: ignore[misc]
    return greenlet(block_on).switch(future)  # type: ignore[no-any-return]


STATES = [
    in_the_same, while_it_is_blocked, while_it_is_parked, when_it_has_ended, while_a_greenlet_above_it_is_blocked,
    when_the_root_is_its_parent, when_several_have_ended_above_one_that_is_blocked,
]  # fmt: skip


def test_what_a_loop_of_asyncios_does() -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        for function, expected in ENDS.items():
            assert runner.run(in_the_same(None, function)) == expected


@pytest.mark.parametrize("state", STATES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("function", ENDS, ids=lambda each: each.__name__)
def test_it_arrives_where_the_greenlet_was_resumed(
    loop: SwitchingLoop, state: Callable[..., Any], function: Callable[[greenlet], Any]
) -> None:
    async def main() -> None:
        for _ in range(2):
            assert await state(loop, function) == ENDS[function]
        assert await value("on") == block_on(value("on"))

    run(loop, main)


@pytest.mark.parametrize("function", ENDS, ids=lambda each: each.__name__)
def test_it_arrives_in_a_later_run_and_between_two(loop: SwitchingLoop, function: Callable[[greenlet], Any]) -> None:
    async def make() -> list[Callable[[], list[Any]]]:
        return [made(function), made(function)]

    async def later() -> list[Any]:
        await asyncio.sleep(0)
        return resume[1]()

    resume = run(loop, make)
    assert resume[0]() == ENDS[function]
    assert run(loop, later) == ENDS[function]


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("function", ENDS, ids=lambda each: each.__name__)
def test_it_arrives_between_two_runs_though_the_runner_is_blocked(
    loop: SwitchingLoop, function: Callable[[greenlet], Any], above: bool
) -> None:
    events: list[Any] = []

    def blocking() -> None:
        events.append(made(function))
        events.append(greenlet(block_on).switch(future) if above else block_on(future))

    future = loop.create_future()
    loop.call_soon(blocking)
    loop.run_until_complete(asyncio.sleep(0))
    assert events.pop()() == ENDS[function]
    future.set_result("value")
    loop.run_until_complete(asyncio.sleep(0.001))
    assert events == ["value"]


def test_the_traceback_is_the_one_that_the_greenlet_left(loop: SwitchingLoop) -> None:
    async def main() -> list[str]:
        each = greenlet(raises)
        future = loop.create_future()

        def later() -> None:
            with pytest.raises(LookupError) as caught:
                each.switch(getcurrent())
            future.set_result(caught.value)

        loop.call_soon(later)
        error = block_on(future)
        assert error.__context__ is None
        return functions_of(error.__traceback__)

    assert run(loop, main) == ["later", "raises"]


def functions_of(traceback: TracebackType | None) -> list[str]:
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return names


# --- tasks whose sync code waits in greenlets


def test_beside_blocked_stacks(loop: SwitchingLoop) -> None:
    def work(n: int) -> int:
        for _ in range(3):
            assert wait(value(n, 0.002)) == n
            with pytest.raises(LookupError, match="no such thing"):
                wait(failing())
        return n

    async def blocking(n: int) -> int:
        for _ in range(3):
            assert block_on(value(n)) == n
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*[spawn(work, n) for n in range(10)], *[blocking(n) for n in range(10, 20)])

    assert run(loop, main) == list(range(20))


def test_blocked_calls_inside_of_them(loop: SwitchingLoop) -> None:
    def work(n: int) -> int:
        for _ in range(3):
            assert wait(value(n, 0.002)) == n
            assert block_on(value(n)) == n
            with pytest.raises(LookupError, match="no such thing"):
                block_on(failing())
            with pytest.raises(TimeoutError):
                block_on(asyncio.sleep(10), timeout=0.001)
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*[spawn(work, n) for n in range(20)])

    assert run(loop, main) == list(range(20))


def test_a_greenlet_within_a_greenlet(loop: SwitchingLoop) -> None:
    def inner(n: int) -> int:
        assert block_on(value(n)) == n
        assert wait(n) == ("answer", n)
        assert block_on(spawn(lambda: wait(value(n)))) == n
        return n + 1

    def work(n: int) -> int:
        below = greenlet(inner)
        assert below.switch(n) == n
        assert wait(value(n)) == n
        assert below.switch(("answer", n)) == n + 1
        assert block_on(value(n)) == n
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*[spawn(work, n) for n in range(10)])

    assert run(loop, main) == list(range(10))


def test_a_greenlet_that_hands_on_what_another_awaits(loop: SwitchingLoop) -> None:
    """As SQLAlchemy's inside of greenback's: each has the task's own steps to itself."""

    def outer(n: int) -> Any:
        coro = spawn(work, n)
        sent = None
        while True:
            try:
                sent = wait(Yielded(coro.send(sent)))
            except StopIteration as stop:
                return stop.value

    def work(n: int) -> int:
        assert wait(value(n)) == n
        assert block_on(value(n)) == n
        assert wait(value(n)) == n
        return n

    class Yielded:
        def __init__(self, waited: Any) -> None:
            self.waited = waited

        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield self.waited)

    async def main() -> list[int]:
        return await asyncio.gather(*[spawn(outer, n) for n in range(10)])

    assert run(loop, main) == list(range(10))


def test_cancelled_while_blocked_inside(loop: SwitchingLoop) -> None:
    events: list[str] = []

    def work() -> None:
        try:
            block_on(asyncio.sleep(10))
        except asyncio.CancelledError:
            block_on(asyncio.sleep(0.001))
            wait(asyncio.sleep(0.001))
            events.append("cleaned up")
            raise

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(spawn(work)) for _ in range(5)]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await spawn(work)

    run(loop, main)
    assert events == ["cleaned up"] * 6


def test_an_exit_inside_ends_the_run_as_anywhere(loop: SwitchingLoop) -> None:
    def work() -> None:
        wait(asyncio.sleep(0.001))
        block_on(asyncio.sleep(0.001))
        raise SystemExit(3)

    async def blocking() -> None:
        block_on(asyncio.sleep(10))

    loop.create_task(blocking())
    loop.create_task(spawn(work))
    with pytest.raises(SystemExit):
        loop.run_until_complete(asyncio.sleep(10))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert not loop.waits


def test_random_programs(loop: SwitchingLoop) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)

    def sync(depth: int, waits: Callable[[Any], Any]) -> int:
        total = 0
        for _ in range(rng.randrange(4)):
            n, seconds = rng.randrange(100), rng.choice([0.0, 0.0, 0.001, 0.003])
            how = rng.randrange(5 if depth else 3)
            if how == 0:
                got = waits(value(n, seconds))
            elif how == 1:
                got = block_on(value(n, seconds))
            elif how == 2:
                with pytest.raises(LookupError):
                    rng.choice([waits, block_on])(failing())
                got = n
            elif how == 3:
                got = greenlet(block_on).switch(value(n, seconds))
            else:
                got = n
                total += rng.choice([waits, block_on])(spawn(sync, depth - 1, wait))
            assert got == n
            total += 1
        return total

    async def plain() -> int:
        return sync(3, block_on)

    async def main() -> None:
        for _ in range(20):
            await asyncio.gather(*[rng.choice([plain, functools.partial(spawn, sync, 3, wait)])() for _ in range(20)])

    run(loop, main)
    assert not loop.waits
    assert not loop._stacks.inside


# --- what is thrown away


@pytest.mark.parametrize("state", ["blocked", "parked", "above"])
def test_one_that_is_collected(loop: SwitchingLoop, state: str) -> None:
    events: list[Any] = []

    def work() -> None:
        try:
            getcurrent().parent.switch("begun")  # type: ignore[union-attr]
        finally:
            events.append("cleaned up")

    def begin() -> None:
        each = greenlet(work)
        events.append(each.switch())
        kept.append(each)

    def drop(_: object = None) -> None:
        del kept[:]
        gc.collect()

    async def main() -> None:
        future = loop.create_future()
        if state == "parked":
            loop.call_soon(lambda: future.set_result(begin()))
            block_on(future)
            drop()
        else:
            begin()
            loop.call_soon(lambda: future.set_result(drop()))
            greenlet(block_on).switch(future) if state == "above" else block_on(future)
        assert await value("on") == block_on(value("on"))

    kept: list[greenlet] = []
    run(loop, main)
    assert events == ["begun", "cleaned up"]


def test_nothing_of_a_closed_loop_is_kept() -> None:
    def count() -> int:
        gc.collect()
        return sum(isinstance(each, greenlet | SwitchingLoop) for each in gc.get_objects())

    def work() -> None:
        wait(asyncio.sleep(0))
        block_on(asyncio.sleep(0.001))

    async def main() -> None:
        await asyncio.gather(*[spawn(work) for _ in range(10)])

    before = count()
    loop = SwitchingLoop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    assert count() <= before


@pytest.mark.process
def test_a_thread_that_ends_while_a_frame_of_its_loop_is_collected(tmp_path: Path) -> None:
    # The garbage collector is in a finalizer of what refers to the frame, and meanwhile the thread ends. A frame that
    # refers to the thread's main greenlet makes greenlet free that under the collector, and the process crashes.
    result = python(
        """
import asyncio, gc, sys, threading, time
from bridge import new_event_loop
from bridge._loop import forwarding

class Slow:
    def __del__(self):
        may_end.set()
        thread.join()
        time.sleep(0.1)  # threading's thread has ended; now the system's does

async def frame_of_the_runner():
    frame = sys._getframe()
    while frame.f_code is not forwarding._work.__code__:
        frame = frame.f_back
    return frame

def work():
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        garbage = [runner.run(frame_of_the_runner()), Slow()]
    forwarding._of_thread.idle = None  # the call ends, as at the end of the thread
    garbage.append(garbage)
    del garbage
    is_garbage.set()
    assert may_end.wait(20)

gc.disable()
is_garbage, may_end = threading.Event(), threading.Event()
thread = threading.Thread(target=work)
thread.start()
assert is_garbage.wait(20)
gc.collect()
assert may_end.is_set()
print("collected")
""",
        where=tmp_path,
    )
    assert (result.stdout, result.stderr, result.returncode) == ("collected\n", "", 0)


def test_closing_ends_what_is_blocked_inside(loop: SwitchingLoop) -> None:
    events: list[Any] = []

    def work() -> None:
        try:
            block_on(asyncio.sleep(10))
        except BridgeClosed:
            events.append("closed")
            raise

    loop.set_exception_handler(lambda *_: None)
    for _ in range(3):
        loop.call_soon(lambda: greenlet(work).switch())
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert events == ["closed"] * 3


def test_the_end_of_a_bridge_ends_what_is_blocked_inside() -> None:
    events: list[Any] = []
    begun = threading.Barrier(2)

    def work() -> None:
        try:
            block_on(asyncio.sleep(10))
        finally:
            wait(asyncio.sleep(0.001))
            events.append("cleaned up")

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.01, begun.wait, 10)
        await asyncio.gather(*[spawn(work) for _ in range(3)])

    with Bridge("ending", install_reactor=False) as each:
        future = each.submit(main())
        begun.wait(10)
    assert future.cancelled() or isinstance(future.exception(10), BridgeClosed)
    assert events == ["cleaned up"] * 3


# --- the root, and programs that run the loop in a greenlet


@pytest.mark.parametrize("new", [asyncio.SelectorEventLoop, SwitchingLoop])
def test_a_loop_in_a_greenlet_of_the_programs(new: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """As pytest-twisted and Playwright have it: a callback gives way to the program, which goes back to the loop."""
    loop, main, order = new(), getcurrent(), []

    def callback(n: int) -> None:
        order.append(("begins", n))
        try:
            order.append(main.switch("gives way"))
        except LookupError:
            order.append("an error")
        order.append(("ends", n))

    for n in range(3):
        loop.call_later(0.001 * (n + 1), callback, n)
    loop.call_later(0.05, loop.stop)
    running = greenlet(loop.run_forever)
    assert running.switch() == "gives way"
    assert running.switch("back") == "gives way"
    assert running.throw(LookupError) == "gives way"
    assert not running.dead
    assert running.switch("again") is None
    assert running.dead
    loop.close()
    assert order == [
        *(("begins", 0), "back", ("ends", 0)),
        *(("begins", 1), "an error", ("ends", 1)),
        *(("begins", 2), "again", ("ends", 2)),
    ]


def test_a_program_that_blocks_while_its_loop_has_given_way(loop: SwitchingLoop) -> None:
    main, events = getcurrent(), []

    def blocking() -> None:
        events.append(block_on(value("a stack", 0.005)))

    running = greenlet(loop.run_forever)
    for _ in range(3):
        loop.call_soon(blocking)
    loop.call_soon(main.switch, "gives way")
    assert running.switch() == "gives way"
    assert block_on(value("the program", 0.02)) == "the program"
    assert events == ["a stack"] * 3
    loop.call_soon(main.switch, "once more")
    assert running.switch() == "once more"
    loop.stop()
    running.switch()
    assert running.dead


def test_waiting_for_deferreds_in_the_main_greenlet(loop: SwitchingLoop) -> None:
    """What pytest-twisted does; callbacks block meanwhile."""
    events: list[Any] = []

    def wait_for(deferred: Deferred[Any]) -> Any:
        waiting, result = getcurrent(), []

        def fired(each: Any) -> None:
            result.append(each)
            if getcurrent() is not waiting:
                waiting.switch(result)

        deferred.addCallbacks(fired, fired)
        if not result:
            assert running.switch() is result
        return result[0]

    def blocking() -> None:
        for _ in range(3):
            events.append(block_on(value("a stack")))

    def fire(deferred: Deferred[Any], n: int) -> None:
        block_on(asyncio.sleep(0.001))
        deferred.callback(n)

    running = greenlet(loop.run_forever)
    for n in range(10):
        deferred: Deferred[Any] = Deferred()
        loop.call_later(0.001, fire, deferred, n)
        loop.call_soon(blocking)
        assert wait_for(deferred) == n
    loop.call_later(0.02, loop.stop)
    running.switch()
    assert running.dead
    assert events == ["a stack"] * 30


def test_tasks_of_a_program_that_gives_way_to_the_loop(loop: SwitchingLoop) -> None:
    """What Playwright's sync API does, event handlers in greenlets of their own included."""

    def sync(coro: Any) -> Any:
        here = getcurrent()
        task = loop.create_task(coro)
        task.add_done_callback(lambda _: here.switch())
        while not task.done():
            running.switch()
        return task.result()

    async def emits() -> list[Any]:
        results: list[Any] = []
        for n in range(3):
            greenlet(lambda n=n: results.append(sync(value(n)))).switch()
        block_on(asyncio.sleep(0.005))
        return results

    running = greenlet(loop.run_forever)
    for n in range(5):
        assert sync(value(n)) == n
        assert sorted(sync(emits())) == [0, 1, 2]
        with pytest.raises(LookupError):
            sync(failing())
    loop.call_soon(loop.stop)
    running.switch()
    assert running.dead


def test_refused_in_a_greenlet_under_the_root(loop: SwitchingLoop) -> None:
    """The root cannot start a runner while it stands in a switch to that greenlet; so nothing is switched."""
    errors: list[Any] = []
    run_once = loop._run_once

    def probing() -> None:
        loop._stacks.root = loop._stacks.last_root = loop._stacks.active = getcurrent()  # as for a finalizer there
        errors.append(outcome(greenlet(lambda: block_on(value("never"))).switch))
        loop._stacks.root = None
        run_once()

    loop._run_once = probing  # type: ignore[method-assign]
    loop.run_until_complete(value("value"))
    assert errors == [DeadlockError]


# --- what else looks at greenlets


def test_a_blocked_greenlet_that_is_switched_to_gives_control_back(loop: SwitchingLoop) -> None:
    async def main() -> list[Any]:
        inner = greenlet(block_on)
        future = loop.create_future()
        events: list[Any] = []

        def disturb() -> None:
            events.append(outcome(inner.switch, "a value"))
            events.append(outcome(inner.throw, LookupError))
            events.append(outcome(inner.throw, GreenletExit))
            future.set_result("value")

        loop.call_soon(disturb)
        events.append(inner.switch(future))
        return events

    assert run(loop, main) == ["a value", LookupError, GreenletExit, "value"]


def test_a_trace_function_of_somebody_elses_is_called_and_put_back(loop: SwitchingLoop) -> None:
    seen: list[Any] = []

    def mine(event: str, args: Any) -> None:
        seen.append(args[1])

    def work() -> Any:
        assert greenlets.gettrace() is mine
        block_on(value("value"))
        assert greenlets.gettrace() is mine
        return getcurrent()

    async def main() -> Any:
        greenlets.settrace(mine)
        try:
            return await spawn(work)
        finally:
            greenlets.settrace(None)

    assert run(loop, main) in seen


def test_context_variables(loop: SwitchingLoop) -> None:
    """Greenlets that have the context of the greenlet that ran them first, as SQLAlchemy's and greenback's do."""
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    async def task(n: int) -> None:
        variable.set(n)
        first = getcurrent()  # as greenback keeps it

        def work() -> None:
            for step in range(3):
                variable.set((n, step))
                block_on(asyncio.sleep(0.001))
                assert variable.get() == (n, step)
                wait(asyncio.sleep(0.001))
                assert variable.get() == (n, step)

        inner = greenlet(work)
        inner.gr_context = first.gr_context
        result = inner.switch()
        while not inner.dead:
            await result
            assert first.gr_context is getcurrent().gr_context
            inner.gr_context = first.gr_context
            result = inner.switch(None)
        assert variable.get() == (n, 2)

    async def blocking(n: int) -> None:
        variable.set(n)
        for _ in range(5):
            block_on(asyncio.sleep(0.001))
            assert variable.get() == n

    async def main() -> None:
        await asyncio.gather(*[each(n) for n in range(10) for each in (task, blocking)])

    run(loop, main)


def test_a_context_that_is_set_by_way_of_a_runner(loop: SwitchingLoop) -> None:
    async def main() -> None:
        first, future, context = getcurrent(), loop.create_future(), contextvars.Context()

        def later() -> None:
            before = first.gr_context
            first.gr_context = context
            assert getcurrent().gr_context is context
            first.gr_context = before
            future.set_result(None)

        loop.call_soon(later)
        block_on(future)

    run(loop, main)


def test_serialized_lets_a_greenlet_of_its_own_in(loop: SwitchingLoop) -> None:
    class Account:
        @serialized
        def outer(self) -> str:
            return greenlet(self.inner).switch()  # type: ignore[no-any-return]

        @serialized
        def inner(self) -> str:
            return block_on(self.task())  # type: ignore[no-any-return]

        async def task(self) -> str:
            await asyncio.sleep(0.001)
            return await asyncio.create_task(self.last())

        async def last(self) -> str:
            return self.innermost()

        @serialized
        def innermost(self) -> str:
            return "value"

    async def main() -> list[str]:
        account = Account()

        async def one() -> str:
            return account.outer()

        return await asyncio.gather(one(), one())

    assert run(loop, main) == ["value", "value"]


def test_a_report_shows_what_the_greenlet_was_called_from(bridge: Bridge) -> None:
    async def the_code_that_runs_it() -> None:
        greenlet(the_code_in_between).switch()

    def the_code_in_between() -> None:
        greenlet(the_code_in_a_greenlet).switch()

    def the_code_in_a_greenlet() -> None:
        block_on(asyncio.sleep(10))

    async def main() -> str:
        task = asyncio.create_task(the_code_that_runs_it())
        await asyncio.sleep(0)
        try:
            shown = io.StringIO()
            dump(shown)
            return shown.getvalue()
        finally:
            task.cancel()

    names = ["the_code_that_runs_it", "the_code_in_between", "the_code_in_a_greenlet"]
    text = bridge.block_on(main())
    assert [text.count(f"in {name}\n") for name in names] == [1, 1, 1]
    assert sorted(names, key=lambda name: text.index(f"in {name}\n")) == names


def test_a_call_whose_first_step_is_blocked_in_a_greenlet_is_cancelled(bridge: Bridge) -> None:
    def starts() -> Any:
        return greenlet(lambda: block_on(asyncio.sleep(10))).switch()

    with pytest.raises(TimeoutError):
        bridge.block_on(starts, timeout=0.01)


@pytest.mark.parametrize("strategy", [None, "lock"])
def test_in_a_thread_without_a_loop(bridge: Bridge, strategy: str | None) -> None:
    def work(n: int) -> int:
        assert bridge.block_on(value(n), strategy=strategy) == n
        assert getcurrent().parent.switch(n) == "again"  # type: ignore[union-attr]
        assert bridge.block_on(value(n), strategy=strategy) == n
        return n + 1

    inner = greenlet(work)
    assert inner.switch(1) == 1
    assert inner.switch("again") == 2


def test_an_interrupt_leaves_no_trace_function() -> None:
    def work(loop: SwitchingLoop) -> None:
        for _ in range(2):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            block_on(future)
            getcurrent().parent.switch()  # type: ignore[union-attr]

    def begin(loop: SwitchingLoop) -> None:
        inner = greenlet(work)
        inner.switch(loop)
        loop.call_soon(resume, inner)

    def resume(inner: greenlet) -> None:
        if not inner.dead:
            inner.switch()

    def main(loop: SwitchingLoop) -> None:
        loop.call_soon(begin, loop)
        loop.call_soon(begin, loop)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()

    for within in (Charge.go_inside, Charge.come_out, Charge.trace_no_more):
        at, point = 0, "the first"
        while point:
            at += 1
            each = SwitchingLoop()
            each.set_exception_handler(lambda *_: None)
            point = interrupt(functools.partial(main, each), at, within)
            each.close()
            assert greenlets.gettrace() is None, point
            assert not each.waits
        assert at > 1, within


def test_a_trace_function_is_there_only_while_a_greenlet_of_somebody_elses_is_blocked(loop: SwitchingLoop) -> None:
    async def main() -> None:
        future = loop.create_future()
        loop.call_soon(lambda: future.set_result(greenlets.gettrace()))
        assert block_on(future) is None
        future = loop.create_future()
        loop.call_soon(lambda: future.set_result(greenlets.gettrace()))
        assert greenlet(block_on).switch(future) is not None
        assert greenlets.gettrace() is None

    run(loop, main)
