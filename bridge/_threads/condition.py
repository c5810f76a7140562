"""Locks that Ctrl-C never leaves held: an RLock, and the Condition that a Future waits on.

In CPython 3.14, and in no other version, ``with lock:`` handles signals between the acquisition and the first line of
the block (python/cpython#148874, fixed in 3.15). A handler that raises there leaves a lock of the standard library
held for ever. On 3.14 our locks have an ``__enter__`` in Python, which undoes the acquisition.

``threading.Condition`` enters its lock in a method written in Python. A signal handler may raise between that and the
first line of the ``with`` block, or just after ``wait()`` has released the lock. Then the lock stays held for ever, or
its release fails. The thread that settles the Future then blocks; for our Futures that is the loop's thread.
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
        """CPython's RLock, also in a process that gevent has patched. An interrupted ``with`` never leaves it held."""

        if WITH_MAY_LEAVE_HELD and hasattr(original("_thread", "RLock"), "_recursion_count"):

            def __enter__(self) -> bool:
                """Acquire the lock. No signal is handled between the return of this method and the block."""
                held = self._recursion_count()
                try:
                    return self.acquire()
                except BaseException:
                    if self._recursion_count() > held:
                        self.release()
                    raise

    class _Lock(ThreadRLock, threading.Condition):
        """An RLock with its methods in C that is also an instance of ``threading.Condition``."""


def new_lock() -> threading.RLock:
    """Return a re-entrant lock that Ctrl-C does not leave held; gevent's lock in a process that gevent has patched."""
    return ThreadRLock() if WITH_MAY_LEAVE_HELD and not is_patched() else threading.RLock()


class Condition(_Lock):
    """A condition variable and its lock in one object. It blocks threads, also in a process that gevent has patched."""

    # Called by each thread that begins to wait, with the lock held, after its waiter was added to the list.
    on_wait: Callable[[], object] | None = None

    def __init__(self) -> None:
        self._waiters: deque[Any] = deque()

    def waiter(self) -> Any:
        """Return the ``Waiter`` by which this thread waits; None to wait on a lock."""
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified and take the lock again. Return False on time-out.

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
        release, restore = _release_and_restore(lock)
        try:
            self._waiters.append(waiter)
            if self.on_wait is not None:
                self.on_wait()
            # Release and save the count in one call of C: once the lock is free, `saved` says how often it was held.
            saved.extend(release)
            if other is not None:
                return bool(other.wait(None if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)))
            if get_ident() == threading.main_thread().ident:
                return wait_looking_up(lambda seconds: waiter.acquire(timeout=seconds), timeout)
            return bool(waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout)))
        finally:
            try:
                if saved:
                    restore(saved[0])
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def notify(self, n: int = 1) -> None:
        """Wake at most n of the waiting threads.

        :raises RuntimeError: the lock is not held.
        """
        if not _is_owned(self):
            raise RuntimeError("cannot notify on un-acquired lock")
        waiters = self._waiters
        while waiters and n > 0:
            waiter = waiters[0]
            try:
                waiter.release()
            except RuntimeError:  # notified before; its thread has not removed it from the list yet
                pass
            else:
                n -= 1
            with contextlib.suppress(ValueError):  # its thread has just removed it
                waiters.remove(waiter)

    def notify_all(self) -> None:
        """Wake all waiting threads.

        :raises RuntimeError: the lock is not held.
        """
        self.notify(len(self._waiters))


class _Notified:
    """A ``Waiter`` with the ``release()`` of a lock, as an entry in a condition's list of locks."""

    __slots__ = ("release",)

    def __init__(self, waiter: Any) -> None:
        self.release = waiter.notify


# RLock has these methods for threading.Condition. On a Python without them the lock is released once: a Future's lock
# is held once when a waiter releases it.


def _is_owned(lock: Any) -> bool:
    is_owned = getattr(lock, "_is_owned", None)
    return is_owned is None or bool(is_owned())


def _release_and_restore(lock: Any) -> tuple[Iterator[Any], Callable[[Any], object]]:
    """Return an iterator that releases the lock and yields its state, and a function that restores the lock from that.

    Both are written in C: a signal handler could run in a function of ours, between the wait and the lock.
    """
    if hasattr(lock, "_release_save") and hasattr(lock, "_acquire_restore"):
        return map(operator.call, (lock._release_save,)), lock._acquire_restore
    nothing: Iterator[Any] = map(operator.call, (lock.release,))
    return map(operator.is_, nothing, (None,)), lock.acquire  # yields True: to block
