"""Context variables that work has set in a copy of a context, back into the context that it was copied from."""

from __future__ import annotations

import importlib
from contextvars import Context, ContextVar
from gc import get_referents
from typing import Any, cast

_MISSING = object()

# Who blocks for the work that runs in this context, which its tasks inherit: a BlockedCall in a thread, or what stands
# for the call that is the last one (_errands.Passing), or a BlockedStack.
caller: ContextVar[Any] = ContextVar("bridge.caller", default=None)


class BlockedStack:
    """A stack of the loop's own thread that blocks for a task, while ``is_open``."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = True


def _find_library() -> ContextVar[str | None]:
    # By itself, and not by way of anyio, which is not imported before somebody needs it.
    own: ContextVar[str | None] = ContextVar("bridge.library", default=None)
    try:
        sniffio: Any = importlib.import_module("sniffio")
    except ImportError:
        return own
    return cast("ContextVar[str | None]", sniffio.current_async_library_cvar)


# The library that the caller runs under, such as trio, as sniffio has it. It is not that of the work. On asyncio the
# variable is None, and sniffio looks for a task.
library = _find_library()


def take_variables(before: Context, after: Context) -> None:
    """Set in this thread what the awaited code has set in its copy of the context.

    :param before: the caller's context as the call began. What the code left alone is not set: a signal handler may
        have changed it here meanwhile.
    """
    # While no code runs in a context it refers to its immutable mapping only, on CPython 3.7 to 3.15. If both have the
    # same one, nothing has been set; otherwise every variable is looked at. (``==`` would compare the values.)
    mappings = get_referents(before, after)
    if len(mappings) == 2 and mappings[0] is mappings[1]:
        return
    for variable, value in after.items():
        if before.get(variable, _MISSING) is not value:
            variable.set(value)
