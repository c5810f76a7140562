"""Native threads, locks and thread identifiers, also in a process that gevent has patched.

What differs in a process that gevent has patched stands in modules named ``gevent``: threads in this room, waiters in
:mod:`bridge.strategies`, the workers of a loop in ``_loop``, the thread pool of a reactor in ``_twisted``. Whatever has
to know asks :func:`patched`, which chooses once, when gevent has patched the process.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from .interrupts import in_one_call

# In CPython 3.14, and in no other version, ``with lock:`` handles signals between the acquisition and the first line of
# the block (python/cpython#148874, fixed in 3.15). A handler that raises there leaves a lock of the standard library
# held for ever. On 3.14 our locks have an ``__enter__`` in Python, which undoes the acquisition.
_WITH_MAY_LEAVE_HELD = sys.version_info[:2] == (3, 14)


def original(module: str, name: str) -> Any:
    """Return a function or class of the standard library as it is without gevent's patches."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched(module):
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


get_ident: Callable[[], int] = original("_thread", "get_ident")
allocate_lock: Callable[[], threading.Lock] = original("_thread", "allocate_lock")
start_new_thread: Callable[..., int] = original("_thread", "start_new_thread")
sleep: Callable[[float], None] = original("time", "sleep")

_patched: list[ModuleType] = []


def patched() -> Any:
    """Return what differs where gevent has replaced threads with greenlets: its module here. None in other processes.

    gevent may patch a process after the import of ours, and never undoes it. So its module is loaded and kept as soon
    as it has. Our threads that run already are not patched: patch before the first call.
    """
    if not _patched:
        monkey: Any = sys.modules.get("gevent.monkey")
        if monkey is None or not monkey.is_module_patched("threading"):
            return None
        _patched.append(importlib.import_module(".gevent", __package__))
    return _patched[0]


def is_patched() -> bool:
    """Return whether gevent has replaced threads with greenlets in this process."""
    return patched() is not None


if TYPE_CHECKING:
    ThreadRLock = threading.RLock
else:

    class ThreadRLock(original("_thread", "RLock")):
        """CPython's RLock, also in a process that gevent has patched. An interrupted ``with`` never leaves it held."""

        if _WITH_MAY_LEAVE_HELD and hasattr(original("_thread", "RLock"), "_recursion_count"):

            def __enter__(self) -> bool:
                """Acquire the lock. No signal is handled between the return of this method and the block."""
                held = self._recursion_count()
                try:
                    return self.acquire()
                except BaseException:
                    if self._recursion_count() > held:
                        self.release()
                    raise


def new_lock() -> threading.RLock:
    """Return a re-entrant lock that Ctrl-C does not leave held; gevent's lock in a process that gevent has patched."""
    return ThreadRLock() if _WITH_MAY_LEAVE_HELD and not is_patched() else threading.RLock()


# The process whose threads CPython knows. A fork that calls hooks, as Python's own do, has CPython forget those of the
# parent.
_process = os.getpid()


def _note_process() -> None:
    global _process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_process)


def current_frames() -> dict[int, FrameType]:
    """Return the current frame of each native thread, by the thread's identifier.

    ``sys._current_frames()`` creates frame objects while it holds a lock of the interpreter. CPython 3.11, except its
    last releases, may collect garbage there. If a finalizer then lets a thread run that starts or ends another thread,
    that one waits for the lock while it holds the GIL, and the process deadlocks (python/cpython#106883).

    In a forked child that has called no hooks the dict is empty. There CPython still has the states of the parent's
    threads. They point into the stacks of these threads, which new threads overwrite.
    """
    if _process != os.getpid():
        return {}
    if sys.version_info < (3, 12) and gc.isenabled():
        # In one call of C: no other thread runs and no signal is handled while garbage collection is disabled.
        results: list[dict[int, FrameType]] = []
        in_one_call(results, gc.disable, sys._current_frames, gc.enable)
        return results.pop(1)  # pop: this frame is in the dict, and must not keep it
    return sys._current_frames()


class Thread(threading.Thread):
    """A native thread, also in a process that gevent has patched."""

    _native: Any = None  # what stands for the thread if it was started past gevent's patched Thread

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: it was started before, or the system can start no more threads.
        """
        backend = patched()
        if backend is not None:
            if self._native is not None:
                raise RuntimeError("threads can only be started once")
            native = backend.NativeThread(self)
            native.start()
            self._native = native
        elif _WITH_MAY_LEAVE_HELD and get_ident() == threading.main_thread().ident:
            self._start_elsewhere()
        else:
            super().start()

    def _start_elsewhere(self) -> None:
        """Start the thread from a helper thread, in which no signal is handled.

        ``start()`` enters a global lock of ``threading``. If that stayed held, no thread could start or end any more.
        """
        begun: list[int] = []
        outcome: list[BaseException | None] = []
        ended = allocate_lock()
        ended.acquire()

        def start() -> None:
            try:
                super(Thread, self).start()
            except BaseException as error:
                outcome.append(error)
            else:
                outcome.append(None)
            finally:
                ended.release()

        try:
            in_one_call(begun, functools.partial(start_new_thread, start, ()))
            ended.acquire()
        except BaseException:  # Ctrl-C: wait for the helper thread, so that is_alive() tells the truth afterwards
            if begun and not outcome:
                ended.acquire()
            raise
        if outcome[0] is not None:
            raise outcome[0]

    @property
    def ident(self) -> int | None:
        """The thread's identifier, None before it has started."""
        return super().ident if self._native is None else self._native.ident

    def is_alive(self) -> bool:
        """Return whether the thread has started and not ended."""
        return super().is_alive() if self._native is None else not self._native.is_over

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended. In a patched process this blocks the greenlet only.

        :param timeout: seconds; None waits for ever.
        :raises RuntimeError: the thread has not started, or is the current one.
        """
        if self._native is None:
            super().join(timeout)
        else:
            self._native.join(timeout)
