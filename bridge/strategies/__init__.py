"""Strategies, the ways in which a caller's thread waits: the interface, the registry, one module for each strategy.

A strategy knows neither loops nor reactors nor calls. So nothing here imports asyncio or Twisted.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from .._errors import StrategyUnavailable, at
from .._threads.native import new_lock
from .interface import Strategy, Waiter

ENTRY_POINTS = "bridge.strategies"

# Our own strategies: module and class by name. Each is made on first use, or when all are listed.
_BUILT_IN = {
    "auto": ("auto", "AutoStrategy"),
    "lock": ("lock", "LockStrategy"),
    "event": ("event", "EventStrategy"),
    "greenlet": ("greenlet", "GreenletStrategy"),
    "queue": ("queue", "QueueStrategy"),
    "gevent": ("gevent", "GeventStrategy"),
    "qt": ("gui.qt", "QtStrategy"),
    "tk": ("gui.tk", "TkStrategy"),
}


class _Registry:
    """The strategies by name: our own, the registered ones, and those of installed distributions."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._built_in: dict[str, Strategy] = {}
        self._registered: dict[str, Strategy] = {}  # after _load() it has all strategies, ours too
        self._loaded = False

    def built_in(self, name: str) -> Strategy:
        """Return one of our own strategies, the same object each time."""
        made = self._built_in.get(name)
        if made is None:
            module, cls = _BUILT_IN[name]
            make: Any = getattr(import_module(f".{module}", __name__), cls)
            made = self._built_in.setdefault(name, make(self.built_in) if name == "auto" else make())
        return made

    def register(self, strategy: Strategy, replace: bool) -> None:
        if not isinstance(strategy, Strategy):
            raise _not_a_strategy(strategy)
        with self._lock:
            if (strategy.name in self._registered or strategy.name in _BUILT_IN) and not replace:
                raise ValueError(
                    f"a strategy {strategy.name!r} is registered already; write "
                    "register_strategy(strategy, replace=True) to take its place" + at("strategy-name-taken")
                )
            self._registered[strategy.name] = strategy

    def renew_lock(self) -> None:
        self._lock = new_lock()

    def find(self, name: str) -> Strategy | None:
        found = self._registered.get(name)
        if found is None and name in _BUILT_IN:
            return self.built_in(name)
        return found or self.all().get(name)

    def all(self) -> dict[str, Strategy]:
        if not self._loaded:
            self._load()
        return dict(self._registered)

    def _load(self) -> None:
        from importlib.metadata import entry_points  # slow to import, and a first call does not need it

        found = {name: self.built_in(name) for name in _BUILT_IN}
        for entry_point in entry_points(group=ENTRY_POINTS):
            if entry_point.name not in self._registered and entry_point.name not in found:
                found[entry_point.name] = _FromEntryPoint(entry_point.name, entry_point.load)
        with self._lock:
            self._registered = found | self._registered
            self._loaded = True


class _FromEntryPoint:
    """A strategy that an installed distribution declares. It is loaded on first use."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name = name
        self._load = load
        self._strategy: Strategy | None = None

    def _get(self) -> Strategy:
        if self._strategy is None:
            loaded: Any = self._load()
            self._strategy = cast("Strategy", loaded() if isinstance(loaded, type) else loaded)
        return self._strategy

    def unavailable(self) -> str | None:
        try:
            return self._get().unavailable()
        except Exception as error:
            return f"its entry point cannot be loaded: {error!r}"

    def waiter(self) -> Waiter:
        return self._get().waiter()

    def __getattr__(self, name: str) -> Any:
        """Return an optional attribute of the strategy, such as ``runs_hub``."""
        try:
            strategy = self._get()
        except Exception as error:
            raise AttributeError(f"{name!r}: its entry point cannot be loaded: {error!r}") from error
        return getattr(strategy, name)


_registry = _Registry()


def renew_after_fork() -> None:
    """After a fork: make a new lock, since a thread of the parent may have held the old one."""
    _registry.renew_lock()


def register_strategy(strategy: Strategy, *, replace: bool = False) -> None:
    """Make a strategy available by its name, in this process.

    An installed distribution declares a strategy by an entry point in the group ``bridge.strategies`` instead. The
    entry point has the name of the strategy. Its object is a strategy, or a class that makes one without arguments.

    :param replace: take the place of a strategy of that name.
    :raises TypeError: the object lacks a part of :class:`Strategy`.
    :raises ValueError: there is a strategy of that name, and replace is false.

    ::

        class Spin:
            name = "spin"
            def unavailable(self): return None
            def waiter(self): return SpinWaiter()

        register_strategy(Spin())
        block_on(coro, strategy="spin")
    """
    _registry.register(strategy, replace)


def strategies() -> dict[str, Strategy]:
    """Return all strategies by name. ``unavailable()`` of each tells whether this thread can use it now.

    ::

        [name for name, strategy in strategies().items() if strategy.unavailable() is None]
    """
    return _registry.all()


def resolve(spec: str | Strategy) -> Strategy:
    """Return the strategy of that name, or the object itself if it is one.

    :raises StrategyUnavailable: there is no strategy of that name; the message lists the existing ones.
    :raises TypeError: spec is neither a name nor a strategy.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Strategy):  # pyright: ignore[reportUnnecessaryIsInstance] - users may pass anything
            return spec
        raise _not_a_strategy(spec)
    strategy = _registry.find(spec)
    if strategy is None:
        raise StrategyUnavailable(f"there is no strategy {spec!r}; {_available_strategies()}" + at("no-such-strategy"))
    return strategy


def _not_a_strategy(x: object) -> TypeError:
    parts = ["name", "unavailable", "waiter"]
    lacking = [repr(each) for each in parts if not hasattr(x, each)]
    return TypeError(
        f"{x!r} is not a strategy: it lacks {', '.join(lacking)}. A strategy is given by its name, such as 'event', or "
        "as an object with a 'name' and the methods 'unavailable' and 'waiter' (bridge.Strategy)" + at("not-a-strategy")
    )


def refused(strategy: Strategy, reason: str) -> StrategyUnavailable:
    """Return the error for a strategy that this thread cannot use now."""
    return StrategyUnavailable(
        f"strategy {strategy.name!r} cannot be used here: {reason}; {_available_strategies()}" + at("strategy-not-here")
    )


def _available_strategies() -> str:
    usable: list[str] = []
    others: list[str] = []
    for name, strategy in sorted(_registry.all().items()):
        reason = strategy.unavailable()
        if reason is None:
            usable.append(name)
        else:
            others.append(f"{name} ({reason})")
    text = f"here you can use {', '.join(usable)}"
    return f"{text}; not here: {', '.join(others)}" if others else text
