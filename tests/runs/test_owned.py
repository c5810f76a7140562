"""The loop thread: when it starts, how it ends, what becomes of whoever waits, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from isolated import isolated
from twisted.internet import threads
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import bridge as package
from bridge import Bridge, BridgeClosed
from bridge._calls.state import WORKING
from bridge._runs.factories import DefaultRuns
from bridge._runs.options import Options, Settings

PATIENCE = 10.0  # seconds that a test waits for what must come


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """A function that returns what the package has logged."""
    gc.collect()  # what earlier tests have left says nothing from now on
    with caplog.at_level(logging.WARNING, "bridge"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name == "bridge"]


async def value() -> str:
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def in_pool(bridge: Bridge, function: Callable[[], Any]) -> Deferred[Any]:
    """Call the function in the thread pool of the bridge's reactor: deferToThread, which is for the installed one."""
    return threads.deferToThreadPool(bridge.reactor, bridge.reactor.getThreadPool(), function)


class Caller(threading.Thread):
    """A thread that calls a function and keeps what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error

    def outcome(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.result if self.error is None else self.error


def waiting(begun: threading.Semaphore) -> list[Callable[[], Any]]:
    """Things to block on that never end, and that count themselves as begun."""

    async def coroutine() -> None:
        begun.release()
        await for_ever()

    def deferred() -> Deferred[None]:
        begun.release()
        return Deferred()

    def future() -> Future[None]:
        begun.release()
        return Future()

    return [coroutine, lambda: coroutine(), deferred, future]


# --- the start


@isolated(fresh=True)
def test_an_import_starts_and_imports_nothing() -> None:
    import sys
    import threading

    import bridge

    for module in ("asyncio", "twisted", "anyio", "greenlet"):
        assert module not in sys.modules, module
    bridge.configure(stall_after=5)
    bridge.strategies()
    one = bridge.Bridge(strategy="event")
    assert not one.running
    assert not bridge.default_bridge().running
    assert one.thread is None
    one.close()
    assert threading.active_count() == 1
    assert "twisted" not in sys.modules


def test_the_first_calls_of_many_threads_start_one_loop() -> None:
    bridge = Bridge(install_reactor=False)
    barrier = threading.Barrier(50)

    def first_call() -> int:
        barrier.wait(PATIENCE)
        ident: int = bridge.block_on(threading.get_ident)
        return ident

    before = set(threading.enumerate())
    idents = {caller.outcome() for caller in [Caller(first_call) for _ in range(50)]}
    assert bridge.thread is not None
    assert idents == {bridge.thread.ident}
    new = set(threading.enumerate()) - before
    assert [thread.name for thread in new if thread.name != "bridge-watchdog"] == [bridge.thread.name]
    bridge.close()


@isolated
def test_the_first_calls_of_many_threads_start_one_default_bridge() -> None:
    import threading

    import bridge

    barrier = threading.Barrier(50)
    idents = set()

    def first_call() -> None:
        barrier.wait(10)
        idents.add(bridge.block_on(threading.get_ident))

    callers = [threading.Thread(target=first_call) for _ in range(50)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(idents) == 1, idents
    names = sorted(thread.name for thread in threading.enumerate())
    assert names == ["MainThread", "bridge", "bridge-watchdog"], names


def test_its_attributes_show_its_state() -> None:
    bridge = Bridge("a name", install_reactor=False)
    assert (bridge.running, bridge.thread) == (False, None)
    assert repr(bridge) == "<Bridge 'a name', not started>"
    loop = bridge.loop  # starts it
    assert (bridge.running, repr(bridge)) == (True, "<Bridge 'a name', running>")
    assert bridge.thread is not None
    assert (bridge.thread.name, bridge.thread.daemon) == ("a name", True)
    assert bridge.block_on(threading.current_thread) is bridge.thread
    assert bridge.block_on(asyncio.get_running_loop) is bridge.loop is loop
    assert bridge.reactor.running
    assert loop.is_running()
    bridge.start()  # does nothing
    assert bridge.loop is loop
    bridge.close()
    assert (bridge.running, bridge.thread) == (False, None)
    assert repr(bridge) == "<Bridge 'a name', closed>"
    assert loop.is_closed()
    for attribute in ("loop", "reactor"):
        with pytest.raises(BridgeClosed, match="takes no more calls"):
            getattr(bridge, attribute)


def test_a_loop_of_the_users_own_class_serves() -> None:
    class Plain(asyncio.SelectorEventLoop):
        pass

    with Bridge(install_reactor=False, loop_factory=Plain) as bridge:
        assert type(bridge.loop) is Plain
        assert bridge.block_on(value()) == "value"
        assert bridge.block_on(lambda: deferLater(bridge.reactor, 0.001, lambda: "later")) == "later"
        assert bridge.block_on(lambda: in_pool(bridge, lambda: "in a thread")) == "in a thread"


def test_a_loop_factory_that_fails_is_the_callers_error() -> None:
    failures = [LookupError("no loop today")]

    def factory() -> asyncio.AbstractEventLoop:
        if failures:
            raise failures.pop()
        return asyncio.SelectorEventLoop()

    bridge = Bridge(install_reactor=False, loop_factory=factory)
    with pytest.raises(LookupError, match="no loop today"):
        bridge.block_on(value())
    assert not bridge.running
    assert bridge.block_on(value()) == "value"  # the next call tries again
    bridge.close()


def test_a_loop_factory_that_fails_fails_every_first_call() -> None:
    gate = threading.Event()

    def factory() -> asyncio.AbstractEventLoop:
        gate.wait(PATIENCE)
        raise LookupError("no loop today")

    bridge = Bridge(install_reactor=False, loop_factory=factory)
    callers = [Caller(lambda: bridge.block_on(value())) for _ in range(5)]
    gate.set()
    assert {type(caller.outcome()) for caller in callers} == {LookupError}
    bridge.close()


@pytest.mark.parametrize("made", [None, "a loop", asyncio.SelectorEventLoop])
def test_a_loop_factory_that_makes_no_loop_is_refused(made: object) -> None:
    bridge = Bridge(install_reactor=False, loop_factory=lambda: made)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"loop_factory returned .*, which is no event loop"):
        bridge.block_on(value())
    bridge.close()


def test_a_loop_factory_that_makes_a_closed_loop_fails_the_call() -> None:
    loop = asyncio.SelectorEventLoop()
    loop.close()
    bridge = Bridge(install_reactor=False, loop_factory=lambda: loop)
    with pytest.raises((BridgeClosed, RuntimeError), match="Event loop is closed"):
        bridge.block_on(value())
    bridge.close()


@isolated(stderr=r".*while handling startup.*|.*LookupError: in a trigger.*")
def test_a_startup_trigger_that_raises_is_logged_and_the_loop_runs() -> None:
    from twisted.internet import reactor

    import bridge

    def failing() -> None:
        raise LookupError("in a trigger")

    for phase in ("before", "during", "after"):
        reactor.addSystemEventTrigger(phase, "startup", failing)
    reactor.callWhenRunning(failing)
    assert bridge.block_on(lambda: reactor.running) is True


@isolated
def test_a_startup_trigger_may_take_its_time_or_stop_the_reactor() -> None:
    from twisted.internet import defer, reactor

    import bridge

    slow = defer.Deferred()
    reactor.addSystemEventTrigger("before", "startup", lambda: slow)
    assert bridge.block_on(lambda: reactor.running) is False
    bridge.block_on(lambda: slow.callback(None))
    assert bridge.block_on(lambda: reactor.running) is True
    bridge.default_bridge().close()

    said = ""
    while not said:
        reactor.callWhenRunning(reactor.stop)
        try:
            bridge.block_on(defer.Deferred(), timeout=5)
        except bridge.BridgeClosed as error:
            said = str(error)
        except TimeoutError:  # that life was over before the call was made, and the next one took it
            bridge.default_bridge().close()
    assert said.startswith("the reactor was stopped"), said
    assert bridge.block_on(lambda: reactor.running) is True


# --- the end


def close_here(bridge: Bridge) -> None:
    bridge.close()


def close_in_another_thread(bridge: Bridge) -> None:
    assert Caller(bridge.close).outcome() is None


def close_in_many_threads(bridge: Bridge) -> None:
    closers = [Caller(bridge.close) for _ in range(10)]
    assert [closer.outcome() for closer in closers] == [None] * 10


def close_on_the_loop(bridge: Bridge) -> None:
    bridge.loop.call_soon_threadsafe(bridge.close)


def close_in_a_task(bridge: Bridge) -> None:
    async def closing() -> None:
        bridge.close()
        await for_ever()

    bridge.submit(closing())


def close_in_a_worker(bridge: Bridge) -> None:
    bridge.submit(asyncio.to_thread(bridge.close))


def close_in_the_reactors_pool(bridge: Bridge) -> None:
    bridge.submit(lambda: in_pool(bridge, bridge.close))


@pytest.mark.parametrize(
    "close",
    [
        close_here,
        close_in_another_thread,
        close_in_many_threads,
        close_on_the_loop,
        close_in_a_task,
        close_in_a_worker,
        close_in_the_reactors_pool,
    ],
)
def test_a_close_fails_every_open_call(close: Callable[[Bridge], None], logged: Callable[[], list[str]]) -> None:
    bridge = Bridge("closing", install_reactor=False, shutdown_timeout=1000)  # nothing has to take its time
    begun = threading.Semaphore(0)
    callers = [Caller(lambda x=x: bridge.block_on(x)) for x in waiting(begun)]
    futures = [bridge.submit(x) for x in waiting(begun)]
    for _ in range(8):
        assert begun.acquire(timeout=PATIENCE)
    thread = bridge.thread
    assert thread is not None
    close(bridge)
    errors = [caller.outcome() for caller in callers] + [future.exception(PATIENCE) for future in futures]
    assert {type(error) for error in errors} == {BridgeClosed}
    said = "<Bridge 'closing', closed> was closed; the call was not completed [bridge: loop-ended]"
    assert {str(error) for error in errors} == {said}
    assert [error.__cause__ for error in errors] == [None] * 8
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert logged() == []
    bridge.close()
    for call in (bridge.block_on, bridge.submit):
        with pytest.raises(BridgeClosed, match="takes no more calls; make a new Bridge"):
            call(value())
    with pytest.raises(BridgeClosed):
        bridge.start()


def test_a_close_races_with_the_start() -> None:
    for _ in range(20):
        bridge = Bridge(install_reactor=False)
        barrier = threading.Barrier(3)

        def call(bridge: Bridge = bridge, barrier: threading.Barrier = barrier) -> str:
            barrier.wait(PATIENCE)
            return bridge.block_on(value())

        callers = [Caller(call), Caller(call)]
        barrier.wait(PATIENCE)
        bridge.close()
        for caller in callers:
            assert caller.outcome() == "value" or isinstance(caller.error, BridgeClosed)
        assert not bridge.running


def test_a_close_waits_for_the_life_that_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may have started the next one meanwhile."""
    make_runs = functools.partial(DefaultRuns, settings=Settings())
    default: Any = Bridge._with_runs(Options(install_reactor=False, shutdown_timeout=30), make_runs)
    default.start()
    first = default.last_run
    begin_to_close = first.begin_to_close

    def begin_and_start_the_next(reason: str) -> None:
        begin_to_close(reason)
        default.start()

    monkeypatch.setattr(first, "begin_to_close", begin_and_start_the_next)
    begun = time.monotonic()
    default.close()
    assert time.monotonic() - begun < 25  # 31, had it waited for the next one
    assert default.running
    default.close()
    assert not default.running


def test_tasks_clean_up_before_a_close_returns(bridge: Bridge) -> None:
    order: list[str] = []

    async def cleaning(name: str) -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.001)
            order.append(name)

    async def spawning() -> None:
        try:
            await for_ever()
        finally:
            tasks.append(asyncio.ensure_future(cleaning("spawned by a cleanup")))

    tasks: list[Any] = []
    bridge.block_on(lambda: tasks.extend(map(asyncio.ensure_future, [cleaning("a task"), spawning()])))
    bridge.submit(cleaning("submitted"))
    bridge.block_on(asyncio.sleep(0))
    bridge.close()
    assert sorted(order) == ["a task", "spawned by a cleanup", "submitted"]
    assert all(task.cancelled() for task in tasks)


def test_a_close_in_a_start_that_hangs_is_bounded_and_fails_who_waits(logged: Callable[[], list[str]]) -> None:
    goes_on, begun = threading.Event(), threading.Event()

    def hangs() -> asyncio.AbstractEventLoop:
        begun.set()
        assert goes_on.wait(PATIENCE)
        return package.new_event_loop()

    bridge = Bridge("hangs", loop_factory=hangs, install_reactor=False, shutdown_timeout=0.1)
    caller = Caller(lambda: bridge.block_on(value()))
    assert begun.wait(PATIENCE)
    closer = Caller(bridge.close)
    assert isinstance(caller.outcome(), BridgeClosed)
    assert closer.outcome() is None
    assert not goes_on.is_set()
    assert logged() == ["hangs did not end within 1.1 seconds [bridge: slow-end]"]
    run: Any = bridge.last_run
    assert run.thread.is_alive()
    goes_on.set()
    run.thread.join(PATIENCE)
    assert not run.thread.is_alive()
    assert run.loop.is_closed()


def test_the_work_of_a_failed_call_is_kept_until_it_has_cleaned_up(bridge: Bridge) -> None:
    """Nobody but the call refers to it, and the loop only weakly."""
    ended: list[str] = []

    async def cleaning() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            ended.append("finally")

    future = bridge.submit(cleaning())
    bridge.block_on(value())
    future.add_done_callback(lambda _: gc.collect())  # called as the call fails
    del future
    bridge.close()
    assert ended == ["cancelled", "finally"]


def test_an_error_of_a_cleanup_reaches_the_loops_handler(bridge: Bridge) -> None:
    async def failing() -> None:
        try:
            await for_ever()
        finally:
            raise LookupError("in the cleanup")

    contexts: list[dict[str, Any]] = []
    bridge.loop.set_exception_handler(lambda loop, context: contexts.append(context))
    bridge.submit(failing())
    bridge.block_on(value())
    bridge.close()
    (context,) = contexts
    assert isinstance(context["exception"], LookupError)


def test_async_generators_are_closed(bridge: Bridge) -> None:
    closed = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            closed.set()

    generator = numbers()
    assert bridge.block_on(generator.__anext__) == 0  # begun on the loop, which so gets to know it
    assert bridge.block_on(generator.__anext__) == 1
    bridge.close()
    assert closed.is_set()


def test_what_ignores_its_cancellation_bounds_a_close(logged: Callable[[], list[str]]) -> None:
    release = threading.Event()
    stays: Deferred[None] = Deferred()

    async def stubborn() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    bridge = Bridge("bounded", install_reactor=False, shutdown_timeout=0.1)
    future = bridge.submit(stubborn())
    bridge.submit(asyncio.to_thread(release.wait))
    bridge.block_on(lambda: bridge.reactor.addSystemEventTrigger("before", "shutdown", lambda: stays))
    bridge.block_on(value())
    thread = bridge.thread
    assert thread is not None
    begun = time.monotonic()
    bridge.close()
    assert time.monotonic() - begun >= 0.1
    thread.join(PATIENCE)  # for close() gives it a second more, which a busy machine may need
    assert not thread.is_alive()
    assert isinstance(future.exception(), BridgeClosed)
    (text,) = [text for text in logged() if text != "bounded did not end within 1.1 seconds [bridge: slow-end]"]
    assert text.startswith("bounded ended after 0.1 seconds without:")
    for each in ("stubborn", "shutdown triggers of the reactor", "threads of the loop's executor"):
        assert each in text
    release.set()


@pytest.mark.process  # takes a second
def test_a_loop_that_is_blocked_bounds_a_close(logged: Callable[[], list[str]]) -> None:
    release, blocked = threading.Event(), threading.Event()
    bridge = Bridge("stuck", install_reactor=False, shutdown_timeout=0.1)
    thread = bridge.thread or (bridge.start(), bridge.thread)[1]
    bridge.loop.call_soon_threadsafe(lambda: (blocked.set(), release.wait()))
    assert blocked.wait(PATIENCE)
    caller = Caller(lambda: bridge.block_on(value()))
    bridge.close()
    assert isinstance(caller.outcome(), BridgeClosed)
    assert logged() == ["stuck did not end within 1.1 seconds [bridge: slow-end]"]
    release.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("pool", ["to_thread", "deferToThread", "run_in_executor"])
def test_workers_that_block_on_the_loop_do_not_hold_up_its_close(pool: str, logged: Callable[[], list[str]]) -> None:
    bridge = Bridge("workers", install_reactor=False, shutdown_timeout=1000)  # nothing has to take its time
    begun = threading.Semaphore(0)
    errors: list[BaseException] = []

    async def coroutine() -> None:
        begun.release()
        await for_ever()

    def blocked() -> None:
        try:
            bridge.block_on(coroutine())
        except BridgeClosed as error:
            errors.append(error)

    own = ThreadPoolExecutor()
    works: dict[str, Callable[[], Any]] = {
        "to_thread": lambda: asyncio.to_thread(blocked),
        "deferToThread": lambda: in_pool(bridge, blocked),
        "run_in_executor": lambda: bridge.loop.run_in_executor(own, blocked),
    }
    for _ in range(3):
        bridge.submit(works[pool])
    for _ in range(3):
        assert begun.acquire(timeout=PATIENCE)
    thread = bridge.thread
    assert thread is not None
    closer = Caller(bridge.close)
    closer.join(PATIENCE)
    assert not closer.is_alive()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    own.shutdown()
    assert len(errors) == 3
    assert logged() == []


def test_the_default_bridge_starts_again_after_its_close() -> None:
    loops = []
    for _ in range(3):
        loops.append(package.default_bridge().loop)
        assert package.block_on(asyncio.get_running_loop) is loops[-1]
        future = package.submit(for_ever())
        package.default_bridge().close()
        with pytest.raises(BridgeClosed, match="the default bridge was closed"):
            future.result(PATIENCE)
        assert not package.default_bridge().running
    assert len(set(loops)) == 3
    with package.default_bridge():
        assert package.block_on(value()) == "value"
    assert package.block_on(value()) == "value"
    package.default_bridge().close()


def test_a_dropped_bridge_warns_and_ends() -> None:
    bridge = Bridge("dropped", install_reactor=False)
    future = bridge.submit(for_ever())
    thread, dropped = bridge.thread, weakref.ref(bridge)
    assert thread is not None
    bridges = [bridge]
    del bridge
    with pytest.warns(ResourceWarning, match=r"unclosed <Bridge 'dropped', running>; call close\(\), or use 'with"):
        bridges.clear()
    assert dropped() is None
    assert isinstance(future.exception(PATIENCE), BridgeClosed)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_bridge_that_was_never_started_is_dropped_in_silence() -> None:
    Bridge("never started")
    Bridge("closed").close()
    gc.collect()


# --- what is left behind


@pytest.mark.process
def test_ten_thousand_calls_leave_nothing_behind() -> None:
    process = psutil.Process()

    def wait_until(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.01)

    def nothing_new(before: tuple[set[Any], int]) -> None:
        """Check that there are no more threads and descriptors; earlier tests may still have let go of theirs."""
        wait_until(lambda: not count()[0] - before[0] and count()[1] <= before[1])
        threads, descriptors = count()
        assert threads - before[0] == set()
        assert descriptors <= before[1]

    def count() -> tuple[set[Any], int]:
        gc.collect()
        threads = {thread for thread in threading.enumerate() if thread.name != "bridge-watchdog"}  # one a process
        return threads, process.num_fds()

    def remains() -> list[object]:
        kinds = (Deferred, asyncio.Future, Future, package._calls.call.Call)  # type: ignore[attr-defined]
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    def new_remains() -> list[object]:
        gc.collect()
        return [each for each in remains() if id(each) not in left_before]

    def calls(bridge: Bridge, number: int) -> list[Any]:
        results = []
        for each in range(number, number + 50, 5):
            results += [
                bridge.block_on(plain(each)),
                bridge.block_on(suspending(each + 1)),
                bridge.block_on(lambda each=each: deferLater(bridge.reactor, 0, lambda: each + 2)),
                bridge.submit(suspending(each + 3)).result(PATIENCE),
                bridge.block_on(lambda each=each: each + 4),
            ]
        return results

    async def plain(number: int) -> int:
        return number

    async def suspending(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def tasks() -> set[Any]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    before = count()
    with Bridge("many", install_reactor=False) as bridge:
        quiet = bridge.block_on(tasks())
        with_loop = count()
        left_before = {id(each) for each in remains()}
        callers = [Caller(lambda number=number: calls(bridge, number * 50)) for number in range(200)]
        for number, caller in enumerate(callers):
            caller.join(30)
            assert caller.outcome() == list(range(number * 50, number * 50 + 50))
        del callers, caller
        assert bridge.block_on(tasks()) == quiet
        nothing_new(with_loop)
        assert not bridge.current_run().open
        wait_until(lambda: not new_remains())  # the loop's thread may still be returning from the last call
        assert new_remains() == []
        assert bridge.block_on(bridge.reactor.getDelayedCalls) == []
    nothing_new(before)


def test_work_that_has_not_taken_its_first_step_is_cancelled() -> None:
    """In debug mode the loop takes it later. By then the call may have failed, and its caller closed the coroutine."""

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = package.new_event_loop()
        loop.set_debug(True)
        return loop

    bridge = Bridge("debug", install_reactor=False, loop_factory=new_loop)
    run: Any = bridge.current_run()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        release.wait(PATIENCE)

    run.post(hold)
    held.wait(PATIENCE)  # the loop takes the posts that come from now on in one go
    caller = Caller(lambda: bridge.block_on(value()))
    deadline = time.monotonic() + PATIENCE
    while not run.open and time.monotonic() < deadline:
        time.sleep(0.001)
    (call,) = run.open
    time.sleep(0.01)  # the call is posted right after it is opened

    tasks: list[Any] = []

    def end() -> None:
        assert call.phase is WORKING
        tasks.append(call.work)
        run.end("closed")
        caller.join(PATIENCE)

    run.post(end)
    release.set()
    assert isinstance(caller.outcome(), BridgeClosed)
    bridge.close()
    assert tasks[0].cancelled()  # and has not failed, which asyncio would log


@pytest.mark.parametrize("made", [True, False])
def test_a_run_that_is_closed_late_leaves_the_reactor_to_the_next(made: bool) -> None:
    """close() may have found the run before: a thread starts the next one meanwhile, and that has the reactor."""
    loops = 0

    def new_loop() -> asyncio.AbstractEventLoop:
        nonlocal loops
        loops += 1
        if loops > 1:
            first.begin_to_close("closed", final=True)
            first.wait_closed()
            if not made and loops == 2:
                raise LookupError("no loop")
        return package.new_event_loop()

    with Bridge("late", install_reactor=False, loop_factory=new_loop) as bridge:
        reactor = bridge.reactor
        first: Any = bridge.last_run
        bridge.block_on(asyncio.sleep(0))
        first.post(first.loop.stop)
        first.wait_closed()
        if not made:
            with pytest.raises(LookupError):
                bridge.block_on(value())
        assert bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "fired")) == "fired"
        assert bridge.reactor is reactor
        reactor.callFromThread(reactor.callLater, 0, int)
        assert bridge.block_on(lambda: threads.deferToThreadPool(reactor, reactor.getThreadPool(), lambda: 1)) == 1
    assert reactor.waker is None
    assert reactor.owner is None


# --- the process ends


@isolated(stdout="cleaned up")
def test_a_process_exits_with_submitted_work_open() -> None:
    import asyncio
    import threading

    import bridge

    begun = threading.Event()

    async def cleaning() -> None:
        try:
            begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            print("cleaned up")

    bridge.submit(cleaning())
    bridge.submit(lambda: asyncio.sleep(1000))
    assert begun.wait(10)
    assert bridge.block_on(asyncio.sleep(0, "value")) == "value"


@pytest.mark.parametrize("used", ["default", "own", "closed"])
@isolated(status=3)
def test_a_process_exits_with_its_own_status(used: str) -> None:
    import asyncio
    import sys

    import bridge

    if used == "default":
        bridge.block_on(asyncio.to_thread(str))
    else:
        global own  # else it is an unclosed bridge that is dropped
        own = bridge.Bridge(install_reactor=False)
        own.block_on(asyncio.sleep(0))
        if used == "closed":
            own.close()
    sys.exit(3)


@isolated(status=1, stderr=r"Traceback \(most recent call last\):.*LookupError: of the script")
def test_an_error_of_the_script_ends_the_process_as_ever() -> None:
    import asyncio

    import bridge

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("of the script")

    bridge.submit(asyncio.sleep(1000))
    bridge.block_on(failing())


@isolated
def test_threads_that_are_blocked_at_the_exit_do_not_keep_the_process() -> None:
    import asyncio
    import threading

    import bridge

    begun = threading.Semaphore(0)

    async def waiting() -> None:
        begun.release()
        await asyncio.get_running_loop().create_future()

    def blocked() -> None:
        try:
            bridge.block_on(waiting())
        except bridge.BridgeClosed:
            pass

    threading.Thread(target=blocked, daemon=True).start()
    for _ in range(2):
        bridge.submit(asyncio.to_thread(blocked))
    for _ in range(3):
        assert begun.acquire(timeout=10)


@isolated(stdout="worker: value")
def test_a_thread_that_outlives_the_main_thread_goes_on_calling_if_it_is_given_the_time() -> None:
    import asyncio
    import threading

    import bridge

    bridge.configure(exit_grace=float("inf"))
    main_thread = threading.main_thread()

    def work() -> None:
        main_thread.join()
        print("worker:", bridge.block_on(asyncio.sleep(0.01, "value")))

    bridge.block_on(asyncio.sleep(0))
    threading.Thread(target=work).start()


@isolated(stdout="at exit: value")
def test_a_handler_at_exit_may_call() -> None:
    import asyncio
    import atexit

    import bridge

    bridge.block_on(asyncio.sleep(0))
    atexit.register(lambda: print("at exit:", bridge.block_on(asyncio.sleep(0.01, "value"))))
