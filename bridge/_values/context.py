"""Context variables: copied back from the context of the work to the caller's context."""

from __future__ import annotations

import importlib
from contextvars import Context, ContextVar
from gc import get_referents
from typing import Any, cast

_MISSING = object()

# The caller that blocks for the work in this context. The work's tasks inherit it. A BlockedCall for a thread, a
# Passing (see _calls.errands) that stands for the latest call, or a BlockedStack.
caller: ContextVar[Any] = ContextVar("bridge.caller", default=None)

# In a test session with our pytest plugin, the fixture or the test that the code in this context works for. Tasks,
# callbacks and delayed calls inherit it.
maker: ContextVar[object] = ContextVar("bridge.maker", default=None)


class BlockedStack:
    """A stack of the loop's own thread that blocks for a task as long as ``is_open`` is true."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = True


def _find_library() -> ContextVar[str | None]:
    # Imported here and not by way of anyio, which is imported only when it is needed.
    own: ContextVar[str | None] = ContextVar("bridge.library", default=None)
    try:
        sniffio: Any = importlib.import_module("sniffio")
    except ImportError:
        return own
    return cast("ContextVar[str | None]", sniffio.current_async_library_cvar)


# sniffio's variable for the async library of the caller, such as "trio". It does not hold for the work. On asyncio it
# is None, and sniffio checks for a running task.
library = _find_library()


def take_variables(before: Context, after: Context) -> None:
    """Set in this thread the variables that the awaited code has set in its copy of the context.

    :param before: the caller's context as the call began. A variable that the code has not set is left alone, since a
        signal handler may have changed it here meanwhile.
    """
    # Fast path: if both contexts share one immutable mapping, nothing was set. While no code runs in a context, it
    # refers to its mapping only (CPython 3.7 to 3.15). ``==`` would compare the values.
    mappings = get_referents(before, after)
    if len(mappings) == 2 and mappings[0] is mappings[1]:
        return
    for variable, value in after.items():
        if before.get(variable, _MISSING) is not value:
            variable.set(value)
