"""The client and its functions."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import typing as t
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Optional, ParamSpec, TypeVar, Union, overload

from twisted.internet.defer import Deferred, succeed

from ._pages import AsyncBox, AsyncCursor, AsyncPage, AsyncTicket, Note, PageBox, PageT
from ._types import MISSING, Headers, Json, Listener, Loose, Missing, Notes, Order, Pages, Table, Visitor

if TYPE_CHECKING:
    from decimal import Decimal
    from typing import Self

DEFAULT_LIMIT = 10
T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


def logged(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Decorate a method as libraries do: the wrapper says what it wraps."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return await method(*args, **kwargs)

    return wrapper


class Counted:
    """A mixin without anything async, which gets no twin of its own."""

    calls: int = 0

    def count(self, by: int = 1) -> int:
        """Count a call."""
        self.calls += by
        return self.calls


class AsyncReader(ABC):
    """An abstract class."""

    @abstractmethod
    async def read(self, number: int) -> AsyncPage:
        """Read a page."""


class AsyncShelf(Counted, AsyncReader):
    """A client.

    Connects to nothing.
    """

    LIMIT = DEFAULT_LIMIT
    kind: t.ClassVar[str] = "wood"
    owner: str

    def __init__(
        self, name: str, *pages: AsyncPage, order: Order = Order.UP, headers: Headers | None = None, **more: object
    ) -> None:
        """Make one; the loop has to run."""
        asyncio.get_running_loop()
        self.name = name
        self.owner = "ann"
        self.order = order
        self.headers = headers
        self.cover: AsyncPage = AsyncPage(0, "cover")
        self.more = more
        self._pages = list(pages)
        self._open = False

    # What is made of it.

    @classmethod
    async def connect(cls, name: str, /, timeout: float = 5) -> Self:
        """Make one, and wait until it is there."""
        await asyncio.sleep(0)
        return cls(name, order=Order.DOWN, timeout=timeout)

    @classmethod
    def make(cls, name: str) -> AsyncShelf:
        """Make one."""
        return cls(name)

    @staticmethod
    async def parse(text: str, base: int = 10) -> int:
        """Parse a number."""
        return int(text, base)

    # What is awaited.

    async def get(self, number: int, *, default: str | Missing = MISSING, limit: int = DEFAULT_LIMIT) -> str:
        """Return a page's text."""
        return f"{self.name} {number} {default if isinstance(default, str) else limit}"

    @logged
    async def slow(self, seconds: float = 0.0) -> bool:
        """Sleep."""
        await asyncio.sleep(seconds)
        return True

    def soon(self, number: int) -> Awaitable[int]:
        """Return an awaitable."""
        return asyncio.sleep(0, number)

    def later(self, number: int) -> asyncio.Future[int]:
        """Return a Future."""
        return asyncio.ensure_future(asyncio.sleep(0, number))

    def deferred(self, number: int) -> Deferred[int]:
        """Return a Deferred."""
        return succeed(number)

    def maybe(self, number: int) -> Union[Awaitable[int], int]:  # noqa: UP007
        """Return a number, or an awaitable of it."""
        return asyncio.sleep(0, number) if number else 0

    async def nothing(self) -> None:
        """Return nothing."""

    async def json(self) -> Json:
        """Return what a recursive alias describes."""
        return {"name": self.name}

    async def loose(self, given: Loose) -> dict[str, Any]:
        """Take and return something with Any in it."""
        return given

    async def price(self) -> Decimal:
        """Return a type that is imported for type checkers only."""
        from decimal import Decimal

        return Decimal("1.5")

    @overload
    async def find(self, key: int) -> AsyncPage: ...
    @overload
    async def find(self, key: str, *, strict: Literal[True]) -> str: ...
    @overload
    async def find(self, key: str, *, strict: bool = False) -> str | None: ...
    async def find(self, key: int | str, *, strict: bool = False) -> AsyncPage | str | None:
        """Find by number or by name."""
        if isinstance(key, int):
            return AsyncPage(key)
        return key if strict or key == self.name else None

    # What is returned of the library's own, in containers too.

    async def read(self, number: int) -> AsyncPage:
        return AsyncPage(number, self.name)

    async def pages(self) -> Pages:
        """Return pages, by another name of the type."""
        return list(self._pages)

    async def maybe_page(self, number: int) -> Optional[AsyncPage]:  # noqa: UP045
        """Return a page, or none."""
        return AsyncPage(number) if number else None

    async def by_title(self) -> dict[str, tuple[AsyncPage, ...]]:
        """Return pages by their titles."""
        return {each.title: (each,) for each in self._pages}

    async def pair(self) -> tuple[AsyncPage, int]:
        """Return two things."""
        return self.cover, 1

    async def table(self) -> Table[str, AsyncPage]:
        """Return what a generic alias describes."""
        return {"all": list(self._pages)}

    async def either(self, number: int) -> list[AsyncPage] | AsyncPage | Note:
        """Return one of several things."""
        found: tuple[list[AsyncPage] | AsyncPage | Note, ...] = (list(self._pages), self.cover, Note("neither"))
        return found[number]

    def page(self, number: int) -> AsyncPage:
        """Return a page at once."""
        return AsyncPage(number, self.name)

    def ticket(self, number: int) -> AsyncTicket:
        """Return something to await."""
        return AsyncTicket(number)

    async def kept_ticket(self, number: int) -> AsyncTicket:
        """Return something to await, after waiting for it."""
        return AsyncTicket(number)

    def cursor(self, stop: int) -> AsyncCursor:
        """Return an async iterator."""
        return AsyncCursor(stop)

    def box(self) -> AsyncBox[str]:
        """Return a box of plain things."""
        return AsyncBox("a", "b")

    async def page_box(self) -> PageBox:
        """Return a box of pages."""
        return PageBox(*self._pages)

    def with_lock(self) -> asyncio.Lock:
        """Return an async object of another library."""
        return asyncio.Lock()

    # What is iterated and entered.

    async def titles(self, stop: int) -> AsyncIterator[str]:
        """Yield titles."""
        for number in range(stop):
            await asyncio.sleep(0)
            yield f"{self.name} {number}"

    async def all_pages(self, stop: int) -> AsyncGenerator[AsyncPage, None]:
        """Yield pages."""
        for number in range(stop):
            yield AsyncPage(number)

    def notes(self) -> Notes:
        """Return an async iterator, by another name of its type."""

        async def each() -> AsyncIterator[Note]:
            yield Note("one")

        return each()

    async def rows(self, stop: int) -> AsyncIterator[int]:
        """Return an async iterator, after waiting for it."""

        async def each() -> AsyncIterator[int]:
            for number in range(stop):
                yield number

        return each()

    @asynccontextmanager
    async def opened(self, number: int) -> AsyncGenerator[AsyncPage, None]:
        """Open a page."""
        yield AsyncPage(number, "opened")

    def locked(self) -> AbstractAsyncContextManager[str]:
        """Lock the shelf."""

        @asynccontextmanager
        async def lock() -> AsyncGenerator[str, None]:
            yield "locked"

        return lock()

    @contextlib.contextmanager
    def borrowed(self, number: int) -> Generator[int, None, None]:
        """Borrow a page, as sync code does."""
        yield number

    # What is given.

    async def add(self, page: AsyncPage, *others: AsyncPage) -> int:
        """Add pages."""
        self._pages += [page, *others]
        return len(self._pages)

    async def replace(self, pages: Sequence[AsyncPage], cover: AsyncPage | None = None) -> Self:
        """Put other pages in the place of all."""
        self._pages = list(pages)
        self.cover = cover or self.cover
        return self

    async def same(self, page: PageT) -> PageT:
        """Return what is given."""
        return page

    async def visit(self, listener: Listener, visitor: Visitor | None = None) -> int:
        """Call an async function for each page."""
        for page in self._pages:
            await listener(page)
            if visitor is not None:
                await visitor(page)
        return len(self._pages)

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function."""
        return await function(*args, **kwargs)

    async def apply(self, function: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs) -> list[T]:
        """Call a sync function."""
        return [function(number, *args, **kwargs) for number in range(2)]

    async def feed(self, items: Iterable[T], *, key: Callable[[T], str] = str, text: bytes = b"\n") -> dict[str, T]:
        """Take a function as a default."""
        return {key(each): each for each in items}

    # Properties.

    @property
    def title(self) -> str:
        """The title, in capitals."""
        return self.name.upper()

    @title.setter
    def title(self, value: str) -> None:
        self.name = value.lower()

    @property
    def first(self) -> AsyncPage | None:
        """The first page."""
        return self._pages[0] if self._pages else None

    @property
    async def length(self) -> int:
        """The number of pages, which takes a while to count."""
        return len(self._pages)

    @functools.cached_property
    def stamp(self) -> object:
        """Something that is made once."""
        return object()

    # Special methods.

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *error: object) -> None:
        self._open = False

    async def __call__(self, number: int) -> AsyncPage:
        """Return a page."""
        return self._pages[number]

    def __len__(self) -> int:
        return len(self._pages)

    def __getitem__(self, number: int) -> AsyncPage:
        return self._pages[number]

    def __contains__(self, page: AsyncPage) -> bool:
        return page in self._pages

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncShelf) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<shelf {self.name}>"

    # Names that mean something else inside of the class.

    async def list(self) -> str:
        """Have the name of a builtin that other annotations use."""
        return "list"

    async def kinds(self, blocking: bool = False) -> set[str]:
        """Have a parameter with the name of a function that the twin calls."""
        return {str(blocking)}


class AsyncSpecialShelf(AsyncShelf, Generic[T]):
    """A client that inherits."""

    def __init__(self, name: str, special: T) -> None:
        super().__init__(name)
        self.special: T = special

    async def get_special(self) -> T:
        """Return what is special."""
        return self.special

    async def read(self, number: int) -> AsyncPage:
        return AsyncPage(-number, self.name)


async def open_shelf(name: str, *, limit: int = DEFAULT_LIMIT) -> AsyncShelf:
    """Open a shelf."""
    return AsyncShelf(name, AsyncPage(1), AsyncPage(2), limit=limit)


async def shelves(names: Iterable[str] = ("a", "b")) -> AsyncIterator[AsyncShelf]:
    """Yield shelves."""
    for name in names:
        yield AsyncShelf(name)


@asynccontextmanager
async def visiting(shelf: AsyncShelf) -> AsyncGenerator[AsyncShelf, None]:
    """Be at a shelf."""
    yield shelf
