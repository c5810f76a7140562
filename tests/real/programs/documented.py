"""A module of the tests': the view of a class, as a library's author would publish it."""

from __future__ import annotations

from bridge import blocking
from shelf import AsyncShelf

Shelf = blocking(AsyncShelf)
