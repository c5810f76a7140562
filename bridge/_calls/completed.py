"""wait and as_completed: as in ``concurrent.futures``, but they wait as ``block_on`` does.

A :class:`Listener` is one of the waiters of each Future, like a waiter of the standard library, so the Futures may come
from anywhere. Ctrl-C may come at any line (see "Interrupts" in :mod:`bridge._threads`). The standard library enters the
lock of a Future in Python code, where a signal may leave it held. So this module enters no lock in Python code. It adds
a listener without the lock, and *then* reads the states: a Future that ends is either seen to have ended, or notifies
the listener. The thread that pops the bell off its list rings it, so a waiter is notified once. Only removing a
listener needs the lock, because the Future may be notifying its waiters just then. That is done in one call of C.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._errors import at
from .._private.abilities import lost, unavailable
from .._private.rows import FUTURES
from .._runs.runs import bridges
from .._runs.where import where
from .._threads.interrupts import Undo, in_one_call
from .._threads.signals import wait_looking_up
from .._values.kinds import describe
from ..strategies.interface import Waiter
from .submit import WorkFuture
from .waiting import waiter_here

if TYPE_CHECKING:
    from concurrent.futures._base import DoneAndNotDoneFutures
else:
    DoneAndNotDoneFutures = type(concurrent.futures.wait(()))

_Future = concurrent.futures.Future[Any]
_ENDED = frozenset({"FINISHED", "CANCELLED_AND_NOTIFIED"})


def wait(fs: Iterable[Any], timeout: float | None, return_when: str) -> DoneAndNotDoneFutures[Any]:
    """Wait for Futures. :func:`bridge.wait` has the contract."""
    futures = _checked(fs, "wait")
    if not _is_enough(futures, return_when):
        if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
            raise ValueError(f"Invalid return condition: {return_when!r}")
        if timeout is None or timeout > 0:
            _wait(futures, timeout, return_when)
    done = {future for future in futures if _has_ended(future)}
    return DoneAndNotDoneFutures(done, set(futures) - done)


def _wait(futures: list[_Future], timeout: float | None, return_when: str) -> None:
    listener = Listener(futures, return_when)
    with Undo(listener.end) as undo, undo:
        listener.begin()
        if not _is_enough(futures, return_when):
            listener.wait(waiter_for("wait", futures), timeout)


def as_completed(fs: Iterable[Any], timeout: float | None) -> Iterator[Any]:
    """Yield Futures as they end; :func:`bridge.as_completed` has the contract."""
    end = None if timeout is None else timeout + monotonic()
    futures = _checked(fs, "as_completed")
    del fs
    total = len(futures)
    listener = Listener(futures, FIRST_COMPLETED)
    with Undo(listener.end) as undo, undo:
        listener.begin()
        ended = deque(future for future in futures if _has_ended(future))
        del futures
        while listener.futures:
            if not ended:
                ended = listener.take()
            if ended:
                # A suspended generator keeps no Future alive that it has yielded.
                future = [ended.popleft()]
                if listener.leave(future[0]):
                    yield future.pop()
                del future
                continue
            left = None if end is None else end - monotonic()
            if left is not None and left < 0:
                raise TimeoutError(f"{len(listener.futures)} (of {total}) futures unfinished")
            listener.wait(waiter_for("as_completed", listener.futures), left)


class Listener:
    """A waiter of several Futures: each notifies it as it ends."""

    def __init__(self, futures: list[_Future], return_when: str) -> None:
        self.futures = set(futures)  # it is, or may be, one of their waiters
        self._unfinished = set(futures)
        self._finished: deque[_Future] = deque()
        self._return_when = return_when
        self._bell: list[Callable[[], object]] = []  # what the next end of a Future calls, once

    # Called where a Future ends, in any thread, with the lock of that Future held.

    def add_result(self, future: _Future) -> None:
        """Note a Future that has a result."""
        self._add(future, False)

    def add_exception(self, future: _Future) -> None:
        """Note a Future that has failed."""
        self._add(future, True)

    def add_cancelled(self, future: _Future) -> None:
        """Note a Future that was cancelled."""
        self._add(future, False)

    def _add(self, future: _Future, has_failed: bool) -> None:
        self._finished.append(future)
        self._unfinished.discard(future)
        when = self._return_when
        if when == FIRST_COMPLETED or not self._unfinished or (has_failed and when == FIRST_EXCEPTION):
            try:
                ring = self._bell.pop()
            except IndexError:
                return
            ring()

    # Called by the thread that waits.

    def join(self, future: _Future) -> None:
        """Listen to one more Future, which may have ended already. :meth:`take` then returns it."""
        self.futures.add(future)
        self._unfinished.add(future)
        _waiters_of(future).append(self)
        if _has_ended(future):
            self._add(future, False)

    def begin(self) -> None:
        """Join the waiters of every Future, and note which Futures have ended already."""
        for future in self.futures:
            _waiters_of(future).append(self)
        for future in self.futures:
            if _has_ended(future):
                self._unfinished.discard(future)

    def wait(self, waiter: Waiter, timeout: float | None) -> None:
        """Wait until ``return_when`` is met, ``timeout`` seconds at the most."""
        self._bell.append(waiter.notify)
        try:
            for future in self.futures:
                on_wait = getattr(future._condition, "on_wait", None)
                if on_wait is not None:
                    on_wait()
            if not self._has_enough():
                wait_looking_up(waiter, timeout)
        finally:
            self._bell.clear()

    def _has_enough(self) -> bool:
        # Each Future that has ended since ``begin()`` is in ``_finished``, also each that has failed.
        if self._return_when == FIRST_COMPLETED:
            return bool(self._finished)
        if not self._unfinished:
            return True
        return self._return_when == FIRST_EXCEPTION and any(map(_has_failed, list(self._finished)))

    def take(self) -> deque[_Future]:
        """Return the Futures that have ended since the last call, in the order of their ends."""
        taken: deque[_Future] = deque()
        while self._finished:
            taken.append(self._finished.popleft())
        return taken

    def leave(self, future: _Future) -> bool:
        """Leave one Future; return False if it was left before."""
        if future not in self.futures:
            return False
        self._remove_from(future)
        self.futures.discard(future)
        self._unfinished.discard(future)
        return True

    def end(self) -> None:
        """Leave every Future; may be called again."""
        for future in list(self.futures):
            self._remove_from(future)
            self.futures.discard(future)

    def _remove_from(self, future: _Future) -> None:
        waiters = _waiters_of(future)
        if self in waiters:
            condition = future._condition
            try:
                in_one_call([], condition.acquire, functools.partial(waiters.remove, self), condition.release)
            except ValueError:  # a fork has cleared the waiters just then
                condition.release()


def waiter_for(verb: str, futures: Iterable[_Future]) -> Waiter:
    """Return a waiter that fits this place.

    :raises BridgeError: the work of one of the Futures needs this thread, where it cannot go on meanwhile.
    """
    for future in futures:
        if isinstance(future, WorkFuture):
            future.check_place(f"bridge.{verb}")
    return waiter_here(bridges.of(where()).strategy)


def _checked(fs: Iterable[Any], verb: str) -> list[_Future]:
    """Return the Futures without duplicates.

    :raises TypeError: one of them is not a Future.
    :raises StrategyUnavailable: this Python lacks a private name that the wait needs.
    """
    if lost(FUTURES):
        raise unavailable(FUTURES, f"write concurrent.futures.{verb}(futures) in a thread without a loop")
    futures = list(dict.fromkeys(fs))
    for each in futures:
        if not isinstance(each, concurrent.futures.Future):
            raise TypeError(
                f"bridge.{verb} takes Futures of concurrent.futures, such as those of submit(), not {describe(each)}, "
                f"of type {type(each).__name__}"
                + (f"; submit({describe(each)}) gives one" if _is_async(each) else "")
                + at("takes-futures")
            )
    return futures


def _is_async(x: object) -> bool:
    return asyncio.isfuture(x) or hasattr(x, "__await__")


def _is_enough(futures: list[_Future], return_when: str) -> bool:
    """Return whether a wait for these would return at once."""
    ended = [future for future in futures if _has_ended(future)]
    if len(ended) == len(futures):
        return True
    if return_when == FIRST_COMPLETED:
        return bool(ended)
    return return_when == FIRST_EXCEPTION and any(map(_has_failed, ended))


def _has_ended(future: _Future) -> bool:
    """Return whether a Future has ended, without its lock. A cancelled one has when its executor knows."""
    return future._state in _ENDED


def _has_failed(future: _Future) -> bool:
    """Return whether a Future has an error. A call of ``exception()`` would count as having seen it."""
    return future._exception is not None


def _waiters_of(future: Any) -> list[Any]:
    waiters: list[Any] = future._waiters
    return waiters
