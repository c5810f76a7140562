"""An async library with every construct that a twin has to know; ``sync`` is its twin, as an author publishes it."""

from ._client import DEFAULT_LIMIT, AsyncReader, AsyncShelf, AsyncSpecialShelf, open_shelf, shelves, visiting
from ._pages import AsyncBox, AsyncCursor, AsyncPage, AsyncTicket, Note, PageBox

__version__ = "1.2.0"

__all__ = [
    "DEFAULT_LIMIT",
    "AsyncBox",
    "AsyncCursor",
    "AsyncPage",
    "AsyncReader",
    "AsyncShelf",
    "AsyncSpecialShelf",
    "AsyncTicket",
    "Note",
    "PageBox",
    "open_shelf",
    "shelves",
    "visiting",
]
