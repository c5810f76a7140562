"""SwitchingLoop: a loop that goes on in another greenlet while a stack on its own thread is blocked.

The stack that runs the loop's ``run_forever()`` is the *root*. It runs no callback itself: it starts *runners*,
greenlets that iterate the loop. A callback that blocks stays where it is, on its runner's stack, and switches to a
runner that is parked or, where there is none, to the root, which starts a new one. When a wait is over, its callback
(:class:`Wait` itself) parks the runner that it stands in and switches to the blocked stack: the stack goes on in the
very place in the queue where a task would take its next step, and becomes the runner. So every runner is started by the
root, stacks never nest, however many are blocked, and they end in any order. The module ``forwarding`` has what is
due to greenlets that are not ours.

While nobody is blocked one runner iterates the loop, and an iteration costs what the standard library's costs.

Private names that this module stands on. :func:`missing` looks for them, and without one of them
:func:`new_event_loop` makes a loop that cannot be blocked (test_swap.py::test_without_the_private_names):

==============================================================================  =====================
name                                                                            versions
==============================================================================  =====================
``BaseEventLoop._run_once``, ``_ready``, ``_stopping``, ``_scheduled``          CPython 3.4 to 3.15
``BaseSelectorEventLoop._add_reader``, ``_remove_reader``, ``_add_writer``,
``_remove_writer``, ``_add_callback``, ``_process_events``, ``_selector``       CPython 3.4 to 3.15
``Handle._run``, ``_context``, ``_loop``, ``_callback``, ``_args``,
``_cancelled``, ``TimerHandle._when``                                            CPython 3.7 to 3.15
``asyncio.tasks._enter_task``, ``_leave_task``                                  CPython 3.7 to 3.15
``asyncio._get_running_loop``, ``_set_running_loop``                            CPython 3.5 to 3.15
``ContextTracker.contexts`` of ``twisted.python.context``                       Twisted 8 to 26
==============================================================================  =====================
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from asyncio import events, selector_events, tasks
from collections import deque
from collections.abc import Callable, Hashable
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from .._errors import BridgeClosed, DeadlockError
from .._threads.native import get_ident
from .._values.deferreds import deferreds
from .._watch.watchdog import Watched, watchdog
from .asyncio_tasks import blocked, unblocked
from .base import BridgeLoop
from .forwarding import Charge, Retired, start_runner, switch, throw
from .streams import StreamLoop, WatchHandle
from .task import BridgeTask

# Runners that are kept for the next blocked call, once several calls were blocked at a time.
_POOL = 4
# How often one stack may go on blocking while the loop closes; see SwitchingLoop._refuse.
_REFUSALS = 1000

# Stacks that no error has ended as their loop was closed. They are kept for good: what they stand in is executing, and
# can be neither closed nor collected.
_forsaken: list[greenlet] = []

_run_handle = events.Handle._run
_enter_task: Any = getattr(tasks, "_enter_task", None)
_leave_task: Any = getattr(tasks, "_leave_task", None)


def missing() -> list[str]:
    """Return the private names of the standard library that this Python lacks; none means that stacks can switch."""
    wanted: dict[Any, tuple[str, ...]] = {
        asyncio.BaseEventLoop: ("_run_once",),
        selector_events.BaseSelectorEventLoop: (
            *("_add_reader", "_remove_reader", "_add_writer", "_remove_writer"),
            *("_add_callback", "_process_events"),
        ),
        events.Handle: ("_run", "_context", "_loop", "_callback", "_args", "_cancelled"),
        tasks: ("_enter_task", "_leave_task"),
        asyncio: ("_get_running_loop", "_set_running_loop"),
    }
    return [f"{owner.__name__}.{name}" for owner, names in wanted.items() for name in names if not hasattr(owner, name)]


class Wait:
    """One stack that waits: for a Future, or for one turn of the loop.

    In the latter case it stands in the loop's queue itself, at a third of the cost of a Handle for a callback.
    """

    __slots__ = ("base", "coro", "error", "future", "stack", "stacks", "task")
    # What the loop reads of a Handle, in its debug mode as well. To be one would take half as much memory again.
    _cancelled = False
    _callback = _source_traceback = None
    _args = ()

    def __init__(
        self, stack: greenlet, base: Any, future: asyncio.Future[Any] | None, task: Any, stacks: Stacks, coro: Any
    ) -> None:
        self.stack = stack
        self.base: greenlet = base  # the runner that the stack is, or that a greenlet of somebody else's runs under
        self.future = future
        self.task = task
        self.stacks: Stacks | None = stacks  # None: it is over
        self.coro = coro  # that is driven in the stack, None if it waits for the Future
        self.error: BaseException | None = None

    def __call__(self, _: object = None) -> None:
        """Let the stack go on. A callback of the loop: the runner that it stands in is parked here."""
        stacks = self.stacks
        if stacks is not None:
            self.stacks = None
            runner = stacks.active
            stacks.parked.append(runner)
            stacks.active = self.base
            try:
                value = switch(self.stack)
            except BaseException as error:
                try:
                    stacks.hand_on(runner, None, error)
                except GreenletExit:  # it was thrown away as a signal handler has cut off the line that would use it
                    raise Retired from None
            else:
                if stacks.active is not runner:
                    try:
                        stacks.hand_on(runner, value, None)
                    except GreenletExit:
                        raise Retired from None

    def _run(self) -> None:
        try:
            self()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # that a signal handler has raised
            context = {"message": "error as a blocked stack was to go on", "exception": error, "handle": self}
            asyncio.get_running_loop().call_exception_handler(context)

    def cancelled(self) -> bool:
        """Return False: it does not leave the loop's queue."""
        return False

    def cancel(self, message: Any = None) -> None:
        """Cancel what is waited for; if that is over, raise CancelledError in the stack, as a task does."""
        future = self.future
        if future is not None and (future.cancel(message) or future.cancelled()):
            return  # the first cancellation comes out of the Future, with its own message
        if self.error is None:
            self.error = asyncio.CancelledError() if message is None else asyncio.CancelledError(message)

    def greenlets(self) -> list[greenlet]:
        """Return the runner and those of others that run under it, up to the one that is blocked; for those who look.

        Two greenlets of others are seen to stand on each other if one is the other one's parent.
        """
        found: list[greenlet] = []
        each: greenlet | None = self.stack
        while each is not None and each is not self.base and each not in found:
            found.insert(0, each)
            each = each.parent
        return [self.base, *found]


class OnLoopCall:
    """A call that a stack is blocked in, for those who look at it."""

    waits = True

    def __init__(self, wait: Wait, first_seen: dict[Hashable, float]) -> None:
        self.work = wait.future if wait.coro is None else wait.coro
        # Not of the wait, of which there is one for each time that the call suspends. Another object may come to have
        # this address, and then it is another call in another stack.
        self.key = id(self.work), id(wait.stack)
        self.seen = first_seen.get(self.key)
        self.started: float = monotonic() if self.seen is None else self.seen
        self.task = wait.task
        self.wait = wait


class _NoTracker:
    """In the place of the thread's tracker of ``twisted.python.context``, while that is not imported: no context."""

    contexts: tuple[Any, ...] = ({},)


class Stacks(Charge, Watched):
    """The stacks of a loop; apart from the loop for the reason that ``base.Ours`` is."""

    __slots__ = (
        "closed_error", "context", "context_updates", "first_seen", "interrupted", "iterate", "last_root",
        "loop", "refusals", "run_once", "stall_after", "switches", "thread", "tracker", "unwatched",
    )  # fmt: skip
    look_every = 0.25

    def __init__(self, loop: SwitchingLoop, run_once: Callable[[], None]) -> None:
        super().__init__()
        self.loop = loop
        # Methods of the loop's that are bound once, not for each runner.
        self.run_once = run_once
        self.iterate = loop._iterate
        self.stall_after = None  # until a bridge is on the loop: then only is there a second thread, which may look
        self.unwatched = False
        self.first_seen: dict[Hashable, float] = {}
        self.last_root: greenlet | None = None
        self.thread: threading.Thread | None = None  # that the stacks belong to
        self.context = Context()  # of runners, outside any callback
        self.switches = 0
        self.closed_error: Callable[[], BaseException] = _closed
        self.refusals: dict[greenlet, int] | None = None  # how often each stack was refused, while the loop closes
        self.tracker: Any = _NoTracker  # Twisted's, of the thread
        self.context_updates: dict[int, tuple[Context, dict[Any, Any]]] = {}
        self.interrupted: Any = None  # the task whose wait Ctrl-C has cancelled, of a program that shares the thread

    def is_kept(self, each: greenlet) -> bool:
        """Return whether somebody is going to switch to this one, also because it is blocked."""
        return super().is_kept(each) or each in self.loop.waits

    def calls(self) -> list[OnLoopCall]:
        """Return the calls that stacks of the loop's thread are blocked in, of several in one stack the innermost.

        None of them has noted when it began, which would make it slower by one per cent: it counts from when somebody
        first saw it here.
        """
        calls = [OnLoopCall(wait, self.first_seen) for wait in list(self.loop.waits.values())]
        self.first_seen = {call.key: call.started for call in calls}
        return calls


class SwitchingLoop(StreamLoop):
    """A BridgeLoop on whose own thread one can block: from a task, a callback, any frame that it runs.

    ``asyncio.Runner(loop_factory=bridge.new_event_loop)`` runs one.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._stacks = Stacks(self, super()._run_once)  # type: ignore[misc]
        super().__init__(selector)
        self._ours.self_cancels = {}

    @property
    def interrupted(self) -> Any:
        """The task whose wait Ctrl-C has cancelled, of a program that shares the thread; None if there is none."""
        return self._stacks.interrupted

    @interrupted.setter
    def interrupted(self, task: Any) -> None:
        self._stacks.interrupted = task

    @property
    def waits(self) -> dict[greenlet, Wait]:
        """The waits of the stacks that are blocked."""
        return self._streams.waits

    @property
    def stacks(self) -> Stacks:
        """The stacks, as the watchdog sees them."""
        return self._stacks

    # The stacks.

    def _run_once(self) -> None:
        """Iterate the loop until it is stopped. This is the root."""
        if not self.is_running():  # called by hand, as by tests of asyncio's own
            super()._run_once()  # type: ignore[misc]
            return
        root = getcurrent()
        self._adopt_stacks(root)
        stacks = self._stacks
        stacks.root = root
        if deferreds.tracker is not None:
            stacks.tracker = deferreds.tracker()
        watchdog.add(stacks)
        try:
            has_blocked: Any = True
            while has_blocked is not False:  # that is what a runner returns; a stack that blocks passes nothing
                runner = start_runner(stacks, stacks.iterate, stacks.context)
                has_blocked = stacks.give(root, runner, runner)
        finally:
            stacks.active = root
            watchdog.remove(stacks)
            self._retire(0)
            stacks.root = None
            stacks.inside.intersection_update(self._streams.waits)  # Ctrl-C may have cut off come_out()
            stacks.trace_no_more()

    def _adopt_stacks(self, root: greenlet) -> None:
        """Let the stacks that are blocked since an earlier run end in this one's root."""
        thread = threading.current_thread()
        stacks, waits = self._stacks, self._streams.waits
        if waits and thread is not stacks.thread:
            raise RuntimeError(
                f"{len(waits)} calls are blocked on the stack of {stacks.thread!r}, where this loop ran before; "
                "run it there again, or close it there"
            )
        if waits and root is not stacks.last_root:
            stacks.adopt(root)
            for wait in waits.values():
                wait.base.parent = root
        stacks.thread = thread
        stacks.ident = get_ident()
        stacks.last_root = stacks.active = root

    def _iterate(self) -> bool:
        """Iterate the loop: what a runner does."""
        stacks = self._stacks
        iterate = stacks.run_once
        switches = stacks.switches
        while True:
            try:
                iterate()
            except IndexError as error:
                # While a callback was blocked another runner has taken the rest of this iteration's handles, and the
                # iteration itself has met the empty queue.
                if switches == stacks.switches or not _raised_by_callee(error):
                    raise
            if switches != stacks.switches:
                switches = stacks.switches
                if len(stacks.parked) > _POOL:
                    self._retire(_POOL)
                if stacks.context_updates:
                    self._take_context_updates()
            if self._stopping:
                return False

    def _retire(self, keep: int) -> None:
        """End parked runners, so that no more than so many are left."""
        stacks = self._stacks
        parked, here = stacks.parked, getcurrent()
        while len(parked) > keep:
            runner = parked.pop()
            runner.parent = here
            throw(runner, Retired)
            runner.parent = stacks.root or here  # where others end whose parent it is

    def wait(self, future: asyncio.Future[Any] | None, task: asyncio.Task[Any] | None, coro: Any) -> None:
        """Block the calling stack until the Future is done; None for one turn of the loop.

        :param task: the current one.
        :param coro: the coroutine that is driven in the stack; for those who look.
        :raises DeadlockError: called on the root stack, outside any callback.
        :raises asyncio.CancelledError: the task that is blocked here was cancelled when the Future was done already.
        :raises BridgeClosed: the loop was stopped for good or closed.
        """
        stacks, streams, ours = self._stacks, self._streams, self._ours
        stack = getcurrent()
        base = stacks.active
        if base is stacks.last_root or stacks.refusals is not None:  # None as well, of a loop that has not run
            self.check_wait()
        if task is None and base.own_context is stacks.context:
            # A signal handler or a finalizer blocks a runner between two callbacks, which may hold what the selector
            # has reported and it has not looked at: the alarm, that is reported once.
            self.ring_again()
        if future is None and type(task) is BridgeTask and not self._ready and self._take_turn():
            return
        wait = Wait(stack, base, future, task, stacks, coro)
        watch = streams.watch
        contexts = None  # Twisted's
        try:
            if future is None:
                self._ready.append(wait)
            else:
                future.add_done_callback(wait)
            if len(stacks.tracker.contexts) > 1:
                contexts, stacks.tracker.contexts = stacks.tracker.contexts, stacks.tracker.contexts[:1]
            if ours.posts and not ours.is_rung:  # this very stack has taken the posts' turn, and leaves some behind
                self.call_soon(self._take_posts, context=Context())
            if ours.before_block is not None:
                ours.before_block()
            if watch is not None:
                self._hold(watch)
            if task is not None:
                if type(task) is BridgeTask:
                    task.wait = wait
                else:
                    blocked(task, wait)
                if ours.self_cancels and task in ours.self_cancels:
                    wait.cancel(ours.self_cancels.pop(task))
                _leave_task(self, task)
            streams.waits[stack] = wait
            if stacks.unwatched:
                watchdog.wake(stacks)
        except BaseException:  # that a signal handler has raised
            self._take_back(wait, watch, contexts)
            raise
        stacks.switches += 1
        try:
            if stack is not base:
                stacks.go_inside(stack)
            target: Any = stacks.parked.pop() if stacks.parked else stacks.root
            stacks.active = target
            try:
                value = switch(target)
            except BaseException as error:
                stacks.hand_on(base, None, error)
            else:
                if stacks.active is not base:
                    stacks.hand_on(base, value, None)
        finally:
            wait.stacks = None  # should a signal handler have raised before the switch
            del streams.waits[stack]
            if task is not None:
                _enter_task(self, task)
                if type(task) is BridgeTask:
                    task.wait = None
                else:
                    unblocked(task)
            if watch is not None:
                self._let_go(watch)
            if contexts is not None:
                stacks.tracker.contexts = contexts
            if stacks.context_updates:
                self._take_context_updates()
            if task is None and base.own_context is stacks.context:
                # A signal handler or a finalizer has blocked a runner between two callbacks: it sleeps for a time that
                # was computed before.
                self.post(_nothing)
            if stack is not base:
                stacks.come_out(stack)
        if wait.error is not None:
            try:
                raise wait.error
            finally:
                wait.error = None

    def _try_again(self, wait: Wait) -> None:
        """Let a stack go on in the next turn, should an error have kept it from going on in this one."""
        if self._streams.waits.get(wait.stack) is not wait:
            return
        parked = self._stacks.parked
        if getcurrent() in parked:
            parked.remove(getcurrent())
        wait.stacks = self._stacks
        self.call_soon(wait)

    def _take_back(self, wait: Wait, watch: WatchHandle | None, contexts: Any) -> None:
        """Undo what :meth:`wait` has done so far, for a stack that does not block after all."""
        streams, task = self._streams, wait.task
        wait.stacks = None  # what was to end it may come yet, when the stack is blocked for something else
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
        """Let one turn of the loop pass in the calling stack itself, as nothing is ready; return whether it could be.

        All that the loop would do is to look for events, and to queue up their callbacks behind this stack.
        """
        stacks, ours = self._stacks, self._ours
        if self._stopping or ours.self_cancels or self._streams.watch is not None or ours.posts:
            return False
        if ours.before_block is not None:
            ours.before_block()
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        if scheduled and scheduled[0]._when <= self.time():
            return False
        stacks.switches += 1
        try:
            self._process_events(self._selector.select(0))  # type: ignore[attr-defined]
        except BaseException:  # that a signal handler has raised
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
            )

    def _refuse(self, stack: greenlet, refusals: dict[greenlet, int]) -> None:
        """Raise the error of a closed loop.

        A stack that goes on blocking all the same, as ``while True: try: block_on(x) except BaseException: pass`` does,
        is left where it stands after a while, for good, and the loop closes.
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

    def end_waits(self, error: Callable[[], BaseException]) -> None:
        """Raise a new error in every stack that is blocked now, and at the loop's end in every stack that is then.

        Called on the loop's thread, before a last run that cancels all tasks. A task gets the error in the place of
        that cancellation, and may block as it cleans up.
        """
        self._stacks.closed_error = error
        for wait in self._streams.waits.values():
            wait.error = error()
            if wait.task is None:
                self.call_soon(wait)

    def close(self) -> None:
        """Close the loop. What is still blocked gets BridgeClosed, and its stack ends."""
        if self._streams.waits and not self.is_running() and not self.is_closed():
            self._end_stacks()
        super().close()
        if self.is_closed():
            # The main greenlet of a thread: left to the garbage collector of another thread after this one's end, as
            # part of the cycle that loop and stacks are, it crashes the process.
            self._stacks.last_root = self._stacks.root = self._stacks.active = None

    def _end_stacks(self) -> None:
        if threading.current_thread() is not self._stacks.thread:
            self._stacks.active = None
            self._streams.waits.clear()  # their own thread ends them as soon as it sees that nobody refers to them
            return
        root = getcurrent()
        self._adopt_stacks(root)
        self._stacks.root = root
        self._stacks.refusals = {}
        self._stopping = True
        self._ready = _Nothing()  # each runs nothing but its own end
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self)  # for what they call
        exits: list[BaseException] = []
        try:
            for stack, wait in list(self._streams.waits.items()):
                wait.stacks = None
                wait.error = self._stacks.closed_error()
                try:
                    self._stacks.give(root, wait.base, stack)
                except BaseException as error:  # SystemExit, as out of any callback
                    exits.append(error)
            self._streams.waits.clear()
            self._retire(0)
        finally:
            asyncio._set_running_loop(running)
            self._stacks.root = None
            self._stopping = False
        if exits:
            super().close()
            raise exits[0]

    # Contexts. One that a blocked stack is inside cannot be entered again.

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error; where a callback could not enter its context, run it in a copy.

        That is so where tasks share a context by ``context=``, and one of them is blocked. What the callback sets in
        the copy is set in the context when the stack that holds it goes on.
        """
        handle: Any = context.get("handle")
        for wait in (handle, getattr(handle, "_callback", None)):
            if isinstance(wait, Wait):
                self._try_again(wait)
        is_handle = isinstance(handle, events.Handle)
        if self._streams.waits and type(context.get("exception")) is RuntimeError and is_handle:
            held: Context = handle._context
            if _is_held(held):
                updates = self._stacks.context_updates.setdefault(id(held), (held, {}))[1]
                args = (updates, handle._callback, handle._args)
                _run_handle(events.Handle(_run_in_copy, args, self, context=held.copy()))
                return
        super().call_exception_handler(context)

    def _take_context_updates(self) -> None:
        """Set in the contexts that stacks have held what others have set in copies meanwhile."""
        current = getcurrent().gr_context
        for key, (held, updates) in list(self._stacks.context_updates.items()):
            if held is current:
                _set_all(updates)
            elif not _is_held(held):
                held.run(_set_all, updates)
            else:
                continue
            del self._stacks.context_updates[key]


class _Nothing(deque[Any]):
    """The queue of a loop that is closing: what is put into it is dropped."""

    def append(self, item: Any) -> None:
        """Drop it."""


def _closed() -> BridgeClosed:
    return BridgeClosed("the loop was closed; the call was not completed")


def _raised_by_callee(error: BaseException) -> bool:
    """Return whether the error was raised by the very function that was called, not by what that has called."""
    called = error.__traceback__ and error.__traceback__.tb_next
    return called is not None and called.tb_next is None


def _is_held(context: Context) -> bool:
    """Return whether a stack is inside the context, so that it cannot be entered."""
    try:
        context.run(_nothing)
    except RuntimeError:
        return True
    return False


def _nothing() -> None:
    pass


def _set_all(updates: dict[Any, Any]) -> None:
    for variable, value in updates.items():
        variable.set(value)


def _run_in_copy(updates: dict[Any, Any], callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    _set_all(updates)  # by those who ran in a copy of this context before
    before = copy_context()
    try:
        callback(*args)
    finally:
        for variable, value in copy_context().items():
            if variable not in before or before[variable] is not value:
                updates[variable] = value


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of ours; :func:`bridge.new_event_loop` has the contract."""
    return BridgeLoop() if missing() else SwitchingLoop()
