"""The fixture that several modules about the loop share."""

from __future__ import annotations

from collections.abc import Iterator

import greenlet
import pytest

from bridge._loop.switching import SwitchingLoop
from bridge._twisted import arrival


@pytest.fixture
def loop() -> Iterator[SwitchingLoop]:
    """A loop in this thread that nothing else is on; no trace function is left in the thread."""
    arrival.begin_awaits(None, True)  # as a bridge does whose loop starts
    each = SwitchingLoop()
    yield each
    if not each.is_closed():
        each.close()
    assert greenlet.gettrace() is None
