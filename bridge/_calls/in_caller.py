"""in_caller: await a function that runs in the thread that waits for this work."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable
from contextvars import Context, copy_context
from types import FrameType
from typing import Any

from .._errors import BridgeError, at
from .._loop import in_place, task
from .._loop.base import BridgeLoop
from .._private.cpython import get_running_loop
from .._values.context import BlockedStack
from .._values.kinds import describe
from .._values.outcomes import trim
from . import asgiref
from .errands import Errand, call_here, is_here, is_open, post

# The code that drives the awaiting coroutine: a blocked stack of the loop's thread, a task, or Twisted.
_STACK = frozenset(each.__code__ for each in (in_place.block, in_place.block_coroutine, in_place._drive))
_TASK = frozenset({task.containing.__code__, asyncio.Handle._run.__code__})
_TWISTED = "twisted.internet.defer"

_INSTEAD = (
    "call it as it is if any thread will do, write 'await in_thread(...)' for a worker thread, or have a thread wait "
    "for this work by block_on()"
)


async def in_caller(function: Callable[[], Any]) -> Any:
    """Run a function in the thread that waits for this work. :func:`bridge.in_caller` has the contract."""
    driver = _driver(sys._getframe())
    call = call_here()
    if driver in _STACK:
        return function()
    if type(call) is BlockedStack:  # of this very thread, which runs this while the stack is switched away
        if not call.is_open:
            raise _caller_left(function)
        return function()
    if call is not None and is_here(call):
        return function()
    if call is None:
        raise BridgeError(
            f"in_caller({describe(function)}) was awaited where no thread waits: this work was started by submit() "
            f"or map(), or by the loop's own program; {_INSTEAD}" + at("nobody-waits")
        )
    if not is_open(call):
        raise _caller_left(function)
    loop = get_running_loop()
    context = copy_context()
    before = context.copy()
    errand = _Call(call, function, context, _post_of(loop, call))
    if driver == _TWISTED or loop is None:
        await _await_in_twisted(errand)
    else:
        await _await_in_task(errand, loop)
    asgiref.take_variables(before, context)
    value, error = errand.value, errand.error
    errand.value = errand.error = None
    try:
        if error is not None:
            raise error
        return value
    finally:
        del error, value  # an error's traceback holds this frame; see the head of _loop/task.py


def _driver(frame: FrameType | None) -> object:
    """Return the driver of the innermost coroutine of this stack: code of a stack or a task, or Twisted's module."""
    while frame is not None:
        code = frame.f_code
        if code in _STACK or code in _TASK:
            return code
        if frame.f_globals.get("__name__") == _TWISTED:
            return _TWISTED
        frame = frame.f_back
    return None


def _post_of(loop: asyncio.AbstractEventLoop | None, call: Any) -> Callable[[Callable[[], object]], object]:
    """Return the function that posts a callback to the thread of the work."""
    if loop is None:  # under a reactor without an asyncio loop
        post: Callable[[Callable[[], object]], object] = call.run.post
        return post
    return loop.post if isinstance(loop, BridgeLoop) else loop.call_soon_threadsafe


def _caller_left(function: Callable[[], Any]) -> BridgeError:
    return BridgeError(
        f"in_caller({describe(function)}) was awaited when the thread that had waited for this work did not wait any "
        f"more: its call has ended, or timed out, or was interrupted; {_INSTEAD}" + at("nobody-waits")
    )


class _Call(Errand):
    """A function to be called in the caller's thread."""

    __slots__ = ("arrived", "context", "deferred", "error", "function", "future", "post", "value")

    def __init__(
        self,
        call: Any,
        function: Callable[[], Any],
        context: Context,
        post: Callable[[Callable[[], object]], object],
    ) -> None:
        super().__init__(call)
        self.function = function
        self.context = context
        self.post = post
        self.value: Any = None
        self.error: BaseException | None = None
        self.arrived = False  # the outcome has reached the thread of the work
        self.future: asyncio.Future[None] | None = None
        self.deferred: Any = None

    # In the caller's thread.

    def run(self) -> None:
        value: Any = None
        error: BaseException | None = asyncio.CancelledError()  # if the caller's own exception ends it: Ctrl-C
        try:
            try:
                value = self.context.run(_called, self.function)
                error = None
            except (Exception, asyncio.CancelledError) as raised:
                error = raised
        finally:
            try:
                self._end(value, error)
            finally:
                # An error's traceback holds this frame; see the head of _loop/task.py.
                del self, value, error

    def drop(self) -> None:
        self._end(None, asyncio.CancelledError())

    def refuse(self) -> None:
        self._end(None, _caller_left(self.function))

    def _end(self, value: Any, error: BaseException | None) -> None:
        if not self.has_ended and not self.is_parents:
            self.value, self.error = value, error
            del value, error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.post(self._arrive)
        self.has_ended = True

    # In the thread of the work.

    def _arrive(self) -> None:
        self.arrived = True
        if self.error is not None:
            trim(self.error)
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        if self.deferred is not None and not self.deferred.called:
            self.deferred.callback(None)


def _called(function: Callable[[], Any]) -> Any:
    asgiref.come_along()
    return function()


async def _await_in_task(errand: _Call, loop: asyncio.AbstractEventLoop) -> None:
    """Wait for the outcome. A cancellation withdraws an errand that has not begun, and waits for one that has."""
    future = errand.future = loop.create_future()
    if not post(errand):
        raise _caller_left(errand.function)
    try:
        await future
        return
    except BaseException as raised:
        if errand.withdraw() or not isinstance(raised, asyncio.CancelledError) or errand.call.run.over is not None:
            raise
        cancellation = raised
    import anyio

    try:
        # A scope of anyio's would cancel again in each iteration of the loop.
        with anyio.CancelScope(shield=True):
            while not errand.arrived:
                errand.future = loop.create_future()
                try:
                    await errand.future
                except asyncio.CancelledError:
                    if errand.call.run.over is not None:  # the errand itself may have closed the bridge
                        raise
        if errand.error is None:
            errand.error = cancellation
    finally:
        del cancellation


async def _await_in_twisted(errand: _Call) -> None:
    from .._twisted import errand as twisted

    errand.deferred = outcome = twisted.Outcome(errand.withdraw)
    if not post(errand):
        raise _caller_left(errand.function)
    await outcome
    if errand.error is None and outcome.cancel_asked:
        raise twisted.CancelledError
    if isinstance(errand.error, asyncio.CancelledError):
        errand.error = twisted.CancelledError()


def partial_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any]:
    """Return the function with its arguments, to be called without any."""
    return functools.partial(function, *args, **kwargs) if args or kwargs else function
