"""Time-outs: the check of a number of seconds, and a wait in which the main thread handles signals."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic

# The longest time that the main thread sleeps at once, in seconds.
LOOK_UP = 1.0


def wait_looking_up(wait: Callable[[float], bool], limit: float | None, every: float | None = None) -> bool:
    """Wait in slices, between which Python handles signals. Return False on time-out.

    A signal that arrives after Python has checked for signals and before the main thread sleeps is handled only when
    the thread wakes. The slices bound that delay, so that a Ctrl-C may be late but is never lost.

    :param wait: sleeps for at most the given number of seconds; returns True once the event has occurred.
    :param limit: seconds; None waits for ever.
    :param every: the length of a slice in seconds; None means ``LOOK_UP``.
    """
    longest = LOOK_UP if every is None else every
    end = math.inf if limit is None else monotonic() + limit
    while True:
        left = end - monotonic()
        if wait(max(0.0, min(left, longest))):
            return True
        if left <= longest:
            return False


def checked_seconds(value: float | None, name: str) -> float | None:
    """Check a time-out given by the user. Return it, or None (wait for ever) if it is too large to wait for.

    :raises ValueError: it is negative or NaN.
    :raises TypeError: it is not a number.
    """
    if value is None:
        return None
    try:
        if value >= 0:
            return value if value <= threading.TIMEOUT_MAX else None
    except TypeError:
        raise TypeError(f"{name} is a number of seconds or None, not {value!r}") from None
    raise ValueError(f"{name} is a number of seconds, 0 or more, or None to wait for ever; not {value!r}")
