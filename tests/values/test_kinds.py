"""What may be blocked on, what may not, and what the refusals say."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import pytest
from places import shown
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred, succeed

from bridge import Bridge, BridgeClosed, BridgeError, DeadlockError, StrategyUnavailable
from bridge._values.kinds import Kind, describe, kind_of


async def value() -> str:
    return "value"


async def agen() -> AsyncIterator[int]:
    yield 1


def generator() -> Generator[int, None, None]:
    yield 1


class Awaits:
    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "value"


class Subclassed(Deferred[str]):
    pass


class Manager:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *args: object) -> None: ...


def needs_one(argument: int) -> None: ...


def concurrent_value() -> concurrent.futures.Future[str]:
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    future.set_result("value")
    return future


def asyncio_value() -> asyncio.Future[str]:
    future = asyncio.get_running_loop().create_future()
    future.set_result("value")
    return future


@inlineCallbacks
def inline() -> Generator[Deferred[object], object, str]:
    yield succeed(None)
    return "value"


@pytest.mark.parametrize(
    "make",
    [
        value,
        Awaits,
        inline,
        concurrent_value,
        lambda: succeed("value"),
        lambda: maybeDeferred(value),
        lambda: value,
        lambda: Awaits,
        lambda: inline,
        lambda: concurrent_value,
        lambda: asyncio_value,
        lambda: lambda: asyncio.create_task(value()),
        lambda: lambda: "value",
        lambda: functools.partial(asyncio.sleep, 0, "value"),
        lambda: "a value".removeprefix.__self__.split(" ")[1].__str__,
    ],
)
def test_what_can_be_blocked_on(bridge: Bridge, make: Callable[[], Any]) -> None:
    assert bridge.block_on(make()) == "value"
    assert bridge.submit(make()).result() == "value"


def test_subclasses_of_deferred_are_deferreds(bridge: Bridge) -> None:
    assert kind_of(Subclassed()) is Kind.DEFERRED
    assert bridge.block_on(DeferredList([succeed(1)])) == [(True, 1)]


def test_a_future_of_the_bridges_loop(bridge: Bridge) -> None:
    future = bridge.loop.create_future()
    bridge.loop.call_soon_threadsafe(future.set_result, "value")
    assert bridge.block_on(future) == "value"
    assert bridge.block_on(future) == "value"


def test_a_callable_may_return_any_value(bridge: Bridge) -> None:
    assert bridge.block_on(lambda: value) is value  # a function, which is not called in its turn
    assert bridge.block_on(lambda: None) is None
    assert bridge.block_on(lambda: [1]) == [1]


@pytest.mark.parametrize("verb", ["block_on", "submit"])
@pytest.mark.parametrize(
    ("x", "says"),
    [
        (1, "cannot block on 1, of type int"),
        (None, "cannot block on None"),
        ("http://example", "of type str"),
        ([value], "of type list"),
        (agen(), "'async for' inside a coroutine"),
        (generator(), "decorate its function with inlineCallbacks"),
        (Manager(), "write 'async with' inside a coroutine"),
        (needs_one, r"missing a required argument: 'argument'.*block_on\(lambda: needs_one\(...\)\)"),
        (lambda first, /: first, "missing a required argument: 'first'"),
        (dict.fromkeys, "cannot be called without arguments"),
    ],
    ids=shown,
)
def test_refusals_name_what_was_passed_and_what_would_work(bridge: Bridge, verb: str, x: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        getattr(bridge, verb)(x)
    assert bridge.block_on(value()) == "value"


def spent() -> Awaitable[str]:
    coroutine = value()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return coroutine


def test_a_coroutine_that_was_awaited_is_refused(bridge: Bridge) -> None:
    for verb in (bridge.block_on, bridge.submit):
        with pytest.raises(BridgeError, match=r"coroutine value has already been awaited.*block_on\(value\(...\)\)"):
            verb(spent())
    with pytest.raises(BridgeError, match="has already been awaited"):
        bridge.block_on(spent)  # as what a callable returns, too


def test_a_coroutine_that_somebody_awaits_is_refused(bridge: Bridge) -> None:
    coroutine = asyncio.sleep(0)
    coroutine.send(None)
    with pytest.raises(BridgeError, match="coroutine sleep is being awaited by someone else"):
        bridge.block_on(coroutine)
    coroutine.close()


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf")])
def test_impossible_timeouts_are_refused(bridge: Bridge, timeout: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        bridge.block_on(value(), timeout=timeout)
    assert bridge.block_on(value()) == "value"


def test_a_timeout_that_is_no_number_is_refused(bridge: Bridge) -> None:
    with pytest.raises(TypeError, match="number of seconds or None, not '1'"):
        bridge.block_on(value(), timeout="1")  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 10**400, 2**63, None, True])
def test_timeouts_too_large_to_wait_for_mean_none(bridge: Bridge, timeout: float) -> None:
    assert bridge.block_on(value(), timeout=timeout) == "value"


@pytest.mark.parametrize(
    ("refuse", "error"),
    [
        (lambda bridge, x: bridge.block_on(x, strategy="no such strategy"), StrategyUnavailable),
        (lambda bridge, x: bridge.block_on(x, strategy=1), TypeError),
        (lambda bridge, x: bridge.block_on(x, timeout=-1), ValueError),
        (lambda bridge, x: bridge.block_on(lambda: bridge.block_on(x, strategy="lock")), DeadlockError),
        (lambda bridge, x: (bridge.close(), bridge.block_on(x)), BridgeClosed),
        (lambda bridge, x: (bridge.close(), bridge.submit(x)), BridgeClosed),
    ],
)
def test_a_refused_coroutine_is_closed(bridge: Bridge, refuse: Callable[..., Any], error: type[Exception]) -> None:
    coroutine = value()
    with pytest.raises(error):
        refuse(bridge, coroutine)
    assert coroutine.cr_frame is None  # else a "never awaited" warning follows, which is an error here


def closed_loops_future() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return future


def test_a_future_of_a_closed_loop_is_refused(bridge: Bridge) -> None:
    for verb in (bridge.block_on, bridge.submit):
        with pytest.raises(BridgeError, match=r"bound to a loop that is closed.*block_on\(lambda: asyncio.gather"):
            verb(closed_loops_future())
    with pytest.raises(BridgeError, match="bound to a loop that is closed"):
        bridge.block_on(closed_loops_future)


def test_a_future_of_a_loop_that_does_not_run_is_refused(bridge: Bridge) -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(BridgeError, match="bound to a loop that does not run"):
            bridge.block_on(loop.create_future())
    finally:
        loop.close()


def test_a_done_future_of_a_closed_loop_has_its_result(bridge: Bridge) -> None:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_result("value")
    loop.close()
    assert bridge.block_on(future) == "value"


def test_a_future_of_the_loop_in_this_thread_is_a_deadlock(bridge: Bridge) -> None:
    async def main() -> None:
        with pytest.raises(DeadlockError, match=r"bound to the loop that runs in this very thread.*write 'await'"):
            bridge.block_on(asyncio.get_running_loop().create_future())
        task = asyncio.create_task(value())
        with pytest.raises(DeadlockError):
            bridge.block_on(task)
        assert await task == "value"

    asyncio.run(main())


def test_a_partial_is_named_by_its_function() -> None:
    assert describe(functools.partial(len, range(10**6))) == "partial of builtin_function_or_method len"


@pytest.mark.parametrize("many", [list, tuple, set, lambda items: dict(enumerate(items))])
def test_several_awaitables_at_once_are_refused_with_what_works(bridge: Bridge, many: Any) -> None:
    with pytest.raises(TypeError, match=r"write block_on\(lambda: asyncio.gather\(\*awaitables\)\)"):
        bridge.block_on(many([value(), value()]))  # and both are closed
    assert bridge.block_on(lambda: asyncio.gather(value(), succeed("fired"))) == ["value", "fired"]
    with pytest.raises(TypeError, match="cannot block on"):
        bridge.block_on(many([1, value()]))  # which is closed, too
