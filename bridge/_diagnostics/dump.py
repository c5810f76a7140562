"""dump(): print which caller is blocked on what, on demand or on a signal.

Importing this module imports neither Twisted nor asyncio: before the first call, nothing is open.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, TextIO

from .._errors import BridgeError


def dump(file: TextIO | None = None) -> None:
    """Print every open call of every bridge, with the stacks of its caller and of its work, and the loops' threads.

    It needs no loop and takes no lock that the bridge holds. So it may be called at any time and in any thread that is
    not blocked, in a callback on a loop, and in a signal handler (see ``dump_signal`` of :class:`Bridge`).

    ::

        threading.Timer(60, bridge.dump).start()

    :param file: a text file; None for standard error.
    """
    _write(sys.stderr if file is None else file, _text())


def _text() -> str:
    if "bridge._calls.block_on" not in sys.modules:
        return "no loop of a bridge runs\n"
    from . import reports  # imports more, which only a dump needs

    return reports.everything()


def _write(file: TextIO | None, text: str) -> None:
    if file is None:  # a process without a standard error
        return
    try:
        file.write(text)
        file.flush()
    except RuntimeError:  # a signal handler has interrupted a write to this very file
        os.write(file.fileno(), text.encode(errors="backslashreplace"))


class _DumpSignal:
    """The handler of one signal, while some bridge wants it. It calls the earlier handler after the dump."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.wanted = 0
        self._previous: Any = None

    def install(self) -> None:
        self._previous = signal.getsignal(self.number)
        signal.signal(self.number, self._handle)

    @property
    def is_installed(self) -> bool:
        """Whether no other handler has been set since."""
        return signal.getsignal(self.number) == self._handle

    def restore(self) -> bool:
        """Put back the earlier handler. Return False off the main thread, and if a later handler has been set."""
        if threading.current_thread() is not threading.main_thread() or not self.is_installed:
            return False
        signal.signal(self.number, signal.SIG_DFL if self._previous is None else self._previous)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            dump()
        previous: Callable[[int, FrameType | None], object] | signal.Handlers | int | None = self._previous
        if callable(previous):
            previous(number, frame)
        elif not self.wanted and previous is signal.SIG_DFL and self.restore():
            os.kill(os.getpid(), number)


_signals: dict[int, _DumpSignal] = {}


def dump_on(number: int | None) -> None:
    """Dump when that signal comes, until :func:`no_dump_on` has been called as often. None does nothing.

    :raises BridgeError: this is not the main thread. Python sets signal handlers in that one only.
    """
    if number is None:
        return
    if threading.current_thread() is not threading.main_thread():
        raise BridgeError(
            "dump_signal sets a signal handler, which Python allows in the main thread only; call bridge.configure() "
            "or Bridge() with it there, before other threads need the bridge"
        )
    # Import it now: when the signal comes, the process may have no descriptor left to read a module by.
    import_module("bridge._diagnostics.reports")
    each = _signals.get(number)
    if each is None or (not each.wanted and not each.is_installed):
        each = _DumpSignal(number)
        each.install()
        _signals[number] = each
    each.wanted += 1


def no_dump_on(number: int | None) -> None:
    """Undo one :func:`dump_on`. Off the main thread the handler stays, and only calls the earlier one."""
    each = _signals.get(number or 0)
    if each is None:
        return
    each.wanted -= 1
    if not each.wanted and each.restore():
        del _signals[each.number]
