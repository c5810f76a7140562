"""Posts to a loop of uvloop's: a queue and an alarm of ours in the place of ``call_soon_threadsafe``.

uvloop reads its own alarm twice, and gives up the GIL and takes it again for the alarm, for each part of an iteration
and for the handles that are ready. A reader is called at the first of these steps. That saves a third of a call from a
thread.

Other foreign loops keep ``call_soon_threadsafe``. A reader is called in one and the same context each time, and a
context cannot be entered twice. But such a loop may be run inside its own callback: asyncio's by nest_asyncio, a
toolkit's by a dialog. uvloop's cannot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from .base import RING, Alarm, BridgeLoop

Post = Callable[[Callable[[], object]], object]


class ReaderPosts:
    """The posts of a loop that watches their alarm by ``add_reader``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._posts: deque[Callable[[], object]] = deque()
        self._alarm = Alarm()
        self._is_rung = False
        self._loop = loop
        loop.add_reader(self._alarm.fileno(), self._take)

    def post(self, callback: Callable[[], object]) -> None:
        """Schedule a function on the loop's thread; :meth:`bridge._loop.base.BridgeLoop.post` has the contract.

        :raises RuntimeError: the posts are closed.
        """
        self._posts.append(callback)
        if not self._is_rung:
            # No call may come between these two lines; see BridgeLoop.post().
            self._is_rung = True
            try:
                os.write(self._alarm.write_end, RING)
            except BlockingIOError:  # the alarm is full of rings already
                pass
            except OSError:
                raise RuntimeError("Event loop is closed") from None

    def _take(self) -> None:
        if self._alarm.fileno() == -1:  # this is a forked child that goes on running the parent's loop
            return
        posts = self._posts
        try:
            self._alarm.silence()
            # Not before the alarm is silent: it would have silenced the ring of a post that has set is_rung meanwhile.
            self._is_rung = False
            for _ in range(len(posts)):
                callback = posts[0]
                try:
                    callback()
                finally:  # not before the call: between two calls PyThreadState_SetAsyncExc would lose the callback
                    posts.popleft()
        except BaseException:
            self._is_rung = False
            self.post(_nothing)  # for the posts that are left
            raise

    def close(self) -> None:
        """Take no more posts. Called on the loop's thread."""
        fd = self._alarm.fileno()
        if fd != -1 and not self._loop.is_closed():
            self._loop.remove_reader(fd)
        self._alarm.close()

    def close_soon(self) -> None:
        """Take the posts that are there, and then no more. Any thread may call this, also if the loop has ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed; see __del__
            self._loop.call_soon_threadsafe(self._take_last)

    def _take_last(self) -> None:
        try:
            self._take()
        finally:
            self.close()

    def abandon(self) -> None:
        """After a fork, in the child: drop all posts and close the child's copy of the alarm."""
        self._posts = deque()
        self._is_rung = False  # so that a later post is refused
        self._alarm.close()

    def __del__(self) -> None:
        self._alarm.close()  # if the loop was closed before it ran _take_last()


def way_to(loop: asyncio.AbstractEventLoop, is_here: bool) -> tuple[Post, ReaderPosts | None]:
    """Return the function that schedules another on the loop's thread, and its posts if they are for us to close.

    :param is_here: whether this is the loop's thread. Only there can a reader be added.
    """
    if isinstance(loop, BridgeLoop):
        return loop.post, None
    uvloop: Any = sys.modules.get("uvloop")
    if is_here and uvloop is not None and isinstance(loop, uvloop.Loop):
        posts = ReaderPosts(loop)
        return posts.post, posts
    return loop.call_soon_threadsafe, None


def _nothing() -> None:
    pass
