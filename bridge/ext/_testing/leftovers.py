"""What a test has left on its loop and in the process: tasks, delayed calls, ports, connections and threads.

What is there before a test is not its own. What a fixture of a wider scope makes while it is set up belongs to that
fixture, until it has been torn down.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import pytest

from ..._private.cpython import get_running_loop
from .loops import CLEAN_UP, SharedLoop
from .runners import is_of_anyio

# Seconds in which what is about to end may do so.
_GRACE = 0.1
# Modules whose timers serve a task or a reactor, which are reported themselves.
_MACHINERY = frozenset({"asyncio", "anyio", "bridge", "twisted"})
# Threads that wait for more work: of executors that loops own, of Twisted's pools, of anyio; and our own.
_IDLE = ("asyncio_", "PoolThread-", "AnyIO worker thread", "bridge")


class Thing(NamedTuple):
    """One thing that can be left. It is put into words when they are needed, and not for each test."""

    words: Callable[[], str]
    end: Callable[[], object]
    is_task: bool = False


class Leftovers:
    """What is known, and to whom it belongs."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, Any] = {}  # a fixture, or None for what was there before

    def begin(self, loops: list[SharedLoop]) -> None:
        """Note what is there before a test."""
        things = _things(loops)
        self._owners = {key: self._owners.get(key) for key in things}

    @contextmanager
    def made_by(self, fixture: Any, loops: list[SharedLoop]) -> Generator[None]:
        """Note what a fixture of a wider scope makes."""
        before = _things(loops)
        try:
            yield
        finally:
            for key in _things(loops).keys() - before.keys():
                self._owners.setdefault(key, fixture)

    def left(self, shared: SharedLoop, loops: list[SharedLoop], *, by_test: bool) -> list[str]:
        """Return what is left, in words, and end it. What is about to end is given time to.

        :param by_test: whether to return what the test has left, too, and not only what fixtures of wider scopes have.
        """
        shared.turn()  # what was posted begins
        if self._unowned(loops):
            shared.run_until(lambda: not self._unowned(loops), _GRACE)
        left = self._unowned(loops)
        lines = [self._words(key, thing) for key, thing in left.items() if by_test or key in self._owners]
        if by_test:
            for thing in left.values():
                with suppress(Exception):
                    thing.end()
            if left:
                shared.run_until(lambda: not any(each.is_task for each in self._unowned(loops).values()), CLEAN_UP)
        self._owners.update(dict.fromkeys(left))  # what has not ended is not left by the next test
        return sorted(lines)

    def _unowned(self, loops: list[SharedLoop]) -> dict[Hashable, Thing]:
        return {key: thing for key, thing in _things(loops).items() if not self._is_owned(key)}

    def _is_owned(self, key: Hashable) -> bool:
        if key not in self._owners:
            return False
        owner = self._owners[key]
        return owner is None or owner.cached_result is not None  # else the fixture was torn down

    def _words(self, key: Hashable, thing: Thing) -> str:
        owner = self._owners.get(key)
        made = "" if owner is None else f", which the fixture {owner.argname!r} ({owner.scope}) has made"
        return f"{thing.words()}{made}"


def _things(loops: list[SharedLoop]) -> dict[Hashable, Thing]:
    found: dict[Hashable, Thing] = {}
    for shared in loops:
        loop: Any = shared.loop
        if not loop.is_closed():
            found |= _tasks(loop) | _timers(loop) | _descriptors(loop)
    return found | _threads()


def _tasks(loop: Any) -> dict[Hashable, Thing]:
    running = asyncio.current_task() if get_running_loop() is loop else None
    return {
        task: Thing(partial("task: {!r}".format, task), task.cancel, is_task=True)
        for task in asyncio.all_tasks(loop)
        if task is not running and not is_of_anyio(task)
    }


def _timers(loop: Any) -> dict[Hashable, Thing]:
    found: dict[Hashable, Thing] = {
        timer: Thing(partial("delayed call: {!r}".format, timer), timer.cancel)
        for timer in getattr(loop, "_scheduled", ())
        if not timer.cancelled() and not _is_machinery(getattr(timer, "_callback", None))
    }
    for call in () if loop.reactor is None else loop.reactor.getDelayedCalls():
        if call.active():
            found[call] = Thing(partial("delayed call: {!s}".format, call), call.cancel)
    return found


def _is_machinery(callback: Any) -> bool:
    function = getattr(callback, "func", callback)  # of a functools.partial
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in _MACHINERY


def _descriptors(loop: Any) -> dict[Hashable, Thing]:
    """Return Twisted's ports and connections by themselves, and what asyncio watches by the names of the sockets."""
    found: dict[Hashable, Thing] = {}
    of_reactor: set[int] = set()
    reactor = loop.reactor
    if reactor is not None:
        from ..._twisted.reactor import connections_of

        of_reactor = {each.fileno() for each in (*reactor.getReaders(), *reactor.getWriters())}
        for each in connections_of(reactor):
            ends = [getattr(each, name, None) for name in ("stopListening", "abortConnection", "loseConnection")]
            words = "port: {!s}" if ends[0] else "connection: {!s}"
            found[each] = Thing(partial(words.format, each), next(filter(None, ends), _nothing))
    selector, own = getattr(loop, "_selector", None), loop.own_descriptors()
    for fd in () if selector is None else selector.get_map():
        if fd not in of_reactor and fd not in own:
            with suppress(OSError):
                status = os.fstat(fd)
                found[status.st_dev, status.st_ino] = Thing(partial(_described, fd), _nothing)
    return found


def _described(fd: int) -> str:
    """Describe a descriptor that asyncio watches. Its transport is not known, so nobody can close it."""
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            name = copy.getsockname()
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return f"port: an asyncio server that listens on {name}"
            with suppress(OSError):
                return f"connection: one of asyncio's from {name} to {copy.getpeername()}"
            return f"port: an asyncio endpoint on {name}"
    except OSError:
        return f"descriptor: {fd}, which asyncio watches"


def _nothing() -> None:
    pass


def _threads() -> dict[Hashable, Thing]:
    return {
        thread: Thing(partial("thread: {!r}".format, thread), _nothing)
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.name.startswith(_IDLE) and not _is_stub(thread)
    }


def _is_stub(thread: threading.Thread) -> bool:
    """Return whether this stands for a thread that ``threading`` has not started, such as one of a debugger's."""
    return type(thread).__name__ == "_DummyThread" or "PoolThread" in type(thread).__name__


def fail(item: pytest.Item, lines: list[str]) -> None:
    """Fail a test for what it has left."""
    listed = "".join(f"\n  {line}" for line in lines)
    pytest.fail(
        f"{item.name} has left {len(lines)} {'thing' if len(lines) == 1 else 'things'} behind:{listed}\n"
        "End them in the test or in a fixture; or mark the test: @pytest.mark.bridge(leftovers='ignore')",
        pytrace=False,
    )
