"""What many short runs of loops rely on: the runner that a thread keeps, the alarm, and attributes found fast."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

import bridge
from bridge import block_on
from bridge._loop.base import BridgeLoop
from bridge._loop.switching import SwitchingLoop

PATIENCE = 10.0


@pytest.fixture
def loop() -> Iterator[Any]:
    made = bridge.new_event_loop()
    yield made
    made.close()


async def runner() -> greenlet:
    return getcurrent()


async def blocks() -> int:
    await asyncio.sleep(0)
    return block_on(asyncio.sleep(0.001, 3))


def in_a_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(PATIENCE)
    return results[0]


# --- the runner that a thread keeps


def test_the_runs_of_a_thread_share_a_runner_whichever_loop_runs(loop: Any) -> None:
    def run_two_loops() -> bool:
        first = loop.run_until_complete(runner())
        other: Any = bridge.new_event_loop()
        try:
            return first is other.run_until_complete(runner()) is loop.run_until_complete(runner())
        finally:
            other.close()

    assert in_a_thread(run_two_loops)


def test_each_thread_has_its_own_runner(loop: Any) -> None:
    here = loop.run_until_complete(runner())
    assert in_a_thread(lambda: loop.run_until_complete(runner())) is not here
    assert loop.run_until_complete(runner()) is here


def test_a_run_blocks_again_and_again_in_the_runner_that_is_kept(loop: Any) -> None:
    assert [loop.run_until_complete(blocks()) for _ in range(5)] == [3] * 5


def test_a_loop_within_a_callback_of_another_loop_has_a_runner_of_its_own(loop: Any) -> None:
    results: list[int] = []

    def run_another() -> None:  # in a callback, not a task: from 3.14 on a thread has one current task
        asyncio._set_running_loop(None)
        other = bridge.new_event_loop()
        try:
            results.extend(other.run_until_complete(blocks()) for _ in range(2))
        finally:
            other.close()
            asyncio._set_running_loop(loop)
            loop.stop()

    loop.call_soon(run_another)
    loop.run_forever()
    assert results == [3, 3]
    assert loop.run_until_complete(blocks()) == 3


def test_a_runner_that_is_kept_keeps_neither_its_loop_nor_its_context() -> None:
    class Mark:
        pass

    def run() -> list[weakref.ref[Any]]:
        mark = Mark()

        async def work() -> Mark:
            return mark

        loop: Any = SwitchingLoop()
        loop.run_until_complete(work())
        context = loop.stacks.context
        loop.close()
        return [weakref.ref(each) for each in (loop, context, mark)]

    gc.disable()
    try:
        assert [each() for each in run()] == [None] * 3
    finally:
        gc.enable()


def test_a_loop_that_nobody_has_closed_is_collected() -> None:
    def run() -> weakref.ref[Any]:
        loop = SwitchingLoop()
        loop.run_until_complete(blocks())
        return weakref.ref(loop)

    found = run()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert found() is None


def test_the_runner_of_a_thread_ends_with_the_thread(loop: Any) -> None:
    kept = in_a_thread(lambda: weakref.ref(loop.run_until_complete(runner())))
    gc.collect()
    assert kept() is None


def test_what_a_foreign_greenlet_sends_to_a_kept_runner_goes_to_who_runs(loop: Any) -> None:
    async def begin() -> greenlet:
        foreign = greenlet(lambda: 42)
        assert type(foreign.parent) is not greenlet
        return foreign

    foreign = loop.run_until_complete(begin())  # its parent is the runner, which is kept and waits
    assert foreign.switch() == 42  # ends there
    assert loop.run_until_complete(blocks()) == 3


def test_callbacks_have_the_stack_of_their_run_though_an_earlier_run_was_deep_in_one(loop: Any) -> None:
    def down(frames: int) -> int:
        return down(frames - 1) + 1 if frames else 0

    async def go_down(frames: int) -> int:
        return down(frames)

    def from_below(frames: int) -> int:
        return from_below(frames - 1) if frames else loop.run_until_complete(go_down(1))

    assert in_a_thread(lambda: (from_below(800), loop.run_until_complete(go_down(800)))) == (1, 800)


def test_a_loop_runs_in_a_foreign_greenlet_whose_parent_is_the_kept_runner(loop: Any) -> None:
    other: Any = bridge.new_event_loop()

    def foreign() -> int:
        getcurrent().parent.switch("begun")  # type: ignore[union-attr]
        return other.run_until_complete(blocks())  # type: ignore[no-any-return]

    async def begin() -> greenlet:
        each = greenlet(foreign)
        assert each.switch() == "begun"
        return each

    assert loop.run_until_complete(begin()).switch() == 3
    assert loop.run_until_complete(blocks()) == 3
    other.close()


def test_an_error_of_a_callback_ends_the_runner_but_not_the_thread(loop: Any) -> None:
    def leave() -> None:
        raise SystemExit(3)

    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.run_until_complete(blocks()) == 3


def test_the_context_of_a_run_is_that_of_its_thread_now(loop: Any) -> None:
    # A callback without a context of its own would see it: a signal handler.
    assert loop.run_until_complete(runner()) is not None
    before = loop.stacks.context
    loop.run_until_complete(runner())
    assert loop.stacks.context is not before


# --- the alarm


def sockets() -> int:
    return sum(os.readlink(each).startswith("socket:") for each in Path("/proc/self/fd").iterdir() if each.exists())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system has no /proc: run it on Linux")
def test_a_loop_has_no_sockets_until_a_signal_handler_is_added() -> None:
    before = sockets()
    loop = bridge.new_event_loop()
    assert sockets() == before
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert sockets() == before + 2
    loop.close()
    assert sockets() == before


def test_signal_handlers_are_called_in_the_loop(loop: Any) -> None:
    async def main() -> object:
        called = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, called.set_result, "called")
        os.kill(os.getpid(), signal.SIGUSR1)
        return await asyncio.wait_for(called, PATIENCE)

    assert loop.run_until_complete(main()) == "called"
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_a_closed_loop_adds_no_signal_handler(loop: Any) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


@pytest.mark.parametrize("again", [False, True])
def test_a_loop_that_got_no_sockets_may_get_them_later_and_closes(
    loop: Any, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    def refuse() -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("socket.socketpair", refuse)
        with pytest.raises(OSError, match="too many"):
            loop.add_signal_handler(signal.SIGUSR1, print)
    if again:
        loop.add_signal_handler(signal.SIGUSR1, print)
        assert loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()
    assert loop.is_closed()


def test_call_soon_threadsafe_wakes_a_loop_that_sleeps(loop: Any) -> None:
    async def main() -> int:
        count = 0
        for _ in range(100):
            future = loop.create_future()
            threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, 1)).start()
            count += await asyncio.wait_for(future, PATIENCE)
        return count

    assert loop.run_until_complete(main()) == 100


# --- attributes found fast


@pytest.mark.parametrize("make", [bridge.new_event_loop, SwitchingLoop, BridgeLoop])
def test_no_attribute_of_a_loop_has_the_name_of_something_in_its_class(make: Callable[[], Any]) -> None:
    """Else CPython would find that more slowly on every loop of the class; see ``base.Ours``."""
    loop = make()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    classes = [each for each in type(loop).__mro__ if each.__module__.startswith("bridge.")]
    static = {name for each in classes for name in getattr(each, "__static_attributes__", ())}
    names = {name for name in set(vars(loop)) | static if hasattr(type(loop), name)}
    assert not names
    assert len(set(vars(loop)) | static) <= 30
