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

from .._errors import BridgeError, at


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
        self.process = os.getpid()  # in which it was installed
        self._previous: Any = None

    def install(self) -> None:
        self.process = os.getpid()
        self._previous = signal.getsignal(self.number)
        signal.signal(self.number, _Handler(self))

    @property
    def is_installed(self) -> bool:
        """Whether no other handler has been set since."""
        current = signal.getsignal(self.number)
        return isinstance(current, _Handler) and current.owner is self

    def restore(self) -> bool:
        """Put back the earlier handler. Return False off the main thread, and if a later handler has been set."""
        if not _is_main_thread() or not self.is_installed:
            return False
        signal.signal(self.number, signal.SIG_DFL if self._previous is None else self._previous)
        return True

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            dump()
        previous: Callable[[int, FrameType | None], object] | signal.Handlers | int | None = self._previous
        if callable(previous):
            previous(number, frame)
        elif not self.wanted and previous is signal.SIG_DFL and self.restore():
            os.kill(os.getpid(), number)


class _Handler:
    """What ``signal`` calls. Nothing else refers to it, so that it learns when another handler takes its place.

    Only the main thread sets handlers, and it drops the earlier one as it does. A worker of gunicorn's first sets all
    signals back to their default action. That of SIGUSR1 and SIGUSR2 ends a process, which is not what is wanted of a
    signal that asks for a dump. So after a fork the first reset is undone.
    """

    def __init__(self, owner: _DumpSignal) -> None:
        self.owner = owner

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.owner.handle(number, frame)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        owner = self.owner
        if is_finalizing() or not owner.wanted or owner.process == os.getpid() or not _is_main_thread():
            return
        if signal.getsignal(owner.number) is signal.SIG_DFL:
            owner.install()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _install_again() -> None:
    """After a fork: put our handlers back before those that the parent has set since, as gunicorn's arbiter does."""
    for each in _signals.values():
        if each.wanted and not each.is_installed and _is_main_thread():
            process = each.process
            each.install()
            each.process = process  # of the parent: the child may reset it yet


_signals: dict[int, _DumpSignal] = {}
_after_fork: list[None] = []  # not empty once _install_again() is registered


def dump_on(number: int | None) -> None:
    """Dump when that signal comes, until :func:`no_dump_on` has been called as often. None does nothing.

    :raises BridgeError: this is not the main thread. Python sets signal handlers in that one only.
    """
    if number is None:
        return
    if not _is_main_thread():
        raise BridgeError(
            "dump_signal sets a signal handler, which Python allows in the main thread only; call bridge.configure() "
            "or Bridge() with it there, before other threads need the bridge" + at("dump-signal-thread")
        )
    # Import it now: when the signal comes, the process may have no descriptor left to read a module by.
    import_module("bridge._diagnostics.reports")
    if not _after_fork:
        _after_fork.append(None)
        os.register_at_fork(after_in_child=_install_again)
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
