"""The registry of strategies; what each of them does is in test_conformance.py."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from isolated import isolated
from places import usable

import bridge
from bridge import Bridge, Strategy, StrategyUnavailable, Waiter, block_on, register_strategy, strategies
from bridge import strategies as listed
from bridge.strategies import _registry


class SpinWaiter:
    def __init__(self) -> None:
        self.notified = False

    def wait(self, timeout: float | None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.notified and (until is None or time.monotonic() < until):
            time.sleep(0)
        return self.notified

    def notify(self) -> None:
        self.notified = True


class Spin:
    name = "spin"
    reason: str | None = None

    def unavailable(self) -> str | None:
        return self.reason

    def waiter(self) -> SpinWaiter:
        return SpinWaiter()


@pytest.fixture
def registry() -> Iterator[None]:
    """Put the registry back as it was."""
    before = strategies()
    yield
    _registry._registered = before


def test_ours_are_there() -> None:
    assert {"auto", "event", "greenlet", "lock", "queue"} <= set(strategies())
    for name, strategy in strategies().items():
        assert strategy.name == name
        assert isinstance(strategy, bridge.Strategy)
        if strategy.unavailable() is None:
            assert isinstance(strategy.waiter(), Waiter)


@pytest.mark.usefixtures("registry")
def test_a_registered_strategy_is_found_by_name() -> None:
    register_strategy(Spin())
    assert "spin" in listed()
    with Bridge(install_reactor=False, strategy="spin") as each:
        assert each.block_on(asyncio.sleep(0, "value")) == "value"
        assert each.block_on(asyncio.sleep(0, "value"), strategy="lock") == "value"
    with Bridge(install_reactor=False) as each:
        assert each.block_on(asyncio.sleep(0, "value"), strategy="spin") == "value"
        assert each.block_on(asyncio.sleep(0, "value"), strategy=Spin()) == "value"


@pytest.mark.usefixtures("registry")
def test_a_name_is_taken_once() -> None:
    first, second = Spin(), Spin()
    register_strategy(first)
    with pytest.raises(ValueError, match=r"'spin' is registered already; write .*replace=True"):
        register_strategy(second)
    register_strategy(second, replace=True)
    assert strategies()["spin"] is second


def test_what_is_no_strategy_is_refused() -> None:
    class Half:
        name = "half"

    for use in (register_strategy, lambda half: Bridge(strategy=half), lambda half: block_on(int, strategy=half)):
        with pytest.raises(TypeError, match="is not a strategy: it lacks 'unavailable', 'waiter'"):
            use(Half())  # type: ignore[arg-type]


def test_an_unknown_name_lists_those_that_are_there() -> None:
    with pytest.raises(
        StrategyUnavailable, match=r"no strategy 'qeue'; here you can use auto, event, greenlet, lock, queue"
    ):
        Bridge(strategy="qeue")


@pytest.mark.usefixtures("registry")
def test_an_unavailable_one_says_why_and_lists_the_others() -> None:
    spin = Spin()
    spin.reason = "there is nothing to spin"
    register_strategy(spin)
    expected = r"'spin' cannot be used here: there is nothing to spin; here you can use auto, .*; not here: .*spin \("
    with (
        Bridge(install_reactor=False, strategy="spin") as each,
        pytest.raises(StrategyUnavailable, match=expected),
    ):
        each.block_on(asyncio.sleep(0))


ENTRY_POINTS = """[bridge.strategies]
declared = plugin:Declared
broken = plugin:NotThere
"""


@pytest.mark.process
@pytest.mark.any_python
def test_a_distribution_declares_strategies_by_entry_points(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("programs") / "plugin.py", tmp_path)
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    uses_declared_strategies(path=str(tmp_path))


@isolated
def uses_declared_strategies(path: str) -> None:
    import asyncio
    import sys

    import pytest

    sys.path.insert(0, path)
    import bridge

    assert "plugin" not in sys.modules
    assert bridge.block_on(asyncio.sleep(0, "value"), strategy="declared") == "value"
    assert "its entry point cannot be loaded" in (bridge.strategies()["broken"].unavailable() or "")
    with pytest.raises(bridge.StrategyUnavailable, match="NotThere"):
        bridge.block_on(asyncio.sleep(0), strategy="broken")


@pytest.mark.parametrize("name", ["event", "lock", "queue"])
def test_ctrl_c_at_any_line_of_a_wait_leaves_the_waiter_whole(name: str) -> None:
    # In a thread of its own: CPython 3.11 keeps the exception that is handled when a trace function raises in the line
    # of an ``except`` clause, and every later error of the thread would have it as its context.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(interrupt_at_every_line, strategies()[name]).result()


def interrupt_at_every_line(strategy: Strategy) -> None:
    for interrupted_at in range(1, 1000):
        waiter = strategy.waiter()
        count = 0

        def trace(frame: Any, event: str, arg: Any, at: int = interrupted_at) -> Any:
            nonlocal count
            count += 1
            if count == at:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            waiter.wait(0.001)
        except KeyboardInterrupt:
            was_interrupted = True
        else:
            was_interrupted = False
        finally:
            sys.settrace(before)
        notifying = threading.Thread(target=waiter.notify, daemon=True)
        notifying.start()
        notifying.join(10)
        assert not notifying.is_alive(), f"notify() hangs after an interrupt at line {interrupted_at}"
        assert waiter.wait(10) is True
        if not was_interrupted:
            break
    assert interrupted_at > 3


@pytest.mark.parametrize("name", sorted(set(usable()) - {"auto"}))
def test_a_waiter_keeps_its_contract(name: str) -> None:
    """Notified before, during and after the wait; timed out and then waited for again."""
    strategy = strategies()[name]
    early = strategy.waiter()
    early.notify()
    assert early.wait(None) is True

    late = strategy.waiter()
    assert late.wait(0) is False
    assert late.wait(0.001) is False
    threading.Timer(0.01, late.notify).start()
    assert late.wait(5) is True

    given_up = strategy.waiter()
    assert given_up.wait(0.001) is False
    given_up.notify()
    assert sys.getrefcount(given_up) < 10
