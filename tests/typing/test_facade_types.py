"""What type checkers make of blocking(), iterate() and enter(). Checked by mypy and pyright; nothing here runs."""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any, assert_type

from twisted.internet.defer import Deferred, inlineCallbacks

from bridge import Bridge, Entered, Items, Stats, blocking, enter, iterate


async def coroutine(number: int, *, name: str = "") -> str:
    return name * number


def deferred(number: int) -> Deferred[str]:
    raise NotImplementedError


@inlineCallbacks
def inline(number: int) -> Any:
    yield deferred(number)
    return number


async def generator(number: int) -> AsyncIterator[str]:
    yield str(number)


async def real_generator(number: int) -> AsyncGenerator[str]:
    yield str(number)


@contextlib.asynccontextmanager
async def manager(number: int) -> AsyncGenerator[str]:
    yield str(number)


def plain(number: int) -> str:
    return str(number)


class Client:
    async def fetch(self, number: int) -> str:
        return str(number)

    @blocking(timeout=5)
    async def decorated(self, number: int) -> str:
        return str(number)

    @blocking
    async def bare(self, number: int) -> str:
        return str(number)


@blocking(timeout=5)
async def decorated(number: int) -> str:
    return str(number)


def functions() -> None:
    assert_type(blocking(coroutine)(3, name="x"), str)
    assert_type(blocking(deferred)(3), str)
    assert_type(blocking(plain)(3), str)
    assert_type(decorated(3), str)
    assert_type(blocking(coroutine, timeout=5)(3), str)
    decorated("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(blocking(Client().fetch)(3), str)


def methods(client: Client) -> None:
    assert_type(client.decorated(3), str)
    assert_type(client.bare(3), str)


def generators() -> None:
    assert_type(blocking(generator)(3), Items[str])
    assert_type(blocking(real_generator)(3), Items[str])
    assert_type(blocking(generator(3)), Items[str])
    for item in blocking(generator)(3):
        assert_type(item, str)


def managers() -> None:
    view: Callable[[int], AbstractContextManager[str, bool | None]] = blocking(manager)
    with view(3) as value:
        assert_type(value, str)
    with enter(manager(3)) as value:
        assert_type(value, str)


def iterations(bridge: Bridge) -> None:
    assert_type(iterate(generator(3), prefetch=4), Items[str])
    with bridge.iterate(generator(3)) as items:
        assert_type(next(items), str)
    iterate([1, 2, 3])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    enter(threading.Lock())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@blocking(wrap=True)
async def wrapped(number: int) -> Client:
    raise NotImplementedError


def connect(where: str) -> Client:
    return Client()


def is_client(each: object) -> bool:
    return isinstance(each, Client)


def wrapping(client: Client) -> None:
    with blocking(connect, wrap=True)("x") as connected:
        assert_type(connected, Any)
    assert_type(blocking(coroutine, wrap=Client)(3), Any)
    assert_type(blocking(coroutine, wrap=is_client)(3), Any)
    assert_type(blocking(client.fetch, wrap=True, timeout=1)(3), Any)
    assert_type(wrapped(3), Any)
    assert_type(blocking(client, wrap=True), Any)
    assert_type(blocking(Client, wrap=True), Any)
    assert_type(blocking(coroutine, wrap=False)(3), str)
    assert_type(blocking(coroutine, wrap=None)(3), str)
    blocking(coroutine, wrap=True)("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wrapped("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    blocking(coroutine, wrap=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def names_for_annotations(bridge: Bridge) -> None:
    items: Items[str] = iterate(generator(3))
    entered: Entered[str] = enter(manager(3))
    stats: Stats = bridge.stats()
    assert_type(items.close(), None)
    assert_type(entered.__enter__(), str)
    assert_type(stats.percentile(99), float)
    wrong: Items[int] = items  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(wrong)


def what_types_cannot_say(client: Client, module: types.ModuleType) -> None:
    assert_type(blocking(client), Any)
    assert_type(blocking(Client), Any)
    assert_type(blocking(module), Any)
