"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge import Bridge


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A bridge of the test's own, beside whatever reactor the process has."""
    with Bridge("test", install_reactor=False) as each:
        yield each
