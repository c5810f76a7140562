"""map: many calls of one function, a limited number of them at once.

Each call is submitted as by :func:`bridge.submit`. A call enters the dict of the calls that have begun in one call of C
with the return of its ``submit()``, so that Ctrl-C at any line finds each call that has to be cancelled.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED
from itertools import islice
from time import monotonic
from typing import Any, cast

from .._errors import BridgeError, at
from .._runs.run import Owner
from .._values.kinds import describe
from .._values.numbers import checked_seconds
from .._values.outcomes import trim
from .completed import Listener, wait, waiter_for
from .submit import WorkFuture, submit


def checked(
    function: Callable[..., Any], iterables: tuple[Iterable[Any], ...], limit: int, timeout: float | None
) -> tuple[Callable[..., Any], Iterator[tuple[Any, ...]], int, float | None]:
    """Return the checked arguments of :func:`bridge.map` as :func:`results` takes them.

    :raises TypeError: function cannot be called, or one of the others is of the wrong type.
    :raises ValueError: limit is less than 1, or timeout is negative or NaN.
    """
    if not callable(function):
        raise TypeError(
            f"map takes a function, which is called with the items, not {describe(function)}, of type "
            f"{type(function).__name__}; for work that has begun there is bridge.as_completed(futures)"
            + at("takes-a-function")
        )
    if not iterables:
        raise TypeError(
            f"map takes the function and at least one iterable: map({describe(function)}, items)"
            + at("takes-a-function")
        )
    if not isinstance(limit, int):
        raise TypeError(
            f"limit is the number of calls that run at once, not {limit!r}, of type {type(limit).__name__}"
            + at("wrong-value")
        )
    if limit < 1:
        raise ValueError(f"limit is the number of calls that run at once, at least 1, not {limit}" + at("wrong-value"))
    return function, zip(*iterables, strict=False), limit, checked_seconds(timeout, "timeout")


def results(
    owner: Callable[[], Owner],
    function: Callable[..., Any],
    arguments: Iterator[tuple[Any, ...]],
    limit: int,
    timeout: float | None,
    is_ordered: bool,
) -> Generator[Any, None, None]:
    """Yield the results of the calls; :meth:`bridge.Bridge.map` has the contract.

    :param owner: returns the bridge. Called as the first result is asked for.
    """
    deadline = None if timeout is None else monotonic() + timeout
    try:
        calls = _Calls(owner(), function, arguments, limit)
        try:
            while True:
                calls.begin_more()
                # A suspended generator keeps no result alive that it has yielded.
                taken = calls.take(is_ordered)
                if taken:
                    yield taken.pop().result()
                elif calls.begun:
                    left = None if deadline is None else deadline - monotonic()
                    if left is not None and left < 0:
                        raise TimeoutError(f"the next result did not come within {timeout} seconds of the first call")
                    calls.wait(left)
                else:
                    return
        except GeneratorExit:
            try:
                calls.end()
            except KeyboardInterrupt:
                # A ``for`` statement has dropped this generator. What is raised here Python would print, and go on.
                calls.interrupt_later()
            raise
        finally:
            calls.end()
            calls.is_left = True  # no signal is handled between this line and the end of a generator that was dropped
    except GeneratorExit:
        raise
    except BaseException as error:
        trim(error)
        raise


class _Calls:
    """The calls of one map."""

    def __init__(
        self, owner: Owner, function: Callable[..., Any], arguments: Iterator[tuple[Any, ...]], limit: int
    ) -> None:
        self.begun: deque[WorkFuture] = deque()  # in the order of their arguments, without those that were taken
        self.is_left = False
        self._new: deque[WorkFuture] = deque()  # begun, and not yet in ``begun``
        self._ended: deque[WorkFuture] = deque()  # in the order of their ends
        self._owner = owner
        self._function = function
        self._arguments = arguments
        self._limit = limit
        self._listener = Listener([], FIRST_COMPLETED)  # has those that run

    def begin_more(self) -> None:
        """Begin calls until as many run as may."""
        listener = self._listener
        self._ended += (cast(WorkFuture, each) for each in listener.take() if listener.leave(each))
        self._new += map(self._begin, islice(self._arguments, self._limit - len(listener.futures)))
        for future in self._new:
            listener.join(future)
        self.begun += self._new
        self._new.clear()

    def _begin(self, items: tuple[Any, ...]) -> WorkFuture:
        future = submit(self._owner, functools.partial(self._function, *items))
        # Its error is raised in its turn or never: the map may be left, or kept by a traceback, before that.
        future.ignore()
        return future

    def take(self, is_ordered: bool) -> list[WorkFuture]:
        """Take the Future whose result comes next. Return it in a list, which is empty if it has not ended."""
        if is_ordered:
            self._ended.clear()
            return [self.begun.popleft()] if self.begun and self.begun[0] not in self._listener.futures else []
        if not self._ended:
            return []
        self.begun.remove(self._ended[0])
        return [self._ended.popleft()]

    def wait(self, timeout: float | None) -> None:
        """Wait until one more has ended, ``timeout`` seconds at the most."""
        self._listener.wait(waiter_for("map", self.begun), timeout)

    def end(self) -> None:
        """Cancel the calls that were not taken, and wait for their cleanup. Their errors are not logged."""
        futures = dict.fromkeys((*self.begun, *self._new))
        uncancelled = deque(futures)
        try:
            _cancel(uncancelled)
            run = self._owner.last_run
            if futures and run is not None and run.over is None:
                # A refusal to wait here, such as on the loop's root stack, leaves the cleanup to the loop.
                with contextlib.suppress(BridgeError):
                    wait(futures, run.shutdown_timeout, ALL_COMPLETED)
        except BaseException:  # Ctrl-C
            _cancel(uncancelled)
            raise
        finally:
            self._listener.end()
            self.begun.clear()
            self._new.clear()
            self._ended.clear()

    def interrupt_later(self) -> None:
        """Have the loop's thread interrupt the main thread, as Ctrl-C does, when that has left the generator."""
        run = self._owner.last_run

        def interrupt() -> None:
            if self.is_left:
                # Not interrupt_main(), which wakes no sleep; Windows has nothing else.
                if sys.platform == "win32":
                    _thread.interrupt_main()
                else:
                    signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGINT)
            elif run is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    run.post(interrupt)

        interrupt()


def _cancel(futures: deque[WorkFuture]) -> None:
    """Cancel Futures. After an interrupt it may be called again, for those that are left."""
    while futures:
        futures[0].cancel()
        futures.popleft()
