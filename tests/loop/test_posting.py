"""Posts by a reader, as a loop of uvloop's takes them: none is lost, whatever comes between two steps."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from bridge._loop.posting import ReaderPosts, way_to
from bridge._loop.switching import SwitchingLoop


class Watching:
    """A loop that notes its reader, and calls it when the test says so."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.closed = False

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def is_closed(self) -> bool:
        return self.closed

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        callback()

    def iterate(self) -> bool:
        """Call the reader if its descriptor is readable; return whether it was."""
        ((fd, callback),) = self.readers.items()
        is_readable = bool(select.select([fd], [], [], 0)[0])
        if is_readable:
            callback()
        return is_readable


@pytest.fixture
def loop() -> Watching:
    return Watching()


@pytest.fixture(params=["eventfd", "pipe"])
def posts(request: pytest.FixtureRequest, loop: Watching, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReaderPosts]:
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("the system has no eventfd, only pipes; Linux has it")
    made: Any = ReaderPosts(loop)  # type: ignore[arg-type]
    yield made
    made.close()


def test_posts_are_called_in_turn_and_ring_once(posts: ReaderPosts, loop: Watching) -> None:
    called: list[int] = []
    for number in range(3):
        posts.post(partial(called.append, number))
    assert loop.iterate()
    assert called == [0, 1, 2]
    assert not loop.iterate()


def test_a_post_that_comes_as_the_alarm_is_silenced_is_not_lost(
    posts: ReaderPosts, loop: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reading the alarm gives up the GIL, so another thread may post just before or just after the read.
    called: list[str] = []
    alarm: Any = posts._alarm
    silence = alarm.silence

    def silence_among_posts() -> None:
        posts.post(lambda: called.append("before"))
        silence()
        posts.post(lambda: called.append("after"))

    posts.post(lambda: called.append("first"))
    monkeypatch.setattr(alarm, "silence", silence_among_posts)
    assert loop.iterate()
    monkeypatch.undo()
    while loop.iterate():
        pass
    assert called == ["first", "before", "after"]
    posts.post(lambda: called.append("later"))
    assert loop.iterate()
    assert called[3:] == ["later"]


def test_a_post_that_raises_leaves_the_others(posts: ReaderPosts, loop: Watching) -> None:
    called: list[str] = []

    def killed() -> None:
        raise SystemExit

    posts.post(killed)
    posts.post(lambda: called.append("other"))
    with pytest.raises(SystemExit):
        loop.iterate()
    assert loop.iterate()
    assert called == ["other"]


def test_an_exception_as_the_alarm_was_silenced_leaves_the_posts(
    posts: ReaderPosts, loop: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    alarm: Any = posts._alarm
    silence = alarm.silence

    def interrupted() -> None:
        silence()
        raise KeyboardInterrupt

    posts.post(lambda: called.append("post"))
    monkeypatch.setattr(alarm, "silence", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.iterate()
    monkeypatch.undo()
    assert loop.iterate()
    assert called == ["post"]


def test_a_closed_alarm_refuses_posts(posts: ReaderPosts, loop: Watching) -> None:
    posts.close()
    assert not loop.readers
    with pytest.raises(RuntimeError, match="closed"):
        posts.post(lambda: None)
    posts.close()  # a bridge may be detached twice


def test_what_was_posted_before_the_end_is_called(posts: ReaderPosts, loop: Watching) -> None:
    called: list[str] = []
    posts.post(lambda: called.append("post"))
    posts.close_soon()
    assert called == ["post"]
    assert not loop.readers


def test_a_closed_loop_closes_the_alarm_with_the_posts(loop: Watching) -> None:
    posts: Any = ReaderPosts(loop)  # type: ignore[arg-type]
    fd = posts._alarm.fileno()
    loop.closed = True
    posts.close_soon()
    loop.readers.clear()
    del posts
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_forked_child_takes_none(posts: ReaderPosts, loop: Watching) -> None:
    (take,) = loop.readers.values()
    posts.post(lambda: pytest.fail("the parent's post was called in the child"))
    posts.abandon()
    take()
    with pytest.raises(RuntimeError):
        posts.post(lambda: None)


def test_every_post_of_many_threads_is_called_once() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; pip install uvloop")
    threads, each = 8, 500
    called: list[tuple[int, int]] = []
    loop = uvloop.new_event_loop()
    post, posts = way_to(loop, True)
    assert posts is not None

    def count(thread: int, number: int) -> None:
        called.append((thread, number))
        if len(called) == threads * each:
            loop.stop()

    def poster(thread: int) -> None:
        for number in range(each):
            post(partial(count, thread, number))

    callers = [threading.Thread(target=poster, args=(thread,)) for thread in range(threads)]
    for caller in callers:
        caller.start()
    guard = loop.call_later(30, loop.stop)
    loop.run_forever()
    guard.cancel()
    for caller in callers:
        caller.join()
    posts.close()
    loop.close()
    assert len(set(called)) == len(called) == threads * each


def test_only_uvloops_loops_get_a_reader() -> None:
    for loop in (asyncio.new_event_loop(), SwitchingLoop()):
        post, posts = way_to(loop, True)
        assert posts is None
        assert post == getattr(loop, "post", loop.call_soon_threadsafe)
        loop.close()


def test_only_the_loops_thread_adds_a_reader() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; pip install uvloop")
    loop = uvloop.new_event_loop()
    try:
        assert way_to(loop, False) == (loop.call_soon_threadsafe, None)
    finally:
        loop.close()
