"""Without the setting and the mark nothing is loaded."""

import sys


def test_nothing_is_loaded():
    assert "bridge.ext.pytest" in sys.modules
    assert not {"asyncio", "twisted", "anyio", "greenlet", "bridge.ext._testing"} & sys.modules.keys()
