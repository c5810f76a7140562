"""asgiref's thread-sensitive work runs in the thread that waits for our call, and its Locals move to that thread.

Async code calls code that belongs to one thread, such as Django's ORM with its connections, by asgiref's
``sync_to_async``. asgiref finds the thread by ``AsyncToSync.executors.current``: ``async_to_sync`` leaves an executor
there that runs work in the thread that it blocks. A call of ours leaves such an executor too while it waits, for the
tasks of its work only. When its caller has left, thread-sensitive work goes to an outer call that still waits (ours, or
an ``async_to_sync``). If there is none, the executor is false, and asgiref searches on as it does without us.

A caller whose thread runs a loop is skipped: thread-sensitive code refuses to run there.

asgiref's ``Local`` objects are context variables whose values belong to one thread. asgiref moves the values with the
work to another thread. So do we, in both directions, or Django would forget the active language in each call.

This module never imports asgiref: :func:`call_type` is for processes that have imported it. It relies on these names of
asgiref (tests/real/test_asgiref.py::test_names):

=================================================================  ===================
name                                                               asgiref
=================================================================  ===================
``sync.AsyncToSync.executors``, a Local with ``current``           3.7 to 3.13
``sync.SyncToAsync.single_thread_executor``                        3.3 to 3.13
``Local._storage``, ``_CVar._data`` (of ``executors``)             3.8 to 3.13
``current_thread_executor.CurrentThreadExecutor._broken``          3.0 to 3.13
``..._old_executor``, ``_work_ready``, ``_work_items`` (looked up
in ours, too, by ``CurrentThreadExecutor.submit``)                 3.9 to 3.13
``..._WorkItem.run``                                               3.0 to 3.13
``local._Storage``, ``_rehome``                                    3.12 to 3.13
=================================================================  ===================
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import Any

from .._private.cpython import get_running_loop
from .call import BlockedCall
from .errands import Errand, call_here, is_here, is_open, post

_MODULE = "asgiref.sync"
_MISSING = object()

Change = tuple[ContextVar[Any], Any]


def call_type(running: object) -> type[BlockedCall]:
    """Return the class of a call in a process that has asgiref.

    :param running: the loop that runs in the caller's thread, if one does.
    """
    if _executors() is None:
        return BlockedCall
    return AsgirefCall if running is None else AsgirefCallInLoop


def _executors() -> Any:
    """Return asgiref's Local of the executors; None where it is not loaded, or while another thread imports it."""
    return getattr(getattr(sys.modules.get(_MODULE), "AsyncToSync", None), "executors", None)


class AsgirefCall(BlockedCall):
    """A call whose thread runs asgiref's thread-sensitive work while it waits."""

    __slots__ = ("executor",)
    serves = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.executor: CallerExecutor | None = CallerExecutor(self, self.serves, _current_executor())

    def start(self) -> None:
        """Begin the work in a context where asgiref finds the caller's thread, and the values of its Locals there."""
        if self.context is not None and is_open(self):
            self.context.run(enter, self.executor)
            if self.began_with is not None:
                self.began_with = self.context.copy()
        super().start()

    def let_go(self) -> None:
        """Clear the call's references, and the executor, as its caller leaves."""
        super().let_go()
        self.executor = None

    def take_variables(self, before: Context, after: Context) -> None:
        """Set in the caller's thread what the work has set in its context, but not the executor."""
        take_variables(before, after)


class AsgirefCallInLoop(AsgirefCall):
    """A call in a thread that runs a loop, where asgiref's work does not run."""

    __slots__ = ()
    serves = False


# Values.


def enter(executor: object) -> None:
    """Make asgiref find this executor, and move its Locals to this thread. Called in the thread of the work."""
    executors = _executors()
    if executors is None:
        return
    come_along()
    variable = _variable_of(executors)
    if variable is not None and isinstance(variable.get(None), dict):
        variable.set({})  # up to 3.8 asgiref changes the dict in place, and this one is the caller's
    executors.current = executor


def come_along() -> None:
    """Move the values of asgiref's Locals in the current context to this thread."""
    storage, rehome = _storage()
    if storage is None:
        return
    for variable, value in copy_context().items():
        if type(value) is storage:
            variable.set(rehome(value))


def take_variables(before: Context, after: Context) -> None:
    """Set in this thread what was set in a copy of its context, as ``_values.context.take_variables`` does."""
    for variable, value in for_here(changes(before, after)):
        variable.set(value)


def for_here(changed: list[Change]) -> list[Change]:
    """Return another thread's changes for this thread: the values of Locals moved here, asgiref's executor left out."""
    if _MODULE not in sys.modules:
        return changed
    storage, rehome = _storage()
    executors = _executors()
    kept = None if executors is None else _variable_of(executors)
    return [
        (variable, rehome(value) if type(value) is storage else value)
        for variable, value in changed
        if variable is not kept
    ]


def changes(before: Context, after: Context) -> list[Change]:
    """Return the variables that have changed, with their new values. A value that asgiref only moved is no change."""
    storage, _ = _storage()
    found: list[Change] = []
    for variable, value in after.items():
        old = before.get(variable, _MISSING)
        if old is value or (type(old) is type(value) is storage and old.data is value.data):
            continue
        found.append((variable, value))
    return found


def _storage() -> tuple[Any, Any]:
    """Return the class of the values of asgiref's Locals, and the function that moves one here; Nones up to 3.11."""
    local: Any = sys.modules.get("asgiref.local")
    storage, rehome = getattr(local, "_Storage", None), getattr(local, "_rehome", None)
    return (None, None) if rehome is None else (storage, rehome)


def _current_executor() -> Any:
    """Return the executor of the work that this thread is doing; None if there is none."""
    current = getattr(_executors(), "current", None)
    # In a worker thread that asgiref does not know, its Local is empty.
    return getattr(call_here(), "executor", None) if current is None else current


def _variable_of(executors: Any) -> ContextVar[Any] | None:
    variable: ContextVar[Any] | None = getattr(getattr(executors, "_storage", None), "_data", None)
    return variable


# The executor.


class CallerExecutor(concurrent.futures.Executor):
    """Runs work in the thread that waits for a call. asgiref finds it in ``AsyncToSync.executors.current``."""

    def __init__(self, call: BlockedCall, serves: bool, outer: Any) -> None:
        self.call = call
        self._serves = serves
        self._old_executor = _alive(outer)  # asgiref's executors follow this name too; it may be one of them

    @property
    def _broken(self) -> bool:
        """Whether the executor runs no more work."""
        return not self._serves or not is_open(self.call)

    def __bool__(self) -> bool:
        return _alive_elsewhere(self) is not None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Run a function in the thread that waits. If none waits any more, run it where asgiref would."""
        work = _Work(functools.partial(fn, *args, **kwargs))
        self.dispatch(work)
        return work.future

    def follow(self, other: CallerExecutor) -> None:
        """Serve the call of another executor from now on."""
        self._old_executor = other._old_executor
        self._serves = other._serves
        self.call = other.call

    def dispatch(self, work: Any) -> None:
        """Run a work item, ours or asgiref's, in the thread that waits. If none waits, run it where asgiref would."""
        executor = _alive_elsewhere(self)
        while isinstance(executor, CallerExecutor):
            if post(_AsgirefErrand(executor, work)):
                return
            executor = _alive_elsewhere(executor._old_executor)
        if executor is not None:
            try:
                executor.submit(work.run)
                return
            except RuntimeError:  # the executor has quit meanwhile
                pass
        single: Any = sys.modules[_MODULE].SyncToAsync.single_thread_executor
        single.submit(work.run)

    # CurrentThreadExecutor.submit() puts an item into the queue of an outer executor of its own kind, by these names.

    @property
    def _work_ready(self) -> _WorkReady:
        return _WorkReady()

    @property
    def _work_items(self) -> CallerExecutor:
        return self

    def append(self, item: Any) -> None:
        """Run a work item of asgiref's."""
        self.dispatch(item)


def followed(executor: CallerExecutor | None, call: Any) -> CallerExecutor | None:
    """Return the executor of a task that serves calls one after the other: this one, or a new one for the first call.

    :param call: the call that the task serves now; None if there is none.
    """
    other: CallerExecutor | None = getattr(call, "executor", None)
    if other is None:
        return executor
    if executor is None:
        executor = CallerExecutor(other.call, False, None)
    executor.follow(other)
    return executor


class _WorkReady(AbstractContextManager[None]):
    """Stands in for the condition of asgiref's executor. Ours needs none."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def notify(self) -> None:
        """Do nothing."""


def _alive(executor: Any) -> Any:
    """Return this executor, or the nearest outer one, that still runs work; None if there is none."""
    while executor is not None and getattr(executor, "_broken", False):
        executor = getattr(executor, "_old_executor", None)
    return executor


def _alive_elsewhere(executor: Any) -> Any:
    """Return the same, but skip executors of this very thread, in which an errand runs a loop of its own.

    A thread that waits by running the call's own loop runs the errands between two runs of that.
    """
    executor = _alive(executor)
    while isinstance(executor, CallerExecutor) and is_here(executor.call) and not _is_driven(executor.call):
        executor = _alive(executor._old_executor)
    return executor


def _is_driven(call: BlockedCall) -> bool:
    """Return whether the loop of a call runs in this thread, which is the one that waits for the call."""
    return get_running_loop() is call.run.loop


class _Work:
    """A function and the Future of its outcome, with the interface of asgiref's work items."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run(self) -> None:
        future = self.future
        if not future.set_running_or_notify_cancel():
            return
        try:
            value = self.function()
        except (Exception, asyncio.CancelledError) as error:
            future.set_exception(error)
        else:
            future.set_result(value)
        finally:
            # An error's traceback holds this frame; see the head of _loop/task.py.
            del self, future


class _AsgirefErrand(Errand):
    __slots__ = ("_executor", "_work")

    def __init__(self, executor: CallerExecutor, work: Any) -> None:
        super().__init__(executor.call)
        self._executor = executor
        self._work = work

    def run(self) -> None:
        try:
            self._work.run()
        finally:
            self.drop()

    def drop(self) -> None:
        # The waiting thread's own exception (Ctrl-C, SystemExit) cancels the work. In a task it would end the loop.
        future = self._work.future
        if not future.done():
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                future.set_exception(asyncio.CancelledError())
        self.has_ended = True

    def refuse(self) -> None:
        self._executor.dispatch(self._work)
        self.has_ended = True
