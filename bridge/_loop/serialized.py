"""The fair, re-entrant lock of one instance, for :func:`bridge.serialized`.

The calls to an instance stand in a queue. The first one owns the instance. An instance has a queue only during a call
to it. The call's frame keeps the instance, and so its ``id``, alive. So the instance needs neither a weak reference nor
a hash, and no queue is ever left behind.

Ownership is handed over directly, never released in between: when the owner leaves, the next call in the queue is the
owner, even before its thread wakes. So no call overtakes the queue. A call that stops waiting passes on an ownership
that it was given meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from .._private.cpython import get_running_loop
from .._threads import native
from .._threads.lock_waiter import LockWaiter
from .._threads.native import new_lock
from .._threads.signals import wait_looking_up
from .switching import SwitchingLoop

# Guards all queues. Held for a few lines only, never while a stack blocks. Re-entrant: a finalizer or a signal handler
# may run in these lines and make a serialized call.
_guard = new_lock()
_queues: dict[int, OrderedDict[Entry, None]] = {}  # by the id of the instance; the first is the owner


class Entry:
    """A call's place in the queue of one instance. The first place owns the instance.

    The owner may call the instance again, with an entry inside its own. Ctrl-C may come at any line: :meth:`leave`
    undoes whatever was done until then, and may be called again.
    """

    __slots__ = ("_future", "_inside", "_is_in", "_key", "_lock", "_loop", "_owner", "_stack", "_thread")

    def __init__(self, instance: object) -> None:
        self._key = id(instance)
        self._is_in = True
        self._owner: Entry | None = None  # the entry that this one is inside of
        self._inside: set[Entry] = set()
        self._lock: LockWaiter | None = None  # a thread that simply waits is woken by this lock
        self._future: concurrent.futures.Future[None] | None = None  # a caller in block_on() is woken by this Future
        # Weak: a strong reference would keep a stack that is dropped while blocked from ending, and so from leaving.
        self._stack: weakref.ref[greenlet] = weakref.ref(getcurrent())
        self._thread = native.get_ident()
        self._loop = get_running_loop()

    def enter(
        self,
        block_on: Callable[[Any], object],
        calls_for: Callable[[int, greenlet], bool],
        refuse: Callable[[int], object],
    ) -> None:
        """Wait until the caller owns the instance. Call :meth:`leave` afterwards, whatever this raises.

        :param block_on: waits for a Future where the caller's thread must not simply block.
        :param calls_for: returns whether the caller, on a loop, works for the given greenlet of the given thread, which
            waits for that work.
        :param refuse: raises an error if the given thread waits for work that the current thread has to run.
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
                self._lock = LockWaiter()
            else:
                self._future = concurrent.futures.Future()
            queue[self] = None
            if owner._is_abandoned():
                owner._quit()
        if self._lock is None:
            block_on(self._future)
        else:
            wait_looking_up(self._lock, None)

    def leave(self) -> None:
        """End one call. The last call of the owner hands the ownership over."""
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
        """Wake the first call in the queue. It may have been woken before."""
        if self._future is not None:
            # The Future may be cancelled, by the stack that waits. That stack's leave() then finds it the owner and
            # hands over.
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                self._future.set_result(None)
        elif self._lock is not None:
            with contextlib.suppress(RuntimeError):
                self._lock.notify()

    def _is_callers(self, calls_for: Callable[[int, greenlet], bool]) -> bool:
        """Return whether the caller is this owner, or runs the work that this owner's stack waits for."""
        stack = self._stack()
        if stack is getcurrent():
            return True
        loop = get_running_loop()
        if stack is None or loop is None:
            return False
        if isinstance(loop, SwitchingLoop) and stack is loop.stacks.active:
            return True  # the caller is a foreign greenlet, which the stack runs
        if self._thread != native.get_ident():
            return calls_for(self._thread, stack)
        return isinstance(loop, SwitchingLoop) and _waits_for(loop, stack, asyncio.current_task(loop))

    def _is_abandoned(self) -> bool:
        """Return whether leave() will never be called: the stack has ended, or its loop was closed before that."""
        stack = self._stack()
        return stack is None or stack.dead or (self._loop is not None and self._loop.is_closed())


def _waits_for(loop: SwitchingLoop, stack: greenlet, task: Any) -> bool:
    """Return whether a blocked stack waits for the task, directly or through other tasks."""
    waits = loop._ours.streams.waits
    wait = waits.get(stack) or next((each for each in waits.values() if each.base is stack), None)
    waited: Any = None if wait is None else wait.future
    while task is not None and waited is not None:
        if waited is task:
            return True
        waited = getattr(waited, "_fut_waiter", None)
    return False
