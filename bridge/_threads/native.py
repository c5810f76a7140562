"""Native threads, locks and thread identifiers, also in a process that gevent has patched.

In a patched process ``threading.Thread`` starts a greenlet, ``get_ident()`` identifies greenlets, locks block greenlets
and ``selectors.DefaultSelector`` waits in gevent's hub. Our loop, its workers and its watchdog need native threads and
the original functions, which gevent keeps. bridge and gevent may be imported in either order. But our threads that run
already are not patched: patch before the first call.
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

# ``with lock:`` may leave the lock held when a signal handler raises; see condition.py.
WITH_MAY_LEAVE_HELD = sys.version_info[:2] == (3, 14)

FOR_GREENLETS = (
    "gevent has patched this process, and what it waits on is for greenlets now; leave the strategy out, or write "
    "strategy='gevent'"
)


def is_patched() -> bool:
    """Return whether gevent has replaced threads with greenlets in this process."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def original(module: str, name: str) -> Any:
    """Return a function or class of the standard library as it is without gevent's patches."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched(module):
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


get_ident: Callable[[], int] = original("_thread", "get_ident")
allocate_lock: Callable[[], threading.Lock] = original("_thread", "allocate_lock")
_start_new_thread: Callable[..., int] = original("_thread", "start_new_thread")


_has_dead_threads = False


def keep_from_frames() -> None:
    """Make :func:`current_frames` return nothing from now on: this is a forked child that has called no hooks."""
    global _has_dead_threads
    _has_dead_threads = True


def current_frames() -> dict[int, FrameType]:
    """Return the current frame of each native thread, by the thread's identifier.

    ``sys._current_frames()`` creates frame objects while it holds a lock of the interpreter. CPython 3.11, except its
    last releases, may collect garbage there. If a finalizer then lets a thread run that starts or ends another thread,
    that one waits for the lock while it holds the GIL, and the process deadlocks (python/cpython#106883).

    In a forked child that has called no hooks the dict is empty. There CPython still has the states of the parent's
    threads. They point into the stacks of these threads, which new threads overwrite.
    """
    if _has_dead_threads:
        return {}
    if sys.version_info < (3, 12) and gc.isenabled():
        # In one call of C: no other thread runs and no signal is handled while garbage collection is disabled.
        calls: list[Callable[[], Any]] = [gc.disable, sys._current_frames, gc.enable]
        frames: list[dict[int, FrameType]] = list(map(operator.call, calls))
        return frames.pop(1)  # pop: this frame is in the dict, and must not keep it
    return sys._current_frames()


_ours: set[int] = set()  # the identifiers of native threads in a patched process
_LOOK = 0.002  # seconds


def wait_until(is_so: Callable[[], bool], timeout: float | None) -> bool:
    """Poll a condition until it is true, in a patched process. Return False on time-out. Blocks the greenlet only.

    gevent's events raise an error where the hub has nothing else to wait for: it takes that for a deadlock. Polling is
    cheap enough for the start and the end of threads, which is what this is for.

    :param timeout: seconds; None waits for ever.
    """
    deadline = inf if timeout is None else monotonic() + timeout
    gevent: Any = importlib.import_module("gevent")
    # The hub, in which signal handlers run, cannot switch to itself.
    without_hub = get_ident() in _ours or gevent.getcurrent() is gevent.get_hub()
    sleep = original("time", "sleep") if without_hub else gevent.sleep
    while not is_so() and monotonic() < deadline:
        sleep(_LOOK)
    return is_so()


class Thread(threading.Thread):
    """A native thread, also in a process that gevent has patched."""

    _is_real = False  # whether it was started by _start_new_thread, past gevent's patched Thread
    _real_ident: int | None = None
    _is_over = False

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: it was started before, or the system can start no more threads.
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
            # In one call of C: no signal is handled between the start of the helper thread and the note of it.
            begun.extend(map(_start_new_thread, (start,), ((),)))
            ended.acquire()
        except BaseException:  # Ctrl-C: wait for the helper thread, so that is_alive() tells the truth afterwards
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
        """Return whether the thread has started and not ended."""
        return not self._is_over if self._is_real else super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended. In a patched process this blocks the greenlet only.

        :param timeout: seconds; None waits for ever.
        :raises RuntimeError: the thread has not started, or is the current one.
        """
        if self._is_real:
            wait_until(lambda: self._is_over, timeout)
        else:
            super().join(timeout)
