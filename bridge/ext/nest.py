"""Runs of asyncio inside a running loop, for programs that use ``nest_asyncio``.

::

    from bridge.ext import nest
    nest.apply()

    async def main():
        asyncio.run(other())        # also asyncio.Runner().run(other()) and loop.run_until_complete(other())

:func:`apply` replaces ``asyncio.run``, four methods of ``asyncio.Runner``, and ``run_until_complete`` of each class of
loops. In a thread that runs no loop the replacements call what they replace. Where a loop runs, the work goes

=====================================================  =================================================================
to that loop, while the calling stack is put aside     if it is one of ours
to the default bridge, while that loop stands still    if it is any other: a notebook's, uvloop's
to a loop that the caller names, and that does not     if the caller names one: ``other.run_until_complete()``, a
run; a thread runs it meanwhile                        ``loop_factory``, a Runner that has a loop
=====================================================  =================================================================

No callback of the loop that stands still runs during the call. So messages that a notebook's kernel has queued stay in
their order, and none is lost.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from importlib import import_module
from typing import Any, NamedTuple

from .. import DeadlockError, block_on, wait
from .._errors import at
from .._loop.base import start_task
from .._loop.switching import SwitchingLoop
from .._loop.task import Contained
from .._private.cpython import get_running_loop
from .._threads.imports import AfterImport
from .._threads.native import Thread, new_lock
from .._values.context import BlockedStack, caller
from .._values.deferreds import await_any
from .._values.kinds import describe, discard
from .._values.outcomes import trim
from ._standing import ADVICE, run_beside, stands_still

__all__ = ["apply", "undo"]


class _Patch(NamedTuple):
    """An attribute that was replaced."""

    owner: Any
    name: str
    ours: Callable[..., Any]
    original: Callable[..., Any]
    is_inherited: bool  # the owner had no such attribute of its own


_lock = new_lock()
_is_applied = False
_patches: list[_Patch] = []
_ours: weakref.WeakSet[Any] = weakref.WeakSet()  # every replacement that some other code may still hold
# The Runners without a loop of their own, and the context that their nested runs share.
_without_loop: weakref.WeakKeyDictionary[asyncio.Runner, Context | None] = weakref.WeakKeyDictionary()


def apply(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Let ``asyncio.run``, ``Runner.run`` and ``run_until_complete`` be called where a loop runs.

    It holds for the whole process: for every thread, and for every class of loops that is loaded, uvloop's also if that
    is imported later. A function that was imported before, as by ``from asyncio import run``, stays as it is. Calling
    this again replaces what has been loaded, or replaced by others, meanwhile. So the last of two libraries that
    replace the same functions decides, as ``nest_asyncio.apply()`` and this do.

    A nested ``asyncio.run(main())`` runs in a task of its own, in a copy of the caller's context, as outside a loop.
    It does not make a loop and close it again. So tasks that main leaves behind go on, and ``debug`` has no effect.

    :param loop: is there since ``nest_asyncio.apply()`` takes a loop; every class of loops is included anyway.
    :raises TypeError: loop is no asyncio loop.
    :raises DeadlockError: by a nested call: it was to wait for a Future of a loop that stands still meanwhile.
    :raises StrategyUnavailable: by a nested call: it was made on the loop of the default bridge, and that loop cannot
        switch stacks.
    """
    global _is_applied
    if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f"nest.apply() takes an asyncio loop, or nothing, not {loop!r}" + at("wrong-value"))
    # wait() would import it when a nested run has begun. A Ctrl-C in an import leaves a file open, and Python warns.
    import_module("bridge._calls.completed")
    with _lock:
        _is_applied = True
        for module in (asyncio, asyncio.runners):
            _replace(module, "run", _nested_run)
        for name, make in _OF_RUNNERS.items():
            _replace(asyncio.Runner, name, make)
        _replace_in_loops()
        if "uvloop" not in sys.modules:
            _of_uvloop.watch()


def undo() -> None:
    """Put back what :func:`apply` has replaced, however often it was called.

    Nested runs that have begun go on. What another library has replaced since then stays as that library wants it.
    """
    global _is_applied
    with _lock:
        _is_applied = False
        _of_uvloop.stop()
        while _patches:
            patch = _patches.pop()
            if vars(patch.owner).get(patch.name) is not patch.ours:
                continue  # somebody has replaced ours, which now calls the original
            if patch.is_inherited:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.original)


# What is replaced.


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    if original in _ours:
        return
    method = _as_method(original)
    made = make(method)

    @functools.wraps(method)
    def ours(*args: Any, **options: Any) -> Any:
        try:
            return made(*args, **options)
        except BaseException as error:
            trim(error)
            raise

    patch = _Patch(owner, name, ours, original, name not in vars(owner))
    with contextlib.suppress(TypeError):  # a class that is written in C
        setattr(owner, name, ours)
        _ours.add(ours)
        _patches.append(patch)


def _as_method(original: Any) -> Any:
    """Return a function for an attribute of a class. Of a loop of ours ``run_until_complete`` is a property."""
    if not isinstance(original, property):
        return original
    getter: Any = original.fget

    @functools.wraps(getter)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return getter(self)(*args, **options)

    return method


def _replace_in_loops() -> None:
    for cls in _loop_classes(asyncio.AbstractEventLoop):
        if cls.run_until_complete is not asyncio.AbstractEventLoop.run_until_complete:
            _replace(cls, "run_until_complete", _nested_run_until_complete)


def _loop_classes(base: Any) -> Iterator[Any]:
    for cls in base.__subclasses__():
        yield cls
        yield from _loop_classes(cls)


def _replace_in_uvloop() -> None:
    with _lock:
        if _is_applied:
            _replace_in_loops()


_of_uvloop = AfterImport("uvloop", _replace_in_uvloop)


def _running() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, in which a run is nested; None if there is none, or after undo()."""
    return get_running_loop() if _is_applied else None


def _nested_run(original: Any) -> Any:
    signature = inspect.signature(original)  # here, as it takes a third of a nested run

    def run(main: Any, **options: Any) -> Any:
        running = _running()
        if running is None:
            return original(main, **options)
        try:
            signature.bind(main, **options)
        except BaseException:
            discard(main)
            raise
        if options.get("loop_factory") is None:
            return _complete(running, _coroutine(main), copy_context())
        with asyncio.Runner(**options) as runner:
            return runner.run(main)

    return run


def _nested_init(original: Any) -> Any:
    def init(self: asyncio.Runner, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if _is_applied and options.get("loop_factory") is None:
            _without_loop[self] = None

    return init


def _nested_enter(original: Any) -> Any:
    def enter(self: asyncio.Runner) -> Any:
        if self in _without_loop and _running() is not None:
            return self
        _without_loop.pop(self, None)
        return original(self)

    return enter


def _nested_get_loop(original: Any) -> Any:
    def get_loop(self: asyncio.Runner) -> Any:
        _without_loop.pop(self, None)  # what the caller makes on the loop has to be run by that loop
        return original(self)

    return get_loop


def _nested_runner_run(original: Any) -> Any:
    def run(self: asyncio.Runner, coro: Any, *, context: Context | None = None) -> Any:
        running = _running()
        if running is None:
            _without_loop.pop(self, None)
            return original(self, coro, context=context)
        coro = _coroutine(coro)
        tracked: Any = None
        try:
            if self in _without_loop:
                if context is None:
                    context = _without_loop[self]
                if context is None:
                    context = _without_loop[self] = copy_context()
                return _complete(running, coro, context)
            loop = self.get_loop()
            if loop is running:
                return _complete(running, coro, copy_context() if context is None else context)
            if loop.is_running():
                return original(self, coro, context=context)  # in another thread: that raises RuntimeError
            elsewhere = _Elsewhere(loop)
            tracked = elsewhere.tracked(coro)
            return elsewhere.run(functools.partial(original, self, tracked, context=context))
        finally:
            for each in (tracked, coro):
                discard(each)  # if it has not begun

    return run


_OF_RUNNERS = {
    "__init__": _nested_init,
    "__enter__": _nested_enter,
    "get_loop": _nested_get_loop,
    "run": _nested_runner_run,
}


def _nested_run_until_complete(original: Any) -> Any:
    def run_until_complete(self: asyncio.AbstractEventLoop, future: Any) -> Any:
        running = _running()
        is_here = self is running or (running is not None and stands_still(self))
        if running is None or (not is_here and (self.is_running() or self.is_closed())):
            return original(self, future)
        if not is_here:
            task = asyncio.ensure_future(future, loop=self)
            try:
                return _Elsewhere(self, task).run(functools.partial(original, self, task))
            except BaseException:
                if task is not future and task.done() and not task.cancelled():
                    task.exception()  # it is raised here, so asyncio need not report it
                raise
        if not asyncio.isfuture(future):
            return _complete(running, _coroutine(future, of_asyncio=False), copy_context())
        if future.get_loop() is not self:
            raise ValueError("The future belongs to a different loop than the one specified as the loop argument")
        if isinstance(self, SwitchingLoop) and self is running:
            return block_on(future)
        return future.result() if future.done() else _moved(self, future)

    return run_until_complete


def _coroutine(x: Any, of_asyncio: bool = True) -> Coroutine[Any, Any, Any]:
    """Return a coroutine for what a run is given. For anything else raise what asyncio raises.

    :param of_asyncio: for ``asyncio.run`` and ``Runner.run``, which take only coroutines before CPython 3.14.
    """
    if asyncio.iscoroutine(x):
        return x
    if inspect.isawaitable(x) and not (of_asyncio and sys.version_info < (3, 14)):
        return await_any(x)
    if of_asyncio and sys.version_info < (3, 14):
        raise ValueError(f"a coroutine was expected, got {x!r}")
    raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")


# Where the work runs.


def _complete(running: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Context) -> Any:
    """Run a coroutine in a task of its own, in the context, and return its result."""
    if isinstance(running, SwitchingLoop):
        return _on_loop(running, coro, context)
    return run_beside(coro, context, running)


def _on_loop(loop: SwitchingLoop, coro: Coroutine[Any, Any, Any], context: Context) -> Any:
    stack = BlockedStack()  # in which in_caller() calls its function
    token: Any = None
    try:
        loop.check_wait()
        token = context.run(caller.set, stack)
        task = start_task(loop, coro, context, now=False)
    except BaseException:
        discard(coro)
        raise
    try:
        result = block_on(task)
    except BaseException:
        task.cancel()
        raise
    finally:
        stack.is_open = False
        with contextlib.suppress(RuntimeError):  # the work is still blocked in that context, as the loop was stopped
            context.run(caller.reset, token)
        del task  # an error's traceback has this frame
    if type(result) is Contained:
        raise result.error
    return result


def _moved(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> Any:
    """Complete a Future of the loop that runs in this thread, and that cannot go on meanwhile.

    That is possible for a task that has not taken its first step: its coroutine runs on the default bridge. Many
    libraries make such a task and pass it to ``run_until_complete`` at once.

    :raises DeadlockError: it is anything else.
    """
    coro: Any = future.get_coro() if isinstance(future, asyncio.Task) and loop is get_running_loop() else None
    if not inspect.iscoroutine(coro) or inspect.getcoroutinestate(coro) != inspect.CORO_CREATED:
        raise DeadlockError(
            f"run_until_complete({describe(future)}) would never end: it belongs to {loop!r}, which stands still while "
            f"its thread waits. {ADVICE}: async def main(): await asyncio.gather(...)" + at("nested-run")
        )
    task: Any = future
    # A task refuses to be given a result. Its base class, which is Future in C or in Python, does not.
    base: Any = next(cls for cls in reversed(type(task).__mro__) if "set_result" in vars(cls))
    context = task.get_context() if sys.version_info >= (3, 12) else copy_context()
    _keep_from_report(loop, task)
    try:
        if task.cancelling():
            coro.close()
            raise asyncio.CancelledError
        value = _complete(loop, coro, context)
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        base.cancel(task)
        raise
    except BaseException as error:
        base.set_exception(task, error)
        task.exception()  # it is raised here, so asyncio need not report it
        raise
    base.set_result(task, value)
    return value


class _Reports:
    """The exception handler of a loop while tasks that are done already wait in the loop's queue for their first step.

    asyncio would report that step as an error.
    """

    def __init__(self, before: Any) -> None:
        self._before = before
        self._tasks: list[asyncio.Task[Any]] = []

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report an error, unless it is such a step."""
        error = context.get("exception")
        if isinstance(error, asyncio.InvalidStateError) and "step(): already done" in str(error):
            return
        if self._before is None:
            loop.default_exception_handler(context)
        else:
            self._before(loop, context)

    def add(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        """Do not report the first step of a task, which is in the loop's queue."""
        self._tasks.append(task)
        loop.call_soon(self._has_stepped, loop, task)  # stands in the queue behind the step

    def _has_stepped(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._tasks.remove(task)
        if not self._tasks and loop.get_exception_handler() is self:
            loop.set_exception_handler(self._before)


def _keep_from_report(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    reports: Any = loop.get_exception_handler()
    if not isinstance(reports, _Reports):
        reports = _Reports(reports)
        loop.set_exception_handler(reports)
    reports.add(loop, task)


class _Elsewhere:
    """A run of a loop of the caller's, which does not run, in a thread of its own.

    :param task: what the loop is run for, if that exists already.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Future[Any] | None = None) -> None:
        self._loop = loop
        self._task: Any = task
        self._is_cancelled = False
        self._to_begin = [True]  # whoever pops the item decides: the thread begins, or the caller has given up before

    async def tracked(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Await what the loop is run for."""
        self._task = asyncio.current_task()
        if self._is_cancelled:
            self._task.cancel()
        return await coro

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function that runs the loop, and return its result."""
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        context = copy_context()

        def work() -> None:
            if not self._may_begin():
                return
            try:
                result = context.run(function)
            except BaseException as error:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        try:
            # Ctrl-C may come in start(), which waits for the thread.
            Thread(target=work, name="bridge-nest", daemon=True).start()
            wait([outcome])
        except BaseException:  # Ctrl-C, or a cancellation of the task that waits
            if not self._may_begin():
                self._end(outcome)
            raise
        return outcome.result()

    def _may_begin(self) -> bool:
        try:
            return self._to_begin.pop()
        except IndexError:
            return False

    def _end(self, outcome: concurrent.futures.Future[Any]) -> None:
        """Cancel the run, and wait for its cleanup. A second Ctrl-C ends this wait; a cancellation is passed on."""
        while not outcome.done():
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._cancel)
            with contextlib.suppress(asyncio.CancelledError):
                wait([outcome])

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
