"""Called under trio: the work runs on asyncio, and is not taken for trio's. Coroutines of trio's cannot run there."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
import sniffio

import bridge
from bridge import block_on, submit

pytest.importorskip("trio", reason="needs trio: pip install --group real")

import trio

VERBS: list[Callable[[Coroutine[Any, Any, Any]], Any]] = [block_on, lambda coro: submit(coro).result(10)]


async def library() -> str:
    await anyio.sleep(0.001)
    return sniffio.current_async_library()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_call_under_trio_awaits_asyncio(verb: Callable[..., Any], backend: str) -> None:
    async def main() -> list[str]:
        called = verb(library())
        return [called, sniffio.current_async_library(), await library()]

    assert anyio.run(main, backend=backend) == ["asyncio", backend, backend]


@pytest.mark.parametrize("verb", VERBS)
def test_a_call_in_a_worker_thread_of_trio(verb: Callable[..., Any]) -> None:
    async def main() -> str:
        return await trio.to_thread.run_sync(lambda: verb(library()))

    assert trio.run(main) == "asyncio"


def test_a_thread_that_says_it_is_trios() -> None:
    def call() -> None:
        sniffio.current_async_library_cvar.set("trio")
        found.append(block_on(library()))
        found.append(str(sniffio.current_async_library_cvar.get()))

    found: list[str] = []
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert found == ["asyncio", "trio"]


async def sleeps() -> None:
    await trio.sleep(0)


async def opens() -> None:
    async with trio.open_nursery():
        pass


async def waits() -> None:
    await trio.Event().wait()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("make", [sleeps, opens, waits, lambda: trio.sleep(0), lambda: trio.sleep(1)])
@pytest.mark.parametrize("under_trio", [False, True])
def test_a_coroutine_of_trios_is_refused_with_the_reason(
    verb: Callable[..., Any], make: Callable[[], Any], under_trio: bool
) -> None:
    def call() -> None:
        with pytest.raises((RuntimeError, AttributeError)) as caught:
            verb(make())
        (note,) = caught.value.__notes__
        assert "awaits a function of trio's" in note
        assert "trio.run(function)" in note

    async def main() -> None:
        call()

    if under_trio:
        trio.run(main)
    else:
        call()
    assert block_on(library()) == "asyncio"


def test_other_errors_get_no_note() -> None:
    async def fails() -> None:
        raise RuntimeError("of the user's")

    with pytest.raises(RuntimeError) as caught:
        block_on(fails())
    assert not hasattr(caught.value, "__notes__")
    assert bridge.default_bridge().running


def test_bridge_call_says_what_to_write() -> None:
    coroutine = library()

    async def main() -> None:
        with pytest.raises(
            bridge.BridgeError, match=r"no asyncio loop runs here; write block_on\(x\) in a worker thread"
        ):
            await bridge.call(coroutine)

    trio.run(main)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
