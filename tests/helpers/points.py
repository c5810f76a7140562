"""Raise KeyboardInterrupt at each point where CPython handles signals, one after the other.

These are where a function is entered and where one written in C returns, and there a profile function is called. From
CPython 3.14 on profile functions see the ``__enter__`` of a ``with`` statement too. In 3.14 signals are handled as it
returns, in 3.15 they are not: test_locks_that_real_signals_hit_are_never_left_held.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable
from types import FrameType

# Whether profile functions are called as the __enter__ of a with statement returns, though no signal is handled there.
_NO_POINT = sys.version_info >= (3, 15)

# An exception of a profile function that is called as a generator goes on ends it there, without its ``finally``. That
# of a signal handler does not.
_DROPS_GENERATORS = sys.version_info < (3, 12)


def interrupt(do: Callable[[], object], at: int, within: Callable[..., object] | None = None) -> str:
    """Call do, and raise KeyboardInterrupt at so many points from its beginning; return where, "" if it has ended.

    :param within: count only the points of this function of Python's.
    """
    code = None if within is None else getattr(within, "__code__", None)
    count, point = 0, ""

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count, point
        if event == "c_return" and _NO_POINT and getattr(arg, "__name__", "") == "__enter__":
            return
        if event == "call" and _DROPS_GENERATORS and frame.f_code.co_flags & inspect.CO_GENERATOR:
            return
        if event in ("call", "c_return") and (code is None or frame.f_code is code):
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
