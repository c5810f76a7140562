"""Where a call came from, noted cheaply as it is made and shown only if somebody wants to see it."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Sequence
from types import CodeType, FrameType

# Code and instruction of each frame, the innermost first. Neither frames nor their variables are kept alive.
Origin = Sequence[tuple[CodeType, int]]

_DEPTH = 8


def origin_of(frame: FrameType | None) -> Origin:
    """Return where a frame and those that have called it stand, in some tenths of a microsecond a frame."""
    places: list[tuple[CodeType, int]] = []
    while frame is not None and len(places) < _DEPTH:
        places.append((frame.f_code, frame.f_lasti))  # to look up the line would take longer than all the rest
        frame = frame.f_back
    return places


def shown(origin: Origin) -> str:
    """Return it as a traceback shows it."""
    lines: list[str] = []
    for code, instruction in reversed(origin):
        position = next(itertools.islice(code.co_positions(), instruction // 2, None), (None,))
        line = position[0] or code.co_firstlineno
        lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
        text = linecache.getline(code.co_filename, line).strip()
        if text:
            lines.append(f"    {text}")
    return "\n".join(lines)
