"""The checks of numbers given by the user: of seconds, and of a signal."""

from __future__ import annotations

import signal
import threading
from typing import Any

from .._errors import at


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
        raise TypeError(f"{name} is a number of seconds or None, not {value!r}" + at("wrong-seconds")) from None
    raise ValueError(
        f"{name} is a number of seconds, 0 or more, or None to wait for ever; not {value!r}" + at("wrong-seconds")
    )


def checked_signal(number: Any) -> int | None:
    """Return the number of a signal that a program can handle. None is returned unchanged.

    :raises TypeError: not a signal.
    :raises ValueError: this platform has no such signal, or no program can handle it.
    """
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"dump_signal is a signal such as signal.SIGUSR1, not {number!r}" + at("wrong-value"))
    if number not in signal.valid_signals() or number in (getattr(signal, "SIGKILL", 0), getattr(signal, "SIGSTOP", 0)):
        raise ValueError(
            f"dump_signal: {number!r} is no signal that a program can handle; write signal.SIGUSR1" + at("wrong-value")
        )
    return int(number)
