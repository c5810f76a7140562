"""Threads of the system's, and what belongs to them, also in a process that gevent has patched.

There ``threading.Thread`` starts a greenlet, ``get_ident()`` tells greenlets apart, locks block greenlets and
``selectors.DefaultSelector`` waits in gevent's hub. Our loop, its workers and its watchdog need real threads with the
original of all that; gevent keeps the originals. It does not matter which of the two is imported first, but threads of
ours that run already are not patched: patch before the first call.
"""

from __future__ import annotations

import gc
import importlib
import operator
import sys
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from types import FrameType
from typing import Any

# CPython 3.14 handles signals between the acquisition and the block of ``with lock:``; see condition.py.
WITH_MAY_LEAVE_HELD = sys.version_info[:2] == (3, 14)

FOR_GREENLETS = (
    "gevent has patched this process, and what it waits on is for greenlets now; leave the strategy out, or write "
    "strategy='gevent'"
)


def is_patched() -> bool:
    """Return whether gevent has put greenlets in the place of threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def original(module: str, name: str) -> Any:
    """Return what a name of the standard library stands for where nothing is patched."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched(module):
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


get_ident: Callable[[], int] = original("_thread", "get_ident")
allocate_lock: Callable[[], threading.Lock] = original("_thread", "allocate_lock")
_start_new_thread: Callable[..., int] = original("_thread", "start_new_thread")


def current_frames() -> dict[int, FrameType]:
    """Return the frame that each thread of the system's stands in, by the thread's identifier.

    ``sys._current_frames()`` makes frame objects while it holds a lock of the interpreter's, and CPython 3.11, but for
    its last releases, may collect garbage there. Where a finalizer lets another thread run that starts or ends one,
    and so waits for that lock with the GIL in its hands, the process stands still for ever (python/cpython#106883).
    """
    if sys.version_info < (3, 12) and gc.isenabled():
        # In one call of C, so that no other thread runs and no signal is handled while garbage is not collected.
        calls: list[Callable[[], Any]] = [gc.disable, sys._current_frames, gc.enable]
        frames: list[dict[int, FrameType]] = list(map(operator.call, calls))
        return frames.pop(1)  # so that none stays with this frame, which is one of them
    return sys._current_frames()


_ours: set[int] = set()  # the identifiers of real threads in a patched process
_LOOK = 0.002  # seconds


def wait_until(is_so: Callable[[], bool], timeout: float | None) -> bool:
    """Wait in a patched process until something is so, and return whether it is. It blocks the greenlet only.

    gevent's own events take a hub for deadlocked that has nothing else to wait for. So this looks again and again: it
    is for the start and the end of threads.

    :param timeout: seconds; None waits for ever.
    """
    deadline = inf if timeout is None else monotonic() + timeout
    gevent: Any = importlib.import_module("gevent")
    # The hub, where signal handlers run, cannot give way to itself.
    alone = get_ident() in _ours or gevent.getcurrent() is gevent.get_hub()
    sleep = original("time", "sleep") if alone else gevent.sleep
    while not is_so() and monotonic() < deadline:
        sleep(_LOOK)
    return is_so()


class Thread(threading.Thread):
    """A thread of the system's."""

    _is_real = False  # whether it was started here, behind gevent's back
    _real_ident: int | None = None
    _is_over = False

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: it was started before, or no more threads are to be had.
        """
        if not is_patched():
            if WITH_MAY_LEAVE_HELD and get_ident() == threading.main_thread().ident:
                self._start_elsewhere()
            else:
                super().start()
            return
        if self._is_real:
            raise RuntimeError("threads can only be started once")
        _start_new_thread(self._run_for_real, ())
        self._is_real = True

    def _start_elsewhere(self) -> None:
        """Start the thread from another one, where no signal is handled.

        ``start()`` enters a lock of all threads, without which none could start or end any more.
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
            # In one call of C: no signal is handled between the start of that thread and the note of it.
            begun.extend(map(_start_new_thread, (start,), ((),)))
            ended.acquire()
        except BaseException:  # Ctrl-C; whoever looks afterwards is to see whether the thread has started
            if begun and not outcome:
                ended.acquire()
            raise
        if outcome[0] is not None:
            raise outcome[0]

    def _run_for_real(self) -> None:
        self._real_ident = get_ident()
        _ours.add(self._real_ident)
        try:
            self.run()
        except SystemExit:
            pass
        except BaseException as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self)))
        finally:
            _ours.discard(self._real_ident)
            self._is_over = True

    @property
    def ident(self) -> int | None:
        """The thread's identifier, None before it has started."""
        return self._real_ident if self._is_real else super().ident

    def is_alive(self) -> bool:
        """Return whether it has started and not ended."""
        return not self._is_over if self._is_real else super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended; in a patched process that blocks the greenlet only.

        :param timeout: seconds; None waits for ever.
        :raises RuntimeError: it has not started, or is the one that calls.
        """
        if self._is_real:
            wait_until(lambda: self._is_over, timeout)
        else:
            super().join(timeout)
