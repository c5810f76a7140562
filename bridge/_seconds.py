"""Numbers of seconds: those that users give, and one that several waits share."""

from __future__ import annotations

import threading

# How long the main thread sleeps at a time, in seconds; see bridge._verbs._wait.
LOOK_UP = 1.0


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
