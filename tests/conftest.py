"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from guis import make_gui, unseen_screen

from bridge import Bridge

# What test_gui_conformance.py sets for a process of pytest's that is to have an application object.
_TOOLKIT = os.environ.get("BRIDGE_TEST_GUI")
_gui = make_gui(_TOOLKIT) if _TOOLKIT else None


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A bridge of the test's own, beside whatever reactor the process has."""
    with Bridge("test", install_reactor=False) as each:
        yield each


@pytest.fixture(scope="session")
def screen() -> Iterator[None]:
    """A screen that nobody sees, for the processes that a test starts."""
    with unseen_screen():
        yield
