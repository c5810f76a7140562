"""What comes back from a call: a value or an error, and the traceback that the error is shown with."""

from __future__ import annotations

import os
from types import FrameType, TracebackType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

# The machinery that stands between a caller and the code it waits for, by module. Frames of other asyncio and
# Twisted modules are kept: a user who awaits a stream or a protocol wants to see where in it the error arose.
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

# What a user calls himself and what hands on the errors of others: gather, wait_for, a TaskGroup, a worker thread. It
# is shown where the error arose in it, such as the TimeoutError of asyncio.timeout.
_HANDS_ON = frozenset(
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

# As ``error.__traceback__ = ...``, but also for an exception class that refuses attributes, as a frozen dataclass does.
set_traceback = BaseException.with_traceback


def is_machinery(module: str | None, filename: str) -> bool:
    """Return whether a frame of this module and file is ours, or belongs to what carries a call."""
    return module in _MACHINERY or filename.startswith(_PACKAGE)


def trimmed(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without our own frames and without the machinery of asyncio, Twisted and anyio.

    The objects that were passed in are not changed, so a traceback that somebody else holds stays whole.
    """
    kept: list[tuple[TracebackType, bool]] = []
    while traceback is not None:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__")
        if not is_machinery(module, frame.f_code.co_filename):
            kept.append((traceback, module in _HANDS_ON))
        traceback = traceback.tb_next
    result: TracebackType | None = None
    arose = False  # a frame of the user's stands further in
    for entry, hands_on in reversed(kept):
        if hands_on and arose:
            continue
        arose = arose or not hands_on
        result = (
            entry if entry.tb_next is result else TracebackType(result, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        )
    return result


def trim(error: BaseException) -> None:
    """Set the error's traceback to the trimmed one; a bare ``raise`` after it adds the caller's frames.

    The errors of a group, and the causes and contexts that arose in the awaited code, are trimmed with it.

    From 3.11 on a bare ``raise`` reads ``__traceback__`` anew and adds no entry for the frame that it stands in,
    so a public function that ends in ``except BaseException as error: trim(error); raise`` does not show itself.
    """
    _let_go(error.__traceback__)
    set_traceback(error, trimmed(error.__traceback__))
    is_group = issubclass(type(error), BaseExceptionGroup)
    if is_group or error.__context__ is not None or error.__cause__ is not None:
        _trim_related(error)


def _trim_related(error: BaseException) -> None:
    """Trim the errors that are shown with this one, as far as they passed by the awaited code.

    Another error, such as one that the caller is handling, may have frames of asyncio's that are its owner's business.
    """
    awaited = set(_frames(error))
    seen = {id(error)}
    pending = _related(error)
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        frames = _frames(each)
        if awaited.isdisjoint(frames) and not any(frame.f_code.co_filename.startswith(_PACKAGE) for frame in frames):
            continue
        awaited.update(frames)
        _let_go(each.__traceback__)
        set_traceback(each, trimmed(each.__traceback__))
        pending += _related(each)


def _let_go(traceback: TracebackType | None) -> None:
    """Clear the variables of Twisted's own frames that have ended.

    They hold the Deferred, and with its Failure the error: a reference cycle that would keep every frame of the user's
    alive, through the traceback or, where the frame is trimmed from it, as the caller of one that is not.
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


def _related(error: BaseException) -> list[BaseException]:
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    related = list(members) if isinstance(error, BaseExceptionGroup) else []
    return related + [each for each in (error.__cause__, error.__context__) if each is not None]


def _frames(error: BaseException) -> list[FrameType]:
    frames: list[FrameType] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames
