"""The message of a WrongThreadError: it shows the user's own call, and what to write instead.

The call is found from the frames. The innermost frame that is neither Twisted's, nor ours, nor in an installed library
is the user's. The position of its current instruction is the position of the call in the source. If there is no source,
as for code given to ``exec``, the message names the function that was called.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from types import FrameType

import twisted

from .._errors import WrongThreadError, at
from .._values.source import source_of, user_call
from .forms import Call, Target, forms, shell_of
from .runners import find_runner, proposed

_HERE = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(os.path.abspath(twisted.__file__)) + os.sep,
)
_STANDARD = (*{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")}, "<frozen ")
_INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})


def wrong_thread(target: Target) -> WrongThreadError:
    """Return the error for a use of the reactor by the calling thread, which is not its loop's."""
    call: Call | None = None
    try:
        call = _find_call(sys._getframe(1))
        error = WrongThreadError(_message(target, call) + at("wrong-thread", "\n"))
    except Exception:  # the search may fail on unusual source; the user needs this error all the same
        error = WrongThreadError(_message(target, None) + at("wrong-thread", "\n"))
    if call is not None:
        error.place = call.frame.f_code.co_filename, call.frame.f_lineno
    return error


def _message(target: Target, call: Call | None) -> str:
    here = threading.current_thread().name
    what = f"reactor.{target.method}(...)"
    if call is not None and call.source is not None:
        what = source_of(call.source.node)
    elif call is not None and not call.is_reactors:
        what = f"{call.callee}(...)"
    where = "" if call is None else f" ({_shown_file(call.frame)}, line {call.frame.f_lineno})"
    reached = "" if what.startswith(f"reactor.{target.method}") else f"; it came to reactor.{target.method}"
    runs = "does not run" if target.thread is None else f"runs in the thread {target.thread!r}"
    lines = [
        f"{what} was called in the thread {here!r}{where}, but the reactor's loop {runs}, and a reactor may be used in "
        f"the thread of its loop only{reached}."
    ]
    if target.is_another:
        lines[0] += " This thread runs the loop of another reactor; pass that one to what is called:"
        lines.append(
            "    Site(resource, reactor=bridge.reactor), Agent(bridge.reactor), treq.get(url, reactor=bridge.reactor)"
        )
        return "\n".join(lines)
    return f"{lines[0]} Write instead:{proposed(forms(target, call))}"


def _shown_file(frame: FrameType) -> str:
    """Return the name of a frame's file. IPython knows what a user calls the file of a cell."""
    shell = shell_of(frame)
    name = None if shell is None else shell.compile.format_code_name(frame.f_code.co_filename)
    return frame.f_code.co_filename if name is None else " ".join(name)


# Finding the call.


def _find_call(frame: FrameType | None) -> Call | None:
    """Return the user's call that has led to the frame, or None."""
    while frame is not None and frame.f_code.co_filename.startswith(_HERE[0]):
        frame = frame.f_back
    reactors = frame
    caller, callee = _innermost(frame, _is_user_code) or _innermost(frame, _is_outside_code) or (None, None)
    if caller is None:
        return None
    module = None if callee is None else callee.f_globals.get("__name__")
    named = "" if callee is None else ".".join(filter(None, (module, callee.f_code.co_qualname)))
    return Call(caller, named, caller is reactors, user_call(caller), find_runner(reactors))


def _innermost(
    frame: FrameType | None, is_match: Callable[[FrameType], bool]
) -> tuple[FrameType | None, FrameType | None] | None:
    """Return the innermost frame that matches, and the frame that it has called; None without one."""
    inner: FrameType | None = None
    while frame is not None:
        if is_match(frame):
            return frame, inner
        inner, frame = frame, frame.f_back
    return None


def _is_user_code(frame: FrameType) -> bool:
    return _is_outside_code(frame) and not frame.f_code.co_filename.startswith(_INSTALLED)


def _is_outside_code(frame: FrameType) -> bool:
    """Return whether the frame is outside Twisted, this package and the standard library, such as ``threading``."""
    file = frame.f_code.co_filename
    return not file.startswith(_HERE) and (file.startswith(_INSTALLED) or not file.startswith(_STANDARD))
