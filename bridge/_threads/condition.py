"""Locks that Ctrl-C never leaves held: an RLock, and the Condition that a Future waits on.

In CPython 3.14, and in no other version, ``with lock:`` handles signals between the acquisition and the first line of
the block (python/cpython#148874, mended in 3.15). A handler that raises there leaves any lock of the standard library's
held, for ever. Ours are entered by a method in Python there, which undoes its acquisition.

``threading.Condition`` enters its lock in a method written in Python. A signal handler that raises between that and the
first line of the ``with`` block, or as ``wait()`` has just let the lock go, leaves it held for ever or fails to release
it. Whoever settles the Future then stands still, and for ours that is the loop's thread.
"""

from __future__ import annotations

import contextlib
import operator
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .native import WITH_MAY_LEAVE_HELD, allocate_lock, get_ident, is_patched, original
from .seconds import wait_looking_up

if TYPE_CHECKING:
    ThreadRLock = threading.RLock
    _Lock = threading.Condition
else:

    class ThreadRLock(original("_thread", "RLock")):
        """A lock of threads, also in a process that gevent has patched, whose ``with`` undoes what is cut off."""

        if WITH_MAY_LEAVE_HELD and hasattr(original("_thread", "RLock"), "_recursion_count"):

            def __enter__(self) -> bool:
                """Acquire the lock; no signal is handled between the end of this and the block."""
                held = self._recursion_count()
                try:
                    return self.acquire()
                except BaseException:
                    if self._recursion_count() > held:
                        self.release()
                    raise

    class _Lock(ThreadRLock, threading.Condition):
        """A lock whose methods are those of C, and a condition by its class."""


def new_lock() -> threading.RLock:
    """Return a re-entrant lock that Ctrl-C does not leave held; of gevent's in a process that it has patched."""
    return ThreadRLock() if WITH_MAY_LEAVE_HELD and not is_patched() else threading.RLock()


class Condition(_Lock):
    """A condition variable and its lock in one; also in a process that gevent has patched, where it blocks threads."""

    # Called by each thread that begins to wait, with the lock held, once it is among those that are to be notified.
    on_wait: Callable[[], object] | None = None

    def __init__(self) -> None:
        self._waiters: deque[Any] = deque()

    def waiter(self) -> Any:
        """Return what waits in this thread in the place of a lock, a ``Waiter``; None for the lock."""
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Let the lock go, wait to be notified, take the lock again, and return whether it was not the time that ended.

        :param timeout: seconds; None waits for ever.
        :raises RuntimeError: the lock is not held.
        """
        lock: Any = self
        if not _is_owned(lock):
            raise RuntimeError("cannot wait on un-acquired lock")
        other = self.waiter()
        if other is None:
            waiter: Any = allocate_lock()
            waiter.acquire()
        else:
            waiter = _Notified(other)
        saved: list[Any] = []
        let_go, take_back = _ways_of(lock)
        try:
            self._waiters.append(waiter)
            if self.on_wait is not None:
                self.on_wait()
            # In one call of C: once the lock is free, it is known how often it was held.
            saved.extend(let_go)
            if other is not None:
                return bool(other.wait(None if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)))
            if get_ident() == threading.main_thread().ident:
                return wait_looking_up(lambda seconds: waiter.acquire(timeout=seconds), timeout)
            return bool(waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout)))
        finally:
            try:
                if saved:
                    take_back(saved[0])
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def notify(self, n: int = 1) -> None:
        """Wake so many of the threads that wait.

        :raises RuntimeError: the lock is not held.
        """
        if not _is_owned(self):
            raise RuntimeError("cannot notify on un-acquired lock")
        waiters = self._waiters
        while waiters and n > 0:
            waiter = waiters[0]
            try:
                waiter.release()
            except RuntimeError:  # notified before, and has not come to take itself away
                pass
            else:
                n -= 1
            with contextlib.suppress(ValueError):  # it has just now
                waiters.remove(waiter)

    def notify_all(self) -> None:
        """Wake all threads that wait.

        :raises RuntimeError: the lock is not held.
        """
        self.notify(len(self._waiters))


class _Notified:
    """A waiter among the locks that a condition releases, each once."""

    __slots__ = ("release",)

    def __init__(self, waiter: Any) -> None:
        self.release = waiter.notify


# RLock has these methods for threading.Condition. Without them a lock is let go once, which is how often a Future's is
# held as its waiters let it go.


def _is_owned(lock: Any) -> bool:
    is_owned = getattr(lock, "_is_owned", None)
    return is_owned is None or bool(is_owned())


def _ways_of(lock: Any) -> tuple[Iterator[Any], Callable[[Any], object]]:
    """Return what lets the lock go as it is iterated, and what takes it back, given what the former has yielded.

    All of it is C's: an interrupt in a function of ours would come between the wait and the lock.
    """
    if hasattr(lock, "_release_save") and hasattr(lock, "_acquire_restore"):
        return map(operator.call, (lock._release_save,)), lock._acquire_restore
    nothing: Iterator[Any] = map(operator.call, (lock.release,))
    return map(operator.is_, nothing, (None,)), lock.acquire  # yields True: to block
