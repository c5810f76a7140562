"""Whose turn it is: the queue of calls to one instance, for :func:`bridge.serialized`.

An instance has a queue only while a call to it is going on. That call's frame keeps the instance, and so its ``id``,
alive; which is why the instance needs neither a weak reference nor a hash, and nothing is ever left behind.

The turn is handed on, not freed: when its owner leaves, the first in the queue is the owner before it knows. So nobody
can overtake the queue, and who gives up waiting passes on what was handed to it meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import weakref
from asyncio import _get_running_loop
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from .. import _native
from .swap import SwapLoop

# Of every queue, and held for a few lines only, never while a stack blocks. Re-entrant, for a finalizer or a signal
# handler may run in these lines.
_guard = threading.RLock()
_queues: dict[int, OrderedDict[Turn, None]] = {}  # by the id of the instance; the first is the owner


class Turn:
    """The right of one stack to run the serialized methods of one instance, or its place in the queue for it."""

    __slots__ = ("_depth", "_granted", "_key", "_loop", "_stack", "_thread")

    def __init__(self, key: int) -> None:
        self._key = key
        self._depth = 1
        self._granted: concurrent.futures.Future[None] = concurrent.futures.Future()
        # Weak, or a stack that is dropped while it is blocked could not end, and so not leave.
        self._stack: weakref.ref[greenlet] = weakref.ref(getcurrent())
        self._thread = _native.get_ident()
        self._loop = _get_running_loop()

    def leave(self) -> None:
        """End one call; the last one hands the turn on."""
        with _guard:
            self._depth -= 1
            if self._depth:
                return
            self._quit()

    def _quit(self) -> None:
        queue = _queues.get(self._key)
        if queue is None or self not in queue:  # it was given up for dead
            return
        is_owner = next(iter(queue)) is self
        del queue[self]
        if not queue:
            del _queues[self._key]
        elif is_owner:
            # It may be cancelled already: by the stack that waits, which will then find itself the owner, and quit.
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                next(iter(queue))._granted.set_result(None)

    def _wait(self, block_on: Callable[[Any], object]) -> None:
        try:
            if self._loop is None and getcurrent().parent is None:
                self._granted.result()
            else:
                block_on(self._granted)
        except BaseException:
            self.leave()
            raise

    def _is_callers(self, calls_for: Callable[[int], bool]) -> bool:
        """Return whether the caller has this turn, or is what the stack that has it waits for."""
        stack = self._stack()
        if stack is getcurrent():
            return True
        loop = _get_running_loop()
        if stack is None or loop is None:
            return False
        if self._thread != _native.get_ident():
            return calls_for(self._thread)
        return isinstance(loop, SwapLoop) and _waits_for(loop, stack, asyncio.current_task(loop))

    def _is_abandoned(self) -> bool:
        """Return whether nobody can ever leave: the stack has ended, or its loop was closed before it had."""
        stack = self._stack()
        return stack is None or stack.dead or (self._loop is not None and self._loop.is_closed())


def enter(instance: object, block_on: Callable[[Any], object], calls_for: Callable[[int], bool]) -> Turn:
    """Wait until it is the caller's turn on the instance, and return it. :meth:`Turn.leave` ends it.

    :param block_on: waits for a Future where the caller's thread must not simply stand still.
    :param calls_for: tells whether the caller, who stands on a loop, works for a thread that waits for it.
    """
    key = id(instance)
    with _guard:
        queue = _queues.get(key)
        if queue is None:
            turn = Turn(key)
            _queues[key] = OrderedDict({turn: None})
            return turn
        owner = next(iter(queue))
        if owner._is_callers(calls_for):
            owner._depth += 1
            return owner
        turn = Turn(key)
        queue[turn] = None
        if owner._is_abandoned():
            owner._quit()
    turn._wait(block_on)
    return turn


def _waits_for(loop: SwapLoop, stack: greenlet, task: Any) -> bool:
    """Return whether a blocked stack waits for the task, or for a task that does."""
    wait = loop._streams.waits.get(stack)
    waited: Any = None if wait is None else wait.future
    while task is not None and waited is not None:
        if waited is task:
            return True
        waited = getattr(waited, "_fut_waiter", None)
    return False
