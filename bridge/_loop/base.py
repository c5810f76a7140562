"""BridgeLoop: the selector loop that a bridge runs, and how a task on it takes its first step at once.

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
from types import CoroutineType
from typing import Any

from .._errors import BridgeClosed
from .._threads import native
from . import worker_threads
from .task import NO_CANCELS, BridgeTask, EagerTask, _driver, _steps, contained, drive
from .workers import has_real_threads, load_executors, pool_for, prepare, shut_down_executor


class BridgeLoop(asyncio.SelectorEventLoop):
    """A selector event loop whose tasks await Deferreds, whatever task factory its user sets."""

    is_ending = False
    is_shut = False  # what is_closed() returns, without a call
    killed_by: BaseException | None = None  # what was raised in code of ours that raises nothing itself
    _first_step: Callable[[], object] | None = None

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        load_executors()
        selector = selector or native.original("selectors", "DefaultSelector")()
        super().__init__(selector)
        self._ours = ours = Ours()
        self.add_reader(ours.alarm.fileno(), self._take_posts)
        ours.alarm.rings_once = _edge_triggered(selector, ours.alarm)

    @property
    def at_stop(self) -> list[Callable[[], object]]:
        """What is called when the loop stops running, and then forgotten."""
        return self._ours.at_stop

    @property
    def before_block(self) -> Callable[[], object] | None:
        """What is called as a stack is about to block, where stacks can."""
        return self._ours.before_block

    @before_block.setter
    def before_block(self, function: Callable[[], object] | None) -> None:
        self._ours.before_block = function

    @property
    def bridge(self) -> object:
        """The bridge that was attached for the sake of this loop's worker threads."""
        return self._ours.bridge

    @bridge.setter
    def bridge(self, bridge: object) -> None:
        self._ours.bridge = bridge

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self.ring_again()
        if not has_real_threads(self) and not self.is_running():
            self.create_task(prepare(self))
            self.run_first()
        try:
            super().run_forever()
        finally:
            # Another thread may run the loop again before this is done, and what is added then is for that run.
            at_stop, self._ours.at_stop = self._ours.at_stop, []
            while at_stop:
                at_stop.pop()()

    def run_first(self) -> None:
        """Put what was scheduled last before anything else in the loop, where that is not closed to us."""
        ready: Any = getattr(self, "_ready", None)
        if ready is not None:
            ready.rotate(1)

    def post(self, callback: Callable[[], object]) -> None:
        """Call a function on the loop's thread, soon. Any thread may post.

        It is ``call_soon_threadsafe`` without a Handle and a context of its own, and wakes a sleeping loop once however
        many posts there are. The callback runs in the loop's context and must not raise.

        :raises RuntimeError: the loop is closed.
        """
        ours = self._ours
        ours.posts.append(callback)
        if not ours.is_rung:
            # No Python code may come between these two lines: a signal handler would run there, and if it blocked or
            # raised, everybody would take the alarm for rung.
            ours.is_rung = True
            try:
                os.write(ours.alarm.write_end, _ONE)
            except BlockingIOError:  # it rings already, thousands of times over
                pass
            except OSError:
                raise RuntimeError("Event loop is closed") from None

    def ring_again(self) -> None:
        """Ring for the posts that wait: what an exception has kept from hearing the alarm, hears it now."""
        ours = self._ours
        if ours.is_rung and ours.alarm.rings_once:
            ours.is_rung = False
            self.post(_nothing)

    def _take_posts(self) -> None:
        ours = self._ours
        if not ours.alarm.rings_once:
            ours.alarm.silence()
        # Before the first post is taken: one that comes from now on rings again, for nothing at the worst.
        ours.is_rung = False
        posts = ours.posts
        # Not those that come meanwhile: what a callback has made ready goes before what its caller posts next.
        for _ in range(len(posts)):
            if not posts:  # a stack that was blocked in one of them has left the others to the loop
                break
            posts.popleft()()

    def close(self) -> None:
        """Close the loop and its alarm."""
        if not self.is_closed() and not self.is_running():
            alarm = self._ours.alarm
            self.remove_reader(alarm.fileno())
            alarm.close()
        super().close()
        self.is_shut = self.is_closed()
        if self.is_shut:
            self._ours.default_executor = None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error; if it arose in a callback of ours, stop the loop.

        These raise nothing: it was raised in this thread from outside (PyThreadState_SetAsyncExc), and has ended a
        callback that somebody waits for. Who it was cannot be told, so that all are told.
        """
        if self.is_ending and isinstance(context.get("exception"), BridgeClosed):
            return  # of a call that the end has failed, in a worker that a task waits for; it is no news
        super().call_exception_handler(context)
        callback = getattr(context.get("handle"), "_callback", None)
        error = context.get("exception")
        if error is not None and getattr(callback, "__func__", None) in never_raise:
            self.killed_by = error
            self.stop()

    def abandon_alarm(self) -> None:
        """Drop what was posted and close the alarm, in a forked child."""
        self.is_shut = True
        self._ours.posts = deque()
        self._ours.alarm.close()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Schedule a coroutine and return its task.

        A task factory that was set by :meth:`set_task_factory` gets a coroutine of ours with the given one inside.

        :param options: ``name`` and ``context``, and what this Python's tasks take besides.
        """
        if self.is_shut:
            raise RuntimeError("Event loop is closed")
        if coro.__class__ is not CoroutineType and not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        # What drive() does, without the call and the look-up, which were three hundredths of a task's time.
        ours = self._ours
        driver = _driver(_steps(coro, self, False, ours.self_cancels))
        driver.send(None)
        if ours.has_factory:
            return super().create_task(_named(driver, coro), **options)
        # Without the mapping that comes to nothing, which would take a tenth of the time.
        if not options:
            task = BridgeTask(driver, loop=self)
        else:
            kind = EagerTask if options.get("eager_start") else BridgeTask
            task = kind(driver, loop=self, **options)
        task.user_coro = coro
        return task

    def set_task_factory(self, factory: Any) -> None:
        """Set what makes the tasks of :meth:`create_task`; None for the tasks of the loop's own."""
        super().set_task_factory(factory)
        self._ours.has_factory = factory is not None

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run func in the executor; a worker thread knows this loop as the one that it came from."""
        if native.is_patched():
            default = self._ours.default_executor
            pool = pool_for(executor, default)
            if executor is default is None:
                self.set_default_executor(pool)
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            if self.get_debug() and inspect.iscoroutinefunction(func):
                raise TypeError("coroutines cannot be used with run_in_executor()")  # which the base class cannot see
            job = worker_threads.Job(self)
            job.future = super().run_in_executor(executor, worker_threads.call_for, job, func, *args)
            return job.future
        return super().run_in_executor(executor, func, *args)

    def set_default_executor(self, executor: Any) -> None:
        """Set the executor of :meth:`run_in_executor`."""
        super().set_default_executor(executor)
        self._ours.default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Shut the default executor down and wait for its threads, so many seconds at the most; None waits for ever."""
        executor = self._ours.default_executor
        if native.is_patched() and executor is not None:  # the base class would wait in a thread of its own
            self._executor_shutdown_called = True
            await shut_down_executor(executor, math.inf if timeout is None else self.time() + timeout)
        elif sys.version_info >= (3, 12):
            await super().shutdown_default_executor(timeout)
        else:
            await super().shutdown_default_executor()

    if sys.version_info < (3, 12):

        def start_task_now(self, coro: Any, context: Context) -> BridgeTask:
            """Create a task whose first step runs before this returns, as an eager task's does from 3.12 on."""
            # The constructor hands its first step to call_soon. Nobody else can call it meanwhile: other threads
            # use call_soon_threadsafe, which does not come by here.
            self.call_soon = self._catch_first_step  # type: ignore[assignment, method-assign]
            try:
                task = BridgeTask(coro, loop=self, context=context)
            finally:
                del self.call_soon
            step, self._first_step = self._first_step, None
            assert step is not None
            context.run(step)
            return task

        def _catch_first_step(self, step: Callable[[], object], *, context: Context) -> None:
            self._first_step = step


def _nothing() -> None:
    pass


# Methods that as callbacks of a loop raise nothing.
never_raise: set[Any] = {BridgeLoop._take_posts}


class Ours:
    """What a loop of ours keeps beside asyncio's own attributes.

    It stands in an object of its own, as do :class:`~bridge._loop.streams.Streams` and
    :class:`~bridge._loop.stacks.Stacks`: CPython 3.11 to 3.13 finds the attributes of an object faster while there
    are 30 of them at the most, and asyncio's loop has 26. With ours among them every iteration took 1.2 times as long.
    """

    __slots__ = (
        "alarm",
        "at_stop",
        "before_block",
        "bridge",
        "default_executor",
        "has_factory",
        "is_rung",
        "place",
        "posts",
        "reactor",
        "self_cancels",
    )

    def __init__(self) -> None:
        self.posts: deque[Callable[[], object]] = deque()
        self.alarm = Alarm()
        self.has_factory = False  # a task factory was set
        self.default_executor: Any = None  # that was set
        self.is_rung = False  # the alarm has been rung and not been heard
        self.at_stop: list[Callable[[], object]] = []
        self.before_block: Callable[[], object] | None = None
        self.bridge: object = None
        self.reactor: Any = None  # of a loop that has made one itself
        self.place: Any = None  # where that stands, or will; see _twisted.arrival
        # What tasks have cancelled themselves, with the message; see BridgeTask.cancel.
        self.self_cancels: dict[Any, Any] = NO_CANCELS


class Alarm:
    """Wakes a loop that waits for a descriptor: an eventfd where the system has it, else a pipe.

    Eight bytes written to ``write_end``, by any thread, make the descriptor readable.

    ``rings_once``: whether the loop is told of each ring once, so that there is nothing to silence. It saves a call of
    the system, and with it the giving up and taking back of the GIL, which a waiting thread makes two switches of.
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
        """Make the descriptor unreadable until it is rung again."""
        try:
            os.read(self._read_end, 4096)
        except BlockingIOError:  # a drained alarm may still be reported once
            pass

    def close(self) -> None:
        """Close the descriptors."""
        ends = {self._read_end, self.write_end}
        self._read_end = self.write_end = -1
        for end in ends:
            os.close(end)


def _edge_triggered(selector: Any, alarm: Alarm) -> bool:
    """Have epoll report each ring of the alarm once, if that can be done.

    An eventfd that is never read goes on counting; it would be full after 2**64 rings.
    """
    epoll: Any = getattr(selector, "_selector", None)
    if not alarm.is_eventfd or not hasattr(select, "epoll") or type(epoll) is not select.epoll:
        return False
    epoll.modify(alarm.fileno(), select.EPOLLIN | select.EPOLLET)
    return True


_ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; to a pipe it is eight bytes like any other


def is_ours(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether that is a loop of ours that runs."""
    return isinstance(loop, BridgeLoop) and loop.is_running()


def start_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Context, *, now: bool = True
) -> asyncio.Task[Any]:
    """Start coro as a task in the context, on the loop that runs in this thread.

    A SystemExit or KeyboardInterrupt that ends it is its result, as :class:`~bridge._loop.task.Contained`.

    :param now: take the first step before this returns, wherever that can be done: from CPython 3.12 on, and on a loop
        of ours before. Not for a caller that stands in a task.
    :raises BaseException: what a task factory of the user raised.
    """
    driver = contained(coro, loop)
    factory = loop.get_task_factory()
    if factory is not None and factory is not deferring_factory:
        return factory(loop, _named(driver, coro), context=context)  # type: ignore[call-arg, return-value]
    if not now:
        task = BridgeTask(driver, loop=loop, context=context)
    elif sys.version_info >= (3, 12):
        task = BridgeTask(driver, loop=loop, context=context, eager_start=True)
    elif isinstance(loop, BridgeLoop):
        task = loop.start_task_now(driver, context)
    else:
        task = BridgeTask(driver, loop=loop, context=context)
    task.user_coro = coro
    try:
        return task
    finally:
        # An error of the first step has a traceback whose frames stand on this one: with the task in it, the task,
        # its error and this frame would be a reference cycle.
        del task


def deferring_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Task factory for a loop that is not a BridgeLoop, such as uvloop's: its tasks await Deferreds too.

    A task factory that the user sets replaces this one.
    """
    task = BridgeTask(drive(coro, loop), loop=loop, **options)
    task.user_coro = coro
    return task


def _named(driver: Any, coro: Any) -> Any:
    """Give the driver its coroutine's name, for tasks that show what they are given."""
    driver.__name__ = getattr(coro, "__name__", driver.__name__)
    driver.__qualname__ = getattr(coro, "__qualname__", driver.__qualname__)
    return driver
