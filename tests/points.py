"""Raise KeyboardInterrupt at each point where CPython handles signals, one after the other.

These are where a function is entered and where one written in C returns, and there a profile function is called.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import FrameType


def interrupt(do: Callable[[], object], at: int) -> str:
    """Call do, and raise KeyboardInterrupt at so many points from its beginning; return where, "" if it has ended."""
    count, point = 0, ""

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count, point
        if event in ("call", "c_return"):
            count += 1
            if count == at:
                sys.setprofile(None)
                point = f"{at}: {event} in {frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        try:
            sys.setprofile(profile)
            do()
        finally:
            sys.setprofile(None)
    return point
