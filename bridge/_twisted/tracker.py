"""The tracker of ``twisted.python.context``: each thread has one stack of contexts, which its blocked stacks share."""

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
    """Give each loop that starts from now on the tracker of its thread, if contexts of stacks can be kept apart."""
    if not lost(CONTEXTS):
        deferreds.tracker = here
