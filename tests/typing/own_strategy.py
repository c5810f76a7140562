"""What type checkers make of a strategy of someone's own. Checked by mypy and pyright; nothing here runs."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import threading
from typing import assert_type

from bridge import Bridge, Strategy, Waiter, block_on, register_strategy, strategies


class SpinWaiter:
    def __init__(self) -> None:
        self.notified = False

    def wait(self, timeout: float | None) -> bool:
        return self.notified

    def notify(self) -> None:
        self.notified = True


class Spin:
    name = "spin"

    def unavailable(self) -> str | None:
        return None

    def waiter(self) -> SpinWaiter:
        return SpinWaiter()


class EventWaiter(Waiter):
    """One that says what it is."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wait(self, timeout: float | None) -> bool:
        return self._event.wait(timeout)

    def notify(self) -> None:
        self._event.set()


class Declared(Strategy):
    """One that says what it is."""

    name = "declared"

    def unavailable(self) -> None:
        return None

    def waiter(self) -> EventWaiter:
        return EventWaiter()


class NeverAvailable:
    name = "never"

    def unavailable(self) -> str:
        return "not today"

    def waiter(self) -> Waiter:
        raise AssertionError


class WithoutReason:
    name = "without reason"

    def waiter(self) -> Waiter:
        raise AssertionError


class WrongWaiter:
    name = "wrong waiter"

    def unavailable(self) -> str | None:
        return None

    def waiter(self) -> threading.Event:  # which has no notify()
        return threading.Event()


async def coroutine() -> str:
    return "value"


def uses() -> None:
    register_strategy(Spin())
    register_strategy(Declared(), replace=True)
    register_strategy(NeverAvailable())
    assert_type(block_on(coroutine(), strategy=Spin()), str)
    assert_type(block_on(coroutine(), strategy="spin"), str)
    assert_type(Bridge(strategy=Declared()).block_on(coroutine, strategy=NeverAvailable()), str)
    assert_type(strategies(), dict[str, Strategy])
    for name, strategy in strategies().items():
        assert_type(name, str)
        assert_type(strategy.name, str)
        assert_type(strategy.unavailable(), str | None)
        assert_type(strategy.waiter(), Waiter)
        assert_type(strategy.waiter().wait(1.0), bool)
        assert_type(strategy.waiter().wait(None), bool)
        strategy.waiter().notify()


def takes(x: object) -> None:
    if isinstance(x, Strategy):
        assert_type(x.waiter(), Waiter)
    if isinstance(x, Waiter):
        assert_type(x.wait(1), bool)


def mistakes() -> None:
    register_strategy(WithoutReason())  # type: ignore[arg-type]
    register_strategy(WrongWaiter())  # type: ignore[arg-type]
    register_strategy(Spin)  # type: ignore[arg-type]
    register_strategy("spin")  # type: ignore[arg-type]
    Bridge(strategy=WrongWaiter())  # type: ignore[arg-type]
