"""What the twin of the tests' own library does, construct by construct."""

from __future__ import annotations

import asyncio
import decimal
import inspect
import pickle
import pydoc
import re
import threading
import traceback
import typing
from types import ModuleType
from typing import Any

import pytest

from bridge import Entered, Items
from shelf import AsyncPage, AsyncShelf, Note


@pytest.fixture
def shelf(sync: ModuleType) -> Any:
    return sync.open_shelf("oak")


def numbers(pages: Any) -> list[int]:
    return [page.number for page in pages]


def test_an_instance_is_made_on_the_loop(sync: ModuleType) -> None:
    made = sync.Shelf("oak", sync.Page(1), AsyncPage(2), extra=3)
    assert (made.name, len(made), made.more) == ("oak", 2, {"extra": 3})
    assert made.LIMIT == sync.Shelf.LIMIT == 10
    assert sync.Shelf.kind == "wood"


def test_what_makes_instances_makes_those_of_the_class_that_is_called(sync: ModuleType) -> None:
    class Mine(sync.Shelf):  # type: ignore[misc, name-defined]
        pass

    assert type(sync.Shelf.connect("a")) is sync.Shelf
    assert type(Mine.connect("a")) is Mine
    assert type(sync.Shelf.make("a")) is sync.Shelf
    assert sync.Shelf.parse("ff", 16) == 255


def test_methods_block(shelf: Any) -> None:
    assert shelf.get(1) == "oak 1 10"
    assert shelf.get(1, default="x") == "oak 1 x"
    assert shelf.slow() is True
    assert (shelf.soon(1), shelf.later(2), shelf.deferred(3), shelf.maybe(4), shelf.maybe(0)) == (1, 2, 3, 4, 0)
    assert shelf.nothing() is None
    assert shelf.json() == {"name": "oak"}
    assert shelf.loose({"a": 1}) == {"a": 1}
    assert shelf.price() == decimal.Decimal("1.5")
    assert shelf.list() == "list"
    assert shelf.kinds(True) == {"True"}
    assert (shelf.count(2), shelf.calls) == (2, 2)


def test_overloads(sync: ModuleType, shelf: Any) -> None:
    assert type(shelf.find(1)) is sync.Page
    assert shelf.find("oak", strict=True) == "oak"
    assert shelf.find("ash") is None


def test_returned_objects_are_twins_in_containers_too(sync: ModuleType, shelf: Any) -> None:
    assert shelf.read(3).text() == "oak 3"
    assert shelf.read(3).following().number == 4
    assert numbers(shelf.pages()) == [1, 2]
    assert shelf.maybe_page(0) is None
    assert shelf.maybe_page(1).number == 1
    assert numbers(shelf.by_title()["untitled"]) == [2]
    assert (shelf.pair()[0].number, shelf.pair()[1]) == (0, 1)
    assert numbers(shelf.table()["all"]) == [1, 2]
    assert numbers(shelf.either(0)) == [1, 2]
    assert shelf.either(1).title == "cover"
    assert shelf.either(2) == Note("neither")
    assert all(type(each) is sync.Page for each in (shelf.page(1), shelf.cover, shelf.first, shelf[0], shelf(0)))


def test_what_is_awaited_is_waited_for(sync: ModuleType, shelf: Any) -> None:
    assert shelf.ticket(3).number == 3
    assert type(shelf.ticket(3)) is sync.Page
    assert shelf.kept_ticket(4).wait().number == 4
    assert sync.Ticket(5).wait().title == "ticket"


def test_generic_classes(sync: ModuleType, shelf: Any) -> None:
    assert (list(shelf.box()), shelf.box().first(), shelf.box().size) == (["a", "b"], "a", 2)
    box = shelf.page_box()
    assert type(box) is sync.PageBox
    assert isinstance(box, sync.Box)
    assert numbers(box) == numbers(box.all()) == [1, 2]
    assert (box.first().number, box.longest().number) == (1, 2)
    box.put(sync.Page(3))
    assert box.longest().number == 3
    made = sync.PageBox(sync.Page(5))
    assert (made.first().number, made.label) == (5, "box")


def test_an_async_object_of_another_library_stays_as_it_is(shelf: Any) -> None:
    assert type(shelf.with_lock()) is asyncio.Lock


def test_iterations(shelf: Any) -> None:
    assert list(shelf.titles(2)) == ["oak 0", "oak 1"]
    assert numbers(shelf.all_pages(2)) == [0, 1]
    assert list(shelf.notes()) == [Note("one")]
    assert list(shelf.rows(2)) == [0, 1]
    assert numbers(shelf.cursor(2)) == [0, 1]
    cursor = shelf.cursor(2)
    assert (next(cursor).number, next(cursor).number, next(cursor, None)) == (0, 1, None)
    for items in (shelf.titles(3), shelf.all_pages(3), shelf.notes(), shelf.rows(3)):
        assert type(items) is Items
        with items:
            next(items)
        assert list(items) == []


def test_leaving_an_iteration_closes_the_generator_of_the_library() -> None:
    from shelf import sync

    closed = []

    class Reporting(AsyncShelf):
        async def all_pages(self, stop: int) -> Any:
            try:
                yield AsyncPage(stop)
            finally:
                closed.append(threading.current_thread().name)

    async def made() -> AsyncShelf:
        return Reporting("oak")

    twin = sync.open_shelf("oak")
    twin._async = asyncio.run(made())
    with twin.all_pages(3) as pages:
        assert next(pages).number == 3
    assert closed == ["bridge"]


def test_with_blocks(shelf: Any) -> None:
    with shelf as entered:
        assert entered is shelf
    with shelf.opened(3) as page:
        assert page.text() == "opened 3"
    assert type(shelf.opened(3)) is Entered
    with shelf.locked() as locked:
        assert locked == "locked"
    with shelf.borrowed(3) as number:
        assert number == 3
    with shelf.page(1):
        raise KeyError  # which the page swallows
    with pytest.raises(ValueError, match="passes"), shelf.page(1):
        raise ValueError("passes")
    with pytest.raises(RuntimeError, match="was not entered"):
        shelf.__exit__(None, None, None)


def test_each_thread_leaves_its_own_block(shelf: Any) -> None:
    page, inside, leave = shelf.page(1), threading.Event(), threading.Event()

    def other() -> None:
        with page:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with page:
        thread.start()
        assert inside.wait(10)
    leave.set()
    thread.join()
    assert vars(page)["_blocks"] == []


def test_twins_are_given_to_the_library(sync: ModuleType, shelf: Any) -> None:
    page = sync.Page(7, "given")
    assert shelf.add(page, AsyncPage(8)) == 4
    assert page in shelf
    assert shelf.replace([page], page) is shelf
    assert shelf.cover == page
    assert shelf.replace([]).first is None
    shelf.cover = sync.Page(9)
    assert shelf.cover.number == 9
    assert shelf.same(page) == page
    with sync.visiting(shelf) as visited:
        assert visited == shelf
    assert [each.name for each in sync.shelves()] == ["a", "b"]


def test_callbacks_stay_async(shelf: Any) -> None:
    heard: list[object] = []

    async def listener(page: AsyncPage) -> None:
        await asyncio.sleep(0)
        heard.append(type(page))

    async def double(number: int) -> int:
        return 2 * number

    def plus(number: int, other: int) -> int:
        return number + other

    assert shelf.visit(listener) == 2
    assert shelf.visit(listener, listener) == 2
    assert heard == [AsyncPage] * 6
    assert shelf.call(double, 3) == 6
    assert shelf.apply(plus, 2) == [2, 3]
    assert shelf.feed([1]) == {"1": 1}


def test_properties_and_attributes(shelf: Any) -> None:
    assert shelf.title == "OAK"
    shelf.title = "FIR"
    assert shelf.name == "fir"
    shelf.owner = "bob"
    assert shelf._async.owner == "bob"
    assert shelf.length == 2
    assert shelf.stamp is shelf.stamp
    page = shelf.first
    page.notes = [Note("a")]
    assert shelf.first.notes == [Note("a")]


def test_special_methods(sync: ModuleType, shelf: Any) -> None:
    assert len(shelf) == 2
    assert shelf == sync.Shelf("oak")
    assert shelf != sync.Shelf("ash")
    assert hash(shelf) == hash(sync.Shelf("oak"))
    assert repr(shelf) == "<sync twin of <shelf oak>>"


def test_a_default_that_cannot_be_written_is_the_library_s_own(sync: ModuleType) -> None:
    one, two = sync.Page(1), sync.Page(2)
    assert one.notes == []
    assert one.notes is not two.notes


def test_inherits(sync: ModuleType) -> None:
    special = sync.SpecialShelf("oak", 3)
    assert isinstance(special, sync.Shelf)
    assert isinstance(special, sync.Reader)
    assert (special.special, special.get_special(), special.read(3).number, special.get(1)) == (3, 3, -3, "oak 1 10")
    with pytest.raises(TypeError, match="abstract"):
        sync.Reader()


def test_the_most_special_twin_is_chosen(sync: ModuleType) -> None:
    with sync.visiting(sync.SpecialShelf("oak", 3)) as visited:
        assert type(visited) is sync.SpecialShelf


# --- for people and tools


def test_pickles(sync: ModuleType, shelf: Any) -> None:
    page = pickle.loads(pickle.dumps(sync.Page(3, "x", [Note("y")])))
    assert (type(page), page.number, page.notes) == (sync.Page, 3, [Note("y")])
    with shelf:
        pass
    assert pickle.loads(pickle.dumps(shelf)) == shelf


def test_subclasses(sync: ModuleType) -> None:
    class Louder(sync.Shelf):  # type: ignore[misc, name-defined]
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.volume = 11

        def get(self, number: int, **options: Any) -> str:
            return str(super().get(number, **options)).upper()

    louder = Louder("oak")
    assert louder.get(1) == "OAK 1 10"
    assert louder.volume == 11
    assert louder.read(1).number == 1
    with louder as entered:
        assert entered is louder
    assert louder.replace([]) is louder


def test_signatures_and_docstrings(sync: ModuleType) -> None:
    for name in ("Shelf", "Page", "Box", "Cursor", "Ticket", "SpecialShelf", "PageBox", "Reader"):
        for method in vars(getattr(sync, name)).values():
            if inspect.isfunction(method):
                typing.get_type_hints(method, localns={"Decimal": decimal.Decimal})
    assert str(inspect.signature(sync.Shelf.get)).replace("'", "").startswith("(self, number: int, *, default: str |")
    assert sync.Shelf.get.__doc__ == AsyncShelf.get.__doc__
    assert inspect.getdoc(sync.Shelf) == inspect.getdoc(AsyncShelf)
    assert inspect.getdoc(sync.Page) == inspect.getdoc(AsyncPage)
    shown = pydoc.plain(pydoc.render_doc(sync.Shelf))
    # From Python 3.14 on help() breaks a long signature.
    assert re.search(r"get\([\s|]*self,[\s|]*number:", shown)
    assert "Return a page's text." in shown
    assert "The title, in capitals." in shown
    assert "coroutine" not in shown


def test_errors_are_those_of_the_library(shelf: Any) -> None:
    with pytest.raises(IndexError) as caught:
        shelf(7)
    frames = [frame.f_code.co_qualname for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert frames == ["test_errors_are_those_of_the_library", "Shelf.__call__", "AsyncShelf.__call__"]
