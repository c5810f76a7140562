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
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from .._private.cpython import get_running_loop
from .._threads import native
from .._threads.condition import new_lock
from .._threads.seconds import wait_looking_up
from .switching import SwitchingLoop

# Of every queue, and held for a few lines only, never while a stack blocks. Re-entrant, for a finalizer or a signal
# handler may run in these lines.
_guard = new_lock()
_queues: dict[int, OrderedDict[Entry, None]] = {}  # by the id of the instance; the first is the owner


class Entry:
    """The right to run a serialized method of one instance, or a place in the queue for it.

    The owner's stack may have further turns inside its own. Ctrl-C may come at any line: :meth:`leave` undoes whatever
    has been done until then, and may be called again.
    """

    __slots__ = ("_future", "_inside", "_is_in", "_key", "_lock", "_loop", "_owner", "_stack", "_thread")

    def __init__(self, instance: object) -> None:
        self._key = id(instance)
        self._is_in = True
        self._owner: Entry | None = None  # whose turn this one is inside of
        self._inside: set[Entry] = set()
        self._lock: Any = None  # what grants the turn: to a thread that stands still,
        self._future: concurrent.futures.Future[None] | None = None  # and to whom block_on() waits for
        # Weak, or a stack that is dropped while it is blocked could not end, and so not leave.
        self._stack: weakref.ref[greenlet] = weakref.ref(getcurrent())
        self._thread = native.get_ident()
        self._loop = get_running_loop()

    def enter(
        self,
        block_on: Callable[[Any], object],
        calls_for: Callable[[int, greenlet], bool],
        refuse: Callable[[int], object],
    ) -> None:
        """Wait until it is the caller's turn. :meth:`leave` has to follow, whatever this raises.

        :param block_on: waits for a Future where the caller's thread must not simply stand still.
        :param calls_for: tells whether the caller, who stands on a loop, works for a greenlet of a thread that waits
            for it.
        :param refuse: raises an error if that thread waits for what this very thread has to run.
        """
        with _guard:
            queue = _queues.get(self._key)
            if queue is None:
                _queues[self._key] = OrderedDict({self: None})
                return
            owner = next(iter(queue))
            if owner._is_callers(calls_for):
                self._owner = owner
                owner._inside.add(self)
                return
            if self._loop is None and getcurrent().parent is None and not native.is_patched():
                refuse(owner._thread)
                self._lock = native.allocate_lock()
                self._lock.acquire()
            else:
                self._future = concurrent.futures.Future()
            queue[self] = None
            if owner._is_abandoned():
                owner._quit()
        if self._lock is None:
            block_on(self._future)
        elif self._thread == threading.main_thread().ident:
            wait_looking_up(lambda seconds: self._lock.acquire(timeout=seconds), None)
        else:
            self._lock.acquire()

    def leave(self) -> None:
        """End one call; the last one hands the turn on."""
        with _guard:
            self._is_in = False
            owner = self._owner or self
            owner._inside.discard(self)
            if not owner._is_in and not owner._inside:
                owner._quit()

    def _quit(self) -> None:
        queue = _queues.get(self._key)
        if queue is None:
            return
        queue.pop(self, None)
        if queue:
            next(iter(queue))._grant()
        else:
            del _queues[self._key]

    def _grant(self) -> None:
        """Let the first in the queue go on. It may have been told already."""
        if self._future is not None:
            # It may be cancelled: by the stack that waits, which will then find itself the owner, and quit.
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                self._future.set_result(None)
        elif self._lock is not None:
            with contextlib.suppress(RuntimeError):
                self._lock.release()

    def _is_callers(self, calls_for: Callable[[int, greenlet], bool]) -> bool:
        """Return whether the caller has this turn, or is what the stack that has it waits for."""
        stack = self._stack()
        if stack is getcurrent():
            return True
        loop = get_running_loop()
        if stack is None or loop is None:
            return False
        if isinstance(loop, SwitchingLoop) and stack is loop.stacks.active:
            return True  # the caller is a greenlet of somebody else's, which the stack runs
        if self._thread != native.get_ident():
            return calls_for(self._thread, stack)
        return isinstance(loop, SwitchingLoop) and _waits_for(loop, stack, asyncio.current_task(loop))

    def _is_abandoned(self) -> bool:
        """Return whether nobody can ever leave: the stack has ended, or its loop was closed before it had."""
        stack = self._stack()
        return stack is None or stack.dead or (self._loop is not None and self._loop.is_closed())


def _waits_for(loop: SwitchingLoop, stack: greenlet, task: Any) -> bool:
    """Return whether a blocked stack waits for the task, or for a task that does."""
    waits = loop._streams.waits
    wait = waits.get(stack) or next((each for each in waits.values() if each.base is stack), None)
    waited: Any = None if wait is None else wait.future
    while task is not None and waited is not None:
        if waited is task:
            return True
        waited = getattr(waited, "_fut_waiter", None)
    return False
