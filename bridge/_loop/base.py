"""BridgeLoop: the selector loop that a bridge runs. start_task(): a task that takes its first step at once.

On CPython 3.11, and only there, :func:`start_task` relies on a task's constructor to schedule the first step by
``loop.call_soon`` (test_names.py::test_first_step_runs_at_once).
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import select
import selectors
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures.thread import ThreadPoolExecutor
from contextvars import Context
from typing import Any

from .._errors import BridgeClosed
from .._private.abilities import lost
from .._private.cpython import get_running_loop
from .._private.rows import TASKS, WAKE_UPS, takes_more
from .._threads import native
from . import worker_threads
from .gevent import has_real_threads, load, pool_for, prepare
from .task import BridgeTask, contained, containing, end_step
from .workers import Workers, load_executors, shut_down_executor


class BridgeLoop(asyncio.SelectorEventLoop):
    """A selector event loop that takes posts from other threads, and whose workers' calls come back to it.

    nest_asyncio replaces methods in the class of a loop: that of the standard loop, and ours where ours runs. Here they
    stay asyncio's.
    """

    _nest_patched = True  # by which nest_asyncio knows a class that it has changed

    task_class: type[asyncio.Task[Any]] = asyncio.Task
    _ssock: Any
    _csock: Any
    _internal_fds: int
    _closed: bool

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        load_executors()
        load()
        chosen: selectors.BaseSelector = selector or native.original("selectors", "DefaultSelector")()
        self._ours = ours = self._make_ours(chosen)  # before the loop watches a descriptor of its own
        super().__init__(chosen)
        self.add_reader(ours.alarm.fileno(), self._take_posts)
        ours.alarm.rings_once = _edge_triggered(chosen, ours.alarm)

    def _make_ours(self, selector: selectors.BaseSelector) -> Ours:
        return Ours()

    @property
    def at_stop(self) -> list[Callable[[], object]]:
        """The functions to call once, when the loop stops running."""
        return self._ours.at_stop

    @property
    def before_block(self) -> Callable[[], object] | None:
        """The function to call before a stack blocks, on a loop that switches stacks."""
        return self._ours.before_block

    @before_block.setter
    def before_block(self, function: Callable[[], object] | None) -> None:
        self._ours.before_block = function

    @property
    def is_ending(self) -> bool:
        """Whether a bridge is ending the loop, so that the failure of its calls is expected."""
        return self._ours.is_ending

    @is_ending.setter
    def is_ending(self, is_ending: bool) -> None:
        self._ours.is_ending = is_ending

    @property
    def killed_by(self) -> BaseException | None:
        """The asynchronous exception that hit one of our own callbacks, and so has stopped the loop."""
        return self._ours.killed_by

    @property
    def bridge(self) -> object:
        """The bridge that was attached to serve this loop's worker threads."""
        return self._ours.bridge

    @bridge.setter
    def bridge(self, bridge: object) -> None:
        self._ours.bridge = bridge

    def run_forever(self) -> None:
        """Run until stop() is called."""
        ours = self._ours
        if ours.is_rung:
            self.ring_again()
        backend, ident = native.patched(), native.get_ident()
        if backend is not None:
            if not has_real_threads(self) and not self.is_running():
                self.create_task(prepare(self))
                self.run_first()
            backend.without_hub.add(ident)
        try:
            asyncio.BaseEventLoop.run_forever(self)
        finally:
            if backend is not None:
                backend.without_hub.discard(ident)
            if ours.at_stop:
                # Another thread may run the loop again before this ends. A function added then belongs to that run.
                at_stop, ours.at_stop = ours.at_stop, []
                while at_stop:
                    at_stop.pop()()

    def run_first(self) -> None:
        """Move the callback that was scheduled last to the head of the queue, if this Python's loop has ``_ready``."""
        ready: Any = getattr(self, "_ready", None)
        if ready is not None:
            ready.rotate(1)

    def post(self, callback: Callable[[], object]) -> None:
        """Schedule a function on the loop's thread. Any thread may call this.

        Like ``call_soon_threadsafe``, but without a Handle and a context, and any number of posts wake a sleeping loop
        once. The callback runs in the loop's context and must not raise.

        :raises RuntimeError: the loop is closed.
        """
        ours = self._ours
        ours.posts.append(callback)
        if not ours.is_rung:
            # No call may come between these two lines: a signal handler that blocked or raised there would leave
            # is_rung set without a ring, and later posts would not wake the loop.
            ours.is_rung = True
            try:
                os.write(ours.alarm.write_end, RING)
            except BlockingIOError:  # the alarm is full of rings already
                pass
            except OSError:
                raise RuntimeError("Event loop is closed") from None

    def ring_again(self) -> None:
        """Ring again if an edge-triggered ring may be lost, as an exception cut off the handling of events."""
        ours = self._ours
        if ours.is_rung and ours.alarm.rings_once:
            ours.is_rung = False
            self.post(_nothing)

    # asyncio wakes its loops by a pair of sockets, which takes a third of the time of making and closing a loop. Ours
    # have the alarm. The pair is made when a signal handler is added: Python writes the number of the signal to it.

    def _make_self_pipe(self, *more: Any, **options: Any) -> None:
        if lost(WAKE_UPS):
            super()._make_self_pipe(*more, **options)  # type: ignore[misc]
            self._ours.has_pair = True
        else:
            self._ssock = self._csock = None
            self._internal_fds = 1  # as of asyncio's loops

    def _close_self_pipe(self, *more: Any, **options: Any) -> None:
        if self._ours.has_pair:
            super()._close_self_pipe(*more, **options)  # type: ignore[misc]
        self._internal_fds = 0

    def _write_to_self(self, *more: Any, **options: Any) -> None:
        ours = self._ours
        if not ours.is_rung:  # see post()
            ours.is_rung = True
            try:
                os.write(ours.alarm.write_end, RING)
            except OSError:  # the alarm is full of rings, or closed
                pass

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Call a function in the loop when a signal arrives."""
        if not self._ours.has_pair and not self.is_closed() and not lost(WAKE_UPS):
            super()._make_self_pipe()  # type: ignore[misc]
            self._ours.has_pair = True
        super().add_signal_handler(sig, callback, *args)

    def own_descriptors(self) -> set[int]:
        """Return the descriptors that the loop watches for itself: the alarm and asyncio's pair."""
        pair: Any = getattr(self, "_ssock", None)
        return {each.fileno() for each in (self._ours.alarm, pair) if each is not None}

    def _check_thread(self) -> None:
        # In debug mode. In a process that gevent has patched the identifier that asyncio compares is a greenlet's.
        if get_running_loop() is not self:
            super()._check_thread()  # type: ignore[misc]

    async def _make_subprocess_transport(self, protocol: Any, *args: Any, **kwargs: Any) -> Any:
        if native.is_patched():
            from .gevent_children import start_child

            return await start_child(self, protocol, *args, **kwargs)
        return await super()._make_subprocess_transport(protocol, *args, **kwargs)  # type: ignore[misc]

    def _take_posts(self) -> None:
        ours = self._ours
        if not ours.alarm.rings_once:
            ours.alarm.silence()
        # Before the first post is taken: a later post rings again, at worst for nothing.
        ours.is_rung = False
        posts = ours.posts
        # Posts that arrive during this loop wait: callbacks that one post has made ready run before the next post.
        for _ in range(len(posts)):
            if not posts:  # a post blocked, and the loop took the others meanwhile
                break
            posts.popleft()()

    def close(self) -> None:
        """Close the loop and its alarm."""
        if not self.is_closed() and not self.is_running():
            alarm = self._ours.alarm
            self.remove_reader(alarm.fileno())
            alarm.close()
        super().close()
        if self.is_closed():
            self._ours.default_executor = None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error. If one of our own callbacks raised it, stop the loop.

        Our callbacks never raise. So the exception was raised in this thread from outside (PyThreadState_SetAsyncExc),
        and has ended a callback that a call waits for. That call is not known, so all calls fail.
        """
        if self.is_ending and isinstance(context.get("exception"), BridgeClosed):
            return  # from a worker thread whose call has failed because the loop ends: expected, so not logged
        super().call_exception_handler(context)
        callback = getattr(context.get("handle"), "_callback", None)
        error = context.get("exception")
        if error is not None and getattr(callback, "__func__", None) in never_raise:
            self._ours.killed_by = error
            self.stop()

    def abandon_alarm(self) -> None:
        """After a fork, in the child: drop all posts and close the alarm."""
        self._ours.posts = deque()
        self._ours.alarm.close()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run func in the executor. Calls that block in its worker thread go to this loop."""
        if native.is_patched():
            default = self._ours.default_executor
            pool = pool_for(executor, default, Workers)
            if executor is default is None:
                self.set_default_executor(pool)
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            if self.get_debug() and inspect.iscoroutinefunction(func):
                raise TypeError("coroutines cannot be used with run_in_executor()")  # the base class sees call_for only
            job = worker_threads.Job(self)
            job.future = super().run_in_executor(executor, worker_threads.call_for, job, func, *args)
            return job.future
        return super().run_in_executor(executor, func, *args)

    def set_default_executor(self, executor: Any) -> None:
        """Set the default executor of :meth:`run_in_executor`."""
        super().set_default_executor(executor)
        self._ours.default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Shut the default executor down and wait for its threads.

        :param timeout: seconds; None waits for ever.
        """
        executor = self._ours.default_executor
        if native.is_patched() and executor is not None:  # the base class would start a thread to wait in
            self._executor_shutdown_called = True
            await shut_down_executor(executor, math.inf if timeout is None else self.time() + timeout)
        elif sys.version_info >= (3, 12):
            await super().shutdown_default_executor(timeout)
        else:
            await super().shutdown_default_executor()


for _name in ("_check_running", "_run_once", "run_until_complete"):
    if hasattr(asyncio.BaseEventLoop, _name):
        setattr(BridgeLoop, _name, getattr(asyncio.BaseEventLoop, _name))


def _nothing() -> None:
    pass


def _check_closed(loop: BridgeLoop) -> None:
    """Raise asyncio's error if the loop is closed. It often comes out of a client that belongs to an earlier loop."""
    if loop._closed:
        error = RuntimeError("Event loop is closed")
        error.add_note(_EARLIER)
        raise error


if not lost(TASKS, "cpython") and not takes_more("asyncio.base_events:BaseEventLoop", "_check_closed", 1):
    BridgeLoop._check_closed = _check_closed  # type: ignore[attr-defined]


_EARLIER = (
    "What was used here belongs to an earlier loop, which has ended: each life of a bridge and each asyncio.Runner has "
    "a loop of its own, and a client of httpx, aiohttp, redis and the like works on the loop where it was first used. "
    "Keep one client for each loop: clients = weakref.WeakKeyDictionary(), with asyncio.get_running_loop() as the key "
    "(docs/explanation/life-and-death.md, Clients and the lives of a loop)"
)


# Methods that never raise when they run as callbacks of a loop.
never_raise: set[Any] = {BridgeLoop._take_posts}


class Ours:
    """The attributes that BridgeLoop adds to those of asyncio's loop.

    They stand in a separate object, as does :class:`~bridge._loop.stacks.Stacks`: CPython finds attributes faster on an
    object with fewer than 30 of them, and asyncio's loop has up to 27. With ours on the loop itself an iteration took
    1.2 times as long.

    Nor may an attribute of the loop have the name of a method, or of anything else in its class. As soon as one object
    has it, CPython finds that name more slowly on all objects of the class. From 3.13 on it is enough that a method of
    the class has a line that would set it.
    """

    __slots__ = (
        "alarm",
        "at_stop",
        "before_block",
        "bridge",
        "default_executor",
        "has_pair",
        "is_ending",
        "is_rung",
        "keeps_reactor",
        "killed_by",
        "place",
        "posts",
        "reactor",
        "streams",
    )

    def __init__(self) -> None:
        self.posts: deque[Callable[[], object]] = deque()
        self.alarm = Alarm()
        self.default_executor: Any = None  # the executor set by set_default_executor()
        self.has_pair = False  # asyncio's pair of sockets is there, beside the alarm
        self.is_ending = False
        self.killed_by: BaseException | None = None
        self.is_rung = False  # the alarm was rung, and the loop has not taken the posts yet
        self.at_stop: list[Callable[[], object]] = []
        self.before_block: Callable[[], object] | None = None
        self.bridge: object = None
        self.reactor: Any = None  # the reactor that this loop has made itself
        self.streams: Any = None  # of a loop that holds a stream's callback while a stack is blocked in it
        self.place: Any = None  # the place of that reactor, made or not yet; see _twisted.arrival
        self.keeps_reactor = False  # the loop runs, or is about to: no other loop may take that reactor


class Alarm:
    """Wakes a loop that waits for a descriptor: an eventfd where the system has it, else a pipe.

    Any thread writes eight bytes to ``write_end``, which makes the descriptor readable.

    ``rings_once``: whether the selector reports each ring once (edge-triggered), so that no read is needed. That saves
    a system call, for which the GIL would be released and taken again: two thread switches if a thread waits for it.
    """

    def __init__(self) -> None:
        self.rings_once = False
        self.is_eventfd = hasattr(os, "eventfd")
        if self.is_eventfd:
            self._read_end = self.write_end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._read_end, self.write_end = os.pipe()
            os.set_blocking(self._read_end, False)
            os.set_blocking(self.write_end, False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._read_end

    def silence(self) -> None:
        """Make the descriptor unreadable until the next ring."""
        try:
            os.read(self._read_end, 4096)
        except BlockingIOError:  # a drained alarm may be reported once more
            pass

    def close(self) -> None:
        """Close the descriptors; those of a closed alarm are closed already.

        A child that was forked while another thread closed the loop closes the alarm of that loop again.
        """
        ends = {self._read_end, self.write_end} - {-1}
        self._read_end = self.write_end = -1
        for end in ends:
            os.close(end)


def _edge_triggered(selector: Any, alarm: Alarm) -> bool:
    """Register the alarm edge-triggered. Return False where the selector is not epoll or the alarm not an eventfd.

    The eventfd is then never read and its count grows; it would be full after 2**64 rings.
    """
    epoll: Any = getattr(selector, "_selector", None)
    if not alarm.is_eventfd or not hasattr(select, "epoll") or type(epoll) is not select.epoll:
        return False
    epoll.modify(alarm.fileno(), select.EPOLLIN | select.EPOLLET)
    return True


_EAGER = sys.version_info >= (3, 12)  # tasks take eager_start; compared once, since every call asks
RING = (1).to_bytes(8, sys.byteorder)  # an eventfd takes a number of eight bytes; a pipe takes any bytes


def is_ours(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop is a BridgeLoop that runs."""
    return isinstance(loop, BridgeLoop) and loop.is_running()


def start_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any],
    context: Context,
    *,
    now: bool = True,
    holder: Any = None,
) -> asyncio.Task[Any]:
    """Start coro as a task in the context, on the loop that runs in this thread.

    If SystemExit or KeyboardInterrupt ends coro, the result is a :class:`~bridge._loop.task.Contained`.

    :param now: take the first step before this returns, where possible: on any loop from CPython 3.12 on, on a
        BridgeLoop before. A caller inside a task must pass False.
    :param holder: its attribute ``work`` is set to the task, before coro takes its first step.
    :raises BaseException: whatever a task factory of the user raised.
    """
    factory = loop.get_task_factory()
    if factory is not None:
        return factory(loop, contained(coro, primed=True, holder=holder, loop=loop), context=context)  # type: ignore[call-arg, return-value]
    kind: Any = loop.task_class if isinstance(loop, BridgeLoop) else asyncio.Task
    task: asyncio.Task[Any]
    if not (now and starts_now(loop)):
        task = kind(contained(coro, primed=True, holder=holder, loop=loop), loop=loop, context=context)
        if kind is BridgeTask and loop.get_debug():
            task.user_coro = coro  # type: ignore[attr-defined]
    elif _EAGER:
        if kind is BridgeTask:
            outer = containing(coro, False, holder, loop)
        else:
            outer = contained(coro, primed=False, holder=holder, loop=loop)
        # pyright follows comparisons of versions only, and not _EAGER.
        task = kind(outer, loop=loop, context=context, eager_start=True)  # pyright: ignore[reportCallIssue]
    else:
        task = _start_now(loop, kind, containing(coro, False, holder, loop), context)
    try:
        if kind is BridgeTask and loop._stacks.self_cancels:  # type: ignore[attr-defined]
            end_step(task)  # type: ignore[arg-type]
        return task
    finally:
        del task  # an error of the first step has this frame in its traceback; see the head of task.py


def _start_now(loop: Any, kind: Any, coro: Any, context: Context) -> asyncio.Task[Any]:
    """Create a task and run its first step, as ``eager_start`` does from 3.12 on."""
    steps: list[Callable[[], object]] = []

    def catch(step: Callable[[], object], *, context: Context) -> None:
        steps.append(step)

    # The constructor passes the first step to call_soon. No other code can call it meanwhile: other threads use
    # call_soon_threadsafe, which does not call this attribute.
    loop.call_soon = catch
    try:
        task: asyncio.Task[Any] = kind(coro, loop=loop, context=context)
    finally:
        del loop.call_soon
    context.run(steps.pop())
    return task


def starts_now(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether :func:`start_task` can take a task's first step before it returns.

    In asyncio's debug mode the loop takes it, as of any task. So the warning of a slow callback names the task.
    """
    return (_EAGER or isinstance(loop, BridgeLoop)) and not loop.get_debug()
