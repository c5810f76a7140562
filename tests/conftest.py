"""Fixtures that several test modules share."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from guis import make_gui, unseen_screen
from sockets import socket_folder
from twisted.logger import LogEvent, globalLogPublisher

from bridge import Bridge

# What was started in the background of a shell ignores Ctrl-C, and so would the processes that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What test_gui_conformance.py sets for a process of pytest's that is to have an application object.
_TOOLKIT = os.environ.get("BRIDGE_TEST_GUI")
_gui = make_gui(_TOOLKIT) if _TOOLKIT else None


_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.stash[_stderr] = os.dup(2)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process after pytest-timeout's limit, whose thread cannot run if another never lets go of the GIL."""
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker is not None else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(limit * 1.25 + 5, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A bridge of the test's own, beside whatever reactor the process has."""
    with Bridge("test", install_reactor=False) as each:
        yield each


@pytest.fixture
def unhandled() -> Iterator[list[LogEvent]]:
    """The failures that Twisted logs, such as "Unhandled error in Deferred"."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            events.append(event)

    gc.collect()  # what earlier tests have left, which would be logged in this one
    globalLogPublisher.addObserver(observe)
    yield events
    gc.collect()
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder for sockets of AF_UNIX."""
    with socket_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def screen() -> Iterator[None]:
    """A screen that nobody sees, for the processes that a test starts."""
    with unseen_screen():
        yield
