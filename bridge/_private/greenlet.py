"""The private names of greenlet that the package uses: none. It calls documented functions only."""

from __future__ import annotations

from .rows import Name

NAMES: tuple[Name, ...] = ()
