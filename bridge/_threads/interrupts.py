"""What an interrupt must not separate, and what is undone after one; see "Interrupts" in :mod:`bridge._threads`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import TracebackType
from typing import Any


def in_one_call(results: list[Any], *steps: Callable[[], Any]) -> None:
    """Call functions of C one after the other. No signal is handled in between.

    :param results: gets the result of each step in the same call. So it tells which steps were done, also after an
        interrupt, and after the error of a step, which ends the others.
    """
    results.extend(map(operator.call, steps))


class Undo:
    """Calls a function as a ``with`` block ends, and once more if an interrupt or an error ends the first call.

    ::

        with Undo(entry.leave) as undo, undo:
            entry.enter()

    It stands there twice: if an interrupt ends the exit of the inner ``with``, maybe before its first line, then the
    outer one calls the function.

    :param function: undoes what was done until then; called again, what is left of it.
    """

    __slots__ = ("_function", "_is_done")

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._is_done = False

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_done:
            self._function()
            self._is_done = True
