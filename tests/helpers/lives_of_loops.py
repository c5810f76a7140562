"""Lives of the default bridge, or of loops of Runners, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import bridge


def in_lives(end: str, count: int) -> Iterator[Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]]:
    """Yield in each life a function that runs a coroutine function in it, and end the life afterwards.

    :param end: what ends a life: "loop.stop", "reactor.stop" or "close" of the default bridge's; "runners" have a loop
        for each life.
    """
    if end == "runners":
        for _ in range(count):
            with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
                yield lambda function, runner=runner: runner.run(function())  # type: ignore[misc]
        return
    for _ in range(count):
        yield lambda function: bridge.block_on(function(), timeout=20)
        thread = bridge.default_bridge().thread
        assert thread is not None
        if end == "close":
            bridge.default_bridge().close()
        else:
            loop = bridge.default_bridge().loop
            stop = loop.stop if end == "loop.stop" else bridge.default_bridge().reactor.stop
            loop.call_soon_threadsafe(stop)
            thread.join(20)
            assert not thread.is_alive()
