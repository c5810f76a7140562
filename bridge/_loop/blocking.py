"""BlockingLoop: how one stack of a loop's thread blocks and resumes.

A signal handler may raise at any line here; see "Interrupts" in :mod:`bridge._threads`.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

from greenlet import getcurrent, greenlet

from .._errors import DeadlockError, at
from .._private.cpython import enter_task as _enter_task
from .._private.cpython import leave_task as _leave_task
from .._watch.watchdog import watchdog
from .asyncio_tasks import blocked, unblocked
from .forwarding import switch
from .held_contexts import take_updates
from .stacks import Stacks, Wait
from .streams import StreamLoop, WatchHandle
from .task import BridgeTask

# How often one stack may try to block while the loop closes; see BlockingLoop._refuse.
_REFUSALS = 1000

# Stacks that went on blocking while their loop was closing. They are kept for ever: their coroutines and generators are
# executing, and can be neither closed nor collected.
_forsaken: list[greenlet] = []


class BlockingLoop(StreamLoop):
    """A loop with :meth:`wait`. Its subclass starts the runners that iterate the loop meanwhile."""

    _stacks: Stacks
    _stopping: bool

    def wait(self, future: asyncio.Future[Any] | None, task: asyncio.Task[Any] | None, coro: Any) -> None:
        """Block the calling stack until the Future is done; None blocks it for one iteration of the loop.

        :param task: the current task.
        :param coro: the coroutine that is driven in the stack, for reports.
        :raises DeadlockError: called on the root stack, outside any callback.
        :raises asyncio.CancelledError: the blocked task was cancelled after the Future was done.
        :raises BridgeClosed: the loop was stopped for good or closed.
        """
        stacks, ours = self._stacks, self._ours
        stack, base, streams = getcurrent(), stacks.active, ours.streams
        own = task if type(task) is BridgeTask else None
        if task is None or base is stacks.last_root or stacks.refusals is not None:
            self._check_unusual(base, task)
        if future is None and own is not None and not self._ready and self._take_turn():
            return
        wait = Wait(stack, base, future, task, stacks, coro)
        watch, contexts = streams.watch, None
        try:
            if future is None:
                self._ready.append(wait)
            else:
                future.add_done_callback(wait)
            if len(stacks.tracker.contexts) > 1:
                contexts, stacks.tracker.contexts = stacks.tracker.contexts, stacks.tracker.contexts[:1]
            if ours.before_block is not None:
                ours.before_block()
            if own is not None and not stacks.self_cancels:
                own.wait = wait
                _leave_task(self, task)
            elif task is not None:
                self._leave_unusual(task, wait)
            streams.waits[stack] = wait
            if watch is not None or ours.posts or stacks.unwatched:
                self._tell_others(watch)
        except BaseException:  # raised by a signal handler
            self._take_back(wait, watch, contexts)
            raise
        stacks.switches += 1
        try:
            if stack is not base:
                stacks.go_inside(stack)
            stacks.active = target = stacks.parked.pop() if stacks.parked else stacks.root
            try:
                value = switch(target)
            except BaseException as error:
                stacks.hand_on(base, None, error)
            else:
                if stacks.active is not base:
                    stacks.hand_on(base, value, None)
        finally:
            wait.stacks = None  # in case a signal handler raised before the switch
            del streams.waits[stack]
            if own is not None:
                _enter_task(self, task)
                own.wait = None
            if own is None or watch is not None or contexts is not None or stacks.context_updates or stack is not base:
                self._give_back(wait, watch, contexts)
        if wait.error is not None:
            wait.raise_error()

    # The rare parts of a wait. Inlined in wait() they would slow every wait down.

    def _check_unusual(self, base: Any, task: asyncio.Task[Any] | None) -> None:
        """Check a stack without a task, or one whose loop does not run or is closing, before it blocks."""
        stacks = self._stacks
        if base is stacks.last_root or stacks.refusals is not None:  # both are None on a loop that has not run
            self.check_wait()
        if task is None and base.own_context is stacks.context:
            # A signal handler or a finalizer blocks a runner between two callbacks. The runner may hold events that the
            # selector has reported and that are not handled yet. The alarm's event is reported only once.
            self.ring_again()

    def _leave_unusual(self, task: asyncio.Task[Any], wait: Wait) -> None:
        """Leave a task of another class, or any task while a task's cancellation of itself is noted."""
        if isinstance(task, BridgeTask) and task in self._stacks.self_cancels:
            task.take_noted(wait)
        if type(task) is BridgeTask:
            task.wait = wait
        else:
            blocked(task, wait)
        _leave_task(self, task)

    def _tell_others(self, watch: WatchHandle | None) -> None:
        """Hold the stream's callback in which the stack blocks, reschedule posts left over, and wake the watchdog."""
        ours = self._ours
        if ours.posts and not ours.is_rung:  # this stack blocks inside _take_posts() and leaves some posts there
            self.call_soon(self._take_posts, context=Context())
        if watch is not None:
            self._hold(watch)
        if self._stacks.unwatched:
            watchdog.wake(self._stacks)

    def _give_back(self, wait: Wait, watch: WatchHandle | None, contexts: Any) -> None:
        """Restore the state of a stack that resumes, except a BridgeTask, which wait() itself enters."""
        stacks, task = self._stacks, wait.task
        base: Any = wait.base
        if task is not None and type(task) is not BridgeTask:
            _enter_task(self, task)
            unblocked(task)
        if watch is not None:
            self._let_go(watch)
        if contexts is not None:
            stacks.tracker.contexts = contexts
        if stacks.context_updates:
            take_updates(stacks.context_updates)
        if task is None and base.own_context is stacks.context:
            # A signal handler or a finalizer has blocked a runner between two callbacks. The runner is about to sleep
            # for a time that was computed before the wait.
            self.post(_nothing)
        if wait.stack is not base:
            stacks.come_out(wait.stack)

    def _try_again(self, wait: Wait) -> None:
        """Resume a stack in the next iteration, if an error has prevented it in this one."""
        if self._ours.streams.waits.get(wait.stack) is not wait:
            return
        parked = self._stacks.parked
        if getcurrent() in parked:
            parked.remove(getcurrent())
        wait.stacks = self._stacks
        self.call_soon(wait)

    def _take_back(self, wait: Wait, watch: WatchHandle | None, contexts: Any) -> None:
        """Undo what :meth:`wait` has done so far, as the stack does not block after all."""
        streams, task = self._ours.streams, wait.task
        wait.stacks = None  # the Future may still call the wait, while the stack is blocked in another one
        streams.waits.pop(wait.stack, None)
        if task is not None:
            if asyncio.current_task(self) is not task:
                _enter_task(self, task)
            if type(task) is BridgeTask:
                task.wait = None
            elif getattr(task, "_bridge_wait", None) is wait:
                unblocked(task)
        if watch is not None and watch in streams.held.get(watch.fd, ()):
            self._let_go(watch)
        if contexts is not None:
            self._stacks.tracker.contexts = contexts

    def _take_turn(self) -> bool:
        """Fast path: nothing is ready, so poll for events here instead of switching. Return False to switch.

        An iteration of the loop would do no more than that: poll, and queue the events' callbacks behind this stack.
        """
        stacks, ours = self._stacks, self._ours
        if self._stopping or stacks.self_cancels or self._ours.streams.watch is not None or ours.posts:
            return False
        if ours.before_block is not None:
            ours.before_block()
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        if scheduled and scheduled[0]._when <= self.time():
            return False
        stacks.switches += 1
        try:
            self._process_events(self._ours.streams.selector.select(0))  # type: ignore[attr-defined]
        except BaseException:  # raised by a signal handler
            self.ring_again()
            raise
        return True

    def check_wait(self) -> None:
        """Raise the reason why the calling stack cannot block, if there is one.

        :raises DeadlockError: as for :meth:`wait`.
        :raises BridgeClosed: as for :meth:`wait`.
        """
        stacks = self._stacks
        if stacks.refusals is not None:
            self._refuse(getcurrent(), stacks.refusals)
        if stacks.root is None or stacks.root in (stacks.active, getcurrent()):
            raise DeadlockError(
                "block_on, or another wait for the loop, was called on the loop's root stack, outside any callback, "
                "where nothing else can run the loop; call it in a task or a callback: loop.call_soon(function)"
                + at("root-stack")
            )

    def _refuse(self, stack: greenlet, refusals: dict[greenlet, int]) -> None:
        """Raise the error of a closed loop.

        A stack may ignore it and block again, as ``while True: try: block_on(x) except BaseException: pass`` does.
        After ``_REFUSALS`` attempts such a stack is abandoned where it stands, and the loop closes.
        """
        refusals[stack] = refusals.get(stack, 0) + 1
        stacks = self._stacks
        while refusals[stack] > _REFUSALS and stacks.root is not None and stacks.active is not stacks.root:
            _forsaken.append(stack)
            task = asyncio.current_task(self)
            if task is not None:
                _leave_task(self, task)
            stacks.active = stacks.root
            switch(stacks.root)
        raise stacks.closed_error()


def _nothing() -> None:
    pass
