"""Held contexts: those that a blocked stack has entered.

A context cannot be entered twice, so other callbacks run in a copy of a held one. The variables that they set in the
copy are set in the context itself when the stack that holds it resumes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from greenlet import getcurrent


def is_held(context: Context) -> bool:
    """Return whether a stack has entered the context, so that it cannot be entered again."""
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
    """Call a callback in the current context, a copy of a held one, and record the variables that it sets."""
    _set_all(updates)  # set by callbacks in earlier copies
    before = copy_context()
    try:
        callback(*args)
    finally:
        for variable, value in copy_context().items():
            if variable not in before or before[variable] is not value:
                updates[variable] = value


def take_updates(all_updates: dict[int, tuple[Context, dict[Any, Any]]]) -> None:
    """Set the recorded variables in each context that no other stack holds any more."""
    current = getcurrent().gr_context
    for key, (held, updates) in list(all_updates.items()):
        if held is current:
            _set_all(updates)
        elif not is_held(held):
            held.run(_set_all, updates)
        else:
            continue
        del all_updates[key]
