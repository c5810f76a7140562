"""Which bridge serves a call that names none: :mod:`bridge._api.default`, which stands above the calls, sets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._runs.run import Owner


def bridge_of(loop: Any) -> Owner:
    """Return the bridge of a loop, that runs in this thread or that it works for; for None, the default bridge."""
    return _find(loop)


def set_finder(find: Callable[[Any], Owner]) -> None:
    """Let the calls find a bridge."""
    global _find
    _find = find


_find: Callable[[Any], Owner]
