"""Seconds: those that users give, and those that the main thread sleeps at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic

# How long the main thread sleeps at a time, in seconds.
LOOK_UP = 1.0


def wait_looking_up(wait: Callable[[float], bool], limit: float | None, every: float | None = None) -> bool:
    """Wait for so many seconds or for ever, and return whether what is waited for has come.

    A signal that arrives after Python has looked for signals and before the main thread sleeps is handled when the
    thread wakes. So that looks up now and then: a Ctrl-C is late at the worst.

    :param wait: sleeps for a number of seconds at the most, and returns whether it has come.
    :param every: how long to sleep at a time, in seconds; ``LOOK_UP`` unless told.
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
    """Return a number of seconds that can be waited for, None for ever.

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
