"""A sync iterator over an async one.

One task on the loop (see ``served``), the producer, makes all items of an iteration, and puts them into a deque. The
consumer's thread takes them from there, and crosses to the loop only if the deque is empty. With ``prefetch=0`` the
producer makes an item when a consumer waits for one. With ``prefetch=n`` it makes items while there are fewer than n in
the deque.

A consumer waits until there is an item, which it then takes out of the deque. So if an item comes while its consumer
is interrupted, the next ``next()`` returns it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._values.kinds import describe
from .._values.outcomes import trim
from .served import Server, Session, Step

if TYPE_CHECKING:
    from .._runs.run import Run
    from ..strategies.interface import Strategy
    from .caller import Caller, ViewOwner

T = TypeVar("T")


class Items(Session, Iterator[T], Generic[T]):
    """A sync iterator over an async iterable, for any thread. As a context manager it closes itself.

    Threads may share it: each item goes to one thread.
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
        super().__init__(owner, timeout, strategy)
        self._iterable = iterable
        self._prefetch = prefetch
        self._convert = convert
        self._items: deque[Any] = deque()
        self._low = prefetch // 2  # wake a sleeping producer when so few items are left
        self._server: _Producer | None = None
        self._first_producer: dict[None, tuple[Caller, _Producer]] = {}  # see _begin()
        self._ended = False

    def __iter__(self) -> Items[T]:
        return self

    def __next__(self) -> T:
        """Return the next item. Waits for the loop if it is not made yet.

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
            item = None  # an _End holds the error: a reference cycle
            trim(error)
            raise
        producer = self._server
        if producer is not None and producer.asleep and len(self._items) <= self._low:
            producer.asleep = False
            self._post(producer.wake)
        return item if self._convert is None else self._convert(item)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the iteration. An async generator runs its ``finally`` on the loop before this returns.

        The item that is being made is cancelled. Items that were made ahead are dropped. ``next()`` then raises
        ``StopIteration``, as with any generator. Closing again does nothing. May be called in any thread.

        :raises BaseException: what the async generator raised while it was closed.
        """
        self._items.clear()
        if self._ended:
            return
        self._ended = True
        producer = self._server
        try:
            if producer is None and isinstance(self._iterable, AsyncGenerator):
                producer = self._begin()
            if producer is not None and producer.run.over is None:
                self._cross(producer.close)
        except BaseException as error:
            if producer is not None:  # Ctrl-C, maybe before the request reached the loop
                self._post(producer.close)
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
        # The garbage collector may run this at any line of any thread: waiting for the loop here could deadlock.
        producer = getattr(self, "_server", None)
        if producer is not None and producer.is_open:
            self._post(producer.close)

    def __repr__(self) -> str:
        return f"<items of {describe(self._iterable)}>"

    def _wait(self) -> None:
        """Wait until an item is put into the deque. Another thread may take it first."""
        if self._ended:
            raise StopIteration
        producer = self._server or self._begin()
        if producer.run.over is None or not self._items:  # else they were made before the loop ended
            self._call(producer.ask)

    def _begin(self) -> _Producer:
        """Make the producer. If several threads do, all use the first one: setdefault() is atomic."""
        caller, run = self._choose_bridge()
        producer = _Producer(run, self._iterable, self._items, self._prefetch)
        self._caller, producer = self._first_producer.setdefault(None, (caller, producer))
        self._server = producer
        return producer

    def _late(self) -> str:
        return f"the next item of {describe(self._iterable)} did not come"


class _End:
    """Stands in the deque after the last item."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Producer(Server):
    """The task that makes the items. Only ``asleep`` and the deque may be used off the loop's thread.

    It holds no reference to its Items, so that these are collected once the user drops them.
    """

    def __init__(self, run: Run, iterable: AsyncIterable[Any], items: deque[Any], ahead: int) -> None:
        super().__init__(run)
        # Set by the producer as it goes to sleep. The consumer that clears it has to call wake().
        self.asleep = False
        self._iterable = iterable
        self._items = items
        self._ahead = ahead
        self._iterator: Any = None
        self._sleeping_on: asyncio.Future[None] | None = None  # the Future that the task sleeps on
        self._waits: list[Step] = []
        self._closing = False
        self._closed: Step | None = None
        self._has_ended = False

    def ask(self) -> Step | None:
        """Return a Future that is done when the deque has got something; None if it has something already."""
        self._check_loop()
        if self._has_ended and not self._items:  # Ctrl-C came as a consumer took the _End
            self._items.append(_End(None))
        if self._items:
            return None
        self.variables.note_caller()
        wait = Step(self)
        self._waits.append(wait)
        if self._task is None:
            self._start(self._run())
        else:
            self.wake()
        return wait

    def wake(self) -> None:
        """Wake the task, which then checks whether to make another item."""
        if self._sleeping_on is not None and not self._sleeping_on.done():
            self._sleeping_on.set_result(None)

    def interrupt(self) -> bool:
        """Cancel the step that the async iterator is in. Return False if it is in no step.

        A woken generator is about to take one, at its ``yield``. Another iterator has nothing to cancel there.
        """
        sleep = self._sleeping_on
        is_woken = sleep is not None and sleep.done() and isinstance(self._iterator, AsyncGenerator)
        return (sleep is None or is_woken) and self._cancel()

    @property
    def is_open(self) -> bool:
        """Whether the iteration has begun and is not closed. May be read in any thread."""
        return self._task is not None and not self._has_ended and not self._closing

    def close(self) -> asyncio.Future[None] | None:
        """End the task, and return a Future that is done when it has ended; None if it has ended already."""
        if self._has_ended or asyncio.get_running_loop() is not self.run.loop:
            return None
        if self._task is None:  # no item was asked for
            self._has_ended = True
            self._items.append(_End(None))
            if isinstance(self._iterable, AsyncGenerator):
                self._task = asyncio.ensure_future(self._iterable.aclose())
            return self._task
        self.variables.note_caller()
        if not self._closing:
            self._closing = True
            self._closed = Step(self)
            if self._sleeping_on is not None or not self._cancel():
                self.wake()
        return self._closed

    async def _run(self) -> None:
        end = _End(None)
        failure: BaseException | None = None
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
            # No effect on a generator that has ended.
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
        self._uncancel()
        self.variables.end()
        if self._closed is None and end.error is None:
            end.error = failure
        try:
            self._finish(end, failure)
        finally:
            # An error's traceback may hold this frame, which would be a reference cycle.
            del end, failure

    def _task_done(self, task: object) -> None:
        if not self._has_ended:
            own = self._interrupts > 0
            self._finish_cancelled_waits()
            self._finish(_End(None if own else asyncio.CancelledError()), None)

    def _finish(self, end: _End, failure: BaseException | None) -> None:
        self._has_ended = True
        self._items.append(end)
        self._finish_waits()
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
                # The task was cancelled by a scope that is open inside the generator, or by the end of the loop. The
                # cancellation is raised at the generator's yield, as if it were making an item.
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
                if not self._uncancel():
                    raise
                self._finish_cancelled_waits()
                if self._has_generator_ended():
                    return  # a generator that has ended returns None from athrow(), which would be taken for an item
                continue
            if self._interrupts:
                self._uncancel()
            items.append(item)
            if waits:
                self.variables.end()
                self._finish_waits()

    def _has_generator_ended(self) -> bool:
        iterator: Any = self._iterator
        return getattr(iterator, "ag_frame", True) is None

    async def _sleep(self) -> asyncio.CancelledError | None:
        """Wait for wake(). Return the CancelledError if a cancellation comes instead."""
        if self.run.over is not None and self._task is not None and self._task.cancelling():
            raise asyncio.CancelledError  # the generator ignored the first one; no other will come
        self._sleeping_on = asyncio.get_running_loop().create_future()
        # Set the flag, then check the deque again: a consumer that took an item just before has not called wake().
        self.asleep = True
        try:
            if not self._ahead or len(self._items) >= self._ahead:
                await self._sleeping_on
        except asyncio.CancelledError as error:
            return error
        finally:
            self.asleep = False
            self._sleeping_on = None
        return None

    def _finish_waits(self) -> None:
        for wait in self._waits:
            wait.finish()
        self._waits.clear()

    def _finish_cancelled_waits(self) -> None:
        for wait in [wait for wait in self._waits if wait.cancel_asked]:
            self._waits.remove(wait)
            wait.finish(asyncio.CancelledError())
