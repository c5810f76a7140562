"""SwitchingLoop: a loop that runs on in another greenlet while a stack on its own thread is blocked.

The stack that runs the loop's ``run_forever()`` is the *root*. It runs no callback itself. It starts *runners*:
greenlets that iterate the loop. A callback that blocks stays on its runner's stack and switches to a parked runner. If
there is none, it switches to the root, which starts a new runner.

When a wait is over, its callback (the :class:`~bridge._loop.stacks.Wait` itself) parks the runner in which it runs and
switches to the blocked stack. The stack resumes at the place in the queue where a task would take its next step, and is
a runner from then on. So the root starts every runner, any number of blocked stacks never nest, and they end in any
order.

This module starts and ends runners and closes the loop. ``blocking`` blocks and resumes one stack, ``stacks`` keeps the
record of all stacks, ``held_contexts`` handles contexts that blocked stacks have entered, and ``forwarding`` handles
foreign greenlets.

While no stack is blocked one runner iterates the loop, and an iteration costs the same as on the standard loop.

Where asyncio lacks a private name that this needs, :func:`new_event_loop` makes a loop that cannot be blocked.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from greenlet import getcurrent, greenlet

from .._errors import at
from .._private.abilities import lost
from .._private.cpython import get_running_loop, set_running_loop
from .._private.rows import SWITCHING
from .._threads.native import get_ident
from .._values.deferreds import deferreds
from .._watch.watchdog import watchdog
from .base import BridgeLoop
from .blocking import BlockingLoop
from .forwarding import Retired, start_runner, throw
from .held_contexts import is_held, run_in_copy, take_updates
from .stacks import Stacks, Wait
from .task import BridgeTask, EagerTask, end_step

# How many parked runners are kept for later blocked calls, and how many for those that come at once: where a server's
# requests block, a hundred stacks may block and resume every few milliseconds, and to start a runner and end it takes
# four times as long as to block. A parked runner takes 11 KB, and refers to the last thing that was waited for.
_POOL = 4
_MOST = 1024
_SPARE_AFTER = 1.0  # seconds for which more than _POOL runners were not needed, until they end

_run_handle: Any = getattr(events.Handle, "_run", None)


class SwitchingLoop(BlockingLoop):
    """A BridgeLoop on whose own thread code may block: in a task, a callback, or any frame that they call.

    ``asyncio.Runner(loop_factory=bridge.new_event_loop)`` runs one.
    """

    task_class = BridgeTask

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._stacks = Stacks(self, super()._run_once, self._iterate)  # type: ignore[misc]
        super().__init__(selector)

    @property
    def interrupted(self) -> Any:
        """The task whose wait Ctrl-C has cancelled, in a program on the loop's thread; None if there is none."""
        return self._stacks.interrupted

    @interrupted.setter
    def interrupted(self, task: Any) -> None:
        self._stacks.interrupted = task

    @property
    def waits(self) -> dict[greenlet, Wait]:
        """The wait of each blocked stack."""
        waits: dict[greenlet, Wait] = self._ours.streams.waits
        return waits

    @property
    def stacks(self) -> Stacks:
        """The loop's stacks, which the watchdog checks."""
        return self._stacks

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Schedule a coroutine and return its task.

        :param options: ``name``, ``context`` and whatever else this Python's tasks take.
        """
        if self._closed or self._stacks.has_factory:
            return super().create_task(coro, **options)
        # No `**options` where it is empty: it would take a tenth of the time.
        if not options:
            task: BridgeTask = BridgeTask(coro, loop=self)
        else:
            task = (EagerTask if options.get("eager_start") else BridgeTask)(coro, loop=self, **options)
            end_step(task)
        try:
            created: Any = task._source_traceback  # type: ignore[attr-defined]
            if created:
                del created[-1]  # the frame of this method
            return task
        finally:
            del task  # an error of an eager first step has this frame in its traceback; see the head of task.py

    def set_task_factory(self, factory: Any) -> None:
        """Set the factory of the tasks that :meth:`create_task` returns; None restores the loop's own."""
        super().set_task_factory(factory)
        self._stacks.has_factory = factory is not None

    @property
    def run_until_complete(self) -> Callable[[Any], Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The method that runs until a Future is done, or a coroutine, and returns its result.

        A loop that runs refuses this, as asyncio's do, until nest_asyncio has been applied. Then the stack blocks. As
        a property it has no frame in the user's tracebacks.
        """
        is_nested = get_running_loop() is self and hasattr(asyncio, "_nest_patched")
        return self._block if is_nested else super().run_until_complete

    def _block(self, future: Any) -> Any:
        awaited = asyncio.ensure_future(future, loop=self)
        if not awaited.done():
            self.wait(awaited, asyncio.current_task(self), None)
        return awaited.result()

    def _run_once(self, *more: Any, **options: Any) -> None:
        """Iterate the loop until it is stopped. The caller is the root stack."""
        if not self.is_running():  # called directly, as asyncio's own tests do
            super()._run_once(*more, **options)  # type: ignore[misc]
            return
        if more or options:
            self._stacks.run_once = functools.partial(super()._run_once, *more, **options)  # type: ignore[misc]
        root = getcurrent()
        self._adopt_stacks(root)
        stacks = self._stacks
        stacks.root = root
        if self._ours.streams.queued:
            self._count_events()
        if deferreds.tracker is not None:
            stacks.tracker = deferreds.tracker()
        # A signal handler sees the variables of the thread, also if it runs between two callbacks.
        if self._ours.streams.waits:  # in stacks that have this context
            for variable, value in copy_context().items():
                stacks.context.run(variable.set, value)
        else:
            stacks.context = copy_context()
        watchdog.add(stacks)
        try:
            has_blocked: Any = True
            while has_blocked is not False:  # a runner ends by returning False; a stack that blocks sends no value
                runner = start_runner(stacks, stacks.context)
                has_blocked = stacks.give(root, runner, runner)
        finally:
            stacks.active = root
            watchdog.remove(stacks)
            if stacks.parked:
                self._retire(0)
            if stacks.trimming is not None:
                stacks.trimming.cancel()
                stacks.trimming = None
            stacks.root = None
            stacks.inside.intersection_update(self._ours.streams.waits)  # Ctrl-C may have cut off come_out()
            stacks.trace_no_more()

    def _adopt_stacks(self, root: greenlet) -> None:
        """Make this run's root the parent of the stacks that are blocked since an earlier run."""
        thread = threading.current_thread()
        stacks, waits = self._stacks, self._ours.streams.waits
        if waits and thread is not stacks.thread:
            raise RuntimeError(
                f"{len(waits)} calls are blocked on the stack of {stacks.thread!r}, where this loop ran before; "
                "run it there again, or close it there" + at("stack-of-another-thread")
            )
        if waits and root is not stacks.last_root:
            stacks.adopt(root)
            for wait in waits.values():
                wait.base.parent = root
        stacks.thread = thread
        stacks.ident = get_ident()
        stacks.last_root = stacks.active = root

    def _iterate(self) -> bool:
        """Iterate the loop until it is stopped. A runner runs this."""
        stacks = self._stacks
        iterate = stacks.run_once
        switches = stacks.switches
        streams = self._ours.streams
        if streams.queued:  # by the iteration in which a stack has blocked
            self.poll_later()
        while True:
            try:
                iterate()
            except IndexError as error:
                # While a callback of this iteration was blocked, another runner took the remaining handles. Then the
                # iteration popped from the empty queue.
                if switches == stacks.switches or not _raised_by_callee(error):
                    raise
            if switches != stacks.switches:
                switches = stacks.switches
                parked = len(stacks.parked)
                if parked > _POOL or parked < stacks.spare:
                    self._note_spare(parked)
                if stacks.context_updates:
                    take_updates(stacks.context_updates)
                if streams.queued:
                    self.poll_later()
            if self._stopping:
                return False

    def _note_spare(self, parked: int) -> None:
        """Note how many runners are parked, and see to it that those that are not needed end."""
        stacks = self._stacks
        if parked > _MOST:
            self._retire(parked := _MOST)
        if stacks.trimming is None and parked > _POOL:
            stacks.spare = parked
            stacks.trimming = self.call_later(_SPARE_AFTER, self._trim, context=Context())
        stacks.spare = min(stacks.spare, parked)

    def _trim(self) -> None:
        """End the runners that nobody has needed since the last time."""
        stacks = self._stacks
        stacks.trimming = None
        self._retire(max(_POOL, len(stacks.parked) - stacks.spare))
        stacks.spare = 0
        self._note_spare(len(stacks.parked))

    def _retire(self, keep: int) -> None:
        """End parked runners until at most `keep` are left."""
        stacks = self._stacks
        parked, here = stacks.parked, getcurrent()
        while len(parked) > keep:
            runner = parked.pop()
            runner.parent = here
            throw(runner, Retired)
            runner.parent = stacks.root or here  # foreign greenlets whose parent is this runner end there

    def end_waits(self, error: Callable[[], BaseException]) -> None:
        """Raise a new error in every blocked stack, and at the loop's end in every stack that is blocked then.

        Called on the loop's thread, before a last run that cancels all tasks. A blocked task gets the error instead of
        that cancellation, and may block again as it cleans up.
        """
        self._stacks.closed_error = error
        for wait in self._ours.streams.waits.values():
            wait.error = error()
            if wait.task is None:
                self.call_soon(wait)

    def close(self) -> None:
        """Close the loop. Each stack that is still blocked gets BridgeClosed and ends."""
        if self._ours.streams.waits and not self.is_running() and not self.is_closed():
            self._end_stacks()
        super().close()
        if self.is_closed():
            # They may hold the main greenlet of this thread. Loop and stacks form a cycle: if another thread collected
            # that with the main greenlet in it, after the end of this thread, the process would crash.
            self._stacks.last_root = self._stacks.root = self._stacks.active = None
            self._stacks.part()

    def _end_stacks(self) -> None:
        if threading.current_thread() is not self._stacks.thread:
            self._stacks.active = None
            self._ours.streams.waits.clear()  # unreferenced greenlets are ended in their own thread, by greenlet itself
            return
        root = getcurrent()
        self._adopt_stacks(root)
        self._stacks.root = root
        self._stacks.refusals = {}
        self._stopping = True
        self._ready = _Nothing()  # the stacks run their own cleanup only, no other callback
        running = get_running_loop()
        set_running_loop(self)  # for the cleanup
        exits: list[BaseException] = []
        try:
            for stack, wait in list(self._ours.streams.waits.items()):
                wait.stacks = None
                wait.error = self._stacks.closed_error()
                try:
                    self._stacks.give(root, wait.base, stack)
                except BaseException as error:  # SystemExit, as out of any callback
                    exits.append(error)
            self._ours.streams.waits.clear()
            self._retire(0)
        finally:
            set_running_loop(running)
            self._stacks.root = None
            self._stopping = False
        if exits:
            super().close()
            raise exits[0]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error. If a callback could not enter its context, run it in a copy.

        That happens where tasks share a context by ``context=`` and one of them is blocked; see ``held_contexts``.
        """
        handle: Any = context.get("handle")
        for wait in (handle, getattr(handle, "_callback", None)):
            if isinstance(wait, Wait):
                self._try_again(wait)
        is_handle = isinstance(handle, events.Handle)
        if self._ours.streams.waits and type(context.get("exception")) is RuntimeError and is_handle:
            held: Context = handle._context
            if is_held(held):
                updates = self._stacks.context_updates.setdefault(id(held), (held, {}))[1]
                args = (updates, handle._callback, handle._args)
                _run_handle(events.Handle(run_in_copy, args, self, context=held.copy()))
                return
        super().call_exception_handler(context)


class _Nothing(deque[Any]):
    """The queue of a closing loop. It stays empty."""

    def append(self, item: Any) -> None:
        """Drop the item."""


def _raised_by_callee(error: BaseException) -> bool:
    """Return whether the function that the caller called raised the error itself, not a function further up."""
    called = error.__traceback__ and error.__traceback__.tb_next
    return called is not None and called.tb_next is None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of ours; :func:`bridge.new_event_loop` has the contract."""
    return BridgeLoop() if lost(SWITCHING) else SwitchingLoop()
