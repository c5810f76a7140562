"""Which part of a test session has made a delayed call: its function is called with the same maker.

Twisted calls a function in the context of the timer that is due, which is that of any other call. So the function is
replaced by one that sets the variable ``maker``. Where nobody sets it, delayed calls are as Twisted makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._values.context import maker


class Made:
    """The function of a delayed call, which sets ``maker``. To other code it looks as the function does."""

    def __init__(self, function: Callable[..., Any], made_by: object) -> None:
        self.function = function
        self.made_by = made_by

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = maker.get()
        maker.set(self.made_by)
        try:
            return self.function(*args, **kwargs)
        finally:
            maker.set(before)  # no reset(): a stack that has blocked here goes on in a copy of its context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.function == (other.function if isinstance(other, Made) else other))

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return repr(self.function)


def keep_maker(call: Any) -> None:
    """Have a delayed call keep who makes it."""
    made_by = maker.get()
    if made_by is not None and not isinstance(call.func, Made):
        call.func = Made(call.func, made_by)


def maker_of_error(error: BaseException) -> object:
    """Return who has made the delayed call that has failed with this error; None if that is not known."""
    each = error.__traceback__
    while each is not None and each.tb_frame.f_code is not Made.__call__.__code__:
        each = each.tb_next
    return None if each is None else each.tb_frame.f_locals["self"].made_by


def maker_of(call: Any) -> object:
    """Return who has made a delayed call; None if that is not known."""
    function = getattr(call, "func", None)
    return function.made_by if isinstance(function, Made) else None
