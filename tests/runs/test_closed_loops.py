"""A program's loop that is closed: it runs nothing, may be closed anywhere, and leaves nothing to the collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from isolated import isolated
from twisted.internet.defer import Deferred

import bridge as package
from bridge import Bridge

PATIENCE = 10.0


@pytest.fixture
def loop() -> Iterator[Any]:
    """A loop of ours with a reactor, which has run and stopped."""
    made: Any = package.new_event_loop()
    made.run_until_complete(asyncio.sleep(0))
    assert made.reactor is not None
    yield made
    made.close()


def test_what_is_queued_due_or_has_not_begun_is_dropped(loop: Any) -> None:
    ran: list[str] = []

    async def late() -> None:
        ran.append("task")

    loop.call_soon(ran.append, "callback")
    loop.call_later(0, ran.append, "timer")
    loop.reactor.callLater(0, ran.append, "timer of the reactor")
    loop.reactor.callFromThread(ran.append, "from a thread")
    coroutine = late()
    task = loop.create_task(coroutine)
    loop.close()
    assert ran == []
    task._log_destroy_pending = False
    coroutine.close()


def test_shutdown_triggers_are_called_once_and_not_waited_for(loop: Any) -> None:
    called: list[str] = []
    reactor = loop.reactor

    def never() -> Deferred[None]:
        called.append("before")
        return Deferred()

    def fails() -> None:
        called.append("during")
        raise LookupError("of a trigger")

    reactor.addSystemEventTrigger("before", "shutdown", never)
    reactor.addSystemEventTrigger("during", "shutdown", fails)
    reactor.addSystemEventTrigger("after", "shutdown", called.append, "after")
    begun = time.monotonic()
    loop.close()
    loop.close()
    assert called == ["before", "during", "after"]
    assert time.monotonic() - begun < 2
    assert not reactor.running


def test_triggers_that_a_stop_has_begun_with_are_not_called_again() -> None:
    called: list[str] = []
    loop: Any = package.new_event_loop()

    async def main() -> None:
        reactor = loop.reactor
        reactor.addSystemEventTrigger("before", "shutdown", lambda: called.append("before") or Deferred())
        reactor.addSystemEventTrigger("after", "shutdown", called.append, "after")
        reactor.stop()
        while not called:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    assert called == ["before"]
    loop.close()
    assert called == ["before", "after"]


def test_a_loop_may_be_closed_while_another_runs_in_its_thread(loop: Any) -> None:
    async def main() -> None:
        loop.close()

    with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
        runner.run(main())
    assert loop.is_closed()


def test_a_loop_may_be_closed_in_another_thread(loop: Any) -> None:
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join(PATIENCE)
    assert loop.is_closed()


def test_the_collector_closes_a_loop_while_another_runs_and_runs_nothing_of_it() -> None:
    ran: list[str] = []

    def drop() -> weakref.ref[Any]:
        loop: Any = package.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.reactor.addSystemEventTrigger("before", "shutdown", ran.append, "trigger")
        loop.call_soon(ran.append, "callback")
        return weakref.ref(loop)

    async def main() -> None:
        before = descriptors()
        made: list[Any] = []
        thread = threading.Thread(target=lambda: made.append(drop()))  # another's reactor is installed, it has its own
        thread.start()
        thread.join(PATIENCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # closes it
            gc.collect()  # on CPython 3.15 what its finalizer has touched goes now
        assert made[0]() is None
        assert descriptors() == before

    with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
        runner.run(main())
    assert ran == ["trigger"]


def descriptors() -> int:
    """The number of this process's open descriptors; 0 where the system does not say."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@isolated
def test_a_loop_without_a_reactor_makes_no_reference_cycle_and_is_closed_by_the_collector() -> None:
    import asyncio
    import gc
    import os
    import warnings
    import weakref

    from bridge import new_event_loop

    ran: list[str] = []

    def run_one(*, closed: bool) -> weakref.ref[Any]:
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        if closed:
            loop.close()
        else:
            loop.call_soon(ran.append, "callback")
        return weakref.ref(loop)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    run_one(closed=True)
    gc.collect()
    gc.disable()
    assert run_one(closed=True)() is None
    before = descriptors()
    warnings.simplefilter("ignore", ResourceWarning)
    dropped = run_one(closed=False)
    gc.collect()
    assert dropped() is None
    assert ran == []
    assert descriptors() == before


def test_a_refused_connection_makes_no_reference_cycle() -> None:
    class Local:
        pass

    made: list[weakref.ref[Any]] = []

    async def connect(port: int) -> None:
        local = Local()
        made.append(weakref.ref(local))
        await asyncio.open_connection("127.0.0.1", port)

    async def main() -> None:
        import socket

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with contextlib.suppress(ConnectionRefusedError):
                await connect(unused.getsockname()[1])
        await asyncio.sleep(0.01)

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
            runner.run(main())
            assert made[0]() is None
    finally:
        gc.enable()


# The portal.


def test_a_portal_that_cannot_be_opened_raises_its_error(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("no portal here")

    monkeypatch.setattr(anyio.from_thread.BlockingPortal, "__init__", fail)
    with pytest.raises(RuntimeError, match="no portal here"):
        _ = bridge.portal


@pytest.mark.parametrize("cancel_remaining", [True, False])
def test_a_close_waits_for_what_the_portal_runs_if_asked(cancel_remaining: bool) -> None:
    ended: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(0.1)
            ended.append("done")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    bridge = Bridge("portal", install_reactor=False)
    future = bridge.portal.start_task_soon(work)
    assert begun.wait(PATIENCE)
    bridge.close(cancel_remaining=cancel_remaining)
    assert ended == ["cancelled" if cancel_remaining else "done"]
    assert future.done()
    bridge.close(cancel_remaining=False)
    assert not bridge.running


def test_a_close_without_a_portal_has_nothing_to_wait_for() -> None:
    bridge = Bridge("none", install_reactor=False)
    bridge.start()
    bridge.close(cancel_remaining=False)
    assert not bridge.running


# A bridge that is still attached at the exit.

PROGRAM = Path(__file__).parent / "programs" / "attached_at_exit.py"


@pytest.mark.process
def test_a_bridge_that_is_attached_at_the_exit_makes_no_noise() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "called\n", "")
