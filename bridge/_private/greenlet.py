"""The private names of greenlet that the package stands on: none. What it calls is in greenlet's documentation."""

from __future__ import annotations

from .rows import Name

NAMES: tuple[Name, ...] = ()
