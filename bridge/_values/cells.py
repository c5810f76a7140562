"""What a function refers to in the scope around it."""

from __future__ import annotations

from typing import Any


def cell(function: Any, name: str) -> Any:
    """Return what a function's variable of the enclosing scope refers to, None if it has none of that name."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells or name not in code.co_freevars:
        return None
    try:
        return cells[code.co_freevars.index(name)].cell_contents
    except ValueError:  # it is empty
        return None
