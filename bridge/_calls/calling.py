"""Calling: what stands for a callable while the loop's thread calls it. It is the work of such a call until then."""

from __future__ import annotations

from typing import Any

from greenlet import getcurrent, greenlet

from .._loop.stacks import Wait
from .._loop.switching import SwitchingLoop


class Calling:
    """A callable that is being called, on the stack that makes this, on a loop that switches stacks.

    Nothing can stop a callable that runs. One that blocks is cancelled like a task: what its stack waits for is.
    """

    __slots__ = ("_loop", "_stack")

    def __init__(self, loop: SwitchingLoop) -> None:
        self._loop = loop
        self._stack: greenlet = getcurrent()

    @property
    def wait(self) -> Wait | None:
        """The wait in which the callable is blocked; None if it runs."""
        for wait in list(self._loop.waits.values()):
            if self._stack in wait.greenlets():
                return wait
        return None

    @property
    def is_here(self) -> bool:
        """Whether the calling code is part of the callable, on the same stack or a greenlet of others above it."""
        each: Any = getcurrent()
        while each is not None and each is not self._stack:
            each = each.parent
        return each is not None

    def cancel(self) -> bool:
        """Cancel what the callable is blocked in. Return False if it runs. Called on the loop's thread."""
        wait = self.wait
        if wait is None:
            return False
        work: Any = wait.future if wait.task is None else wait.task
        work.cancel()
        return True

    def __repr__(self) -> str:
        return "<the callable, on the loop's thread>"
