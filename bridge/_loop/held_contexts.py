"""Contexts that a blocked stack is inside: they cannot be entered again, so callbacks run in copies of them.

What a callback sets in the copy is set in the context when the stack that holds it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from greenlet import getcurrent


def is_held(context: Context) -> bool:
    """Return whether a stack is inside the context, so that it cannot be entered."""
    try:
        context.run(_nothing)
    except RuntimeError:
        return True
    return False


def _nothing() -> None:
    pass


def _set_all(updates: dict[Any, Any]) -> None:
    for variable, value in updates.items():
        variable.set(value)


def run_in_copy(updates: dict[Any, Any], callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    """Call a callback in the current context, a copy of a held one, and note the variables that it sets."""
    _set_all(updates)  # by those who ran in a copy of this context before
    before = copy_context()
    try:
        callback(*args)
    finally:
        for variable, value in copy_context().items():
            if variable not in before or before[variable] is not value:
                updates[variable] = value


def take_updates(all_updates: dict[int, tuple[Context, dict[Any, Any]]]) -> None:
    """Set in the contexts that stacks have held what others have set in copies meanwhile."""
    current = getcurrent().gr_context
    for key, (held, updates) in list(all_updates.items()):
        if held is current:
            _set_all(updates)
        elif not is_held(held):
            held.run(_set_all, updates)
        else:
            continue
        del all_updates[key]
