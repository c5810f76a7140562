"""The options of a bridge, checked when they are set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict

from .._errors import at
from .._values.numbers import checked_seconds, checked_signal
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
    context_out: bool


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one bridge, as :class:`bridge.Bridge` documents them. ``Bridge.options`` returns them.

    The strategy is the object, and a number of seconds without a limit is None.

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
    context_out: bool = True

    def __post_init__(self) -> None:
        shutdown_timeout = checked_seconds(self.shutdown_timeout, "shutdown_timeout")
        if shutdown_timeout is None:
            raise ValueError(
                "shutdown_timeout must be a finite number of seconds: it bounds how long a close may take"
                + at("wrong-value")
            )
        if self.await_deferreds not in (True, False, None):
            raise TypeError(f"await_deferreds is True, False or None, not {self.await_deferreds!r}" + at("wrong-value"))
        if self.context_out not in (True, False):
            raise TypeError(f"context_out is True or False, not {self.context_out!r}" + at("wrong-value"))
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
            import difflib  # here, since a first call needs none of it

            close = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise TypeError(f"configure() has no option {name!r}; {meant}" + at("no-such-option"))
    return Options(**arguments)


class Settings:
    """The options of the default bridge, which several parts of a program may set: the first value of each wins.

    It holds until the default bridge is closed. The lock ``starting`` of its runs protects this object.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}  # as Options has checked them
        self.started_at = ""  # the place of the call that has started the loop
        self._places: dict[str, str] = {}  # where each option was set that may not be set again

    def set(self, given: Mapping[str, Any], place: str, running: Options | None) -> tuple[dict[str, Any], list[str]]:
        """Return the values that take effect, and a sentence on each that does not. :meth:`keep` keeps the former.

        :param given: the checked values.
        :param place: where they are set.
        :param running: the options of the loop that runs; None if none runs, or if it takes other options.
        """
        accepted: dict[str, Any] = {}
        ignored: list[str] = []
        for name, value in given.items():
            if name in self._places:
                before, why = self.values[name], f"{self._places[name]} has set"
            elif running is not None:
                before, why = getattr(running, name), f"since {self.started_at} the default bridge runs with"
            else:
                accepted[name] = value
                continue
            if value != before:
                ignored.append(
                    f"configure({name}={_shown(value)}) at {place} is ignored: {why} {name}={_shown(before)}. Options "
                    "of the default bridge are for the program to set, once, before the first call, or after "
                    f"default_bridge().close(). A library makes a bridge of its own: Bridge({name}=...)"
                )
        return accepted, ignored

    def keep(self, accepted: Mapping[str, Any], place: str) -> None:
        """Keep values, which later ones do not replace."""
        self.values.update(accepted)
        self._places.update(dict.fromkeys(accepted, place))

    def reopen(self) -> None:
        """Let each option be set once more. The values stay until then."""
        self._places.clear()


def _shown(value: Any) -> str:
    return repr(value.name if isinstance(value, Strategy) else value)
