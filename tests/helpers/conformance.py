"""What a suite is made of whose tests run with every strategy, in every place that the strategy serves.

A module takes part by importing ``pytest_generate_tests`` and the fixtures ``bridge`` and ``place``.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from places import PLACES, in_a_thread, serves, usable

from bridge import Bridge
from bridge._threads.native import get_ident

Place = Callable[[Callable[[], Any]], Any]

MAIN = get_ident()  # not threading's, which tells greenlets apart in a process that gevent has patched


def everywhere(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that blocks in several threads: for strategies that serve them all."""
    test.needs_threads = True  # type: ignore[attr-defined]
    return test


def impatient(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test whose work takes no notice of its cancellation, so that the caller has to lose patience."""
    test.is_impatient = True  # type: ignore[attr-defined]
    return test


def patience_of(test: Callable[..., None]) -> float:
    """Return the seconds that a bridge for this test waits for what it has cancelled."""
    return 0.1 if hasattr(test, "is_impatient") else 30.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = usable()
    if hasattr(metafunc.function, "needs_threads"):
        names = [name for name in names if serves(name, in_a_thread)]
    if "place" in metafunc.fixturenames:
        pairs = [(name, place) for name in names for place in PLACES if serves(name, place)]
        ids = [f"{name}-{place.__name__}" for name, place in pairs]
        metafunc.parametrize(("bridge", "place"), pairs, indirect=True, ids=ids)
    elif "bridge" in metafunc.fixturenames:
        metafunc.parametrize("bridge", names, indirect=True)


@pytest.fixture
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies."""
    patience = patience_of(request.function)
    with Bridge("conformance", strategy=request.param, install_reactor=False, shutdown_timeout=patience) as each:
        yield each


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """A place to call from."""
    where: Place = request.param
    return where


async def suspending() -> str:
    await asyncio.sleep(0.001)
    return "value"


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def interrupt_main_thread() -> None:
    signal.pthread_kill(MAIN, signal.SIGINT)
