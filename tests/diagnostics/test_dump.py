"""dump(), its signal, and the chain of what is awaited that dump() and the watchdog show."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dumps import Latch, dumped, dumped_with, in_background
from isolated import isolated
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, inlineCallbacks

import bridge as package
from bridge import Bridge, as_deferred, block_on
from bridge._watch.watchdog import watchdog

# --- dump()


def test_dump_without_a_loop() -> None:
    assert "open call" not in dumped() or "0 open calls" in dumped() or watchdog.targets


def test_dump_shows_the_calls_of_threads_of_the_loop_and_of_submit() -> None:
    with Bridge("dumped", install_reactor=False) as bridge:
        gate = Latch(bridge)

        async def waits() -> None:
            await asyncio.shield(gate.future)

        def callback() -> None:
            block_on(waits())

        def calling() -> None:
            bridge.block_on(waits())

        thread = in_background(calling)
        submitted = bridge.submit(waits())
        bridge.loop.call_soon_threadsafe(callback)
        text = dumped_with("dumped: 3 open calls", "in callback", "the loop's thread, dumped, is idle")
        gate.open()
        submitted.result()
        thread.join(30)
    assert "dumped: 3 open calls" in text
    for part in ("in calling", "in callback", "submit(coroutine", "on the loop's own thread", "is idle"):
        assert part in text


def test_dump_on_the_loops_own_thread() -> None:
    with Bridge("here", install_reactor=False) as bridge:

        async def main() -> str:
            return dumped()

        def calling() -> str:
            return bridge.block_on(main())

        text = calling()
    assert "here: 1 open call" in text
    assert "in calling" in text
    assert "in main" in text


def test_dump_while_the_loop_is_stuck() -> None:
    entered, release = threading.Event(), threading.Event()

    def hogging() -> None:
        entered.set()
        release.wait(30)

    with Bridge("stuck", install_reactor=False) as bridge:
        bridge.loop.call_soon_threadsafe(hogging)
        assert entered.wait(30)
        thread = in_background(lambda: bridge.block_on(asyncio.sleep(0)))
        text = dumped_with("has not started it", "release.wait(30)", "it waits for <threading.Event")
        release.set()
        thread.join(30)
    assert "stands at:" in text
    assert "it waits for <threading.Event" in text
    assert "release.wait(30)" in text


def test_dump_of_a_loop_that_the_program_runs() -> None:
    async def waits(gate: asyncio.Future[None]) -> None:
        await gate

    def sync_code(gate: asyncio.Future[None]) -> None:
        block_on(waits(gate))

    async def main() -> str:
        gate = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(sync_code, gate)
        await asyncio.sleep(0)
        text = dumped()
        gate.set_result(None)
        return text

    with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
        text = runner.run(main())
    assert "1 open call" in text
    assert "in sync_code" in text


def test_dump_in_the_midst_of_traffic() -> None:
    with Bridge(install_reactor=False) as bridge:
        stop = threading.Event()

        async def value() -> int:
            await asyncio.sleep(0)
            return block_on(other())

        async def other() -> int:
            await asyncio.sleep(0)
            return 1

        def calling() -> None:
            while not stop.is_set():
                assert bridge.block_on(value()) == 1

        threads = [in_background(calling) for _ in range(3)]
        for _ in range(100):
            assert "open call" in dumped()
        stop.set()
        for thread in threads:
            thread.join(30)
        assert bridge.stats().failed == 0


@isolated(stdout="previous", stderr=r"the-bridge: 1 open call\n\nblock_on\(.*in main.*is idle.*")
def test_dump_signal() -> None:
    import asyncio
    import io
    import os
    import signal
    import threading
    import time

    import bridge

    gone = asyncio.Event()

    def previous(*_: object) -> None:
        print("previous")
        one.loop.call_soon_threadsafe(gone.set)

    def dumped() -> str:
        file = io.StringIO()
        bridge.dump(file)
        return file.getvalue()

    def when_it_waits() -> None:
        while "in waits" not in (text := dumped()) or "is idle" not in text:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    async def waits() -> None:
        await gone.wait()

    signal.signal(signal.SIGUSR1, previous)
    earlier = signal.getsignal(signal.SIGUSR1)
    with bridge.Bridge("the-bridge", install_reactor=False, dump_signal=signal.SIGUSR1) as one:
        threading.Thread(target=when_it_waits).start()

        def main() -> None:
            one.block_on(waits())

        main()
    assert signal.getsignal(signal.SIGUSR1) is earlier


@isolated(stderr=r".*: 0 open calls\n.*")
def test_dump_signal_of_the_default_bridge() -> None:
    import asyncio
    import os
    import signal
    import threading

    import bridge

    errors = []

    def elsewhere() -> None:
        try:
            bridge.configure(dump_signal=signal.SIGUSR1)
        except bridge.BridgeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    bridge.configure(dump_signal=signal.SIGUSR1)
    bridge.default_bridge().close()
    bridge.configure(dump_signal=signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    bridge.block_on(asyncio.sleep(0))
    os.kill(os.getpid(), signal.SIGUSR2)


@isolated(status=-10, stderr=".*unclosed.*")
def test_handler_that_could_not_be_removed_stands_in_nobodys_way() -> None:
    import os
    import signal
    import threading

    import bridge

    one = bridge.Bridge(install_reactor=False, dump_signal=signal.SIGUSR1)
    one.start()
    thread = threading.Thread(target=one.close)
    thread.start()
    thread.join()
    print("unclosed", file=__import__("sys").stderr, flush=True)
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize(
    ("wrong", "error"), [("USR1", TypeError), (True, TypeError), (9, ValueError), (999, ValueError)]
)
def test_dump_signal_that_is_none(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="dump_signal"):
        Bridge(dump_signal=wrong)


# --- what is awaited


def shown_while(bridge: Bridge, x: Callable[[], Any], part: str, gate: Latch) -> str:
    thread = in_background(lambda: bridge.block_on(x))
    try:
        return dumped_with(part, f"the loop's thread, {bridge.name}, is idle")
    finally:
        gate.open()
        thread.join(30)


@pytest.fixture
def gate(bridge: Bridge) -> Latch:
    return Latch(bridge)


def test_chain_through_tasks(bridge: Bridge, gate: Latch) -> None:
    async def innermost() -> None:
        await gate.future

    async def outermost() -> None:
        await asyncio.create_task(innermost(), name="the inner task")

    text = shown_while(bridge, outermost, "in innermost", gate)
    assert text.index("in outermost") < text.rindex("the inner task") < text.index("in innermost")


def test_chain_through_gather(bridge: Bridge, gate: Latch) -> None:
    async def first() -> None:
        await gate.future

    async def second() -> None:
        await asyncio.shield(gate.future)

    async def both() -> None:
        await asyncio.gather(first(), second())

    text = shown_while(bridge, both, "in second", gate)
    assert text.index("in both") < text.index("in first") < text.index("in second")


def test_chain_through_inline_callbacks(bridge: Bridge, gate: Latch) -> None:
    @inlineCallbacks
    def inner() -> Any:
        yield as_deferred(asyncio.shield(gate.future))

    async def awaiting() -> None:
        await ensureDeferred(coroutine())

    async def coroutine() -> None:
        await outer()

    @inlineCallbacks
    def outer() -> Any:
        yield inner()

    text = shown_while(bridge, awaiting, "in inner", gate)
    for first, then in [("in awaiting", "in coroutine"), ("in coroutine", "in outer"), ("in outer", "in inner")]:
        assert text.index(first) < text.index(then)


def test_chain_through_deferreds(bridge: Bridge, gate: Latch) -> None:
    async def innermost() -> None:
        await gate.future

    def chained() -> Deferred[Any]:
        first: Deferred[Any] = Deferred()
        first.addCallback(lambda _: as_deferred(innermost()))
        first.callback(None)
        return DeferredList([first])

    text = shown_while(bridge, chained, "in innermost", gate)
    assert "DeferredList" in text


def test_chain_through_async_generators(bridge: Bridge, gate: Latch) -> None:
    async def generating() -> Any:
        await gate.future
        yield 1

    async def consuming() -> None:
        async for _ in generating():
            pass

    text = shown_while(bridge, consuming, "in generating", gate)
    assert text.index("in consuming") < text.index("in generating")


def test_chain_that_comes_back_to_itself(bridge: Bridge) -> None:
    async def first() -> None:
        tasks.append(asyncio.current_task())
        while len(tasks) < 2:
            await asyncio.sleep(0)
        await asyncio.shield(tasks[1])  # or a cancel() would go round and round

    async def second() -> None:
        tasks.append(asyncio.current_task())
        await tasks[0]

    async def both() -> None:
        await asyncio.wait([asyncio.create_task(first()), asyncio.create_task(second())])

    tasks: list[Any] = []
    thread = in_background(lambda: bridge.block_on(both()))

    idle = f"the loop's thread, {bridge.name}, is idle"
    text = dumped_with("wait for each other, and can never end", "in first", "in second", idle)
    assert "in first" in text
    assert "in second" in text
    bridge.loop.call_soon_threadsafe(lambda: tasks[1].cancel())
    thread.join(30)


def test_it_names_the_function_that_runs_a_loop_of_the_programs() -> None:
    """The stack of the thread does not: the loop iterates in a greenlet of its own."""
    texts: list[str] = []

    async def idles() -> None:
        file = io.StringIO()
        await asyncio.to_thread(package.dump, file)
        texts.append(file.getvalue())

    def runs_the_loop() -> None:
        with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
            runner.run(idles())

    runs_the_loop()
    (text,) = texts
    assert "the loop is run by:" in text
    assert "in runs_the_loop\n    runner.run(idles())" in text.split("the loop is run by:")[1]
