"""Sync twins of shelf, over its async classes and functions."""

# Made from shelf 1.2.0 by bridge 0.2.0:
# python -m bridge twin shelf --line-length 120 -o sync.py
# Do not edit: change the library, and run the command again.
# pyright: reportIncompatibleVariableOverride=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import builtins
from asyncio import Lock
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import cache
from inspect import signature
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, cast, overload

from bridge import Entered, Items, enter, iterate
from bridge import blocking as _blocking

from shelf import (
    DEFAULT_LIMIT,
    AsyncBox,
    AsyncCursor,
    AsyncPage,
    AsyncReader,
    AsyncShelf,
    AsyncSpecialShelf,
    AsyncTicket,
    Note,
)
from shelf import PageBox as _PageBox
from shelf import open_shelf as _open_shelf
from shelf import shelves as _shelves
from shelf import visiting as _visiting
from shelf._types import MISSING, Headers, Json, Listener, Loose, Missing, Order, Visitor

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "Box",
    "Cursor",
    "Page",
    "PageBox",
    "Reader",
    "Shelf",
    "SpecialShelf",
    "Ticket",
    "open_shelf",
    "shelves",
    "visiting",
]

P = ParamSpec("P")
PageT = TypeVar("PageT", bound="Page")
T = TypeVar("T")
_A = TypeVar("_A")
_OMITTED: Any = object()  # an argument that is not given
_T = TypeVar("_T")


class Box(Generic[T]):
    """A generic class: what is inside may be async, too."""

    _async: AsyncBox[Any]

    def __init__(self, *things: T) -> None:
        self._async = _blocking(AsyncBox)(*[_original(each) for each in things]).__wrapped__

    @property
    def label(self) -> str:
        return self._async.label

    @label.setter
    def label(self, value: str) -> None:
        self._async.label = value

    @property
    def size(self) -> int:
        """The number of things."""
        return _blocking(lambda: self._async.size)()

    def first(self) -> T:
        """Return the first thing."""
        return cast("T", _any(_blocking(self._async.first)()))

    def put(self, thing: T, /) -> None:
        """Put another thing in."""
        _blocking(self._async.put)(_original(thing))

    def all(self) -> builtins.list[T]:
        """Return everything."""
        return [cast("T", _any(each)) for each in _blocking(self._async.all)()]

    def __iter__(self) -> Items[T]:
        return iterate(_each(lambda: self._async, lambda each: cast("T", _any(each))))


class Cursor:
    """An async iterator that is its own iterator."""

    _async: AsyncCursor

    def __init__(self, stop: int) -> None:
        self._async = _blocking(AsyncCursor)(stop).__wrapped__

    def __iter__(self) -> Items[Page]:
        return iterate(_each(lambda: self._async, lambda each: _twin(Page, each)))

    def __next__(self) -> Page:
        return next(_kept(self, iterate(_each(lambda: self._async, lambda each: _twin(Page, each)))))


class Page:
    r"""A page of a shelf.

    It has a back\slash and "quotes" in its docstring.
    """

    _async: AsyncPage

    SIZE: ClassVar[int] = AsyncPage.SIZE

    def __init__(self, number: int, title: str = "untitled", notes: builtins.list[Note] = _OMITTED) -> None:
        self._async = _blocking(AsyncPage)(number, title, **_given(notes=notes)).__wrapped__

    @property
    def number(self) -> int:
        return self._async.number

    @number.setter
    def number(self, value: int) -> None:
        self._async.number = value

    @property
    def title(self) -> str:
        return self._async.title

    @title.setter
    def title(self, value: str) -> None:
        self._async.title = value

    @property
    def notes(self) -> builtins.list[Note]:
        return self._async.notes

    @notes.setter
    def notes(self, value: builtins.list[Note]) -> None:
        self._async.notes = value

    def text(self) -> str:
        """Return the text."""
        return _blocking(self._async.text)()

    def following(self) -> Page:
        """Return the next page."""
        return _twin(Page, _blocking(self._async.following)(), self)

    def __enter__(self) -> Self:
        return _twin(type(self), _enter(self, enter(self._async)), self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return _exit(self, exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"<sync twin of {self._async!r}>"

    def __eq__(self, other: object) -> bool:
        return bool(self._async == _original(other))


class Reader:
    """An abstract class."""

    _async: AsyncReader

    def __init__(self) -> None:
        self._async = _blocking(AsyncReader)().__wrapped__

    def read(self, number: int) -> Page:
        """Read a page."""
        return _twin(Page, _blocking(self._async.read)(number))


class Shelf(Reader):
    """A client.

    Connects to nothing.
    """

    _async: AsyncShelf

    kind: ClassVar[str] = AsyncShelf.kind
    LIMIT = AsyncShelf.LIMIT

    def __init__(
        self,
        name: str,
        *pages: Page | AsyncPage,
        order: Order = Order.UP,
        headers: Headers | None = None,
        **more: object,
    ) -> None:
        """Make one; the loop has to run."""
        self._async = _blocking(AsyncShelf)(
            name, *[_original(each) for each in pages], order=order, headers=headers, **more
        ).__wrapped__

    @property
    def owner(self) -> str:
        return self._async.owner

    @owner.setter
    def owner(self, value: str) -> None:
        self._async.owner = value

    @property
    def name(self) -> str:
        return self._async.name

    @name.setter
    def name(self, value: str) -> None:
        self._async.name = value

    @property
    def order(self) -> Order:
        return self._async.order

    @order.setter
    def order(self, value: Order) -> None:
        self._async.order = value

    @property
    def headers(self) -> Headers | None:
        return self._async.headers

    @headers.setter
    def headers(self, value: Headers | None) -> None:
        self._async.headers = value

    @property
    def cover(self) -> Page:
        return _twin(Page, self._async.cover)

    @cover.setter
    def cover(self, value: Page) -> None:
        self._async.cover = _original(value)

    # Any: the library does not say the type of more.
    @property
    def more(self) -> Any:
        return _any(self._async.more)

    @more.setter
    def more(self, value: Any) -> None:
        self._async.more = value

    @property
    def calls(self) -> int:
        return self._async.calls

    @calls.setter
    def calls(self, value: int) -> None:
        self._async.calls = value

    @classmethod
    def connect(cls, name: str, /, timeout: float = 5) -> Self:
        """Make one, and wait until it is there."""
        return _twin(cls, _blocking(AsyncShelf.connect)(name, timeout))

    @classmethod
    def make(cls, name: str) -> Shelf:
        """Make one."""
        return _blocking(lambda: _twin(Shelf, AsyncShelf.make(name)))()

    @staticmethod
    def parse(text: str, base: int = 10) -> int:
        """Parse a number."""
        return _blocking(AsyncShelf.parse)(text, base)

    def get(self, number: int, *, default: str | Missing = MISSING, limit: int = DEFAULT_LIMIT) -> str:
        """Return a page's text."""
        return _blocking(self._async.get)(number, default=default, limit=limit)

    def slow(self, seconds: float = 0.0) -> bool:
        """Sleep."""
        result: bool = _blocking(self._async.slow)(**_changed(self._async.slow, seconds=seconds))
        return result

    def soon(self, number: int) -> int:
        """Return an awaitable."""
        return _blocking(self._async.soon)(number)

    def later(self, number: int) -> int:
        """Return a Future."""
        return _blocking(self._async.later)(number)

    def deferred(self, number: int) -> int:
        """Return a Deferred."""
        return _blocking(self._async.deferred)(number)

    def maybe(self, number: int) -> int:
        """Return a number, or an awaitable of it."""
        result: int = _blocking(cast("Callable[..., Awaitable[int]]", self._async.maybe))(number)
        return result

    def nothing(self) -> None:
        """Return nothing."""
        _blocking(self._async.nothing)()

    def json(self) -> Json:
        """Return what a recursive alias describes."""
        return _blocking(self._async.json)()

    def loose(self, given: Loose) -> dict[str, Any]:
        """Take and return something with Any in it."""
        result: dict[str, Any] = _blocking(lambda: self._async.loose(given))()
        return result

    def price(self) -> Decimal:
        """Return a type that is imported for type checkers only."""
        return _blocking(self._async.price)()

    @overload
    def find(self, key: int) -> Page: ...
    @overload
    def find(self, key: str, *, strict: Literal[True]) -> str: ...
    @overload
    def find(self, key: str, *, strict: bool = False) -> str | None: ...
    def find(self, key: int | str, *, strict: bool = False) -> Any:
        """Find by number or by name."""
        return cast(
            "Page | str | None", _any(_blocking(cast("Callable[..., Any]", self._async.find))(key, strict=strict))
        )

    def read(self, number: int) -> Page:
        return _twin(Page, _blocking(self._async.read)(number))

    def pages(self) -> builtins.list[Page]:
        """Return pages, by another name of the type."""
        return [_twin(Page, each) for each in _blocking(self._async.pages)()]

    def maybe_page(self, number: int) -> Page | None:
        """Return a page, or none."""
        return None if (value := _blocking(self._async.maybe_page)(number)) is None else _twin(Page, value)

    def by_title(self) -> dict[str, tuple[Page, ...]]:
        """Return pages by their titles."""
        return {
            key: tuple([_twin(Page, each2) for each2 in each])
            for key, each in _blocking(self._async.by_title)().items()
        }

    def pair(self) -> tuple[Page, int]:
        """Return two things."""
        return (_twin(Page, (value := _blocking(self._async.pair)())[0]), value[1])

    def table(self) -> dict[str, builtins.list[Page]]:
        """Return what a generic alias describes."""
        return {key: [_twin(Page, each2) for each2 in each] for key, each in _blocking(self._async.table)().items()}

    def either(self, number: int) -> builtins.list[Page] | Page | Note:
        """Return one of several things."""
        return cast(
            "builtins.list[Page] | Page | Note",
            [_twin(Page, each) for each in value]
            if isinstance((value := _blocking(self._async.either)(number)), list)
            else _any(value),
        )

    def page(self, number: int) -> Page:
        """Return a page at once."""
        return _blocking(lambda: _twin(Page, self._async.page(number)))()

    def ticket(self, number: int) -> Page:
        """Return something to await."""
        return _twin(Page, _blocking(self._async.ticket)(number))

    def kept_ticket(self, number: int) -> Ticket:
        """Return something to await, after waiting for it."""
        return _twin(Ticket, _blocking(self._async.kept_ticket)(number))

    def cursor(self, stop: int) -> Cursor:
        """Return an async iterator."""
        return _blocking(lambda: _twin(Cursor, self._async.cursor(stop)))()

    def box(self) -> Box[str]:
        """Return a box of plain things."""
        return _blocking(lambda: _twin(Box[str], self._async.box()))()

    def page_box(self) -> PageBox:
        """Return a box of pages."""
        return _twin(PageBox, _blocking(self._async.page_box)())

    def with_lock(self) -> Lock:
        """Return an async object of another library."""
        return _blocking(lambda: [self._async.with_lock()])()[0]

    def titles(self, stop: int) -> Items[str]:
        """Yield titles."""
        return iterate(self._async.titles(stop))

    def all_pages(self, stop: int) -> Items[Page]:
        """Yield pages."""
        return iterate(_each(lambda: self._async.all_pages(stop), lambda each: _twin(Page, each)))

    def notes(self) -> Items[Note]:
        """Return an async iterator, by another name of its type."""
        return iterate(_items(lambda: self._async.notes()))

    def rows(self, stop: int) -> Items[int]:
        """Return an async iterator, after waiting for it."""
        return iterate(_blocking(self._async.rows)(stop))

    def opened(self, number: int) -> Entered[Page]:
        """Open a page."""
        return enter(_entered(lambda: self._async.opened(number), lambda each: _twin(Page, each)))

    def locked(self) -> Entered[str]:
        """Lock the shelf."""
        return enter(lambda: self._async.locked())

    def borrowed(self, number: int) -> AbstractContextManager[int]:
        """Borrow a page, as sync code does."""
        return _blocking(self._async.borrowed)(number)

    def add(self, page: Page | AsyncPage, *others: Page | AsyncPage) -> int:
        """Add pages."""
        return _blocking(self._async.add)(_original(page), *[_original(each) for each in others])

    def replace(self, pages: Sequence[Page], cover: Page | AsyncPage | None = None) -> Self:
        """Put other pages in the place of all."""
        return _twin(
            type(self), _blocking(self._async.replace)([_original(each) for each in pages], _original(cover)), self
        )

    def same(self, page: PageT) -> PageT:
        """Return what is given."""
        return cast("PageT", _any(_blocking(self._async.same)(_original(page))))

    def visit(self, listener: Listener, visitor: Visitor | None = None) -> int:
        """Call an async function for each page."""
        return _blocking(lambda: self._async.visit(listener, visitor))()

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function."""
        return _blocking(self._async.call)(function, *args, **kwargs)

    def apply(self, function: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs) -> builtins.list[T]:
        """Call a sync function."""
        return _blocking(self._async.apply)(function, *args, **kwargs)

    def feed(self, items: Iterable[T], *, key: Callable[[T], str] = str, text: bytes = b"\n") -> dict[str, T]:
        """Take a function as a default."""
        return _blocking(self._async.feed)(items, key=key, text=text)

    @property
    def title(self) -> str:
        """The title, in capitals."""
        return _blocking(lambda: self._async.title)()

    @title.setter
    def title(self, value: str) -> None:
        _blocking(lambda: setattr(self._async, "title", value))()

    @property
    def first(self) -> Page | None:
        """The first page."""
        return _blocking(lambda: None if (value := self._async.first) is None else _twin(Page, value))()

    @property
    def length(self) -> int:
        """The number of pages, which takes a while to count."""
        return _blocking(lambda: self._async.length)()

    @property
    def stamp(self) -> object:
        """Something that is made once."""
        return _blocking(lambda: self._async.stamp)()

    def __enter__(self) -> Self:
        return _twin(type(self), _enter(self, enter(self._async)), self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _exit(self, exc_type, exc, traceback)

    def __call__(self, number: int) -> Page:
        """Return a page."""
        return _twin(Page, _blocking(self._async.__call__)(number))

    def __len__(self) -> int:
        return _blocking(self._async.__len__)()

    def __getitem__(self, number: int) -> Page:
        return _blocking(lambda: _twin(Page, self._async.__getitem__(number)))()

    def __contains__(self, page: Page | AsyncPage) -> bool:
        return _blocking(self._async.__contains__)(_original(page))

    def __eq__(self, other: object) -> bool:
        return bool(self._async == _original(other))

    def __hash__(self) -> int:
        return hash(self._async)

    def __repr__(self) -> str:
        return f"<sync twin of {self._async!r}>"

    def list(self) -> str:
        """Have the name of a builtin that other annotations use."""
        return _blocking(self._async.list)()

    def kinds(self, blocking: bool = False) -> set[str]:
        """Have a parameter with the name of a function that the twin calls."""
        return _blocking(self._async.kinds)(blocking)

    def count(self, by: int = 1) -> int:
        """Count a call."""
        return _blocking(self._async.count)(by)


class SpecialShelf(Shelf, Generic[T]):
    """A client that inherits."""

    _async: AsyncSpecialShelf[T]

    def __init__(self, name: str, special: T) -> None:
        self._async = _blocking(AsyncSpecialShelf)(name, special).__wrapped__

    @property
    def special(self) -> T:
        return self._async.special

    @special.setter
    def special(self, value: T) -> None:
        self._async.special = value

    def get_special(self) -> T:
        """Return what is special."""
        return _blocking(self._async.get_special)()

    def read(self, number: int) -> Page:
        return _twin(Page, _blocking(self._async.read)(number))

    @classmethod
    def connect(cls, name: str, /, timeout: float = 5) -> Self:
        """Make one, and wait until it is there."""
        return _twin(cls, _blocking(AsyncSpecialShelf[Any].connect)(name, timeout))

    @classmethod
    def make(cls, name: str) -> Shelf:
        """Make one."""
        return _blocking(lambda: _twin(Shelf, AsyncSpecialShelf[Any].make(name)))()


class Ticket:
    """An object that is awaited."""

    _async: AsyncTicket

    def __init__(self, number: int) -> None:
        self._async = _blocking(AsyncTicket)(number).__wrapped__

    @property
    def number(self) -> int:
        return self._async.number

    @number.setter
    def number(self, value: int) -> None:
        self._async.number = value

    def wait(self) -> Page:
        """Wait, and return what ``await`` returns."""
        return _twin(Page, _blocking(lambda: self._async)())


class PageBox(Box[Page]):
    """A box of pages, which has the type's name without ``Async``."""

    _async: _PageBox

    def __init__(self, *things: Page | AsyncPage) -> None:
        self._async = _blocking(_PageBox)(*[_original(each) for each in things]).__wrapped__

    def longest(self) -> Page | None:
        """Return the last page, if there is one."""
        return None if (value := _blocking(self._async.longest)()) is None else _twin(Page, value)


def open_shelf(name: str, *, limit: int = DEFAULT_LIMIT) -> Shelf:
    """Open a shelf."""
    return _twin(Shelf, _blocking(_open_shelf)(name, limit=limit))


def shelves(names: Iterable[str] = ("a", "b")) -> Items[Shelf]:
    """Yield shelves."""
    return iterate(_each(lambda: _shelves(names), lambda each: _twin(Shelf, each)))


def visiting(shelf: Shelf | AsyncShelf) -> Entered[Shelf]:
    """Be at a shelf."""
    return enter(_entered(lambda: _visiting(_original(shelf)), lambda each: _twin(Shelf, each)))


def _twin(kind: type[_T], original: object, own: Any = None) -> _T:
    """Return the twin of an async object: ``own`` if it is that one's, else a new one."""
    twin: Any = None
    if own is not None and own._async is original:
        twin = own
    elif original is not None:
        cls: Any = getattr(kind, "__origin__", kind)
        bases = type(original).__mro__
        found = next((_TWINS[each] for each in bases if each in _TWINS), cls)
        twin = object.__new__(cls if issubclass(cls, found) else found)
        twin._async = original
    result: _T = twin
    return result


def _any(value: Any) -> Any:
    """Return the twin of an async object whose class has one; anything else as it is."""
    original = getattr(value, "__wrapped__", value)  # a sync view's
    bases = type(original).__mro__
    found = next((_TWINS[each] for each in bases if each in _TWINS), None)
    return value if found is None else _twin(found, original)


def _given(**arguments: Any) -> dict[str, Any]:
    """Return those arguments that are given."""
    return {name: each for name, each in arguments.items() if each is not _OMITTED}


@cache
def _defaults(function: Any) -> dict[str, Any]:
    """Return the defaults of a function's parameters."""
    return {name: each.default for name, each in signature(function).parameters.items()}


def _changed(function: Any, /, **arguments: Any) -> dict[str, Any]:
    """Return those arguments that are not the defaults, for a decorator that looks at them."""
    defaults = _defaults(getattr(function, "__func__", function))
    return {name: each for name, each in arguments.items() if each is not defaults[name]}


def _original(value: Any) -> Any:
    """Return the async object of a twin; anything else as it is."""
    known: Any = value
    return known._async if isinstance(value, tuple(_TWINS.values())) else value


async def _items(make: Callable[[], AsyncIterable[_T]]) -> AsyncGenerator[_T, None]:
    """Yield the items of an async iterable that is made on the loop's thread."""
    items = make()
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _each(make: Callable[[], AsyncIterable[_A]], convert: Callable[[_A], _T]) -> AsyncGenerator[_T, None]:
    """Yield the items of an async iterable, each converted."""
    items = make()
    try:
        async for item in items:
            yield convert(item)
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


@asynccontextmanager
async def _entered(
    make: Callable[[], AbstractAsyncContextManager[_A, bool | None]], convert: Callable[[_A], _T]
) -> AsyncGenerator[_T, None]:
    """Enter an async context manager, and convert its value."""
    async with make() as value:
        yield convert(value)


def _enter(twin: object, entered: Entered[_T]) -> _T:
    """Enter, and keep what ``_exit`` leaves: several threads may be inside."""
    value = entered.__enter__()
    vars(twin).setdefault("_blocks", []).append((get_ident(), entered))
    return value


def _exit(
    twin: object, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
) -> bool | None:
    """Leave this thread's innermost ``with`` block; else the last one of any thread."""
    blocks: list[tuple[int, Entered[Any]]] = vars(twin).get("_blocks", [])
    if not blocks:
        raise RuntimeError(f"{twin!r} was not entered; use it in a 'with' statement")
    here = [at for at, block in enumerate(blocks) if block[0] == get_ident()]
    return blocks.pop(here[-1] if here else -1)[1].__exit__(exc_type, exc, traceback)


def _kept(twin: object, items: Items[_T]) -> Items[_T]:
    """Return the items that the twin iterates over already; else these, from now on."""
    kept: Items[_T] = vars(twin).setdefault("_items", items)
    return kept


_TWINS: dict[type[Any], type[Any]] = {
    AsyncBox: Box,
    AsyncCursor: Cursor,
    AsyncPage: Page,
    AsyncReader: Reader,
    AsyncShelf: Shelf,
    AsyncSpecialShelf: SpecialShelf,
    AsyncTicket: Ticket,
    _PageBox: PageBox,
}
