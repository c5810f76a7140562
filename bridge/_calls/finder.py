"""Finds the bridge of a call that names none. :mod:`bridge._api.default`, a higher room, sets the function for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._runs.run import Owner


def bridge_of(loop: Any) -> Owner:
    """Return the bridge of a loop that this thread runs or works for; for None, the default bridge."""
    return _find(loop)


def set_finder(find: Callable[[Any], Owner]) -> None:
    """Set the function that returns the bridge of a loop."""
    global _find
    _find = find


_find: Callable[[Any], Owner]
