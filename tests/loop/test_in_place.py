"""A stack that waits for one turn of the loop: what is due is done, also where the stack looks for it itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bridge
from bridge import block_on
from bridge._loop import blocking


@pytest.fixture
def loop() -> Iterator[Any]:
    made = bridge.new_event_loop()
    yield made
    made.close()


def turns_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come while turns went by"
        block_on(asyncio.sleep(0))


def in_a_task(loop: Any, function: Callable[[], None]) -> None:
    async def main() -> None:
        function()

    loop.run_until_complete(main())


def test_timers_fire(loop: Any) -> None:
    def main() -> None:
        fired: list[str] = []
        loop.call_later(0.01, fired.append, "loop")
        turns_until(lambda: fired)

    in_a_task(loop, main)


def test_timers_of_the_reactor_fire(loop: Any) -> None:
    def main() -> None:
        fired: list[str] = []
        loop._ours.reactor.callLater(0.01, fired.append, "reactor")
        turns_until(lambda: fired)

    in_a_task(loop, main)


def test_readers_are_called(loop: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def main() -> None:
            read: list[bytes] = []
            loop.add_reader(ours, lambda: read.append(ours.recv(10)))
            theirs.send(b"data")
            turns_until(lambda: read)
            loop.remove_reader(ours)
            assert read == [b"data"]

        in_a_task(loop, main)


def test_what_other_threads_post_is_called(loop: Any) -> None:
    def main() -> None:
        for post in (loop.post, loop.call_soon_threadsafe):
            called = threading.Event()
            threading.Timer(0.01, post, [called.set]).start()
            turns_until(called.is_set)

    in_a_task(loop, main)


def test_other_tasks_go_on(loop: Any) -> None:
    def main() -> None:
        steps: list[int] = []

        async def other() -> None:
            for number in range(3):
                steps.append(number)
                await asyncio.sleep(0)

        task = loop.create_task(other())
        turns_until(task.done)
        assert steps == [0, 1, 2]

    in_a_task(loop, main)


@pytest.mark.parametrize("awaited", [True, False], ids=["await", "block_on"])
def test_the_order_is_that_of_await(loop: Any, awaited: bool) -> None:
    ours, theirs = socket.socketpair()
    order: list[str] = []

    async def turn() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        loop.add_reader(ours, lambda: (ours.recv(10), order.append("reader")))
        await asyncio.sleep(0)
        theirs.send(b"data")
        order.append("before")
        if awaited:
            await turn()
        else:
            block_on(turn())
        order.append("after")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.remove_reader(ours)

    with ours, theirs:
        loop.run_until_complete(main())
    assert order == ["before", "after", "reader"]


def test_a_task_that_cancels_itself_is_cancelled_at_the_turn(loop: Any) -> None:
    def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            block_on(asyncio.sleep(0))
        task.uncancel()

    in_a_task(loop, main)


def test_a_loop_that_is_stopped_stops_at_a_turn(loop: Any) -> None:
    reached: list[str] = []

    async def main() -> None:
        loop.stop()
        reached.append("stop")
        for _ in range(10):
            block_on(asyncio.sleep(0))
        reached.append("after")

    task = loop.create_task(main())
    loop.run_forever()
    assert reached == ["stop"]
    loop.run_until_complete(task)
    assert reached == ["stop", "after"]


def test_what_a_signal_handler_raises_in_a_turn_loses_no_post(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It may raise in a finalizer as well, of a coroutine for instance.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    class Alarmed(Exception):
        pass

    armed = True

    def alarm(_: int, frame: types.FrameType | None) -> None:
        while frame is not None and frame.f_code is not main.__code__:
            frame = frame.f_back
        if armed and frame is not None:  # in the stack that waits, not in what else the thread runs
            raise Alarmed

    def main() -> None:
        nonlocal armed
        before = signal.signal(signal.SIGALRM, alarm)
        stop = threading.Event()
        counted: list[None] = []

        def posting() -> None:
            while not stop.is_set():
                loop.post(lambda: counted.append(None))
                time.sleep(0)

        thread = threading.Thread(target=posting)
        thread.start()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                try:
                    block_on(asyncio.sleep(0))
                except Alarmed:
                    pass
        except Alarmed:
            pass
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            stop.set()
            thread.join()
            signal.signal(signal.SIGALRM, before)
        number = len(counted)
        loop.post(lambda: counted.append(None))
        turns_until(lambda: len(counted) > number)

    in_a_task(loop, main)


@pytest.mark.parametrize("step", ["_leave_task", "_hold", "call_soon"])
def test_an_error_as_a_stack_is_about_to_block_leaves_the_task_as_it_was(
    loop: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A signal handler may raise between any two calls; here it does so right after one of them."""

    class Alarmed(Exception):
        pass

    raised: list[None] = []

    def alarm_after(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            if not raised:
                raised.append(None)
                raise Alarmed
            return result

        return called

    def main() -> None:
        task = asyncio.current_task()
        ours, theirs = socket.socketpair()
        answers: list[Any] = []

        def blocks_in_a_reader() -> None:
            loop.remove_reader(ours)
            with pytest.raises(Alarmed):
                block_on(asyncio.sleep(0.001))
            answers.append(block_on(asyncio.sleep(0.001, "in the reader")))

        with ours, theirs:
            if step == "_hold":
                monkeypatch.setattr(loop, step, alarm_after(loop._hold))
                loop.add_reader(ours, blocks_in_a_reader)
                theirs.send(b"data")
                turns_until(lambda: answers)
                assert not loop._ours.streams.held
            else:
                if step == "call_soon":
                    loop._ours.posts.append(lambda: answers.append("posted"))  # with the alarm not rung
                    monkeypatch.setattr(loop, step, alarm_after(loop.call_soon))
                else:
                    monkeypatch.setattr(blocking, step, alarm_after(blocking._leave_task))
                with pytest.raises(Alarmed):
                    block_on(asyncio.sleep(0.01))
                assert asyncio.current_task() is task
        assert raised
        for _ in range(5):  # what was to end the first wait comes meanwhile, and ends none of these
            assert block_on(asyncio.sleep(0.01, "value")) == "value"
            block_on(asyncio.sleep(0))
        assert asyncio.current_task() is task
        assert not loop._ours.streams.waits

    in_a_task(loop, main)


def test_a_loop_that_runs_again_hears_what_was_posted(loop: Any) -> None:
    called: list[None] = []

    async def nothing() -> None:
        pass

    loop.run_until_complete(nothing())
    loop._ours.is_rung = True  # as if an exception had left the loop between the alarm and its callback
    loop._ours.posts.append(lambda: called.append(None))

    async def until_called() -> None:
        async with asyncio.timeout(30):
            while not called:
                await asyncio.sleep(0)

    loop.run_until_complete(until_called())
