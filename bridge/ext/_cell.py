"""Cell: what a rewritten cell calls. It waits on the default bridge, in the shell's thread.

``PyThreadState_SetAsyncExc`` is a function of Python's C interface, in CPython 2.3 to 3.15
(test_cells.py::test_what_computes_on_the_loop_is_stopped).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import inspect
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, MutableMapping
from types import CodeType, FunctionType, TracebackType
from typing import Any, TypeVar

from .._api.default import default_bridge
from .._loop.conversion import as_future
from .._private.cpython import get_running_loop
from .._runs.runs import bridge_of_loop
from .._threads.native import current_frames
from .._values.deferreds import is_deferred_type
from .._values.outcomes import set_traceback, trim
from ._cells import ON_THE_LOOP

T = TypeVar("T")


class Cell:
    """The functions that stand in a rewritten cell; see :mod:`bridge.ext._cells`.

    :param namespace: returns the user's.
    :param blocks: tells whether a shown result is blocked on.
    """

    def __init__(self, namespace: Callable[[], MutableMapping[str, Any]], blocks: Callable[[], bool]) -> None:
        self._namespace = namespace
        self._blocks = blocks
        # Those that run in the threads of the shell: a kernel has one, and more with subshells.
        self._shell_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def begins(self) -> None:
        """Note which loop runs in the thread that a cell is about to run in."""
        loop = get_running_loop()
        if loop is not None:
            self._shell_loops.add(loop)

    def wait(self, evaluate: Callable[[], Any]) -> Any:
        """Await, in a task on the loop, what the function returns there."""
        try:
            seen = self._with_locals(evaluate)
            result = wait_for_cell(lambda: _evaluated(seen), evaluate.__code__.co_filename)
            if type(result) is _Elsewhere:
                result = default_bridge().block_on(result.future)
        except BaseException as error:
            trim(error)
            # The line stands in the traceback already, by the frame that calls us.
            set_traceback(error, _without(error.__traceback__, evaluate.__code__, sys._getframe(1).f_lineno))
            raise
        return result

    def run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a part of a cell in a task on the loop."""
        try:
            seen = self._with_locals(function)
            names = seen.__globals__
            before = names if seen is function else names.copy()
            try:
                wait_for_cell(seen, function.__code__.co_filename)
            finally:
                if seen is not function:
                    bound = [name for name in names if name not in before or names[name] is not before[name]]
                    self._namespace().update({name: names[name] for name in bound})
        except BaseException as error:
            trim(error)
            raise

    def _with_locals(self, function: Any) -> Any:
        """Return a function of ours that sees the variables of who called ``IPython.embed()``.

        Code in a function sees its globals only. IPython's own globals see to that in its newer versions.
        """
        names, globals_ = self._namespace(), function.__globals__
        if names is globals_ or type(globals_) is not dict:
            return function
        return FunctionType(function.__code__, {**globals_, **names}, function.__name__)

    def collect(self, kind: str, items: AsyncIterator[Any]) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that makes a list, set or dict of the items."""
        return _COLLECTORS[kind](items)

    def bind(self, name: str, value: Any) -> Any:
        """Bind a name of the user's, as a walrus does."""
        self._namespace()[name] = value
        return value

    def show(self, value: Any, fresh: bool) -> Any:
        """Wait for a value that is to be shown, if it is one to be waited for.

        :param fresh: it comes straight from a call, so Ctrl-C cancels it; else it is somebody's, who may wait for it
            again.
        """
        if not self._blocks() or not is_blocked_on(value) or self._is_of_the_shell(value):
            return value
        try:
            keep = not fresh and not inspect.iscoroutine(value) and not self._runs_elsewhere(value)
            return default_bridge().block_on(_shielded(value) if keep else value)
        except BaseException as error:
            trim(error)
            raise

    def _is_of_the_shell(self, value: Any) -> bool:
        """Return whether it is a Future of the loop that stands still while this cell runs."""
        return asyncio.isfuture(value) and not value.done() and value.get_loop() is get_running_loop()

    def _runs_elsewhere(self, value: Any) -> bool:
        return asyncio.isfuture(value) and bridge_of_loop(value.get_loop()) is not default_bridge()

    def caller(self, function: Any) -> Any:
        """Return what calls the function on our loop, if it is one of asyncio's that make something on a running loop.

        The loop that runs in the shell's thread, as in a kernel, stands still during the cell, and its tasks await no
        Deferreds. On a loop that the user runs, the function is what it is.
        """
        if not any(function is getattr(asyncio, name) for name in ON_THE_LOOP):
            return function
        running = get_running_loop()
        if running is not None and running not in self._shell_loops:
            return function
        if function is asyncio.as_completed:
            return _as_completed

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return default_bridge().run(function, *args, **kwargs)
            except BaseException as error:
                trim(error)
                raise

        return call


def wait_for_cell(function: Callable[[], Coroutine[Any, Any, T]], filename: str) -> T:
    """Block on a coroutine function that runs code of a cell.

    Ctrl-C cancels it, which code that computes does not notice, and the loop does nothing else meanwhile. So when the
    time for its cleanup is over, or at the second Ctrl-C, the KeyboardInterrupt is raised in that code as well.

    A Ctrl-C before the start leaves no coroutine that was never awaited: none is made before.

    :param filename: the cell's.
    """

    async def cell() -> T:
        # The first step of a call's work is taken before the call knows its work. Were the cell to block in it, by a
        # switch of the stack, nothing could cancel it.
        await asyncio.sleep(0)
        return await function()

    try:
        return default_bridge().block_on(cell)
    except KeyboardInterrupt as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            error.__context__ = None  # the first Ctrl-C, which tells nothing more
        of_cell = _interrupt_if_it_computes(filename)
        if of_cell is not None:
            error.__traceback__ = of_cell
        raise


def _interrupt_if_it_computes(filename: str) -> TracebackType | None:
    """Raise KeyboardInterrupt in the cell's code if that computes. Return a traceback from the cell to there."""
    # Should the cell's code end just now, the loop itself is hit and dies of it, and the next call starts another.
    run = default_bridge().last_run
    ident = None if run is None else run.ident
    frame = current_frames().get(ident) if ident is not None else None
    traceback = of_cell = None
    while frame is not None:
        traceback = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
        if frame.f_code.co_filename == filename:
            of_cell = traceback
        frame = frame.f_back
    if of_cell is not None and ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt))
    return of_cell


def is_blocked_on(value: Any) -> bool:
    """Return whether a shown value is waited for: a Deferred, a coroutine, or a Future of either kind."""
    cls: type[object] = value.__class__
    return is_deferred_type(cls) or inspect.iscoroutine(value) or asyncio.isfuture(value) or _is_concurrent(value)


def _is_concurrent(value: Any) -> bool:
    return isinstance(value, concurrent.futures.Future)


def _as_completed(*args: Any, **kwargs: Any) -> Iterator[Any]:
    """Iterate over ``asyncio.as_completed(...)``, whose steps are taken on the loop: the first makes the tasks."""
    end = object()
    as_completed: Any = asyncio.as_completed
    iterator: Any = default_bridge().run(lambda: iter(as_completed(*args, **kwargs)))
    # In a list: run() would await the coroutine that is the next item.
    while (item := default_bridge().run(lambda: [next(iterator, end)])[0]) is not end:
        yield item


class _Elsewhere:
    """A Future of another loop's, which no task of ours can await."""

    def __init__(self, future: Any) -> None:
        self.future = future


async def _evaluated(evaluate: Callable[[], Any]) -> Any:
    x = evaluate()
    if asyncio.isfuture(x) and x.get_loop() is not asyncio.get_running_loop():
        return _Elsewhere(x)
    return await awaited(x)


async def awaited(x: Any) -> Any:
    """Await x, which may be a ``concurrent.futures.Future`` as well."""
    return await (asyncio.wrap_future(x) if _is_concurrent(x) else x)


async def _shielded(x: Any) -> Any:
    return await asyncio.shield(as_future(x))


async def _list(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _set(items: AsyncIterator[Any]) -> set[Any]:
    return {item async for item in items}


async def _dict(items: AsyncIterator[Any]) -> dict[Any, Any]:
    return {key: value async for key, value in items}


_COLLECTORS: dict[str, Callable[[AsyncIterator[Any]], Coroutine[Any, Any, Any]]] = {
    "list": _list,
    "set": _set,
    "dict": _dict,
}


def _without(traceback: TracebackType | None, code: CodeType, line: int) -> TracebackType | None:
    """Return the traceback without the frames of that code that stand on that line."""
    kept: list[TracebackType] = []
    while traceback is not None:
        if traceback.tb_frame.f_code is not code or traceback.tb_lineno != line:
            kept.append(traceback)
        traceback = traceback.tb_next
    result: TracebackType | None = None
    for entry in reversed(kept):
        result = TracebackType(result, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return result
