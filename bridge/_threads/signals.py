"""The check of a signal number given by the user."""

from __future__ import annotations

import signal
from typing import Any


def checked_signal(number: Any) -> int | None:
    """Return the number of a signal that a program can handle. None is returned unchanged.

    :raises TypeError: not a signal.
    :raises ValueError: this platform has no such signal, or no program can handle it.
    """
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"dump_signal is a signal such as signal.SIGUSR1, not {number!r}")
    if number not in signal.valid_signals() or number in (getattr(signal, "SIGKILL", 0), getattr(signal, "SIGSTOP", 0)):
        raise ValueError(f"dump_signal: {number!r} is no signal that a program can handle; write signal.SIGUSR1")
    return int(number)
