"""The rows of the command: all installed peers with the simplest works."""

from __future__ import annotations

from . import calls
from .model import Group
from .works import AT_ONCE, DEFERRED, SUSPENDS_ONCE


def group() -> Group:
    """Return the group of these rows."""
    tables = [calls.of_threads(work, picture="latency") for work in (AT_ONCE, SUSPENDS_ONCE, DEFERRED)]
    return Group("quick", [*tables, *(calls.of_inside(work) for work in (AT_ONCE, SUSPENDS_ONCE))])
