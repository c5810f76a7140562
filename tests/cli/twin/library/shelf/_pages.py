"""Objects that the client returns: they get twins because they are async, though nobody names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")
PageT = TypeVar("PageT", bound="AsyncPage")


@dataclass
class Note:
    """A plain object, which has no twin."""

    text: str


@dataclass
class AsyncPage:
    """A page of a shelf.

    It has a back\\slash and "quotes" in its docstring.
    """

    SIZE: ClassVar[int] = 80

    number: int
    title: str = "untitled"
    notes: list[Note] = field(default_factory=list[Note])

    async def text(self) -> str:
        """Return the text."""
        await asyncio.sleep(0)
        return f"{self.title} {self.number}"

    async def following(self) -> AsyncPage:
        """Return the next page."""
        return AsyncPage(self.number + 1, self.title)

    async def __aenter__(self) -> AsyncPage:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return exc_type is KeyError


class AsyncBox(Generic[T]):
    """A generic class: what is inside may be async, too."""

    def __init__(self, *things: T) -> None:
        self._things = list(things)
        self.label = "box"

    @property
    def size(self) -> int:
        """The number of things."""
        return len(self._things)

    async def first(self) -> T:
        """Return the first thing."""
        return self._things[0]

    async def put(self, thing: T, /) -> None:
        """Put another thing in."""
        self._things.append(thing)

    async def all(self) -> list[T]:
        """Return everything."""
        return list(self._things)

    async def __aiter__(self) -> AsyncIterator[T]:
        for thing in self._things:
            yield thing


class PageBox(AsyncBox[AsyncPage]):
    """A box of pages, which has the type's name without ``Async``."""

    async def longest(self) -> AsyncPage | None:
        """Return the last page, if there is one."""
        return self._things[-1] if self._things else None


class AsyncCursor:
    """An async iterator that is its own iterator."""

    def __init__(self, stop: int) -> None:
        self._left = iter(range(stop))

    def __aiter__(self) -> AsyncCursor:
        return self

    async def __anext__(self) -> AsyncPage:
        for number in self._left:
            await asyncio.sleep(0)
            return AsyncPage(number)
        raise StopAsyncIteration


class AsyncTicket:
    """An object that is awaited."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __await__(self) -> Generator[None, None, AsyncPage]:
        yield from asyncio.sleep(0).__await__()
        return AsyncPage(self.number, "ticket")
