"""Calls beside nest_asyncio, applied "before" or "after" the first call. Arguments: one of these, and its module."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

when, module = sys.argv[1:]
nest_asyncio = importlib.import_module(module)
standard = asyncio.new_event_loop()
asyncio.set_event_loop(standard)
if when == "before":
    nest_asyncio.apply()

import anyio  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.task import deferLater  # noqa: E402

import bridge  # noqa: E402
from bridge import block_on  # noqa: E402


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0.001)
    return a + b


def deferred() -> Deferred[int]:
    from twisted.internet import reactor

    return deferLater(reactor, 0.001, lambda: 5)


async def works() -> None:
    """What a task of ours does, and one of asyncio's class, which nest_asyncio has replaced."""
    loop = asyncio.get_running_loop()
    assert await deferred() == 5
    assert await asyncio.Task(deferred_in_task()) == 5
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
        assert block_on(add(1, 1)) == 2
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(add(2, 2)), tasks.create_task(in_thread())]
        assert block_on(deferred()) == 5
    assert [each.result() for each in made] == [4, 7]
    future: asyncio.Future[int] = asyncio.Future()
    loop.call_later(0.001, future.set_result, 7)
    assert block_on(future) == 7
    assert block_on(asyncio.gather(add(1, 0), add(1, 1))) == [1, 2]


async def deferred_in_task() -> int:
    return await deferred() + 0 * block_on(add(1, 1))


async def in_thread() -> int:
    return await asyncio.to_thread(lambda: block_on(add(3, 4)))


async def nests() -> None:
    """What nest_asyncio is for, on a loop of ours."""

    async def fails() -> None:
        raise LookupError("in the nested run")

    async def deeper(number: int) -> int:
        return asyncio.run(add(number, 1)) + asyncio.get_running_loop().run_until_complete(add(number, 2))

    assert asyncio.run(add(3, 3)) == 6
    assert await asyncio.gather(deeper(0), deeper(10)) == [3, 23]
    try:
        asyncio.run(fails())
    except LookupError:
        pass
    else:
        raise AssertionError("the error is lost")
    late = asyncio.ensure_future(asyncio.wait_for(sleeps_in_nested_run(), 0.01))
    await asyncio.wait([late])
    assert isinstance(late.exception(), TimeoutError)
    assert ended.pop() == "cancelled"


ended: list[str] = []


async def sleeps_in_nested_run() -> None:
    async def sleeps() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    asyncio.run(sleeps())


async def everything() -> str:
    await works()
    await nests()
    return "everything"


async def on_another_loop() -> Any:
    return block_on(add(1, 1), timeout=20)


if when == "after":
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(works())
    block_on(works(), timeout=20)
    nest_asyncio.apply()
assert block_on(deferred, timeout=20) == 5
assert block_on(everything(), timeout=20) == "everything"
with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:

    async def applies() -> str:
        nest_asyncio.apply()  # to the loop that runs, which is ours
        return await everything()

    assert runner.run(applies()) == "everything"
    assert runner.run(everything()) == "everything"
assert standard.run_until_complete(on_another_loop()) == 2
standard.close()
print("everything")
