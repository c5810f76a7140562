"""What the tests of dump() and of the watchdog's reports share."""

from __future__ import annotations

import gc
import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bridge as package
from bridge import Bridge
from bridge._watch.watchdog import watchdog


class Records(logging.Handler):
    """Collects what is logged, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.texts.append(record.getMessage())
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.texts) >= count, 30), self.texts
            return list(self.texts)


@pytest.fixture
def records() -> Iterator[Records]:
    gc.collect()  # what earlier tests have left says nothing from now on
    handler = Records()
    logger = logging.getLogger("bridge")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def stalling() -> Iterator[Bridge]:
    """A bridge whose calls are reported from :func:`lose_patience` on."""
    with Bridge("stalling", install_reactor=False, stall_after=1000, shutdown_timeout=2) as each:
        yield each


IDLE = "the loop's thread, stalling, is idle"


def lose_patience(bridge: Bridge, *texts: str) -> None:
    """Let every call that takes 0.05 seconds be reported, once a dump has these texts: all stand where they wait."""
    dumped_with(*texts)
    run = bridge.current_run()
    run.watch(0.05, run.meter)
    watchdog.wake(run)


class Latch:
    """What the awaited code of a test waits for, until the test opens it from its thread."""

    def __init__(self, bridge: Bridge) -> None:
        self._loop = bridge.loop
        self.future = self._loop.create_future()  # not by a call, which might be reported

    def open(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self.future.done() or self.future.set_result(None))


def in_background(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def dumped() -> str:
    file = io.StringIO()
    package.dump(file)
    return file.getvalue()


def dumped_with(*texts: str) -> str:
    """Return a dump that is made after one with all these texts, by which all has come to where it stays."""
    deadline = time.monotonic() + 30
    while not all(text in (shown := dumped()) for text in texts):
        assert time.monotonic() < deadline, shown
        time.sleep(0.005)
    return dumped()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
