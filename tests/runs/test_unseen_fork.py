"""A child process whose fork has called no fork hooks, as of a server that is written in C."""

from __future__ import annotations

import pytest
from isolated import isolated

FORKS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


@pytest.mark.parametrize("strategy", ["lock", "event", "queue", "greenlet"])
@pytest.mark.parametrize("first", ["block_on", "submit", "a Deferred"])
@isolated(options=FORKS, forks=True)
def test_its_calls_start_afresh(strategy: str, first: str) -> None:
    import asyncio
    import os
    import threading
    from collections.abc import Callable

    from forks import status_in_unseen_child
    from twisted.internet.task import deferLater

    import bridge

    bridge.configure(strategy=strategy)
    hooks: list[int] = []
    os.register_at_fork(after_in_child=lambda: hooks.append(1))

    async def deferred() -> str:
        from twisted.internet import reactor

        return await deferLater(reactor, 0.05, lambda: "value")

    def calls() -> None:
        if first == "submit":
            assert bridge.submit(asyncio.sleep(0.05, "value")).result(10) == "value"
        elif first == "a Deferred":
            assert bridge.block_on(deferred(), timeout=10) == "value"
        assert bridge.block_on(asyncio.sleep(0.05, "value"), timeout=10) == "value"
        assert bridge.block_on(asyncio.sleep(0, "value")) == "value"

    def in_several_threads() -> None:
        failed: list[BaseException] = []

        def call() -> None:
            try:
                calls()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
            assert not each.is_alive()
        assert not failed, failed

    calls()
    for work in (calls, in_several_threads):

        def unseen(work: Callable[[], object] = work) -> None:
            work()
            assert not hooks

        assert status_in_unseen_child(unseen) == 0
        calls()


@pytest.mark.parametrize("first", ["iterate", "enter", "start", "loop", "portal", "close", "a close of the default"])
@isolated(options=FORKS, forks=True)
def test_what_comes_before_the_first_call_starts_afresh(first: str) -> None:
    import asyncio
    import contextlib
    from collections.abc import AsyncIterator

    from forks import status_in_unseen_child

    import bridge

    own = bridge.Bridge()

    async def items() -> AsyncIterator[str]:
        yield "item"

    @contextlib.asynccontextmanager
    async def entered() -> AsyncIterator[str]:
        yield "entered"

    def work() -> None:
        match first:
            case "iterate":
                assert list(own.iterate(items())) == ["item"]
            case "enter":
                with own.enter(entered()) as value:
                    assert value == "entered"
            case "start":
                own.start()
                assert own.thread is not None
                assert own.thread.ident != thread.ident
            case "loop":
                assert own.loop is not loop
            case "portal":
                assert own.portal.call(asyncio.sleep, 0, "value") == "value"
            case "close":
                own.close()
                return
            case _:
                bridge.default_bridge().close()
        assert own.block_on(asyncio.sleep(0.001, "value")) == "value"
        assert bridge.block_on(asyncio.sleep(0.001, "value")) == "value"

    for each in (own, bridge.default_bridge()):
        assert each.block_on(asyncio.sleep(0.001, "value")) == "value"
    loop, thread = own.loop, own.thread
    assert thread is not None
    assert status_in_unseen_child(work) == 0
    assert own.block_on(asyncio.sleep(0.001, "value")) == "value"
    own.close()


@isolated(options=FORKS, forks=True)
def test_a_thread_that_comes_second_waits_until_the_first_has_renewed_everything() -> None:
    import asyncio
    import threading
    import time

    from forks import status_in_unseen_child

    import bridge
    from bridge._api import engine

    renews = threading.Event()

    def renew() -> None:
        renews.set()
        time.sleep(0.2)  # meanwhile the other thread asks

    def work() -> None:
        first = threading.Thread(target=own.start)
        first.start()
        assert renews.wait(20)
        own.start()
        assert own.thread is not thread
        first.join()

    own = bridge.Bridge()
    assert own.block_on(asyncio.sleep(0.001, "value")) == "value"
    thread = own.thread
    engine.after_fork(renew)
    assert status_in_unseen_child(work) == 0
    own.close()


@pytest.mark.parametrize("how", ["Python exits", "the handlers of atexit are called"])
@isolated(options=FORKS, forks=True)
def test_it_ends_at_once_without_a_call(how: str) -> None:
    import asyncio
    import atexit
    import ctypes
    import os
    import sys
    import tempfile

    import bridge

    assert bridge.block_on(asyncio.sleep(0.001, "value")) == "value"
    bridge.submit(asyncio.sleep(1000))
    with tempfile.TemporaryFile() as said:
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            if how == "Python exits":
                sys.exit(3)
            atexit._run_exitfuncs()
            os._exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        assert (status, said.read()) == (3, b"")
    assert bridge.block_on(asyncio.sleep(0.001, "value")) == "value"


@isolated(options=FORKS, forks=True)
def test_a_bridge_that_is_attached_to_the_parents_loop_says_so() -> None:
    import asyncio
    import threading

    import pytest
    from forks import status_in_unseen_child

    import bridge

    loop = bridge.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    attached = bridge.Bridge.attach(loop)
    assert attached.block_on(asyncio.sleep(0.001, "value")) == "value"

    def work() -> None:
        with pytest.raises(bridge.BridgeClosed, match="forked"):
            attached.block_on(asyncio.sleep(0.05, "value"))

    assert status_in_unseen_child(work) == 0
    assert attached.block_on(asyncio.sleep(0.001, "value")) == "value"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
