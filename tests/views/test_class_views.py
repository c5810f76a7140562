"""The view of a class as a class: in annotations, in class statements, in help() and to pickle."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import pydoc
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import pytest

from bridge import Bridge, blocking

T = TypeVar("T")


class AsyncBooks:
    """Books of a library."""

    limit = 3

    def __init__(self, name: str = "books", *, size: int = 2) -> None:
        """Open the library."""
        asyncio.get_running_loop()
        self.name = name
        self._size = size

    async def get(self, number: int) -> str:
        """Return a book."""
        await asyncio.sleep(0)
        return f"{self.name} {number}"

    async def both(self) -> list[str]:
        return [await self.get(number) for number in range(2)]

    def thread(self) -> str:
        return threading.current_thread().name

    async def itself(self) -> AsyncBooks:
        return self

    async def titles(self) -> AsyncIterator[str]:
        yield self.name

    @property
    def size(self) -> int:
        """How many."""
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        self._size = value

    @functools.cached_property
    def stamp(self) -> str:
        """Made once."""
        return threading.current_thread().name

    @classmethod
    async def opened(cls, name: str) -> str:
        """Open one."""
        return f"{cls.__name__} {name}"

    @staticmethod
    async def parse(text: str) -> int:
        """Parse."""
        return int(text)

    async def __aenter__(self) -> AsyncBooks:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __len__(self) -> int:
        return self._size


class AsyncBox(Generic[T]):
    async def get(self) -> T:
        raise NotImplementedError


Books = blocking(AsyncBooks)


class Mine(Books):  # type: ignore[misc, valid-type]
    """A sync class over it."""

    def __init__(self, name: str) -> None:
        super().__init__(name, size=5)
        self.read: list[int] = []
        self.shout = True

    def get(self, number: int) -> str:
        self.read.append(number)
        return f"my {super().get(number)}"

    @property
    def shout(self) -> bool:
        return bool(vars(self)["loud"])

    @shout.setter
    def shout(self, value: bool) -> None:
        vars(self)["loud"] = value

    def here(self) -> str:
        return threading.current_thread().name


@pytest.fixture
def mine() -> Any:
    return Mine("mine")


def test_is_a_class_in_annotations() -> None:
    def function(one: Books | None, other: Books | None) -> list[Books]:  # type: ignore[valid-type]
        raise AssertionError

    hints = typing.get_type_hints(function, globalns=globals())
    assert hints == {"one": Books | None, "other": None | Books, "return": list[Books]}
    assert isinstance(Books(), Books | None)
    assert isinstance(None, Books | None)
    assert not isinstance(3, Books | None)
    assert typing.Optional[Books] == Books | None  # noqa: UP045
    box = blocking(AsyncBox)
    assert typing.get_origin(box[int]) is box
    assert inspect.isclass(Books)


def test_has_the_name_of_the_global_that_it_is() -> None:
    assert (Books.__name__, Books.__qualname__, Books.__module__) == ("Books", "Books", __name__)
    inside = blocking(AsyncBooks)
    assert (inside.__name__, inside.__qualname__) == ("AsyncBooks", "AsyncBooks")


def test_pickles_and_copies() -> None:
    assert pickle.loads(pickle.dumps(Books)) is Books
    assert pickle.loads(pickle.dumps(blocking(AsyncBooks))) == Books
    assert copy.copy(Books) is copy.deepcopy(Books) is Books


def test_help_shows_its_methods() -> None:
    shown = pydoc.plain(pydoc.render_doc(Books)).replace("'", "")
    assert shown.startswith(f"Python Library Documentation: class Books in module {__name__}")
    for line in (
        "Books(name: str = books, *, size: int = 2)",
        "Books of a library.",
        "get(self, number: int) -> str",
        "Return a book.",
        "parse(text: str) -> int",
        "How many.",
        "Made once.",
        "Open the library.",
    ):
        assert line in shown
    assert "async " not in shown
    assert "__aenter__" not in shown


def test_a_derived_class_is_sync(mine: Any) -> None:
    assert mine.get(3) == "my mine 3"
    assert mine.read == [3]
    assert mine.here() == threading.current_thread().name
    assert mine.thread() == "bridge"
    assert len(mine) == mine.size == 5
    assert (mine.limit, mine.stamp) == (3, "bridge")
    assert list(mine.titles()) == ["mine"]
    assert mine.itself() is mine
    with mine as entered:
        assert entered is mine
    # The library's own code calls its own methods.
    assert mine.both() == ["mine 0", "mine 1"]


def test_attributes_of_a_derived_class(mine: Any) -> None:
    mine.size = 7
    assert mine.__wrapped__.size == 7
    mine.other = 1
    assert mine.__wrapped__.other == 1
    assert mine.shout is True
    mine.shout = False
    assert mine.shout is False
    assert not hasattr(mine.__wrapped__, "shout")
    assert repr(mine).startswith("<Mine, a blocking view of <")


def test_checks_of_a_derived_class(mine: Any) -> None:
    assert isinstance(mine, Mine)
    assert isinstance(mine, Books)
    assert isinstance(mine, AsyncBooks)
    assert issubclass(Mine, Books)
    assert not isinstance(Books("x"), Mine)


def test_a_derived_class_pickles_and_copies(mine: Any) -> None:
    for each in (pickle.loads(pickle.dumps(mine)), copy.copy(mine), copy.deepcopy(mine)):
        assert type(each) is Mine
        assert each.name == "mine"
        assert each.__wrapped__ is not mine.__wrapped__


def test_help_of_a_derived_class() -> None:
    shown = pydoc.plain(pydoc.render_doc(Mine)).replace("'", "")
    assert "class Mine(Books)" in shown
    assert "A sync class over it." in shown
    assert "both(self) -> list[str]" in shown


def test_async_methods_of_a_derived_class_are_refused() -> None:
    advice = r"Bad\.more is async, .* derive from AsyncBooks itself, and view that: blocking\(Bad\)"
    with pytest.raises(TypeError, match=advice):

        class Bad(Books):  # type: ignore[misc, valid-type]
            async def more(self) -> None:
                raise AssertionError


def test_two_views_as_bases_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot derive from the views of both"):

        class Bad(Books, blocking(AsyncBox)):  # type: ignore[misc, valid-type]
            pass


def test_an_instance_that_is_not_made_yet_says_so() -> None:
    class Early(Books):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.name = "early"

    with pytest.raises(AttributeError, match=r"Early is not made yet: call super\(\).__init__\(...\) first"):
        Early()


def test_a_derived_class_uses_the_bridge_of_the_view() -> None:
    with Bridge("own", install_reactor=False) as own:

        class Own(own.blocking(AsyncBooks)):  # type: ignore[misc]
            pass

        assert Own().thread() == "own"


def test_a_module_of_views_is_viewed_once() -> None:
    module = types.ModuleType("module")
    module.Books = Books  # type: ignore[attr-defined]
    module.get = AsyncBooks.get  # type: ignore[attr-defined]
    assert blocking(module).Books is Books


UNKNOWN = """
class Hidden:
    # Python evaluates the annotations in the class, when they are asked for, and finds the method.
    def list(self) -> str:
        return "list"

    def cursor(self) -> list.Cursor:
        return "cursor"

    async def many(self) -> list[str]:
        return ["a"]
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="until Python 3.13 the class statement fails")
def test_annotations_that_cannot_be_evaluated() -> None:
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(UNKNOWN, "<unknown>", "exec", dont_inherit=True), namespace)
    view = blocking(namespace["Hidden"])
    assert (view().cursor(), view().many()) == ("cursor", ["a"])
    assert "many(self)" in pydoc.plain(pydoc.render_doc(view))
