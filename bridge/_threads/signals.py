"""Signals: how the main thread looks up for them while it waits.

CPython handles signals in the main thread, between two lines. A signal that arrives after CPython has checked for
signals and before the thread sleeps in a call of C is handled only when that returns. So is a signal that the system
has delivered to another thread. Therefore the main thread sleeps for ``LOOK_UP`` seconds at the most, and Ctrl-C may be
late but is never lost. Whatever sleeps in the main thread does so by :func:`wait_looking_up`, or for at most
:func:`longest_sleep`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from .native import get_ident

# The longest time that the main thread sleeps at once, in seconds.
LOOK_UP = 1.0


def longest_sleep() -> float:
    """Return for how many seconds this thread may sleep at once: without a limit, but for the main thread."""
    return LOOK_UP if get_ident() == threading.main_thread().ident else threading.TIMEOUT_MAX


def wait_looking_up(waiter: Any, timeout: float | None) -> bool:
    """Wait by a :class:`bridge.strategies.Waiter`. Return False on time-out.

    In the main thread a waiter that sleeps is waited for in slices.

    :param timeout: seconds; None waits for ever.
    """
    if timeout is not None:
        timeout = min(max(0.0, timeout), threading.TIMEOUT_MAX)
    longest = longest_sleep()
    if longest == threading.TIMEOUT_MAX or not getattr(waiter, "sleeps", True):
        return bool(waiter.wait(timeout))
    return wait_in_slices(waiter.wait, timeout, longest)


def wait_in_slices(wait: Callable[[float], bool], timeout: float | None, longest: float) -> bool:
    """Wait for some seconds at a time, until one of these waits returns true. Return False on time-out.

    :param wait: waits for so many seconds at the most. If it returns False long before that, a wait with a time-out is
        over: a waiter may have a clock of its own.
    :param timeout: seconds; None waits for ever.
    :param longest: the length of a slice, in seconds.
    """
    now = monotonic()
    end = None if timeout is None else now + timeout
    while True:
        left = longest if end is None else end - now
        pause = max(0.0, min(left, longest))
        if wait(pause):
            return True
        began, now = now, monotonic()
        if end is not None and (left <= longest or now - began < pause / 2):
            return False
