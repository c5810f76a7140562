"""What the package can do here, and for each ability which private names it has lost."""

from __future__ import annotations

import select
from collections.abc import Iterator

from .._errors import StrategyUnavailable
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
    """Return what is wrong with the private names that the ability needs; empty if it is there.

    The names are compared when this is first asked, which imports the libraries that they are in.

    :param library: compare the names of this one only, and leave the others alone.
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
    """Compare the names anew when they are asked for next; for tests."""
    _found.clear()


def why_lost(ability: str) -> str | None:
    """Return the reason why the ability is off and what to do about it, None if it is there."""
    faults = lost(ability)
    return f"{', '.join(faults)} in {_versions()}; {_ADVICE}" if faults else None


def abilities() -> list[tuple[str, str | None]]:
    """Return each ability that stands on private names, with the reason why it is off, or None."""
    found = [(ability, why_lost(ability)) for ability in ABILITIES]
    if not hasattr(select, "epoll"):
        found[ABILITIES.index(WAKE_UPS)] = WAKE_UPS, "the system has no epoll"
    return found


def unavailable(ability: str, instead: str) -> StrategyUnavailable:
    """Return the error for what needs an ability that is off.

    :param instead: what to write in its place.
    """
    return StrategyUnavailable(f"bridge cannot {ability} here: {why_lost(ability)}. Until then {instead}")


_ADVICE = "install a version of bridge that knows these versions: pip install --upgrade bridge-interop"


def _versions() -> str:
    from importlib.metadata import version
    from platform import python_version

    installed = f"Python {python_version()}, Twisted {version('twisted')}, anyio {version('anyio')}"
    return f"{installed} (python -m bridge --version lists what is off)"
