"""Types that the library uses, some of them by other names."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ._pages import AsyncPage, Note

K = TypeVar("K")
V = TypeVar("V")

Headers = Mapping[str, str]
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | None"
Loose = dict[str, Any]
Listener: TypeAlias = "Callable[[AsyncPage], Awaitable[None]]"  # a callback, which stays async
Pages: TypeAlias = "list[AsyncPage]"  # another type in the twin
Notes: TypeAlias = "AsyncIterator[Note]"
Table: TypeAlias = "dict[K, list[V]]"


class Order(enum.Enum):
    """How pages are sorted."""

    UP = 1
    DOWN = 2


class Missing:
    """The class of a default that is no value."""


MISSING = Missing()


class Visitor(Protocol):
    """A callback that is an object, and stays async."""

    async def __call__(self, page: AsyncPage, /) -> None: ...
