"""The abilities that need private names: which are off in this process, and because of which names."""

from __future__ import annotations

import select
from collections.abc import Iterator

from .._errors import StrategyUnavailable, at
from . import anyio, cpython, greenlet, twisted
from .rows import ABILITIES, WAKE_UPS, Name

_LIBRARIES = {"cpython": cpython.NAMES, "anyio": anyio.NAMES, "twisted": twisted.NAMES, "greenlet": greenlet.NAMES}

_found: dict[tuple[str, str | None], tuple[str, ...]] = {}


def rows() -> Iterator[tuple[str, Name]]:
    """Yield every row with the name of its library."""
    for library, names in _LIBRARIES.items():
        for name in names:
            yield library, name


def lost(ability: str, library: str | None = None) -> tuple[str, ...]:
    """Return the faults of the private names that the ability needs. The tuple is empty if the ability is on.

    The first call for an ability compares the names, which imports the libraries that have them.

    :param library: compare only the names of this library, and import no other.
    """
    try:
        return _found[ability, library]
    except KeyError:
        needed = (
            row
            for its_library, row in rows()
            if row.ability == ability and row.is_used and library in (None, its_library)
        )
        _found[ability, library] = faults = tuple(dict.fromkeys(filter(None, (row.fault() for row in needed))))
        return faults


def compare_again() -> None:
    """Forget all results, so that the next call of :func:`lost` compares again. For tests."""
    _found.clear()


def why_lost(ability: str) -> str | None:
    """Return why the ability is off and what to do about it; None if it is on."""
    faults = lost(ability)
    return f"{', '.join(faults)} in {_versions()}; {_ADVICE}" if faults else None


def abilities() -> list[tuple[str, str | None]]:
    """Return each ability that needs private names, with the reason why it is off or None."""
    found = [(ability, why_lost(ability)) for ability in ABILITIES]
    if not hasattr(select, "epoll"):
        found[ABILITIES.index(WAKE_UPS)] = WAKE_UPS, "the system has no epoll"
    return found


def unavailable(ability: str, instead: str) -> StrategyUnavailable:
    """Return the error for a use of an ability that is off.

    :param instead: what the user can do meanwhile, for the message.
    """
    return StrategyUnavailable(
        f"bridge cannot {ability} here: {why_lost(ability)}. Until then {instead}" + at("missing-ability")
    )


_ADVICE = "install a version of bridge that knows these versions: pip install --upgrade bridge-interop"


def _versions() -> str:
    from importlib.metadata import version
    from platform import python_version

    installed = f"Python {python_version()}, Twisted {version('twisted')}, anyio {version('anyio')}"
    return f"{installed} (python -m bridge --version lists what is off)"
