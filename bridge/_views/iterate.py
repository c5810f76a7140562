"""A sync iterator over an async one.

One task on the loop, the producer, makes all items of an iteration: what the async generator enters at one item and
leaves at another (a cancel scope, ``asyncio.timeout``, a task group) is bound to its task. It puts the items into a
deque, from which the consumer's thread takes them without crossing; it crosses only where the deque is empty. With
``prefetch=0`` the producer makes an item when a consumer waits for one, with ``prefetch=n`` as long as there are
fewer than n in the deque.

A consumer's wait is a ``block_on`` of a Future, so it times out, is interrupted and fails with the loop as every other
call. The item goes through the deque, not through the Future: one that comes as its consumer is interrupted is there
for the next ``next()``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._calls.variables import Variables
from .._loop.base import start_task
from .._values.kinds import describe
from .._values.outcomes import trim

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy
    from .caller import Caller, ViewOwner

T = TypeVar("T")


class Items(Iterator[T], Generic[T]):
    """The items of an async iterable, for a ``for`` loop in any thread. It is a context manager too, which closes.

    Threads may share it: each item goes to one of them.
    """

    def __init__(
        self,
        owner: ViewOwner,
        iterable: AsyncIterable[Any],
        prefetch: int,
        timeout: float | None,
        strategy: str | Strategy | None,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self._owner = owner
        self._iterable = iterable
        self._prefetch = prefetch
        self._timeout = timeout
        self._strategy = strategy
        self._convert = convert
        self._items: deque[Any] = deque()
        self._low = prefetch // 2  # how many are left when a sleeping producer is woken
        self._caller: Caller
        self._producer: _Producer | None = None
        self._first: dict[None, tuple[Caller, _Producer]] = {}  # of several threads, the one that begins
        self._ended = False

    def __iter__(self) -> Items[T]:
        return self

    def __next__(self) -> T:
        """Return the next item, for which the loop is waited for if it is not there yet.

        :raises StopIteration: there are no more, or the iterator was closed.
        :raises BaseException: what the async iterator raised, the very object.
        :raises BridgeClosed: the loop has ended before the iteration.
        :raises TimeoutError: the item did not come in time; the async iterator was cancelled.
        """
        item: Any = None
        try:
            while True:
                try:
                    item = self._items.popleft()
                    break
                except IndexError:
                    self._wait()
            if type(item) is _End:
                self._ended = True
                if item.error is None:
                    raise StopIteration
                raise item.error
        except BaseException as error:
            item = None  # which holds the error
            trim(error)
            raise
        producer = self._producer
        if producer is not None and producer.asleep and len(self._items) <= self._low:
            producer.asleep = False
            with contextlib.suppress(RuntimeError):  # the loop is closed
                producer.run.post(producer.wake)
        return item if self._convert is None else self._convert(item)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the iteration; an async generator runs its ``finally`` on the loop before this returns.

        An item that is being made is cancelled. Items that were made ahead are dropped. Closing again does nothing, and
        ``next()`` then raises ``StopIteration``, as with any generator. May be called in any thread.

        :raises BaseException: what the async generator raised while it was closed.
        """
        self._items.clear()
        if self._ended:
            return
        self._ended = True
        producer = self._producer
        try:
            if producer is None and isinstance(self._iterable, AsyncGenerator):
                producer = self._begin()
            if producer is not None and producer.run.over is None:
                self._cross(producer.close)
        except BaseException as error:
            if producer is not None and producer.run.over is None:  # Ctrl-C, maybe before the loop was asked
                with contextlib.suppress(RuntimeError):
                    producer.run.post(producer.close)
            trim(error)
            raise
        finally:
            self._items.clear()

    def __enter__(self) -> Items[T]:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Garbage may be collected at any point of any thread, where waiting for the loop could be a deadlock.
        producer = getattr(self, "_producer", None)
        if producer is not None and producer.is_open and producer.run.over is None:
            with contextlib.suppress(RuntimeError):
                producer.run.post(producer.close)

    def __repr__(self) -> str:
        return f"<items of {describe(self._iterable)}>"

    def _wait(self) -> None:
        """Wait until there is something in the deque, most likely; another thread may take it."""
        if self._ended:
            raise StopIteration
        producer = self._producer or self._begin()
        producer.variables.send()
        try:
            self._cross(producer.ask)
        finally:
            producer.variables.receive()

    def _begin(self) -> _Producer:
        """Make the producer; of several threads that do, one makes it for all."""
        caller = self._owner.caller()
        producer = _Producer(caller.current_run(), self._iterable, self._items, self._prefetch)
        self._caller, producer = self._first.setdefault(None, (caller, producer))
        self._producer = producer
        return producer

    def _cross(self, request: Callable[[], object]) -> None:
        producer = self._producer
        assert producer is not None
        if producer.run.over is not None:
            if self._items:  # made before the loop ended
                return
            raise producer.run.closed_error()
        try:
            self._caller.block_on(request, timeout=self._timeout, strategy=self._strategy)
        except TimeoutError as error:
            error.args = (f"the next item of {describe(self._iterable)} did not come within {self._timeout} seconds",)
            raise


class _End:
    """Stands in the deque after the last item."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Wait(asyncio.Future[None]):
    """What a consumer blocks on. It is cancelled the way a task is: done when the async iterator has ended its step."""

    def __init__(self, producer: _Producer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._producer: _Producer | None = producer
        self.cancel_asked = False

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self.cancel_asked = True
        assert self._producer is not None
        if not self._producer.interrupt(woken=True):
            return super().cancel(msg)
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """Let the consumer go on. Does nothing if it has gone."""
        self._producer = None
        if self.done():
            return
        if error is None:
            self.set_result(None)
        elif isinstance(error, asyncio.CancelledError):
            super().cancel()
        else:
            self.set_exception(error)


class _Producer:
    """The task that makes the items. Everything but ``asleep`` and the deque is touched on the loop's thread only.

    It knows nothing of its Items, so that they are garbage when their user has dropped them.
    """

    def __init__(self, run: Run, iterable: AsyncIterable[Any], items: deque[Any], ahead: int) -> None:
        self.run = run
        self.variables = Variables()
        # True from when the producer goes to sleep until a consumer has seen that; it then owes a wake().
        self.asleep = False
        self._iterable = iterable
        self._items = items
        self._ahead = ahead
        self._task: asyncio.Task[Any] | None = None
        self._rest: asyncio.Future[None] | None = None  # what the task sleeps on
        self._waits: list[_Wait] = []
        self._interrupts = 0  # cancellations of the task that are ours, and not taken back yet
        self._closing = False
        self._closed: _Wait | None = None
        self._has_ended = False

    def ask(self) -> _Wait | None:
        """Return what is done when something was put into the deque, None if it is there."""
        loop = asyncio.get_running_loop()
        if loop is not self.run.loop:
            raise self.run.closed_error()
        if self._has_ended and not self._items:  # Ctrl-C has come as a consumer took the end
            self._items.append(_End(None))
        if self._items:
            return None
        self.variables.note_caller()
        wait = _Wait(self, loop)
        self._waits.append(wait)
        if self._task is None:
            assert self.variables.context is not None
            now = asyncio.current_task() is None
            self._task = start_task(loop, self._run(), self.variables.context, now=now)
            self._task.add_done_callback(self._task_done)
        else:
            self.wake()
        return wait

    def wake(self) -> None:
        """Let the task look again whether it is to go on."""
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    def interrupt(self, woken: bool = False) -> bool:
        """Cancel the step that the async iterator is in. Return False if it is in none.

        :param woken: also the step that it is about to take. A generator then gets the cancellation where it stands;
            another iterator has nothing in it to cancel.
        """
        if self._task is None or self._task.done():
            return False
        rest = self._rest
        if rest is not None and not (woken and rest.done() and isinstance(self._iterator, AsyncGenerator)):
            return False
        self._interrupts += 1
        self._task.cancel()
        return True

    @property
    def is_open(self) -> bool:
        """Whether the iteration has begun, and nobody has closed it. Any thread may look."""
        return self._task is not None and not self._has_ended and not self._closing

    def close(self) -> asyncio.Future[None] | None:
        """End the task, and return what is done when it has ended; None if it has already."""
        if self._has_ended or asyncio.get_running_loop() is not self.run.loop:
            return None
        if self._task is None:  # nobody has asked for an item
            self._has_ended = True
            self._items.append(_End(None))
            if isinstance(self._iterable, AsyncGenerator):
                self._task = asyncio.ensure_future(self._iterable.aclose())
            return self._task
        self.variables.note_caller()
        if not self._closing:
            self._closing = True
            self._closed = _Wait(self, self.run.loop)
            if not self.interrupt():
                self.wake()
        return self._closed

    async def _run(self) -> None:
        end = _End(None)
        failure: BaseException | None = None
        self._iterator: Any = None
        try:
            await self._produce()
        except asyncio.CancelledError as error:
            end.error = error if self.run.over is None else self.run.closed_error()
        except GeneratorExit:  # the loop was closed under the task
            raise
        except BaseException as error:
            trim(error)
            end.error = error
        try:
            # One that has ended takes no notice.
            if isinstance(self._iterator, AsyncGenerator):
                await self._iterator.aclose()
        except BaseExceptionGroup as group:
            # A task group that is open at a yield wraps the GeneratorExit that closes the generator.
            if group.split(GeneratorExit)[1] is not None:
                trim(group)
                failure = group
        except BaseException as error:
            trim(error)
            failure = error
        self._take_back()
        self.variables.end()
        if self._closed is None and end.error is None:
            end.error = failure
        try:
            self._finish(end, failure)
        finally:
            # The frames of an error's traceback stand on this one: with these in it, that is a reference cycle.
            del end, failure

    def _task_done(self, _: object) -> None:
        """Let nobody wait for a task that was cancelled before its first step, or was dropped."""
        if not self._has_ended:
            own = self._interrupts > 0
            self._tell_cancelled()
            self._finish(_End(None if own else asyncio.CancelledError()), None)

    def _finish(self, end: _End, failure: BaseException | None) -> None:
        self._has_ended = True
        self._items.append(end)
        self._tell()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed.finish(failure)

    async def _produce(self) -> None:
        self.variables.begin()
        iterator = self._iterator = type(self._iterable).__aiter__(self._iterable)
        items, ahead, waits = self._items, self._ahead, self._waits
        step: Awaitable[Any]
        while not self._closing:
            if len(items) >= ahead and len(items) >= len(waits):
                cancellation = await self._sleep()
                if cancellation is None:
                    self.variables.begin()
                    continue
                # The task was cancelled, by a scope that is open inside the generator or by the end of the loop. The
                # generator takes it where it stands, as if it were in the middle of an item.
                if not isinstance(iterator, AsyncGenerator):
                    raise cancellation
                step = iterator.athrow(cancellation)
                del cancellation
            else:
                step = iterator.__anext__()
            try:
                item = await step
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if not self._take_back():
                    raise
                self._tell_cancelled()
                if self._has_generator_ended():
                    return  # it has ended of that; what is thrown into it from now on would come out as an item, None
                continue
            if self._interrupts:
                self._take_back()
            items.append(item)
            if waits:
                self.variables.end()
                self._tell()

    def _has_generator_ended(self) -> bool:
        iterator: Any = self._iterator
        return getattr(iterator, "ag_frame", True) is None

    async def _sleep(self) -> asyncio.CancelledError | None:
        """Wait for wake(). Return the cancellation that has come instead."""
        if self.run.over is not None and self._task is not None and self._task.cancelling():
            raise asyncio.CancelledError  # the generator has taken no notice of it, and there is no other
        self._rest = asyncio.get_running_loop().create_future()
        # First this, then a second look: a consumer that took an item before it could see this has woken nobody.
        self.asleep = True
        try:
            if not self._ahead or len(self._items) >= self._ahead:
                await self._rest
        except asyncio.CancelledError as error:
            return error
        finally:
            self.asleep = False
            self._rest = None
        return None

    def _take_back(self) -> bool:
        """Take back our cancellations of the task. Return whether there were any."""
        count, self._interrupts = self._interrupts, 0
        for _ in range(count):
            assert self._task is not None
            self._task.uncancel()
        return count > 0

    def _tell(self) -> None:
        for wait in self._waits:
            wait.finish()
        self._waits.clear()

    def _tell_cancelled(self) -> None:
        for wait in [wait for wait in self._waits if wait.cancel_asked]:
            self._waits.remove(wait)
            wait.finish(asyncio.CancelledError())
