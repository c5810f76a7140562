"""The loops of a test session: one for each session, module, class or test, as the scope says."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from ..._api.driven import driven_bridge
from ..._loop.ending import end_tasks, run_to_end
from ..._loop.worker_threads import come_from, loop_of_this_thread
from ..._runs.driven import new_driven_loop

SCOPES = ("session", "module", "class", "function")
# Seconds that the shutdown triggers of a reactor, and the cleanup of what was cancelled, may take.
CLEAN_UP = 5.0
_NODES: dict[str, type[Any]] = {"session": pytest.Session, "module": pytest.Module, "class": pytest.Class}


def node_of(item: pytest.Item, scope: str) -> Any:
    """Return the node that a scope stands for; the test itself where there is none, as for a class."""
    kind = _NODES.get(scope)
    return item if kind is None else item.getparent(kind) or item


class SharedLoop:
    """One loop, with its bridge and the runner that runs coroutines on it."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.loop = loop = new_driven_loop()
        self.bridge = driven_bridge(loop)
        self._runner = asyncio.Runner(loop_factory=lambda: loop)

    def reactor(self) -> Any:
        """Return the reactor on the loop, which is made and started if need be."""
        self.turn()
        return self.bridge.reactor if self.loop.reactor is None else self.loop.reactor

    @property
    def is_over(self) -> bool:
        """Whether something has stopped or closed the loop or its reactor for good."""
        reactor = self.loop.reactor
        stopped = reactor is not None and not reactor.running
        return stopped or self.loop.is_closed() or not self.bridge.running or self.bridge.runs.is_closed

    def run(self, coro: Any, context: Any = None) -> Any:
        """Run a coroutine, as ``asyncio.Runner.run`` does."""
        return self._runner.run(coro, context=context)

    def turn(self) -> None:
        """Run the loop for some iterations, so that what was posted and scheduled begins.

        :raises BridgeClosed: something has stopped the loop.
        """
        self.bridge.block_on(_some_turns())

    def run_until(self, is_enough: Callable[[], object], seconds: float) -> bool:
        """Run the loop until ``is_enough()`` is true. Return False if it is not after so many seconds.

        :raises BridgeClosed: something has stopped the loop.
        """
        return self.bridge.block_on(_checking(is_enough, seconds))

    def take(self) -> None:
        """Have this thread work for the loop: ``block_on`` runs it."""
        come_from(self.loop)
        asyncio.set_event_loop(self.loop)

    def close(self) -> None:
        """Stop the reactor, end the tasks and close the loop."""
        if self.loop.is_closed():
            return
        try:
            reactor = self.loop.reactor
            if reactor is not None and reactor.running and not self.is_over:
                timer = self.loop.call_later(CLEAN_UP, self.loop.stop)
                self.loop.call_soon(reactor.stop)
                self.loop.run_forever()
                timer.cancel()
        finally:
            self._end()
            asyncio.set_event_loop(None)

    def _end(self) -> None:
        """End tasks, async generators and workers, and close the loop. Not as asyncio's runner, which sets no limit."""
        loop = self.loop
        try:
            run_to_end(loop, lambda: end_tasks(loop, loop.time() + CLEAN_UP))
            with contextlib.suppress(TimeoutError):
                run_to_end(loop, lambda: asyncio.wait_for(loop.shutdown_asyncgens(), CLEAN_UP))
            run_to_end(loop, lambda: loop.shutdown_default_executor(CLEAN_UP))
        finally:
            cast(Any, self.bridge.runs).end()  # first: threads that call are refused, and do not meet a closed loop
            loop.close()


async def _some_turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def _checking(is_enough: Callable[[], object], seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + seconds, 0.0
    while not is_enough():
        if loop.time() >= end:
            return False
        await asyncio.sleep(pause)
        pause = min(0.02, pause + 0.001)
    return True


class Loops:
    """The loops that are open. ``current`` is that of the test that runs, None between tests."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Any], SharedLoop] = {}
        self.current: SharedLoop | None = None
        self._outer = loop_of_this_thread()  # of another session, of which a test runs this one in its process

    def begin(self, item: pytest.Item, scope: str) -> str | None:
        """Make the loop for a test the current one. Return a message if the reactor of the process is not on it."""
        key = scope, node_of(item, scope)
        found = self._open.get(key)
        if found is not None and found.is_over:
            found.close()
            found = None
        if found is None:
            found = self._open[key] = SharedLoop(scope)
        self.current = found
        found.take()
        return _conflict(found)

    def leave(self) -> None:
        """Note that no test runs."""
        self.current = None
        come_from(self._outer)

    def open(self) -> list[SharedLoop]:
        """Return the loops that are open."""
        return [each for each in self._open.values() if not each.loop.is_closed()]

    def end(self, following: pytest.Item | None) -> None:
        """Close the loops that the following test does not need.

        :param following: None closes all.
        """
        for scope, node in reversed(list(self._open)):
            if following is None or node_of(following, scope) is not node:
                self._open.pop((scope, node)).close()


def _conflict(shared: SharedLoop) -> str | None:
    """Return a message if there is a reactor that the loop has not taken, since Deferreds of that would never fire."""
    installed = cast(Any, sys.modules.get("twisted.internet.reactor"))
    if installed is None or installed is shared.loop.reactor:
        return None
    shared.turn()
    if installed is shared.loop.reactor:
        return None
    return (
        f"twisted.internet.reactor is a {type(installed).__name__} that something else runs, so the loop of the tests "
        "cannot take it: remove what installs and runs that reactor, or run pytest with -o bridge=false"
    )
