"""block_on on the loop's own thread, where the stack switches.

In a task it drives the coroutine in place, as ``await`` does. Outside any task it starts a task and blocks until that
is done. ``task.py`` says why locals are deleted here and why user code is not called inside ``except``.
"""

from __future__ import annotations

import asyncio
import sys
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from .._errors import BridgeError, DeadlockError, at
from .._private.abilities import lost
from .._private.rows import DEFERREDS
from .._values.context import BlockedStack, caller, take_variables
from .._values.deferreds import await_any, deferreds
from .._values.kinds import Kind, describe, describe_pending, discard, kind_of, returned_kind
from .base import start_task
from .switching import SwitchingLoop
from .task import Contained, is_task

_current_task = asyncio.current_task
_Future = asyncio.Future  # a global costs a third of the attribute


def block(
    loop: SwitchingLoop, x: Any, kind: Kind, timeout: float | None, is_apart: bool = False, given: Any = None
) -> Any:
    """Wait for x on the loop's own thread; :meth:`bridge.Bridge.block_on` has the contract.

    :param is_apart: what x sets in its context variables stays with it.
    :param given: the argument of the call, if x stands for it.
    """
    if is_apart:
        return _block_apart(loop, x, kind, timeout)
    if given is None:
        given = x
    if kind is Kind.CALLABLE:
        x = x()
        returned = returned_kind(x)
        if returned is None:
            return x
        kind = returned
    task = asyncio.current_task(loop)
    if kind is Kind.FUTURE and task is None and timeout is None and x.get_loop() is loop:
        return _wait(loop, x)
    if kind is not Kind.COROUTINE:
        x = _awaiting(loop, x, kind)
    if timeout is not None:
        x = _with_timeout(x, timeout, given)
    waited = None
    try:
        if task is None:
            return _in_new_task(loop, x)
        try:
            waited = x.send(None)
        except StopIteration as stop:
            return stop.value
        return _drive(loop, x, task, waited)
    finally:
        del task, waited, x, given  # an error's traceback has this frame; see the head of task.py


def block_coroutine(loop: SwitchingLoop, coro: CoroutineType[Any, Any, Any]) -> Any:
    """Do the same as :func:`block` for a coroutine without a time limit, in half the time."""
    task, waited = _current_task(loop), None
    try:
        if task is None or coro.cr_suspended:
            kind_of(coro)  # raises if coro is being awaited already
            return _in_new_task(loop, coro)
        try:
            waited = coro.send(None)
        except StopIteration as stop:
            return stop.value
        except BaseException as error:
            if _was_raised_by_send(error):
                try:
                    kind_of(coro)  # raises if coro has ended or runs; a check before send() takes 1/6 of the call
                except BaseException as spent:
                    raise spent from None
            raise
        return _drive(loop, coro, task, waited)
    finally:
        del task, waited, coro  # see the head of task.py
        if loop._stacks.interrupted:
            raise_interrupt(loop)


def block_future(loop: SwitchingLoop, future: asyncio.Future[Any]) -> Any:
    """Do the same as :func:`block` for a Future without a time limit, without a coroutine around it."""
    task = _current_task(loop)
    try:
        if future.get_loop() is not loop:
            return block(loop, future, Kind.FUTURE, None)
        if task is None:
            return _wait(loop, future)
        if not future.done():
            loop.wait(future, task, None)
        return future.result()
    finally:
        del task, future  # see the head of task.py
        if loop._stacks.interrupted:
            raise_interrupt(loop)


def _block_apart(loop: SwitchingLoop, x: Any, kind: Kind, timeout: float | None) -> Any:
    """Do the same as :func:`block`, but run x in a copy of the context, and a coroutine in a task of its own."""
    context, stack, given = copy_context(), BlockedStack(), x
    if kind is Kind.CALLABLE:
        x = context.run(x)
        returned = returned_kind(x)
        if returned is None:
            return x
        kind = returned
    if kind is Kind.AWAITABLE:
        x = await_any(x)
    elif kind is not Kind.COROUTINE:
        return block(loop, x, kind, timeout, given=given)
    try:
        loop.check_wait()
        context.run(caller.set, stack)
        x = start_task(loop, x, context, now=False)
        result = block(loop, x, Kind.FUTURE, timeout, given=given)
    except BaseException:
        discard(x)
        raise
    finally:
        stack.is_open = False
        del x, given  # see the head of task.py
    if type(result) is Contained:
        raise result.error
    return result


def raise_interrupt(loop: SwitchingLoop) -> None:
    """Raise KeyboardInterrupt if Ctrl-C has cancelled the current task's wait, in a program on the loop's thread."""
    if _current_task(loop) is loop.interrupted:
        loop.interrupted = None
        raise KeyboardInterrupt


def _was_raised_by_send(error: BaseException) -> bool:
    """Return whether the caller's ``send()`` raised the error itself, because the coroutine has ended or runs.

    ``send()`` also raises a RuntimeError for a StopIteration that came out of the coroutine. That one has a cause.
    """
    traceback = error.__traceback__
    is_of_send = type(error) in (RuntimeError, ValueError) and traceback is not None and traceback.tb_next is None
    return is_of_send and error.__cause__ is None


def _drive(loop: SwitchingLoop, coro: Any, task: asyncio.Task[Any], waited: Any) -> Any:
    """Run a suspended coroutine to its end in the current task and stack. The stack blocks instead of suspending."""
    send = coro.send
    error: BaseException | None = None
    try:
        while True:
            # The same as a task does with a yielded Future.
            try:
                if waited is None:
                    loop.wait(None, task, coro)
                else:
                    _check_yielded(loop, waited, task)
                    waited._asyncio_future_blocking = False
                    loop.wait(waited, task, coro)
            except BaseException as raised:
                error = raised.with_traceback(None)
            # Outside `except`; see the head of task.py.
            try:
                if error is not None:
                    try:
                        waited = coro.throw(error)
                    finally:
                        error = None
                else:
                    waited = send(None)
            except StopIteration as stop:
                return stop.value
    finally:
        del task, waited, coro, send  # see the head of task.py


def _check_yielded(loop: SwitchingLoop, waited: Any, task: asyncio.Task[Any]) -> None:
    """Raise what a task raises in its coroutine when that yields anything but an awaited Future of the task's loop."""
    blocking = getattr(waited, "_asyncio_future_blocking", None)
    if blocking is None:
        raise RuntimeError(f"Task got bad yield: {waited!r}")
    if waited.get_loop() is not loop:
        raise RuntimeError(f"Task {task!r} got Future {waited!r} attached to a different loop")
    if not blocking:
        raise RuntimeError(f"yield was used instead of yield from in task {task!r} with {waited!r}")
    if type(waited) is not _Future and is_task(waited):
        _check_cycle(waited, task)


def _check_cycle(waited: Any, task: asyncio.Task[Any]) -> None:
    """Refuse to wait for a task that waits for this one, directly or through other tasks.

    A task waits for one object at a time, and only its own code ends it. So such a cycle never has a result. Neither a
    time-out nor a cancellation ends it: ``cancel()`` recurses round the cycle up to a RecursionError.

    :raises DeadlockError: the tasks form a cycle.
    """
    tasks: list[Any] = []
    each: Any = waited
    while is_task(each) and each is not task and each not in tasks:
        tasks.append(each)
        each = getattr(each, "_fut_waiter", None)
    if each is not task:
        return
    if not tasks:
        raise DeadlockError(f"Task cannot await on itself: {task!r}")
    raise DeadlockError(
        f"block_on({describe(waited)}) would never end: that task waits for the one that was about to block, "
        f"{describe(task)}"
        + (f", by way of {len(tasks) - 1} others" if len(tasks) > 1 else "")
        + "; let one of them return, or wait for something else that both can wait for, such as an asyncio.Event"
        + at("circle-of-tasks")
    )


def _in_new_task(loop: SwitchingLoop, coro: Any) -> Any:
    """Run a coroutine in a new task, as no task is current, and block until it is done."""
    try:
        loop.check_wait()
    except BaseException:
        discard(coro)
        raise
    context = copy_context()
    stack = BlockedStack()
    context.run(caller.set, stack)
    before = context.copy()
    task = start_task(loop, coro, context)
    try:
        result = _wait(loop, task)
    finally:
        stack.is_open = False
        del task
        take_variables(before, context)
    if type(result) is Contained:
        raise result.error
    return result


def _wait(loop: SwitchingLoop, future: asyncio.Future[Any]) -> Any:
    """Block outside any task until the Future is done, and return its result."""
    try:
        if not future.done():
            try:
                loop.wait(future, None, None)
            except BaseException:
                future.cancel()  # the wait was ended from outside, so the result is not wanted
                raise
        return future.result()
    finally:
        del future


async def _with_timeout(coro: Any, seconds: float, given: Any) -> Any:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await coro
    except TimeoutError as error:
        if limit.expired() and not error.args and isinstance(error.__cause__, asyncio.CancelledError):
            error.args = (f"{describe_pending(given)} did not finish within {seconds} seconds",)
        raise
    finally:
        del coro, given


def _awaiting(loop: SwitchingLoop, x: Any, kind: Kind) -> Any:
    """Return a coroutine that awaits x."""
    if kind is Kind.DEFERRED:
        if getattr(x, "_runningCallbacks", False) and not lost(DEFERREDS):
            _refuse_own_callback(x)
            return _after_callbacks(loop, x)
    elif kind is Kind.CONCURRENT:
        return await_any(asyncio.wrap_future(x, loop=loop))
    elif kind is Kind.FUTURE and x.get_loop() is not loop:
        return await_any(_from_other_loop(loop, x))
    return await_any(x)


async def _after_callbacks(loop: SwitchingLoop, deferred: Any) -> Any:
    """Await a Deferred in whose callback another stack is blocked.

    Awaiting the Deferred itself would give the result of the last callback.
    """
    fired = deferreds.future(deferred, loop)
    await fired
    error = fired.error()
    if error is not None:
        raise error
    return fired.value()


def _refuse_own_callback(deferred: Any) -> None:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is deferreds.run_callbacks and deferred in frame.f_locals.get("chain", ()):
            raise DeadlockError(
                f"block_on({describe(deferred)}) was called inside a callback of that same Deferred, which cannot have "
                "its result before the callback returns; return the value or another Deferred from the callback"
                + at("deferred-in-own-callback")
            )
        frame = frame.f_back  # type: ignore[assignment]


def _from_other_loop(loop: SwitchingLoop, x: Any) -> asyncio.Future[Any]:
    """Return a Future of this loop that mirrors one of another loop, which runs in another thread."""
    other = x.get_loop()
    if not x.done() and (other.is_closed() or not other.is_running()):
        raise BridgeError(
            f"{describe(x)} is bound to a loop that does not run, so it can never finish; pass the coroutine itself"
            + at("loop-not-running")
        )
    mirror = loop.create_future()

    def done(_: object) -> None:
        loop.call_soon_threadsafe(_copy_outcome, x, mirror)

    def cancelled(_: object) -> None:
        if mirror.cancelled():
            other.call_soon_threadsafe(x.cancel)

    if x.done():
        _copy_outcome(x, mirror)
    else:
        mirror.add_done_callback(cancelled)
        other.call_soon_threadsafe(x.add_done_callback, done)
    return mirror


def _copy_outcome(source: Any, target: asyncio.Future[Any]) -> None:
    if target.done():
        return
    if source.cancelled():
        target.cancel()
    elif source.exception() is not None:
        target.set_exception(source.exception())
    else:
        target.set_result(source.result())
