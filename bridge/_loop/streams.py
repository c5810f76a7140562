"""StreamLoop: the callback of a descriptor is not called again while a stack is blocked inside it.

A protocol that gets more data while it still handles the last data loses its place: ``IntNStringReceiver`` parses a
message twice, AMP runs a responder twice. So while a stack is blocked inside a reader's callback, that descriptor is
not read; the callback is *held*. The first event that arrives meanwhile is dropped and *pauses* the descriptor: it is
not watched again until the callback has returned. So this costs nothing where no callback blocks. The same holds for
writers.

A reader that is removed and added again meanwhile, as by ``pause_reading()`` and ``resume_reading()``, reads the same
stream and is held too. A reader with the same descriptor number but another stream, after the first stream was closed,
is not held. Nor is a writer that is added again: that is how a protocol writes while it is blocked in
``connectionMade``, which Twisted calls in the writer's callback.

A listening socket is not a stream. The connections that it accepts are independent, so it goes on accepting.
"""

from __future__ import annotations

import socket
from asyncio import events
from collections.abc import Callable
from contextvars import Context
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import Any, ClassVar, cast

from .._private.rows import takes_more
from .._threads import native
from .base import BridgeLoop, Ours

_run_handle: Any = getattr(events.Handle, "_run", None)
# Whether these functions have parameters in this Python that ours do not know. Ours then pass them on.
_RUN_TAKES_MORE = takes_more("asyncio.events:Handle", "_run", 1)
_ADD_TAKES_MORE = takes_more("asyncio.base_events:BaseEventLoop", "_add_callback", 2)


class Streams:
    """The state of a loop's descriptors; a separate object for the reason given in ``base.Ours``."""

    __slots__ = ("held", "paused", "queued", "selector", "waits", "watch")

    def __init__(self, selector: BaseSelector) -> None:
        self.selector: Any = selector
        self.waits: dict[Any, Any] = {}  # by blocked stack: its wait
        self.watch: WatchHandle | None = None  # the callback in which the current stack runs
        self.held: dict[int, list[WatchHandle]] = {}  # by descriptor: the callbacks in which stacks are blocked
        self.paused: dict[tuple[int, int], WatchHandle] = {}  # by descriptor and event: the callbacks not watched now
        self.queued = 0  # the callbacks of events that were reported and are not handled yet


class StreamLoop(BridgeLoop):
    """A loop that holds the callback of a descriptor while a stack is blocked in it."""

    _ready: Any
    _selector: Any

    def __init__(self, selector: BaseSelector | None = None) -> None:
        super().__init__(selector or native.original("selectors", "DefaultSelector")())

    def _make_ours(self, selector: BaseSelector) -> Ours:
        ours = super()._make_ours(selector)
        ours.streams = Streams(selector)
        return ours

    def _hold(self, watch: WatchHandle) -> None:
        """Hold a callback. Called before the stack in it blocks."""
        streams = self._ours.streams
        streams.watch = None
        streams.held.setdefault(watch.fd, []).append(watch)

    def _let_go(self, watch: WatchHandle) -> None:
        """Undo :meth:`_hold` as the stack resumes. The descriptor stays paused until the callback has returned."""
        streams = self._ours.streams
        streams.watch = watch
        held = streams.held[watch.fd]
        held.remove(watch)
        if not held:
            del streams.held[watch.fd]

    def is_held(self, handle: WatchHandle) -> bool:
        """Return whether a stack is blocked in this callback, or in another callback of the same stream."""
        held = self._ours.streams.held.get(handle.fd)
        return held is not None and any(map(handle.continues, held)) and not _is_listening(handle.fd)

    def pause(self, handle: WatchHandle) -> None:
        """Stop watching for the event of a held callback."""
        if (handle.fd, handle.event) in self._ours.streams.paused:
            return
        try:
            key = self._ours.streams.selector.get_key(handle.fd)
        except KeyError:
            return
        self._ours.streams.paused[handle.fd, handle.event] = handle
        left = key.events & ~handle.event
        try:
            if left:
                self._ours.streams.selector.modify(handle.fd, left, key.data)
            else:
                self._ours.streams.selector.unregister(handle.fd)
        except OSError:  # the descriptor was closed without being removed
            pass

    def resume(self, handle: WatchHandle) -> None:
        """Watch the descriptor again. Called when the callback has returned."""
        paused = self._ours.streams.paused.get((handle.fd, handle.event))
        if paused is not None and paused.continues(handle):
            self._resume(handle.fd, handle.event)

    def _resume(self, fd: int, event: int) -> None:
        handle = self._ours.streams.paused.pop((fd, event), None)
        if handle is None or self.is_closed():
            return
        selector = self._ours.streams.selector
        try:
            try:
                key = selector.get_key(fd)
            except KeyError:
                selector.register(fd, event, handle.beside((None, None)))
            else:
                selector.modify(fd, key.events | event, handle.beside(key.data))
        except OSError:  # the descriptor was closed without being removed
            pass

    def _restore(self, fd: Any) -> None:
        """Undo the pauses of a descriptor before its registration changes. The next event pauses it again."""
        number = _number(fd)
        self._resume(number, EVENT_READ)
        self._resume(number, EVENT_WRITE)

    def poll_later(self) -> None:
        """Let the next iteration handle the events that were reported before, and poll for no others.

        Every stack that blocks leaves the rest of its iteration to a runner which begins another one. If that polled,
        it would be told of all events that nobody has handled yet once more: of n connections that are read, each in a
        stack that blocks, n times.
        """
        selector = self._selector  # not always our own: a program may have put another one round it
        if type(selector) is not _NoEvents:
            self._selector = _NoEvents(self, selector)

    def _count_events(self) -> None:
        """Count the events in the loop's queue. Called before a run if an earlier one has left any.

        Ctrl-C may have ended that between the line that takes an event's callback out of the queue and the one that
        calls it. Such an event is to be reported again.
        """
        streams = self._ours.streams
        queued = {each for each in self._ready if isinstance(each, WatchHandle) and each.is_queued}
        for key in streams.selector.get_map().values():
            for each in key.data:
                if isinstance(each, WatchHandle):
                    each.is_queued = each in queued
        for each in streams.paused.values():
            each.is_queued = each in queued
        streams.queued = len(queued)

    # Overridden methods of asyncio's loop.

    def _add_callback(self, handle: Any, add: Any = None) -> None:
        if handle._cancelled:
            return
        if isinstance(handle, WatchHandle):
            if self._ours.streams.held and self.is_held(handle):
                self.pause(handle)
                return
            if handle.is_queued:  # by an iteration of another runner, while a callback of this one was blocked
                return
        if self._ours.streams.waits:
            # The handle of a listening socket or a signal runs at each event in the same context, which a blocked stack
            # may have entered.
            handle._context = handle._context.copy()
        if isinstance(handle, WatchHandle):
            # No call may come between these lines and the next one: after a signal handler that raised there the event
            # would count as queued for ever, and not be reported again.
            handle.is_queued = True
            self._ours.streams.queued += 1
        if add is None:
            self._ready.append(handle)
        else:
            add(handle)

    _add_known = _add_callback

    def _add_with_more(self, handle: Any, *more: Any, **options: Any) -> None:
        add: Any = cast(Any, super())._add_callback

        def add_with_more(each: Any) -> None:
            add(each, *more, **options)

        self._add_known(handle, add_with_more)

    if _ADD_TAKES_MORE:
        _add_callback = _add_with_more

    # CPython 3.15 runs all callbacks of a connection in one context and passes that to these two methods.

    def _add_reader(
        self, fd: Any, callback: Any, *args: Any, context: Context | None = None, **options: Any
    ) -> events.Handle:
        if callback == self._take_posts:  # the alarm is not a stream: it must ring while a post blocks
            return cast(Any, super())._add_reader(fd, callback, *args, **options)  # type: ignore[no-any-return]
        handle = ReaderHandle(callback, args, self, _number(fd), context)
        if options:
            return self._add_with(options, cast(Any, super())._add_reader, fd, handle)
        return self._add(fd, handle)

    def _add_writer(
        self, fd: Any, callback: Any, *args: Any, context: Context | None = None, **options: Any
    ) -> events.Handle:
        handle = WriterHandle(callback, args, self, _number(fd), context)
        if options:
            return self._add_with(options, cast(Any, super())._add_writer, fd, handle)
        return self._add(fd, handle)

    def _add(self, fd: Any, handle: WatchHandle) -> events.Handle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._ours.streams.paused:
            self._restore(fd)
        selector = self._ours.streams.selector
        key = selector.get_map().get(fd)  # get_key() raises for a new descriptor, which takes longer than this method
        if key is None:
            selector.register(fd, handle.event, handle.beside((None, None)))
        else:
            before = handle.before(key.data)
            selector.modify(fd, key.events | handle.event, handle.beside(key.data))
            if before is not None:
                before.cancel()
        return handle

    def _add_with(self, options: dict[str, Any], add: Any, fd: Any, handle: WatchHandle) -> events.Handle:
        """Add the callback by asyncio's method, which takes options that we do not know. Then put our handle there."""
        assert handle.stream is not None
        callback, args = handle.stream
        if self._ours.streams.paused:
            self._restore(fd)
        add(fd, callback, *args, **options)
        return self._add(fd, handle)

    def _remove_reader(self, fd: Any, *more: Any, **options: Any) -> bool:
        if self._ours.streams.paused:
            self._restore(fd)
        return bool(super()._remove_reader(fd, *more, **options))  # type: ignore[misc]

    def _remove_writer(self, fd: Any, *more: Any, **options: Any) -> bool:
        if self._ours.streams.paused:
            self._restore(fd)
        return bool(super()._remove_writer(fd, *more, **options))  # type: ignore[misc]


class _NoEvents:
    """Stands for the loop's selector until the loop polls: it tells of no events, once."""

    def __init__(self, loop: StreamLoop, selector: Any) -> None:
        self._loop = loop
        self._selector = selector

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return no events, at once."""
        self._loop._selector = self._selector
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


class WatchHandle(events.Handle):
    """The callback of a descriptor."""

    __slots__ = ("fd", "is_queued", "loop", "stream")
    event: ClassVar[int]

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: StreamLoop,
        fd: int,
        context: Context | None = None,
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.loop = loop
        self.fd = fd
        # Handle.cancel() deletes the callback and its arguments. A held handle may be compared after that, so they are
        # kept here too.
        self.stream: tuple[Callable[..., object], tuple[Any, ...]] | None = (callback, args)
        self.is_queued = False

    def cancel(self) -> None:
        """Cancel the handle and release the callback's objects: at once, or when a callback that runs has returned."""
        super().cancel()
        streams = self.loop._ours.streams
        if self.is_queued:  # the loop drops it
            self.is_queued = False
            streams.queued -= 1
        if streams.watch is not self and self not in streams.held.get(self.fd, ()):
            self.stream = None

    def continues(self, other: WatchHandle) -> bool:
        """Return whether this handle is for the same stream and event as the other."""
        raise NotImplementedError

    def beside(self, data: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return a selector's data, a pair of reader and writer, with this handle in its place."""
        raise NotImplementedError

    def before(self, data: tuple[Any, Any]) -> Any:
        """Return the handle that is in this one's place in a selector's data, or None."""
        raise NotImplementedError

    def _run(self, run: Any = _run_handle) -> None:
        loop = self.loop
        streams = loop._ours.streams
        self.is_queued = False
        streams.queued -= 1
        if streams.held and loop.is_held(self):  # held after it was queued
            loop.pause(self)
            return
        before, streams.watch = streams.watch, self
        try:
            run(self)
        finally:
            streams.watch = before
            if streams.paused:
                loop.resume(self)
            if self._cancelled and not streams.held:
                self.stream = None

    _run_known = _run

    def _run_with_more(self, *more: Any, **options: Any) -> None:
        def run(handle: Any) -> None:
            _run_handle(handle, *more, **options)

        self._run_known(run)

    if _RUN_TAKES_MORE:
        _run = _run_with_more


class ReaderHandle(WatchHandle):
    """The callback of a reader."""

    __slots__ = ()
    event = EVENT_READ

    def continues(self, other: WatchHandle) -> bool:
        """Return whether the two read the same stream."""
        return self is other or (other.event == EVENT_READ and self.stream == other.stream)

    def beside(self, data: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return the data with this reader."""
        return self, data[1]

    def before(self, data: tuple[Any, Any]) -> Any:
        """Return the reader in the data."""
        return data[0]


class WriterHandle(WatchHandle):
    """The callback of a writer."""

    __slots__ = ()
    event = EVENT_WRITE

    def continues(self, other: WatchHandle) -> bool:
        """Return whether the two are the same registration."""
        return self is other

    def beside(self, data: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return the data with this writer."""
        return data[0], self

    def before(self, data: tuple[Any, Any]) -> Any:
        """Return the writer in the data."""
        return data[1]


def _number(fd: Any) -> int:
    """Return the number of a descriptor, or -1 if it has none, as after ``close()``."""
    if isinstance(fd, int):
        return fd
    try:
        return int(fd.fileno())
    except (AttributeError, TypeError, ValueError):
        return -1


def _is_listening(fd: int) -> bool:
    try:
        borrowed = socket.socket(fileno=fd)
    except OSError:  # not a socket
        return False
    try:
        return bool(borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False
    finally:
        borrowed.detach()
