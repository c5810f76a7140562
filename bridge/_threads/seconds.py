"""The check of a number of seconds given by the user."""

from __future__ import annotations

import threading


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
