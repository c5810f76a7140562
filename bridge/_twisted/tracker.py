"""Twisted's own context, ``twisted.python.context``: each thread has one stack of it, which blocked stacks share."""

from __future__ import annotations

from typing import Any, cast

from twisted.python import context

from .._private.abilities import lost
from .._private.rows import CONTEXTS
from .._values.deferreds import deferreds


def here() -> Any:
    """Return the context tracker of the calling thread."""
    return cast(Any, context.theContextTracker).currentContext()


def register() -> None:
    """Let the loops that start from now on know the trackers of their threads, if the contexts can be kept apart."""
    if not lost(CONTEXTS):
        deferreds.tracker = here
