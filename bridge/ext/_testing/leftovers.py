"""What a test has left on its loop and in the process: tasks, delayed calls, ports, connections and threads.

A test is charged with what was made for it and for no fixture of a wider scope: see :mod:`.makers`. What such a fixture
has made is looked for when it has been torn down.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Generator, Hashable, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from ..._errors import at
from ..._private.cpython import get_running_loop, idle_workers
from ..._values.context import maker
from .loops import CLEAN_UP, SharedLoop
from .makers import Maker, Threads, held_by, maker_in, maker_of_task, now_for
from .runners import is_of_anyio

# Seconds in which what is about to end may do so.
_GRACE = 0.1
# Modules whose timers serve a task or a reactor, which are reported themselves.
_MACHINERY = frozenset({"asyncio", "anyio", "bridge", "twisted"})
# Threads that wait for more work: of executors that loops own, of Twisted's pools, of anyio; and our own.
_IDLE = ("asyncio_", "PoolThread-", "AnyIO worker thread", "bridge")


class Thing(NamedTuple):
    """One thing that can be left. It is put into words when they are needed, and not for each test."""

    made_by: Any  # a Maker; None if it is not known
    words: Callable[[], str]
    end: Callable[[], object]
    objects: tuple[object, ...]  # a fixture that refers to one of these holds the thing
    is_port: bool = False


class Leftovers:
    """What is on the loops, and to whom it belongs."""

    def __init__(self, loops: Callable[[], list[SharedLoop]]) -> None:
        self._loops = loops
        self.test = Maker()  # the run of the test that runs
        self._fixtures: list[Maker] = []  # of wider scopes, and set up
        self._before: set[Hashable] = set()
        self._threads = Threads()
        self._outer: Any = maker.get()  # of another session, of which a test runs this one in its process

    def begin(self) -> None:
        """Note that a test begins, and what is there before."""
        self.test = Maker()
        # A connection that is paused, and goes on in a test, is watched for that test from then on.
        self._before = set(self._things())
        self.go_on()

    def go_on(self) -> None:
        """Note that code runs for the test."""
        self.now_for(self.test)

    def end(self) -> None:
        """Note that the test has ended."""
        self._before.clear()
        self.now_for(self._outer)

    def unload(self) -> None:
        """Note nothing more."""
        self._threads.end()

    def now_for(self, made_by: Maker | None) -> Maker | None:
        """Note for whom code runs from now on, and return for whom it did."""
        # anyio's plugin runs its fixtures and its tests in one task, and so in one context.
        lasting = [task for shared in self._loops() for task in asyncio.all_tasks(shared.loop) if is_of_anyio(task)]
        return now_for(made_by, lasting)

    @contextmanager
    def setting_up(self, fixture: Any) -> Generator[None]:
        """Note that a fixture of a wider scope is set up; and when it is torn down."""
        made_by = Maker(fixture)
        before: list[Maker | None] = []

        def begin() -> None:
            before.append(self.now_for(made_by))

        def end() -> None:
            if before:
                self.now_for(before.pop())
            made_by.is_over = True
            self._fixtures.remove(made_by)

        self._fixtures.append(made_by)
        fixture.addfinalizer(end)  # the last one to be called
        begin()
        try:
            yield
        finally:
            self.now_for(before.pop())
            fixture.addfinalizer(begin)

    def left(self, shared: SharedLoop, *, by_test: bool) -> list[str]:
        """Return what is left, in words, and end it. What is about to end is given time to.

        :param by_test: whether to return what the test has left, too, and not only what fixtures of wider scopes have.
        """
        shared.turn()  # what was posted begins
        left = self._without_held(self._left(by_test))
        if left:
            shared.run_until(lambda: not left.keys() & self._left(by_test).keys(), _GRACE)
            left = self._without_held(self._left(by_test))
        lines = [_words(thing) for thing in left.values()]
        for thing in left.values():
            thing.made_by.was_told = True
            with suppress(Exception):
                thing.end()
        tasks: list[Any] = [key for key in left if isinstance(key, asyncio.Task)]
        if tasks:
            shared.run_until(lambda: all(task.done() for task in tasks), CLEAN_UP)
        return sorted(lines)

    def not_of_fixtures(self, found: Iterable[Any]) -> list[Any]:
        """Return those of these delayed calls, ports and connections that are no fixture's of a wider scope."""
        things = self._things()
        held = self._held(things)
        return [each for each in found if each not in things or not _is_of_fixture(things[each], held)]

    def are_ports_open(self) -> bool:
        """Return whether something listens on one of the loops."""
        return any(thing.is_port for thing in self._things().values())

    def _left(self, by_test: bool) -> dict[Hashable, Thing]:
        return {key: thing for key, thing in self._things().items() if self._is_charged(key, thing, by_test)}

    def _is_charged(self, key: Hashable, thing: Thing, by_test: bool) -> bool:
        made_by = thing.made_by
        if made_by is self.test:
            return by_test and key not in self._before
        return made_by is not None and made_by.is_over and not made_by.was_told

    def _without_held(self, left: dict[Hashable, Thing]) -> dict[Hashable, Thing]:
        if not left:
            return left
        held = self._held(self._things())
        return {key: thing for key, thing in left.items() if not _is_of_fixture(thing, held)}

    def _held(self, things: dict[Hashable, Thing]) -> set[int]:
        """Return the ids of what the fixtures that are set up refer to, by their values and by what they have made."""
        if not self._fixtures:
            return set()
        made = [thing.objects for thing in things.values() if thing.made_by is not None and thing.made_by.is_open]
        return held_by([*(each.fixture.cached_result for each in self._fixtures), *made])

    def _things(self) -> dict[Hashable, Thing]:
        found: dict[Hashable, Thing] = {}
        for shared in self._loops():
            loop: Any = shared.loop
            if not loop.is_closed():
                found |= _tasks(loop) | _timers(loop) | _descriptors(loop)
        for thread in threading.enumerate():
            if not _is_idle(thread):
                words = partial("thread: {!r}".format, thread)
                found[thread] = Thing(self._threads.maker_of(thread), words, _nothing, (thread,))
        return found


def _is_of_fixture(thing: Thing, held: set[int]) -> bool:
    of_fixture = thing.made_by is not None and thing.made_by.is_open
    return of_fixture or any(id(each) in held for each in thing.objects)


def _words(thing: Thing) -> str:
    made = "" if thing.made_by.fixture is None else f", which {thing.made_by} has made"
    return f"{thing.words()}{made}"


def _tasks(loop: Any) -> dict[Hashable, Thing]:
    running = asyncio.current_task() if get_running_loop() is loop else None
    return {
        task: Thing(maker_of_task(task), partial("task: {!r}".format, task), task.cancel, (task,))
        for task in asyncio.all_tasks(loop)
        if task is not running and not is_of_anyio(task)
    }


def _timers(loop: Any) -> dict[Hashable, Thing]:
    found: dict[Hashable, Thing] = {
        timer: Thing(_maker_of_handle(timer), partial("delayed call: {!r}".format, timer), timer.cancel, (timer,))
        for timer in getattr(loop, "_scheduled", ())
        if not timer.cancelled() and not _is_machinery(getattr(timer, "_callback", None))
    }
    reactor = loop.reactor
    if reactor is not None:
        from ..._twisted.makers import maker_of

        for call in reactor.__class__.getDelayedCalls(reactor):  # not the instance's, by which trial is shown fewer
            if call.active():
                words = partial("delayed call: {!s}".format, call)
                found[call] = Thing(maker_of(call), words, call.cancel, (call,))
    return found


def _maker_of_handle(handle: Any) -> Any:
    return maker_in(getattr(handle, "_context", None))


def _is_machinery(callback: Any) -> bool:
    function = getattr(callback, "func", callback)  # of a functools.partial
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in _MACHINERY


def _descriptors(loop: Any) -> dict[Hashable, Thing]:
    """Return Twisted's ports and connections by themselves, and what asyncio watches by the names of the sockets."""
    found: dict[Hashable, Thing] = {}
    of_reactor: set[int] = set()
    selector = getattr(loop, "_selector", None)
    watched: dict[int, Any] = {} if selector is None else selector.get_map()
    reactor = loop.reactor
    if reactor is not None:
        from ..._twisted.reactor import connections_of

        of_reactor = {each.fileno() for each in (*reactor.getReaders(), *reactor.getWriters())}
        for each in connections_of(reactor):
            ends = [getattr(each, name, None) for name in ("stopListening", "abortConnection", "loseConnection")]
            words = "port: {!s}" if ends[0] else "connection: {!s}"
            made_by = next(map(_maker_of_handle, _handles(watched.get(each.fileno()))), None)
            end = next(filter(None, ends), _nothing)
            found[each] = Thing(made_by, partial(words.format, each), end, (each,), ends[0] is not None)
    own = loop.own_descriptors()
    for fd, key in list(watched.items()):
        if fd not in of_reactor and fd not in own:
            handles = _handles(key)
            objects = tuple(each for handle in handles for each in _objects_of(handle))
            made_by = next(map(_maker_of_handle, handles), None)
            with suppress(OSError):
                status = os.fstat(fd)
                is_port = any(_listens(each) for each in objects)
                found[status.st_dev, status.st_ino] = Thing(
                    made_by, partial(_described, fd), _nothing, objects, is_port
                )
    return found


def _handles(key: Any) -> list[Any]:
    """Return the handles of what asyncio watches: that of the reader first, then that of the writer."""
    return [] if key is None else [handle for handle in key.data if handle is not None]


def _objects_of(handle: Any) -> list[Any]:
    """Return the transport, or the listening socket, of a descriptor that asyncio watches."""
    sockets = [each for each in getattr(handle, "_args", None) or () if isinstance(each, socket.socket)]
    owner = getattr(getattr(handle, "_callback", None), "__self__", None)
    return sockets if owner is None or isinstance(owner, asyncio.AbstractEventLoop) else [owner, *sockets]


def _listens(x: object) -> bool:
    return isinstance(x, socket.socket) and bool(x.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


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


def _is_idle(thread: threading.Thread) -> bool:
    """Return whether a thread waits for work, or stands for one that ``threading`` has not started, as a debugger's."""
    kind = type(thread).__name__
    is_stub = kind == "_DummyThread" or "PoolThread" in kind
    is_worker = thread.name.startswith(_IDLE) or thread in idle_workers()
    return is_stub or is_worker or thread is threading.current_thread()


def told(name: str, lines: list[str]) -> str:
    """Return the message for a test that has left something."""
    if not lines:
        return ""
    listed = "".join(f"\n  {line}" for line in lines)
    return (
        f"{name} has left {len(lines)} {'thing' if len(lines) == 1 else 'things'} behind:{listed}\n"
        "End them in the test or in a fixture; or mark the test: @pytest.mark.bridge(leftovers='ignore')"
        + at("left-behind")
    )
