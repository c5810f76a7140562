"""What ``help()`` and completion show of a bridge: the names for users.

Other rooms of the package read further attributes of a bridge. Those are in INTERNAL, since an underscore would say
that the attribute belongs to one room.
"""

from __future__ import annotations

from collections.abc import Iterable

INTERNAL = {
    *("caller", "context_out", "current_run", "exit_grace", "last_run", "name", "runs", "stall_after", "strategy"),
    "was_started",
}


class Documented(type):
    """A class whose ``dir()``, and so ``help()``, leaves out what is internal."""

    def __dir__(cls) -> Iterable[str]:
        return sorted(set(super().__dir__()) - INTERNAL)
