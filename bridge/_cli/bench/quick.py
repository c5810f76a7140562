"""The rows of the command: the ways that there are here, at their simplest works."""

from __future__ import annotations

from . import calls
from .model import Group
from .works import AT_ONCE, DEFERRED, SUSPENDS_ONCE


def group() -> Group:
    """Return the tables."""
    tables = [calls.of_threads(work, picture="latency") for work in (AT_ONCE, SUSPENDS_ONCE, DEFERRED)]
    return Group("quick", [*tables, *(calls.of_inside(work) for work in (AT_ONCE, SUSPENDS_ONCE))])
