"""What other threads post to a loop of ours: each is called once, whatever wakes the loop."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bridge._loop.base import BridgeLoop
from bridge._loop.switching import SwitchingLoop


def ours() -> BridgeLoop:
    return SwitchingLoop()


def on_select() -> BridgeLoop:
    return SwitchingLoop(selectors.SelectSelector())


@contextmanager
def running(loop: BridgeLoop) -> Iterator[None]:
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def with_a_pipe(monkeypatch: pytest.MonkeyPatch) -> BridgeLoop:
    monkeypatch.delattr(os, "eventfd", raising=False)
    return SwitchingLoop()


@pytest.fixture(params=[ours, on_select, with_a_pipe], ids=lambda make: make.__name__)
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BridgeLoop:
    """A loop of ours that wakes up in one of the ways there are."""
    made: Any = request.param(monkeypatch) if request.param is with_a_pipe else request.param()
    assert isinstance(made, BridgeLoop)
    return made


def test_every_post_of_many_threads_is_called_once(loop: BridgeLoop) -> None:
    threads, posts = 8, 500
    called: list[tuple[int, int]] = []
    done = threading.Event()

    def call(thread: int, number: int) -> Callable[[], object]:
        def callback() -> None:
            called.append((thread, number))
            if len(called) == threads * posts:
                done.set()

        return callback

    def post(thread: int) -> None:
        for number in range(posts):
            loop.post(call(thread, number))

    with running(loop):
        posters = [threading.Thread(target=post, args=(thread,)) for thread in range(threads)]
        for poster in posters:
            poster.start()
        for poster in posters:
            poster.join()
        assert done.wait(30)
    assert len(set(called)) == len(called) == threads * posts
    for thread in range(threads):
        assert [number for each, number in called if each == thread] == list(range(posts))


def test_a_post_wakes_a_loop_that_sleeps(loop: BridgeLoop) -> None:
    with running(loop):
        for _ in range(200):
            called = threading.Event()
            loop.post(called.set)
            assert called.wait(30)


def test_the_loop_sleeps_after_a_post(loop: BridgeLoop) -> None:
    iterations = 0
    select = loop._selector.select  # type: ignore[attr-defined]

    def counting(timeout: float | None = None) -> Any:
        nonlocal iterations
        iterations += 1
        return select(timeout)

    loop._selector.select = counting  # type: ignore[attr-defined]
    with running(loop):
        for _ in range(10):
            called = threading.Event()
            loop.post(called.set)
            assert called.wait(30)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(30)
        assert iterations < 60


def test_a_post_reaches_the_loop_while_a_post_is_blocked(loop: BridgeLoop) -> None:
    assert isinstance(loop, SwitchingLoop)
    blocked, ended = threading.Event(), threading.Event()

    def block() -> None:
        future = loop.create_future()
        loop.post(lambda: future.set_result(None))  # by itself, behind what it has to overtake
        blocked.set()
        loop.wait(future, None, None)
        ended.set()

    with running(loop):
        for _ in range(20):
            blocked.clear()
            ended.clear()
            loop.post(block)
            assert blocked.wait(30)
            assert ended.wait(30)


def test_a_post_to_a_closed_loop_is_refused(loop: BridgeLoop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.post(lambda: None)
