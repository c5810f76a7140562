"""blocking(wrap=...): objects in containers, and results that are both awaitable and async context managers."""

from __future__ import annotations

import asyncio
import collections
import gc
import logging
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from bridge import Bridge, BridgeClosed, BridgeError

Pair = collections.namedtuple("Pair", "first second")


class Item:
    def __init__(self, number: int) -> None:
        self.number = number

    async def name(self) -> str:
        return f"item {self.number}"


class Both:
    """As what asyncpg's pool.acquire() and aiohttp's session.get() return."""

    def __init__(self, api: Api, value: Any, error: BaseException | None = None) -> None:
        self.api = api
        self.value = value
        self.error = error

    async def _begin(self) -> Any:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.api.open += 1
        return self.value

    def __await__(self) -> Generator[Any, None, Any]:
        return self._begin().__await__()

    async def __aenter__(self) -> Any:
        return await self._begin()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        await asyncio.sleep(0)
        self.api.open -= 1
        self.api.left.append(kind)
        return kind is LookupError


class Api:
    def __init__(self) -> None:
        self.open = 0
        self.left: list[Any] = []
        self.items = [Item(7)]
        self.numbers = [1, 2, 3]

    async def containers(self) -> Any:
        items = [Item(number) for number in range(6)]
        return [items[0], (items[1], 1), {"a": items[2], "b": [items[3]]}, Pair(items[4], None)]

    async def circle(self) -> Any:
        circle: list[Any] = [Item(1)]
        circle.append(circle)
        return circle

    async def of(self, *items: Any, by_name: Any = None) -> Any:
        return [type(each) for each in items], type(by_name)

    async def plain(self) -> Any:
        return self.numbers

    def acquire(self, error: BaseException | None = None) -> Both:
        return Both(self, Item(self.open), error)

    def number(self) -> Both:
        return Both(self, 5)

    def itself(self) -> Both:
        return Both(self, self)


class Pipeline:
    """As that of redis, whose methods return itself, and which is awaited or entered."""

    def command(self) -> Pipeline:
        return self

    async def _begin(self) -> Pipeline:
        return self

    def __await__(self) -> Generator[Any, None, Pipeline]:
        return self._begin().__await__()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge(install_reactor=False) as made:
        yield made


@pytest.fixture
def api(bridge: Bridge) -> Any:
    return bridge.blocking(Api, wrap=True)()


def test_objects_in_returned_containers_are_views(api: Any) -> None:
    found = api.containers()
    assert found[0].name() == "item 0"
    assert (found[1][0].name(), found[1][1]) == ("item 1", 1)
    assert (found[2]["a"].name(), found[2]["b"][0].name()) == ("item 2", "item 3")
    assert (type(found[3]), found[3].first.name(), found[3].second) == (Pair, "item 4", None)
    assert [each.name() for each in api.items] == ["item 7"]
    circle = api.circle()
    assert circle[0].name() == "item 1"
    assert type(circle[1][0]) is Item


def test_a_container_without_such_objects_is_the_very_object(api: Any) -> None:
    assert api.plain() is api.numbers is api.__wrapped__.numbers


def test_views_in_containers_that_are_passed_arrive_as_the_originals(api: Any) -> None:
    items = api.containers()
    sent, named = api.of(items[0], items[1][0], by_name=items[2]["a"])
    assert (sent, named) == ([Item, Item], Item)
    kept: list[Any] = []

    async def keep(x: Any) -> None:
        kept.append(x)

    view = api.__wrapped__
    view.keep = keep
    api.keep(items)
    assert [type(kept[0][0]), type(kept[0][1][0]), type(kept[0][2]["a"])] == [Item, Item, Item]
    plain = [1, 2]
    api.keep(plain)
    assert kept[1] is plain


def test_in_a_with_statement(api: Any) -> None:
    with api.acquire() as item:
        assert item.name() == "item 0"
        with api.acquire() as other:
            assert other.name() == "item 1"
        assert api.open == 1
    assert (api.open, api.left) == (0, [None, None])
    with pytest.raises(ZeroDivisionError), api.acquire():
        raise ZeroDivisionError
    with api.acquire():
        raise LookupError
    assert api.left[2:] == [ZeroDivisionError, LookupError]
    with pytest.raises(BridgeError, match=r"was left before.*call the function again"), item:
        pass
    assert api.open == 0


def test_by_a_call_it_is_left_when_the_view_is_dropped(api: Any, bridge: Bridge) -> None:
    item = api.acquire()
    assert (item.name(), item.number, api.open) == ("item 0", 0, 1)
    with item as same:
        assert same is item
    assert api.open == 0

    def left(number: int) -> bool:
        """Wait until so many items were left, at the loop's next turn."""
        gc.collect()
        deadline = time.monotonic() + 10
        while len(api.left) < number and time.monotonic() < deadline:
            bridge.block_on(asyncio.sleep(0.001))
        return bool(api.left == [None] * number)

    assert api.acquire().name() == "item 0"
    assert left(2)
    name = api.acquire().name
    gc.collect()
    assert (name(), api.open) == ("item 0", 1)
    del name
    assert left(3)
    assert api.open == 0


def test_an_error_is_raised_by_the_call(api: Any) -> None:
    with pytest.raises(LookupError) as caught:
        api.acquire(LookupError())
    assert caught.value.__context__ is None
    assert (api.open, api.left) == (0, [])


def test_a_value_without_anything_async_is_as_it_is(api: Any, bridge: Bridge) -> None:
    before = bridge.block_on(lambda: len(asyncio.all_tasks()))
    assert (type(api.number()), api.number()) == (int, 5)
    assert api.itself() is api
    bridge.block_on(asyncio.sleep(0.01))
    assert (api.open, api.left) == (3, [])  # as after an await
    assert bridge.block_on(lambda: len(asyncio.all_tasks())) == before


def test_a_method_that_returns_its_own_object_is_not_entered(bridge: Bridge) -> None:
    pipeline = bridge.blocking(Pipeline, wrap=True)()
    assert pipeline.command().command() is pipeline
    with pipeline as same:
        assert same is pipeline


def test_without_wrap_it_is_awaited(bridge: Bridge) -> None:
    api = bridge.blocking(Api)()
    assert type(api.acquire()) is Item
    assert (api.open, api.left) == (1, [])


def test_what_is_open_as_the_bridge_closes_is_left(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Bridge(install_reactor=False) as bridge:
        api = bridge.blocking(Api, wrap=True)()
        item = api.acquire()
        bridge.block_on(asyncio.sleep(0))
    assert api.__wrapped__.left == [asyncio.CancelledError]
    with pytest.raises(BridgeClosed):
        item.name()
    del item
    gc.collect()
    assert not caplog.records


def test_containers_that_stand_in_many_are_looked_through_once(bridge: Bridge) -> None:
    class Echo:
        async def back(self, value: Any) -> Any:
            return value

    view = bridge.blocking(Echo(), wrap=True)
    shared: Any = [object()]
    for _ in range(40):
        shared = [shared, shared]
    assert view.back(shared) is shared
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert view.back(deep) is deep
    item = [Api()]
    both = view.back([item, item])
    assert both[0] is both[1]
    assert callable(both[0][0].acquire)


def test_a_dict_that_grows_while_its_items_become_views(bridge: Bridge) -> None:
    """The objects stay the loop's, whose code may add to it."""

    class Growing(Item):
        async def grow(self) -> dict[int, Item]:
            return found

        @property  # type: ignore[misc]
        def __class__(self) -> Any:  # is looked at when a view is made of it
            found[len(found)] = Item(len(found))
            return Growing

    found: dict[int, Item] = {}
    found[0] = growing = Growing(0)
    view: Any = bridge.blocking(growing, wrap=True)
    assert next(each.name() for each in view.grow().values()) == "item 0"
