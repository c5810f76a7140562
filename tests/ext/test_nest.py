"""bridge.ext.nest: nested runs on loops of ours, and beside asyncio's and uvloop's, which stand still meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading

import pytest
from isolated import isolated

import bridge
from bridge.ext import nest

variable = contextvars.ContextVar("variable", default="unset")


def _uvloop():
    return pytest.importorskip("uvloop").new_event_loop()


ALL = [bridge.new_event_loop, asyncio.new_event_loop, _uvloop]
OTHERS = ALL[1:]


def _named(factory):
    return "ours" if factory is bridge.new_event_loop else "uvloop" if factory is _uvloop else "asyncio"


on_all = pytest.mark.parametrize("factory", ALL, ids=_named)
on_others = pytest.mark.parametrize("factory", OTHERS, ids=_named)


@pytest.fixture(autouse=True)
def applied():
    nest.apply()
    yield
    nest.undo()


def run_on(factory, main, **options):
    """Run a coroutine on a loop, as the outermost run, and fail if that loop has reported anything."""
    reported = []
    with asyncio.Runner(loop_factory=factory, **options) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: reported.append(context))
        result = runner.run(main)
        runner.run(asyncio.sleep(0))  # what the first has left in the queue
    assert not reported
    return result


async def answer(value=42, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


async def fail():
    await asyncio.sleep(0)
    raise LookupError("badly")


def by_run(coro):
    return asyncio.run(coro)


def by_runner(coro):
    with asyncio.Runner() as runner:
        return runner.run(coro)


def by_loop(coro):
    return asyncio.get_running_loop().run_until_complete(coro)


def by_another_loop(coro):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coro)
    finally:
        loop.close()


def by_own_factory(coro):
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(coro)


def by_task(coro):
    return asyncio.get_running_loop().run_until_complete(asyncio.ensure_future(coro))


WAYS = [by_run, by_runner, by_loop, by_another_loop, by_own_factory, by_task]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


# --- what a nested run does


@on_all
@every_way
def test_a_nested_run_returns_and_raises(factory, way):
    async def main():
        assert way(answer()) == 42
        with pytest.raises(LookupError, match="badly"):
            way(fail())
        return way(answer("again"))

    assert run_on(factory, main()) == "again"


@on_all
@every_way
def test_a_nested_run_has_a_task_and_a_context_of_its_own(factory, way):
    async def inner(outer):
        assert variable.get() == "outer"
        variable.set("inner")
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(answer())
        task = asyncio.current_task()
        assert task is not outer
        assert task.get_loop() is asyncio.get_running_loop()

    async def main():
        task = asyncio.current_task()
        variable.set("outer")
        way(inner(task))
        assert variable.get() == "outer"
        assert asyncio.current_task() is task
        await answer()
        assert asyncio.current_task() is task

    run_on(factory, main())


@on_all
@pytest.mark.parametrize("way", [by_run, by_loop])
def test_runs_nest_in_runs(factory, way):
    outermost = []

    async def deeper(levels):
        if levels:
            assert way(deeper(levels - 1)) == await deeper(levels - 1)
            loop = outermost[
                0
            ]  # a name of the module, say: the loop that stands still for this work, if it is not ours
            assert loop.run_until_complete(answer(levels)) == levels
        return 42

    async def main():
        outermost.append(asyncio.get_running_loop())
        return way(deeper(3))

    assert run_on(factory, main()) == 42


@on_all
def test_a_timeout_ends_a_nested_run(factory):
    async def main():
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(answer(seconds=60), 0.01))

    run_on(factory, main())


@on_all
def test_a_runner_keeps_its_context(factory):
    async def count():
        variable.set(f"{variable.get()}+")
        return variable.get()

    async def main():
        with asyncio.Runner() as runner:
            seen = [runner.run(count()), runner.run(count())]
            seen.append(runner.run(count(), context=contextvars.copy_context()))
        return seen

    assert run_on(factory, main()) == ["unset+", "unset++", "unset+"]


@on_all
@pytest.mark.parametrize("way", [by_run, by_runner, by_loop])
def test_in_caller_runs_in_the_thread_that_waits_for_the_nested_run(factory, way):
    async def asks():
        await asyncio.sleep(0)
        return await bridge.in_caller(threading.current_thread)

    async def main():
        assert way(asks()) is threading.current_thread()

    run_on(factory, main())


@on_all
def test_a_runner_whose_loop_was_asked_for_runs_that_loop(factory):
    async def main():
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            future = loop.create_future()
            loop.call_later(0.01, future.set_result, 42)

            async def waits():
                assert asyncio.get_running_loop() is loop
                return await future

            assert runner.run(waits()) == 42
            assert runner.run(answer(1)) == 1
        assert loop.is_closed()
        with pytest.raises(RuntimeError, match="Runner is closed"):
            runner.run(answer())

    run_on(factory, main())


@on_all
def test_a_loop_that_does_not_run_keeps_what_was_made_on_it(factory):
    async def main():
        loop = asyncio.new_event_loop()
        queue = asyncio.Queue()
        getter = loop.create_task(queue.get())
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(queue.put(42))
        assert loop.run_until_complete(getter) == 42
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_until_complete(loop)

    run_on(factory, main())


@on_all
def test_what_is_no_coroutine_is_refused_as_by_asyncio(factory):
    refused = TypeError if sys.version_info >= (3, 14) else ValueError

    async def main():
        with pytest.raises(refused):
            asyncio.run(42)
        with pytest.raises(refused):
            asyncio.Runner().run(42)
        with pytest.raises(TypeError):
            asyncio.get_running_loop().run_until_complete(42)
        with pytest.raises(TypeError, match="unexpected"):
            asyncio.run(answer(), no_such_option=True)
        with pytest.raises(ValueError, match="different loop"):
            other = asyncio.new_event_loop()
            try:
                asyncio.get_running_loop().run_until_complete(other.create_future())
            finally:
                other.close()

    run_on(factory, main())


# On a loop of ours by_task is asyncio's own task, which raises SystemExit out of its loop.
@pytest.mark.parametrize(
    ("factory", "way"),
    [*((factory, way) for factory in ALL for way in (by_run, by_another_loop)), *((each, by_task) for each in OTHERS)],
)
def test_exits_reach_the_caller_and_the_loops_live(factory, way):
    async def leave():
        await asyncio.sleep(0)
        raise SystemExit(3)

    async def main():
        with pytest.raises(SystemExit):
            way(leave())
        return by_run(answer())

    assert run_on(factory, main()) == 42


@on_all
def test_where_no_loop_runs_all_is_as_before(factory):
    loops = []

    async def inner():
        loops.append(asyncio.get_running_loop())
        return 42

    assert run_on(factory, inner()) == 42
    assert asyncio.run(inner()) == 42
    with asyncio.Runner() as runner:
        assert runner.run(inner()) == 42
        assert runner.get_loop() is loops[-1]
    assert all(loop.is_closed() for loop in loops)
    # A worker thread of the loop runs no loop itself.
    assert run_on(factory, asyncio.to_thread(asyncio.run, inner())) == 42
    assert loops[-1].is_closed()


# --- on a loop of ours


def test_nested_runs_end_in_any_order():
    ended = []

    async def nested(way, name, event):
        way(event.wait())
        ended.append(name)

    async def main():
        events = {way: asyncio.Event() for way in (by_run, by_runner, by_loop)}
        async with asyncio.TaskGroup() as group:
            for way, event in events.items():
                group.create_task(nested(way, way.__name__, event))
            await asyncio.sleep(0)
            for way in (by_runner, by_run, by_loop):
                events[way].set()
                while way.__name__ not in ended:
                    await asyncio.sleep(0)

    run_on(bridge.new_event_loop, main())
    assert ended == ["by_runner", "by_run", "by_loop"]


@pytest.mark.parametrize("way", [by_run, by_another_loop, by_own_factory])
def test_cancelling_the_caller_cancels_the_nested_run_and_waits_for_its_cleanup(way):
    steps = []
    ready = threading.Event()

    async def inner():
        try:
            ready.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            steps.append("clean")

    async def nests():
        try:
            way(inner())
        except asyncio.CancelledError as error:
            steps.append(error.args)
            raise

    async def main():
        task = asyncio.ensure_future(nests())
        while not ready.is_set():
            await asyncio.sleep(0.001)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    way(inner())

    run_on(bridge.new_event_loop, main())
    assert steps == ["clean", ("enough",), "clean"]


@pytest.mark.parametrize("way", [by_run, by_another_loop, by_own_factory])
def test_a_second_cancellation_is_passed_on_and_the_caller_still_waits(way):
    steps = []
    ready = threading.Event()

    async def stubborn():
        for step in range(2):
            try:
                ready.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                steps.append(step)
        ready.set()
        await asyncio.sleep(0.01)
        steps.append("end")
        raise asyncio.CancelledError

    async def nests():
        way(stubborn())

    async def main():
        task = asyncio.ensure_future(nests())
        for _ in range(2):
            while not ready.is_set():
                await asyncio.sleep(0.001)
            ready.clear()
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return steps

    assert run_on(bridge.new_event_loop, main()) == [0, 1, "end"]


def test_a_nested_run_takes_futures_of_its_own_loop():
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 42)
        assert loop.run_until_complete(future) == 42
        done, _ = loop.run_until_complete(asyncio.wait([asyncio.ensure_future(answer())]))
        assert [task.result() for task in done] == [42]
        assert loop.run_until_complete(asyncio.gather(answer(1), answer(2))) == [1, 2]
        event = asyncio.Event()
        loop.call_soon(event.set)
        assert asyncio.run(event.wait())

    run_on(bridge.new_event_loop, main())


def test_a_callback_nests_a_run_too():
    results = []

    async def main():
        done = asyncio.Event()

        def callback():
            results.append(asyncio.run(answer(seconds=0.01)))
            done.set()

        asyncio.get_running_loop().call_soon(callback)
        await done.wait()

    run_on(bridge.new_event_loop, main())
    assert results == [42]


def test_a_nested_run_works_on_the_loop_of_a_bridge():
    with bridge.Bridge() as own:

        def main():
            assert asyncio.run(answer()) == 42
            return asyncio.run(_thread_name())

        assert own.run(main) == own.thread.name


async def _thread_name():
    return threading.current_thread().name


# --- beside a loop that is not ours


@on_others
def test_a_future_of_the_loop_that_stands_still_is_refused(factory):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        started = asyncio.ensure_future(answer())
        await asyncio.sleep(0)
        for each in (future, started, asyncio.gather(started)):
            with pytest.raises(bridge.DeadlockError, match=r"stands still.*write 'await'"):
                loop.run_until_complete(each)
        for use in (_awaits, _wait_for, asyncio.shield, asyncio.gather):
            theirs = loop.create_future()  # a new one: asyncio itself takes no second await after such an error
            with pytest.raises(RuntimeError, match="different loop") as caught:
                asyncio.run(_awaits(use(theirs)))
            assert "write 'await' on that loop" in caught.value.__notes__[0]
        future.set_result(42)
        assert loop.run_until_complete(future) == 42  # it is done
        return await started

    assert run_on(factory, main()) == 42


async def _awaits(future):
    return await future


async def _wait_for(future):
    async with asyncio.timeout(10):
        await future


@on_others
def test_work_that_waits_for_such_a_future_where_asyncio_does_not_see_it_is_ended(factory):
    async def main():
        started = asyncio.ensure_future(answer())
        await asyncio.sleep(0)
        with pytest.raises(bridge.DeadlockError, match=r"coroutine wait would never end.*stands still"):
            asyncio.run(asyncio.wait([started]))
        return await started

    assert run_on(factory, main()) == 42


async def _busy():
    loop = asyncio.get_running_loop()
    end = loop.time() + 1.2
    while loop.time() < end:
        await asyncio.sleep(0)
    return 42


@pytest.mark.parametrize(("factory", "other"), [(asyncio.new_event_loop, _busy), (_uvloop, lambda: answer(42, 1.2))])
def test_what_waits_for_other_things_too_is_not_ended(factory, other):
    async def waits(started):
        own = asyncio.ensure_future(other())
        done, _ = await asyncio.wait([started, own], return_when=asyncio.FIRST_COMPLETED)
        return [task.result() for task in done]

    async def main():
        started = asyncio.ensure_future(answer())
        await asyncio.sleep(0)
        assert asyncio.run(waits(started)) == [42]
        return await started

    assert run_on(factory, main()) == 42


@on_others
@pytest.mark.parametrize("debug", [False, True])
def test_a_task_that_has_not_begun_runs_on_the_default_bridge(factory, debug, caplog):
    async def where():
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is bridge.default_bridge().loop

    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60
        tasks = [asyncio.ensure_future(where()) for _ in range(3)]
        assert all(loop.run_until_complete(task) for task in tasks)
        assert all(task.done() and task.result() for task in tasks)
        failing = asyncio.ensure_future(fail())
        with pytest.raises(LookupError) as caught:
            loop.run_until_complete(failing)
        assert failing.exception() is caught.value
        cancelled = asyncio.ensure_future(answer())
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(cancelled)
        assert cancelled.cancelled()
        handler = loop.get_exception_handler()
        await asyncio.sleep(0)
        assert loop.get_exception_handler() is not handler  # that one was there for the steps of these tasks
        loop.call_exception_handler({"message": "of the user's"})
        assert tasks[0].result()

    with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
        runner.run(main())
    reports = [record.message.splitlines()[0] for record in caplog.records if record.name == "asyncio"]
    assert [report for report in reports if "selector" not in report] == ["of the user's"]


# --- apply and undo


def test_apply_takes_a_loop_or_nothing():
    loop = asyncio.new_event_loop()
    try:
        nest.apply(loop)
    finally:
        loop.close()
    with pytest.raises(TypeError, match="takes an asyncio loop"):
        nest.apply(asyncio)


def test_apply_twice_is_undone_once():
    nest.undo()
    names = [(asyncio, "run"), (asyncio.runners, "run"), (asyncio.BaseEventLoop, "run_until_complete")]
    names += [(asyncio.Runner, name) for name in ("__init__", "__enter__", "get_loop", "run")]
    before = [getattr(owner, name) for owner, name in names]
    nest.apply()
    applied = [getattr(owner, name) for owner, name in names]
    nest.apply()
    assert applied == [getattr(owner, name) for owner, name in names]
    assert not set(applied) & set(before)
    nest.undo()
    nest.undo()
    assert before == [getattr(owner, name) for owner, name in names]


def test_after_undo_asyncio_refuses_as_ever():
    nest.undo()

    async def main():
        for way in (by_run, by_loop):
            coro = answer()
            with pytest.raises(RuntimeError):
                way(coro)
            coro.close()

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())


def test_undo_leaves_what_others_have_put_on_top():
    ours = asyncio.run
    calls = []

    def theirs(main, **options):
        calls.append(main)
        return ours(main, **options)

    asyncio.run = theirs
    try:
        nest.apply()  # on top of theirs
        assert asyncio.run(answer()) == 42
        nest.undo()
        assert asyncio.run is theirs
        assert asyncio.run(answer()) == 42  # through ours, which does nothing any more
        assert len(calls) == 2
    finally:
        asyncio.run = asyncio.runners.run


def test_apply_and_undo_in_threads_while_others_run():
    stop = threading.Event()
    errors = []

    def switch():
        while not stop.is_set():
            nest.apply()
            nest.undo()

    def work():
        try:
            for _ in range(30):
                assert asyncio.run(answer()) == 42
        except BaseException as error:
            errors.append(error)

    switching = [threading.Thread(target=switch) for _ in range(2)]
    working = [threading.Thread(target=work) for _ in range(2)]
    for thread in (*switching, *working):
        thread.start()
    for thread in working:
        thread.join()
    stop.set()
    for thread in switching:
        thread.join()
    assert not errors
    nest.undo()
    assert "bridge" not in asyncio.run.__code__.co_filename.split("/")


def test_two_threads_nest_at_once():
    results = []

    def work(factory, number):
        async def main():
            return [asyncio.run(answer(number)) for _ in range(20)]

        results.append(run_on(factory, main()))

    threads = [
        threading.Thread(target=work, args=(factory, number))
        for number, factory in enumerate((asyncio.new_event_loop, bridge.new_event_loop) * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[number] * 20 for number in range(4)]


@isolated
def test_uvloop_that_is_imported_later_is_included() -> None:
    import asyncio
    import sys

    from bridge.ext import nest

    nest.apply()
    assert "uvloop" not in sys.modules
    try:
        import uvloop
    except ImportError:
        return

    async def main() -> None:
        assert asyncio.get_running_loop().run_until_complete(asyncio.sleep(0, 42)) == 42

    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    nest.undo()
    assert "run_until_complete" not in vars(uvloop.Loop)


@isolated(stdout=r"clean\nclean\nclean")
def test_ctrl_c_cancels_a_nested_run_and_waits_for_its_cleanup() -> None:
    import asyncio
    import os
    import signal

    from bridge.ext import nest

    nest.apply()

    async def inner() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            print("clean", flush=True)

    async def main(nested: object) -> None:
        try:
            nested(inner())  # type: ignore[operator]
        except KeyboardInterrupt:
            return
        raise AssertionError

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(asyncio.run))
    loop.run_until_complete(main(loop.run_until_complete))
    other = asyncio.new_event_loop()
    loop.run_until_complete(main(other.run_until_complete))
    loop.close()
    other.close()


@isolated
def test_on_a_default_bridge_that_cannot_switch_stacks_a_nested_run_says_so() -> None:
    import asyncio

    import bridge
    from bridge.ext import nest

    nest.apply()
    bridge.configure(loop_factory=asyncio.SelectorEventLoop)

    async def main() -> None:
        message = ""
        try:
            asyncio.run(asyncio.sleep(0))
        except bridge.StrategyUnavailable as error:
            message = str(error)
        assert "only a loop of ours can switch stacks" in message

    bridge.block_on(main())


def test_a_loop_that_is_stopped_meanwhile_ends_a_nested_run_with_the_error_of_its_end() -> None:
    async def inner() -> None:
        bridge.block_on(asyncio.sleep(100))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, loop.stop)
        asyncio.run(inner())

    loop = bridge.new_event_loop()
    task = loop.create_task(main())
    loop.run_forever()
    loop.close()
    assert isinstance(task.exception(), bridge.BridgeClosed)
