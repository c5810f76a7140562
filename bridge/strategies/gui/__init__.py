"""What the strategies that pump a GUI's events share: the bell, the waiter, Ctrl-C, and which GUI there is.

A blocked GUI thread runs the toolkit's own event loop, which waits for one more descriptor: the bell. ``notify()``
rings it, and so does every signal, so nothing is polled and no object of the toolkit is touched by another thread.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from io import FileIO
from time import monotonic
from typing import Any, Protocol

from ..._errors import BridgeError, at
from ..._private import cpython
from ..._threads.interrupts import in_one_call

# Those of C: the ones in ``signal`` turn numbers into enums and back, which takes longer than the whole wake-up.
_signal: Any = cpython.signal_functions()
ALL = 65536  # bytes, as much as a pipe holds
_SIGINT = int(signal.SIGINT)
# Seconds after which a second Ctrl-C is raised wherever the thread is, as the first one has not been taken yet.
_PATIENCE = 0.5


class Bell:
    """A pipe that a GUI's loop watches: any thread rings it, and a signal does, with its number.

    ``read_end.read`` is a function written in C that does not raise if there is nothing to read, as a toolkit calls it.
    """

    def __init__(self) -> None:
        read_end, self.write_end = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(self.write_end, False)
        self.read_end = FileIO(read_end, "rb")
        # The descriptor that was to get the numbers of signals before a wait took them, or -1.
        self.passes_to = -1

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Whoever may still ring it refers to it, so that no number is written to that the system has given away.
        self.read_end.close()
        close(self.write_end)

    def ring(self) -> None:
        """Make the descriptor readable. Called from any thread."""
        try:
            os.write(self.write_end, b"\0")
        except BlockingIOError:  # it rings already, thousands of times over
            pass

    def silence(self) -> bytes:
        """Make the descriptor unreadable, and return the numbers of the signals that rang, with zeros among them."""
        return self.read_end.read(ALL) or b""

    def listen(self, seconds: float | None) -> None:
        """Wait until it rings, with no GUI at all."""
        select.select([self.read_end], [], [], seconds)


class Pump(Protocol):
    """Runs the events of one application object in the main thread."""

    bell: Bell

    def run(self, waiter: GuiWaiter, timeout: float | None) -> bool:
        """Run events until the waiter is notified; the contract is that of ``Waiter.wait()``.

        :raises BridgeError: the application was ended meanwhile; once for each waiter.
        """
        ...


class GuiWaiter:
    """Runs the events of the GUI while it waits."""

    __slots__ = ("_pump", "_ring", "notified", "was_told")
    sleeps = False

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._ring = pump.bell.ring
        self.notified = False
        self.was_told = False  # that the application has ended

    def wait(self, timeout: float | None) -> bool:
        """Run events. Called in the main thread."""
        return self.notified or self._pump.run(self, timeout)

    def notify(self) -> None:
        """Ring the bell. Called once, from any thread."""
        self.notified = True
        self._ring()


class Interrupts:
    """Signals, for the length of one pumped wait: SIGINT only sets a flag, and every signal rings the bell.

    Python's own handler would raise inside a slot or a callback, where the toolkit drops the exception, or would not
    run at all before the next event. So the handler that is there is called in the wait's own frame instead, as soon as
    the toolkit has returned to it. A Ctrl-C that comes in a slot of the user's waits for the slot to end; if that takes
    too long, a second one is raised in the slot.

    A wait inside a slot inside a wait finds the outer one's handler, and the innermost takes the Ctrl-C.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._before: Any = _signal.getsignal(_SIGINT)
        self._is_on = self._is_over = False
        self._came: float | None = None  # when Ctrl-C came, until it is delivered
        self._old_fd: list[int] = []  # empty until the bell's own descriptor takes its place
        self._passed_to = bell.passes_to
        # None if the handler is not a function of Python's (SIG_IGN, SIG_DFL), which is left in its place.
        self._taker: Interrupts | None = None

    @property
    def forwards(self) -> bool:
        """Whether somebody else waits for the numbers of signals as well, such as an asyncio loop of this thread."""
        return self._bell.passes_to != -1

    @property
    def is_quiet(self) -> bool:
        """Whether no Ctrl-C has to be delivered, and no number of a signal handed on."""
        taker = self._taker
        return (taker is None or taker._came is None) and not self.forwards

    def __call__(self, number: int, frame: Any) -> None:
        """Note the signal. This is the handler; somebody may have kept it and put it back after the wait."""
        if not self._is_on:
            self._before(number, frame)
            return
        now = monotonic()
        if self._came is None:
            self._came = now
        elif now - self._came > _PATIENCE:
            self._before(number, frame)

    def begin(self) -> None:
        """Take the signals. ``end()`` has to follow, whatever this raises."""
        before = self._before
        if isinstance(before, Interrupts) and before._is_on:
            self._taker = before
        elif callable(before):
            self._taker = self
            self._is_on = True
            _signal.signal(_SIGINT, self)
        bell = self._bell
        ring = functools.partial(signal.set_wakeup_fd, bell.write_end, warn_on_full_buffer=False)
        in_one_call(self._old_fd, ring)  # once it is set, it is known what was there before
        self._pass_on()

    def _pass_on(self) -> None:
        (fd,) = self._old_fd
        if fd != self._bell.write_end:  # else this wait stands inside another one
            self._bell.passes_to = fd

    def hear(self) -> None:
        """Silence the bell, and call the handler if Ctrl-C has come. Called in the wait's frame.

        :raises BaseException: what the handler raises, such as KeyboardInterrupt.
        """
        heard = self._bell.silence()
        if self.forwards:
            self.forward(heard)
        self.deliver()

    def deliver(self) -> None:
        """Call the handler if Ctrl-C has come."""
        taker = self._taker
        if taker is not None and taker._came is not None:
            taker._came = None
            taker._before(_SIGINT, sys._getframe(1))

    def forward(self, heard: bytes) -> None:
        """Hand numbers of signals on to the descriptor that was to get them."""
        numbers = heard.replace(b"\0", b"")
        if numbers:
            try:
                os.write(self._bell.passes_to, numbers)
            except OSError:  # it is full, or closed meanwhile
                pass

    def end(self) -> None:
        """Put everything back, unless somebody else has set something else meanwhile; called again, what is left of it.

        :raises BaseException: what the handler of a Ctrl-C raises that came last, or of another signal.
        """
        if self._is_over:
            return
        raised: BaseException | None = None
        fd = -1
        if self._old_fd:
            fd = self._old_fd[0]
            self._pass_on()  # should the handler of another signal have raised in begin()
        if self.forwards:  # the handler of another signal may have raised before its number was heard
            self.forward(self._bell.silence())
        while True:
            # Setting a handler first runs those of signals that have come, and sets nothing if one of them raises.
            try:
                if self._taker is self and _signal.getsignal(_SIGINT) is self:
                    _signal.signal(_SIGINT, self._before)
                if self._old_fd:
                    now = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
                    if now not in (self._bell.write_end, fd):
                        signal.set_wakeup_fd(now)
                break
            except (OSError, ValueError):  # somebody has closed the descriptor
                fd = -1
            except BaseException as error:
                raised = error
        self._bell.passes_to = self._passed_to
        self._is_on = False
        self._is_over = True
        if fd == self._bell.write_end:
            # This wait stands inside another one, perhaps in the handler of a signal that came as that had seen that it
            # was not notified and was about to sleep. This one may have silenced the bell since.
            self._bell.ring()
        try:
            if self._taker is self:
                self.deliver()
        finally:
            if raised is not None:
                raise raised


class GuiStrategy:
    """Runs the events of a GUI while it waits."""

    name: str

    def unavailable(self) -> str | None:
        """Return why there are no events that this thread could run, None if there are."""
        raise NotImplementedError

    def find_pump(self) -> Pump | None:
        """Return what runs the events of the application object; None if this thread has none."""
        raise NotImplementedError

    def waiter(self) -> GuiWaiter:
        """Return a waiter that runs the events."""
        pump = self.find_pump()
        if pump is None:
            raise RuntimeError(
                f"strategy {self.name!r} cannot be used here: {self.unavailable()}" + at("strategy-not-here")
            )
        return GuiWaiter(pump)


def ended_error(waiter: GuiWaiter, event: str, advice: str) -> BridgeError:
    """Return the error for a wait whose application was ended, which a waiter raises once.

    :param event: what has happened, as the begin of a sentence.
    :param advice: what to do instead, as a sentence.
    """
    waiter.was_told = True
    return BridgeError(
        f"{event}; its call was cancelled, or if it was a Future's result() the work goes on. {advice}"
        + at("window-closed")
    )


def left(deadline: float | None) -> float | None:
    """Return the seconds until then, None for ever."""
    return None if deadline is None else deadline - monotonic()


def why_not_here() -> str | None:
    """Return why this thread cannot pump events, None if it can."""
    if threading.current_thread() is threading.main_thread():
        return None
    return "the events of a GUI are run in the main thread only; leave the strategy out, and a thread waits on a lock"


# Which GUI a process has. Applications that were there before a fork belong to the parent.

_forked_with: list[object] = []


def belongs_to_parent(application: object) -> bool:
    """Return whether the application object was made before this process was forked."""
    return any(application is each for each in _forked_with)


def watch_forks(find: Callable[[], object | None]) -> None:
    """Remember in a forked child what ``find`` returns there: the application object of its parent."""

    def after_fork() -> None:
        found = find()
        if found is not None:
            _forked_with.append(found)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_fork)


def active_in_ipython() -> str | None:
    """Return the name of the GUI that a running IPython was told to run (``%gui qt``), None if there is none."""
    module = sys.modules.get("IPython.core.interactiveshell")
    if module is None or not module.InteractiveShell.initialized():
        return None
    name = getattr(module.InteractiveShell.instance(), "active_eventloop", None)
    return name if isinstance(name, str) else None
