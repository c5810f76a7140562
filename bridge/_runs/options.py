"""The options of a bridge, checked when they are set."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict

from .._threads.seconds import checked_seconds
from .._threads.signals import checked_signal
from ..strategies import resolve
from ..strategies.interface import Strategy

if TYPE_CHECKING:
    import asyncio


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of :func:`bridge.configure`; :class:`bridge.Bridge` documents them."""

    name: str | None
    strategy: str | Strategy
    install_reactor: bool | None
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
    stall_after: float | None
    shutdown_timeout: float
    exit_grace: float | None
    dump_signal: int | None
    await_deferreds: bool | None


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one bridge.

    :raises StrategyUnavailable: there is no such strategy.
    :raises ValueError: a number of seconds is negative or NaN.
    :raises TypeError: a value is of the wrong type.
    """

    name: str | None = None
    strategy: Any = "auto"
    install_reactor: bool | None = None
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    stall_after: float | None = 30.0
    shutdown_timeout: float = 5.0
    exit_grace: float | None = 0.0
    dump_signal: int | None = None
    await_deferreds: bool | None = None

    def __post_init__(self) -> None:
        shutdown_timeout = checked_seconds(self.shutdown_timeout, "shutdown_timeout")
        if shutdown_timeout is None:
            raise ValueError("shutdown_timeout must be a finite number of seconds: it bounds how long a close may take")
        if self.await_deferreds not in (True, False, None):
            raise TypeError(f"await_deferreds is True, False or None, not {self.await_deferreds!r}")
        checked = {
            "strategy": resolve(self.strategy),
            "stall_after": checked_seconds(self.stall_after, "stall_after"),
            "shutdown_timeout": shutdown_timeout,
            "exit_grace": checked_seconds(self.exit_grace, "exit_grace"),
            "dump_signal": checked_signal(self.dump_signal),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def options_from(arguments: Mapping[str, Any]) -> Options:
    """Return the Options for the keyword arguments of ``configure()``.

    :raises TypeError: there is no such option; the message suggests the option with the closest name.
    """
    known = [each.name for each in fields(Options)]
    for name in arguments:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise TypeError(f"configure() has no option {name!r}; {meant}")
    return Options(**arguments)
