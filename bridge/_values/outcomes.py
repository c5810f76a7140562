"""Tracebacks of the errors that come out of a call: without frames of ours and of the machinery between."""

from __future__ import annotations

import os
import sys
from types import FrameType, TracebackType

from .trio import explain

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

# Modules between a caller and the code that it waits for. Their frames are removed. Frames of other modules of asyncio
# and Twisted stay: a user who awaits a stream or a protocol wants to see where in it the error was raised.
_MACHINERY = frozenset(
    {
        "asyncio.base_events",
        "asyncio.events",
        "asyncio.futures",
        "asyncio.runners",
        "concurrent.futures._base",
        "concurrent.futures.thread",
        "twisted.internet.base",
        "twisted.internet.asyncioreactor",
        "twisted.internet.defer",
        "twisted.internet.posixbase",
        "twisted.internet.threads",
        "twisted.python.context",
        "twisted.python.failure",
        "twisted.python.log",
        "twisted.python.threadpool",
        "twisted._threads._team",
        "twisted._threads._threadworker",
    }
)

# Modules that users call and that pass on the errors of other code: gather, wait_for, a TaskGroup, a worker thread.
# Their frames stay only if the error was raised there, such as the TimeoutError of asyncio.timeout.
_PASS_ON = frozenset(
    {
        "anyio._backends._asyncio",
        "anyio._core._tasks",
        "anyio.from_thread",
        "anyio.to_thread",
        "asyncio.taskgroups",
        "asyncio.tasks",
        "asyncio.threads",
        "asyncio.timeouts",
        "twisted.internet.task",
    }
)

_TWISTED = frozenset(module for module in _MACHINERY if module.startswith("twisted."))
_GENERATOR = 0x20  # inspect.CO_GENERATOR, without the import

# As ``error.__traceback__ = ...``, but works also for a class that refuses attributes, such as a frozen dataclass.
set_traceback = BaseException.with_traceback


def is_machinery(module: str | None, filename: str) -> bool:
    """Return whether a frame of this module and file is ours, or of the machinery that carries a call."""
    return module in _MACHINERY or filename.startswith(_PACKAGE)


def trimmed(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without our own frames and without the machinery of asyncio, Twisted and anyio.

    The objects that were passed in are not changed: other code may hold them.
    """
    kept: list[tuple[TracebackType, bool]] = []
    while traceback is not None:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__")
        if not is_machinery(module, frame.f_code.co_filename):
            kept.append((traceback, module in _PASS_ON))
        traceback = traceback.tb_next
    result: TracebackType | None = None
    has_inner = False  # an inner frame is kept that does not only pass errors on
    for entry, passes_on in reversed(kept):
        if passes_on and has_inner:
            continue
        has_inner = has_inner or not passes_on
        result = (
            entry if entry.tb_next is result else TracebackType(result, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        )
    return result


def trim(error: BaseException) -> None:
    """Set the error's traceback to the trimmed one; a bare ``raise`` after it adds the caller's frames.

    The errors of a group are trimmed too, and causes and contexts that were raised in the awaited code.

    From 3.11 on, a bare ``raise`` reads ``__traceback__`` again and adds no entry for its own frame. So a public
    function that ends in ``except BaseException as error: trim(error); raise`` is not in the traceback.
    """
    _clear_twisted_frames(error.__traceback__)
    set_traceback(error, trimmed(error.__traceback__))
    is_group = issubclass(type(error), BaseExceptionGroup)
    if is_group or error.__context__ is not None or error.__cause__ is not None:
        _trim_related(error)
    if "trio" in sys.modules:
        explain(error)


def _trim_related(error: BaseException) -> None:
    """Trim the members, causes and contexts of an error, if they have passed through the awaited code.

    The members of a group have: they come from its child tasks, whose frames the group does not share. Other errors
    stay whole, such as one that the caller is handling: its frames of asyncio may matter to the user.
    """
    awaited = set(_frames(error))
    seen = {id(error)}
    pending = _related(error)
    while pending:
        each, is_member = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        frames = _frames(each)
        is_ours = is_member or any(frame.f_code.co_filename.startswith(_PACKAGE) for frame in frames)
        if not is_ours and awaited.isdisjoint(frames):
            continue
        awaited.update(frames)
        _clear_twisted_frames(each.__traceback__)
        set_traceback(each, trimmed(each.__traceback__))
        pending += _related(each)


def _clear_twisted_frames(traceback: TracebackType | None) -> None:
    """Clear the local variables of Twisted's frames that have ended.

    They hold the Deferred, its Failure, and so the error: a reference cycle that keeps all frames of the user alive. A
    frame that is trimmed from the traceback still counts, as the caller of a frame that stays.
    """
    while traceback is not None:
        frame: FrameType | None = traceback.tb_frame
        while frame is not None and frame.f_globals.get("__name__") in _TWISTED:
            if not frame.f_code.co_flags & _GENERATOR:
                try:
                    frame.clear()
                except RuntimeError:  # it still runs
                    break
            frame = frame.f_back
        traceback = traceback.tb_next


def _related(error: BaseException) -> list[tuple[BaseException, bool]]:
    """Return the members, cause and context of an error, each with whether it is a member."""
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    related = [(each, True) for each in members] if isinstance(error, BaseExceptionGroup) else []
    return related + [(each, False) for each in (error.__cause__, error.__context__) if each is not None]


def _frames(error: BaseException) -> list[FrameType]:
    frames: list[FrameType] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames
