"""The Condition that a Future waits on, which Ctrl-C never leaves with its lock held.

``threading.Condition`` enters its lock in a method written in Python. A signal handler may raise between that and the
first line of the ``with`` block, or just after ``wait()`` has released the lock. Then the lock stays held for ever, or
its release fails. The thread that settles the Future then blocks; for our Futures that is the loop's thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .interrupts import in_one_call
from .lock_waiter import LockWaiter
from .native import ThreadRLock, new_lock
from .signals import wait_looking_up

__all__ = ["Condition", "ThreadRLock", "new_lock"]

if TYPE_CHECKING:
    _Lock = threading.Condition
else:

    class _Lock(ThreadRLock, threading.Condition):
        """An RLock with its methods in C that is also an instance of ``threading.Condition``."""


class Condition(_Lock):
    """A condition variable and its lock in one object. It blocks threads, also in a process that gevent has patched."""

    # Called by each thread that begins to wait, with the lock held, after its waiter was added to the list.
    on_wait: Callable[[], object] | None = None

    def __init__(self) -> None:
        self._waiters: deque[Any] = deque()

    def waiter(self) -> Any:
        """Return the ``Waiter`` by which this thread waits."""
        return LockWaiter()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified and take the lock again. Return False on time-out.

        :param timeout: seconds; None waits for ever.
        :raises RuntimeError: the lock is not held.
        """
        lock: Any = self
        if not _is_owned(lock):
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter = self.waiter()
        saved: list[Any] = []
        # These are in C: a signal handler could run in a function of ours, between the wait and the lock. RLock has
        # them for threading.Condition. On a Python without them the lock is released once: a Future's lock is held once
        # when a waiter releases it.
        has_state = hasattr(lock, "_release_save") and hasattr(lock, "_acquire_restore")
        release, restore = (lock._release_save, lock._acquire_restore) if has_state else (lock.release, lock.acquire)
        try:
            self._waiters.append(waiter)
            if self.on_wait is not None:
                self.on_wait()
            in_one_call(saved, release)
            return wait_looking_up(waiter, timeout)
        finally:
            try:
                if saved:
                    restore(*saved) if has_state else restore()
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
                waiter.notify()
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


def _is_owned(lock: Any) -> bool:
    is_owned = getattr(lock, "_is_owned", None)
    return is_owned is None or bool(is_owned())
