"""A module of the tests': the view of a class, as a library's author would publish it."""

from __future__ import annotations

from shelf import AsyncShelf

from bridge import blocking

Shelf = blocking(AsyncShelf)
