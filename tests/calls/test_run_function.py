"""run(): a function in a task on the loop's thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import succeed

import bridge as package
from bridge import Bridge, new_event_loop


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge(install_reactor=False) as made:
        yield made


async def add(x: int, *, y: int = 0) -> tuple[int, int, Any]:
    await asyncio.sleep(0)
    return x + y, threading.get_ident(), asyncio.current_task()


@pytest.mark.parametrize("function", [add, functools.partial(add), lambda *args, **kwargs: add(*args, **kwargs)])
def test_the_function_of_an_async_def_is_awaited(bridge: Bridge, function: Any) -> None:
    total, ident, task = bridge.run(function, 1, y=2)
    assert (total, ident) == (3, bridge.thread.ident)
    assert task is not None
    # On the loop's own thread it is the task that runs already.
    inner, outer = bridge.run(lambda: (bridge.run(function, 3), asyncio.current_task()))
    assert (inner[0], inner[2]) == (3, outer)


def test_in_a_program_that_runs_the_loop_itself() -> None:
    async def main() -> int:
        return package.run(add, 1)[0]

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) == 1


def test_an_error_of_an_async_def_is_the_very_object(bridge: Bridge) -> None:
    error = LookupError()

    async def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        bridge.run(fail)
    assert caught.value is error


def test_what_is_no_function_is_refused_with_what_to_write(bridge: Bridge) -> None:
    for run in (bridge.run, package.run):
        with pytest.raises(
            TypeError, match=r"not coroutine add; write block_on\(add\(\.\.\.\)\), or run\(add, \.\.\.\)"
        ):
            run(add(1))  # type: ignore[arg-type] # pyright: ignore
        with pytest.raises(TypeError, match=r"takes a function and its arguments, not <Deferred.*; write block_on\("):
            run(succeed(1))  # type: ignore[arg-type] # pyright: ignore
        with pytest.raises(TypeError, match=r"takes a function and its arguments, not 'main', of type str"):
            run("main")  # type: ignore[arg-type] # pyright: ignore
    assert bridge.run(lambda: 1) == 1
