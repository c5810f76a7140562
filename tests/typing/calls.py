"""What type checkers make of block_on(), submit(), wait() and as_completed().

Checked by mypy and pyright; nothing here runs.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, assert_type

import anyio
import anyio.to_thread
from twisted.internet.defer import Deferred, inlineCallbacks, succeed

import bridge
from bridge import Bridge, BridgeClosed, BridgeError, as_completed, block_on, configure, default_bridge, submit, wait


async def coroutine() -> str:
    return "value"


async def with_argument(number: int) -> str:
    return str(number)


def deferred() -> Deferred[bytes]:
    return succeed(b"")


@inlineCallbacks
def inline(number: int) -> Generator[Deferred[bytes], Any, list[bytes]]:
    value = yield deferred()
    return [value] * number


def plain() -> int:
    return 1


def concurrent_future() -> concurrent.futures.Future[float]:
    raise NotImplementedError


async def generator() -> AsyncIterator[int]:
    yield 1


class Custom:
    def __await__(self) -> Generator[Any, None, complex]:
        raise NotImplementedError


class Client:
    async def fetch(self) -> dict[str, int]:
        return {}

    def __call__(self) -> Deferred[bytes]:
        return deferred()


def things_to_block_on(
    future: asyncio.Future[str],
    task: asyncio.Task[bytes],
    awaitable: Awaitable[int],
    function: Callable[[], Awaitable[int]],
    anything: Any,
) -> None:
    assert_type(block_on(coroutine()), str)
    assert_type(bridge.run(coroutine), str)
    assert_type(bridge.run(plain), int)
    assert_type(block_on(deferred()), bytes)
    assert_type(block_on(inline(2)), list[bytes])
    assert_type(block_on(future), str)
    assert_type(block_on(task), bytes)
    assert_type(block_on(awaitable), int)
    assert_type(block_on(Custom()), complex)
    assert_type(block_on(concurrent_future()), float)
    assert_type(block_on(asyncio.sleep(0, "value")), str)
    assert_type(block_on(asyncio.gather(coroutine(), deferred())), tuple[str, bytes])
    assert_type(block_on(asyncio.wait_for(deferred(), 1)), bytes)
    assert_type(block_on(anyio.to_thread.run_sync(plain)), int)
    assert_type(block_on(anything), Any)
    # Called on the loop's thread.
    assert_type(block_on(coroutine), str)
    assert_type(block_on(deferred), bytes)
    assert_type(block_on(function), int)
    assert_type(block_on(lambda: with_argument(1)), str)
    assert_type(block_on(partial(with_argument, 1)), str)
    assert_type(block_on(partial(inline, 2)), list[bytes])
    assert_type(block_on(lambda: future), str)
    assert_type(block_on(concurrent_future), float)
    assert_type(block_on(plain), int)
    assert_type(block_on(lambda: "value"), str)
    assert_type(block_on(Client().fetch), dict[str, int])
    assert_type(block_on(Client()), bytes)
    assert_type(block_on(threading.current_thread), threading.Thread)
    assert_type(block_on(asyncio.get_running_loop), asyncio.AbstractEventLoop)
    block_on(lambda: None)
    # With options.
    assert_type(block_on(coroutine(), timeout=1), str)
    assert_type(block_on(deferred, timeout=0.5, strategy="event"), bytes)
    assert_type(block_on(plain, timeout=None, strategy=None), int)
    assert_type(block_on(concurrent_future(), timeout=1, strategy="lock"), float)


def things_to_submit(future: asyncio.Future[str], awaitable: Awaitable[int]) -> None:
    assert_type(submit(coroutine()), concurrent.futures.Future[str])
    assert_type(submit(deferred()), concurrent.futures.Future[bytes])
    assert_type(submit(future), concurrent.futures.Future[str])
    assert_type(submit(awaitable), concurrent.futures.Future[int])
    assert_type(submit(concurrent_future()), concurrent.futures.Future[float])
    assert_type(submit(coroutine), concurrent.futures.Future[str])
    assert_type(submit(deferred), concurrent.futures.Future[bytes])
    assert_type(submit(concurrent_future), concurrent.futures.Future[float])
    assert_type(submit(plain), concurrent.futures.Future[int])
    assert_type(submit(coroutine()).result(1), str)
    assert_type([each.result() for each in [submit(coroutine()), submit(coroutine)]], list[str])


def futures_to_wait_for(pool: concurrent.futures.Executor) -> None:
    futures = [submit(coroutine()), pool.submit(str)]
    done, not_done = wait(futures, 10, return_when=concurrent.futures.FIRST_COMPLETED)
    assert_type(done, set[concurrent.futures.Future[str]])
    assert_type(not_done, set[concurrent.futures.Future[str]])
    of_the_standard_library = concurrent.futures.wait(futures)
    of_the_standard_library = wait(iter(futures))  # the same type
    assert_type(of_the_standard_library.done, set[concurrent.futures.Future[str]])
    assert_type(wait(futures, timeout=None).done, set[concurrent.futures.Future[str]])
    assert_type([each.result() for each in as_completed(futures, timeout=1.5)], list[str])
    assert_type(next(iter(as_completed(submit(plain) for _ in "ab"))), concurrent.futures.Future[int])
    wait([coroutine()])  # type: ignore[arg-type]
    as_completed(1)  # type: ignore[arg-type]
    wait(futures, "soon")  # type: ignore[arg-type]


def many(own: Bridge) -> None:
    assert_type(list(bridge.map(with_argument, range(3), limit=2, ordered=False, timeout=1.5)), list[str])
    assert_type(list(own.map(inline, [1])), list[list[bytes]])
    assert_type(next(own.map(lambda: concurrent_future(), [1])), float)
    assert_type(next(own.map(ord, "ab")), int)
    own.map(with_argument, [1]).close()
    own.map(1, [1])  # type: ignore[call-overload]
    own.map(with_argument, 1)  # type: ignore[call-overload]


async def from_another_loop(own: Bridge) -> None:
    assert_type(await bridge.call(coroutine()), str)
    assert_type(await own.call(coroutine), str)
    assert_type(await own.call(deferred), bytes)
    assert_type(await own.call(concurrent_future), float)
    assert_type(await own.call(plain), int)
    await own.call(1)  # type: ignore[call-overload]


def methods_of_a_bridge() -> None:
    with Bridge("name", install_reactor=False, strategy="queue", stall_after=None, shutdown_timeout=1) as own:
        assert_type(own, Bridge)
        assert_type(own.block_on(coroutine()), str)
        assert_type(own.block_on(deferred, timeout=1, strategy="event"), bytes)
        assert_type(own.block_on(concurrent_future()), float)
        assert_type(own.block_on(plain), int)
        assert_type(own.submit(coroutine()), concurrent.futures.Future[str])
        assert_type(own.submit(deferred), concurrent.futures.Future[bytes])
        assert_type(own.submit(plain), concurrent.futures.Future[int])
        assert_type(own.running, bool)
        assert_type(own.loop, asyncio.AbstractEventLoop)
        assert_type(own.thread, threading.Thread | None)
        assert_type(own.name, str)
        own.start()
        own.close()
    assert_type(default_bridge(), Bridge)
    Bridge(loop_factory=asyncio.SelectorEventLoop)
    Bridge(loop_factory=asyncio.new_event_loop, install_reactor=True)
    configure(strategy="event", stall_after=5, install_reactor=None)


def errors() -> None:
    try:
        block_on(coroutine())
    except BridgeClosed as error:
        assert_type(error, BridgeClosed)
        wider: BridgeError = error
        raise wider from None
    except (bridge.DeadlockError, bridge.ReactorConflict, bridge.StrategyUnavailable, bridge.WrongThreadError) as error:
        runtime_error: RuntimeError = error
        raise runtime_error from None


def mistakes() -> None:
    block_on(1)  # type: ignore[call-overload]
    block_on(None)  # type: ignore[call-overload]
    block_on("value")  # type: ignore[call-overload]
    block_on(with_argument)  # type: ignore[arg-type]
    block_on(generator())  # type: ignore[call-overload]
    block_on(coroutine(), 1)  # type: ignore[call-overload]
    block_on(coroutine(), timeout="1")  # type: ignore[call-overload]
    block_on(coroutine(), strategy=1)  # type: ignore[call-overload]
    block_on()  # type: ignore[call-overload]
    submit(1)  # type: ignore[call-overload]
    submit(coroutine(), timeout=1)  # type: ignore[call-overload]
    submit(with_argument)  # type: ignore[arg-type]
    number: int = block_on(coroutine())  # type: ignore[assignment]
    text: str = submit(coroutine()).result  # type: ignore[assignment]
    Bridge(strategy=1)  # type: ignore[arg-type]
    Bridge(install_reactor="no")  # type: ignore[arg-type]
    Bridge(loop_factory=plain)  # type: ignore[arg-type]
    Bridge(shutdown_timeout=None)  # type: ignore[arg-type]
    default_bridge().running = True  # type: ignore[misc]
    print(number, text)


# --- in_caller


def keyword(number: int, *, text: str = "") -> bytes:
    return b""


async def in_caller_s() -> None:
    assert_type(await bridge.in_caller(plain), int)
    assert_type(await bridge.in_caller(keyword, 1, text="a"), bytes)
    assert_type(await bridge.in_caller(threading.get_ident), int)
    await bridge.in_caller(keyword)  # type: ignore[call-arg]
    await bridge.in_caller(keyword, "1")  # type: ignore[arg-type]
