"""Any asyncio task awaits a Deferred: what ``Deferred.__await__`` and ``__iter__`` yield there suits a task.

Twisted's method yields the Deferred itself, for one of Twisted's drivers. asyncio's task fails on that with "Task got
bad yield" (twisted/twisted#9806). The method of ours yields a :class:`DeferredFuture` where a task runs, so
that the task needs no driver around its coroutine. It may belong to any library and run on any loop. Where no task
runs, and for a Deferred that has fired, Twisted's own method goes on.

A Deferred counts with the result that it fires with. Callbacks that are added after the ``await`` do not change that.
"""

# Twisted annotates Deferred and Failure only in part.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import types
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from .._errors import ReactorConflict, at
from .._private.abilities import lost, why_lost
from .._private.cpython import Future, get_running_loop, py_current_task
from .._private.rows import AWAITS
from .._threads.native import get_ident
from .._values.deferreds import deferreds, is_cancellation
from .failures import error_of, mark_handled, note_raised

log = logging.getLogger("bridge")

_is_in_io_thread: Callable[[], bool] = isInIOThread

_Yields = Generator[Any, Any, Any]

_current_task = asyncio.current_task
_twisteds: Callable[[Any], _Yields] = Deferred.__await__  # type: ignore[misc]
_is_decided = False


class DeferredFuture(Future[None], Deferred[Any]):  # type: ignore[misc]
    """A Future that is done when a Deferred has fired. It does not change the Deferred's result.

    It is cancelled like a task: ``cancel()`` cancels the Deferred and lets it clean up. The Future is cancelled only
    when the Deferred then fires with Twisted's CancelledError. If other code cancels the Deferred, that CancelledError
    is an error like any other.

    By class it is a Deferred too. A coroutine that awaits a Deferred cannot know what drives it: a task, or one of
    Twisted's drivers in the step of a task. So what it yields suits both. Such a driver adds its callback to the
    Deferred itself.
    """

    def __init__(self, deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
        Future.__init__(self, loop=loop)
        if deferreds.met is not None:
            with contextlib.suppress(ReactorConflict):  # the call that has made the Deferred raises it
                deferreds.met(loop)
        self.deferred = deferred
        self.is_followed = False  # a task waits, or a stack
        self.has_fired = False
        self.is_left = False  # the coroutine that waited was closed
        self._thread = get_ident()
        self._cancel_message: Any = None
        self._cancel_requested = False
        self._result_then: Any = None

    # The side of asyncio.

    def add_done_callback(self, fn: Any, *, context: Context | None = None) -> None:
        """Call a function when the Deferred has fired."""
        if not self.is_followed:
            self.is_followed = True
            self.deferred.addBoth(self._fired)
        Future.add_done_callback(self, fn, context=context)

    def cancel(self, msg: Any = None) -> bool:  # type: ignore[override]
        """Cancel the Deferred. Return False if it has fired already."""
        if self.has_fired or self.done():
            return False
        self._cancel_requested = True
        self._cancel_message = msg
        post = _post_to_reactor(self.get_loop())
        if post is None:
            self.deferred.cancel()
        else:
            post(self.deferred.cancel)
        return True

    def _fired(self, result: Any) -> Any:
        self.has_fired = True
        self._result_then = result
        if isinstance(result, Failure) and not self.is_left:
            note_raised(self.deferred, result)
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            if get_ident() == self._thread:
                self._wake()
            else:  # fired in another thread: waking the task from there would not wake the loop
                self.get_loop().call_soon_threadsafe(self._wake)
        return result

    def _wake(self) -> None:
        if self.done():
            return
        if self._cancel_requested:
            failure = self._result_then
            if isinstance(failure, Failure) and is_cancellation(failure.value):
                Future.cancel(self, self._cancel_message)
                return
        self.set_result(None)

    def error(self) -> BaseException | None:
        """Return the exception that the Deferred fired with, None if it fired with a value."""
        result = self._result_then
        return error_of(result) if isinstance(result, Failure) else None

    def value(self) -> Any:
        """Return the value that the Deferred fired with."""
        return self._result_then

    # The side of Twisted.

    def addCallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """Add a pair of callbacks to the Deferred."""
        self.deferred.addCallbacks(*args, **kwargs)
        return self

    def addCallback(self, *args: Any, **kwargs: Any) -> Any:
        """Add a callback to the Deferred."""
        self.deferred.addCallback(*args, **kwargs)
        return self

    def addErrback(self, *args: Any, **kwargs: Any) -> Any:
        """Add an errback to the Deferred."""
        self.deferred.addErrback(*args, **kwargs)
        return self

    def addBoth(self, *args: Any, **kwargs: Any) -> Any:
        """Add a callback for both outcomes to the Deferred."""
        self.deferred.addBoth(*args, **kwargs)
        return self


def _post_to_reactor(loop: asyncio.AbstractEventLoop) -> Any:
    """Return the function that posts a cancellation to the thread of the reactor, None if that is this thread.

    A reactor is not thread-safe. A loop of ours has its own; on another loop it is the installed one, if that runs.
    """
    if loop in deferreds.with_reactor:
        return None
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or not reactor.running or _is_in_io_thread():
        return None
    return reactor.callFromThread


def _loop_of_task() -> Any:
    """Return the loop of the task that takes a step in this thread, None if no task does."""
    loop = get_running_loop()
    if loop is None:
        return deferreds.stand_ins.get(get_ident()) if deferreds.stand_ins else None
    if _current_task(loop) is not None:
        return loop
    # From CPython 3.14 on the function in C does not know the tasks that are written in Python.
    return None if py_current_task is None or py_current_task(loop) is None else loop


def _await(self: Any) -> _Yields:
    # No generator itself, which would add a frame to the tracebacks where Twisted's method does the work.
    loop = None if self.called and not self.paused else _loop_of_task()
    return _twisteds(self) if loop is None else _await_in_task(self, loop)


def _await_in_task(self: Any, loop: Any) -> _Yields:
    fired = DeferredFuture(self, loop)
    fired._asyncio_future_blocking = True
    error: BaseException | None = None
    try:
        try:
            yield fired
            if not fired.is_followed:  # one of Twisted's drivers has waited
                return (yield from _twisteds(self))
            fired.result()  # where a stack has waited, this raises the cancellation
        except BaseException:
            fired.is_left = True
            if fired.cancelled():
                mark_handled(self)  # Twisted has noted the failure after the last callback, to log it
            raise
        error = fired.error()
        if error is None:
            return fired.value()
        mark_handled(self)
        raise error
    finally:
        del self, fired, error  # an error's traceback has this frame; see the head of _loop/task.py


@types.coroutine
def awaited(deferred: Deferred[Any]) -> _Yields:
    """Await a Deferred, whether or not :func:`put_in_place` was called."""
    return (yield from _await(deferred))


def put_in_place() -> None:
    """Have every asyncio task of this process await Deferreds, if Twisted is as we know it. Does nothing again."""
    global _is_decided
    if _is_decided:
        return
    _is_decided = True
    reason = why_lost(AWAITS) if lost(AWAITS) else _changed()
    if reason is None:
        cls: Any = Deferred
        cls.__await__ = cls.__iter__ = _await
    else:
        log.warning(
            "bridge cannot %s here: %s. Write 'await bridge.as_future(deferred)' instead" + at("missing-ability"),
            AWAITS,
            reason,
        )


def _changed() -> str | None:
    """Return what is unknown about Twisted's method: it yields the Deferred itself, and drivers depend on that."""
    deferred: Deferred[Any] = Deferred()
    try:
        yields_itself = next(_twisteds(deferred)) is deferred
    except Exception as error:
        return f"Deferred.__await__ raises {error!r}"
    return None if yields_itself else "Deferred.__await__ yields another object than the Deferred"
