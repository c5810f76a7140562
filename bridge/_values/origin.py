"""The origin of a call: a short stack that is cheap to record, and is formatted only if it is shown."""

from __future__ import annotations

import itertools
import linecache
import sys
from collections.abc import Sequence
from types import CodeType, FrameType

from .outcomes import is_machinery

# Code and instruction of each frame, the innermost first. It keeps neither frames nor their variables alive.
Origin = Sequence[tuple[CodeType, int]]

_DEPTH = 8


def users_frame() -> FrameType | None:
    """Return the innermost frame of this thread that is the user's; None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_machinery(frame.f_globals.get("__name__"), frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def place_of(frame: FrameType | None) -> str:
    """Return the place of a frame's current line, as "file:line"."""
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def origin_of(frame: FrameType | None) -> Origin:
    """Return the origin: the frame and its callers, in some 0.1 µs a frame."""
    places: list[tuple[CodeType, int]] = []
    while frame is not None and len(places) < _DEPTH:
        places.append((frame.f_code, frame.f_lasti))  # the line number is looked up in shown()
        frame = frame.f_back
    return places


def shown(origin: Origin) -> str:
    """Return the origin as text, in the form of a traceback."""
    lines: list[str] = []
    for code, instruction in reversed(origin):
        position = next(itertools.islice(code.co_positions(), instruction // 2, None), (None,))
        line = position[0] or code.co_firstlineno
        lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
        text = linecache.getline(code.co_filename, line).strip()
        if text:
            lines.append(f"    {text}")
    return "\n".join(lines)
