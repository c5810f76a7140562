"""A loop that the waiting thread runs: what the pytest plugin stands on, without pytest."""

from __future__ import annotations

from isolated import isolated


@isolated
def test_a_wait_runs_the_loop_in_the_main_thread() -> None:
    import asyncio
    import contextlib
    import threading

    import pytest

    import bridge
    from bridge import block_on, submit
    from bridge._api.driven import driven_bridge
    from bridge._loop.worker_threads import come_from
    from bridge._runs.driven import new_driven_loop

    loop = new_driven_loop()
    tests = driven_bridge(loop)
    come_from(loop)

    async def where(x: object = None) -> tuple[object, object, str]:
        await asyncio.sleep(0.001)
        return x, asyncio.get_running_loop(), threading.current_thread().name

    def here(x: object) -> tuple[object, object, str]:
        return x, loop, "MainThread"

    assert block_on(where(1)) == here(1)
    assert block_on(where(1), timeout=30) == here(1)
    assert submit(where(2)).result(timeout=30) == here(2)
    assert {each.result() for each in bridge.wait([submit(where(3)), submit(where(4))]).done} == {here(3), here(4)}
    assert [each.result() for each in bridge.as_completed([submit(where(5))])] == [here(5)]
    assert list(bridge.map(where, range(3))) == [here(0), here(1), here(2)]
    with pytest.raises(TimeoutError):
        block_on(asyncio.sleep(100), timeout=0.01)

    # Its worker threads come back to it, and errands run in the thread that waits, where no loop runs meanwhile.
    async def in_a_worker() -> object:
        return await asyncio.to_thread(lambda: block_on(where(6)))

    async def in_the_caller() -> object:
        return await bridge.in_caller(lambda: block_on(where(7)))

    assert block_on(in_a_worker()) == here(6)
    assert block_on(in_the_caller()) == here(7)

    @contextlib.asynccontextmanager
    async def manager():  # type: ignore[no-untyped-def]
        yield await where(8)

    with bridge.enter(manager()) as entered:
        assert entered == here(8)

    # A thread of the program's uses it while it runs, and the default bridge else.
    def call() -> None:
        results.append(block_on(where(9))[1])

    async def join() -> None:
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)

    results: list[object] = []
    thread = threading.Thread(target=call)
    block_on(join())
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert results == [loop, bridge.default_bridge().loop]
    assert bridge.default_bridge() is not tests
    assert "twisted" not in __import__("sys").modules
    tests.runs.end()
    with pytest.raises(bridge.BridgeClosed):
        tests.block_on(where())
    loop.close()


@isolated
def test_it_takes_the_reactor_and_a_stop_ends_its_calls() -> None:
    import asyncio
    import threading

    import pytest
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    import bridge
    from bridge import block_on
    from bridge._api.driven import driven_bridge
    from bridge._loop.worker_threads import come_from
    from bridge._runs.driven import new_driven_loop

    loop = new_driven_loop()
    tests = driven_bridge(loop)
    come_from(loop)
    assert block_on(deferLater(reactor, 0.001, lambda: "fired")) == "fired"  # the first use, by a Deferred
    assert loop.reactor is tests.reactor is reactor
    assert not [each for each in threading.enumerate() if each.name == "bridge"]

    async def waits_elsewhere() -> None:
        await asyncio.to_thread(lambda: block_on(asyncio.sleep(100)))

    async def stop() -> None:
        task = asyncio.create_task(waits_elsewhere())
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().stop()
        await task

    for _ in range(2):
        with pytest.raises(bridge.BridgeClosed, match="was stopped"):
            block_on(stop())
    loop.close()


@isolated
def test_an_interrupt_and_another_loop_in_the_thread() -> None:
    import asyncio
    import os
    import signal

    import pytest

    import bridge
    from bridge import block_on, submit
    from bridge._api.driven import driven_bridge
    from bridge._loop.worker_threads import come_from
    from bridge._runs.driven import new_driven_loop

    loop = new_driven_loop()
    tests = driven_bridge(loop)
    come_from(loop)
    ended = []

    async def interrupted() -> None:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("cleaned up")

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            block_on(interrupted())
    assert ended == ["cleaned up"] * 2
    future = submit(asyncio.sleep(0, "later"))

    async def main() -> None:
        with pytest.raises(bridge.DeadlockError, match="cannot run in this thread"):
            future.result()

    asyncio.run(main())
    assert future.result() == "later"
    tests.runs.end()
    loop.close()
