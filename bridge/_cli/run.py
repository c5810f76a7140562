"""``python -m bridge run``: a whole sync script on the loop's thread, which is the main thread.

The script runs in a task of a loop of ours. So its blocking calls switch stacks, and its calls of the reactor are made
on the loop's thread. Everything else is as under plain ``python``: ``__main__``, ``sys.argv``, ``sys.path[0]``, the
exit status, tracebacks, Ctrl-C.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import io
import os
import runpy
import signal
import sys
import threading
import time
import types
from typing import Any

from .._api.bridge import Bridge
from .._api.default import use_as_default
from .._loop.ending import end_tasks, run_to_end
from .._runs.exit import others_at_work, process_exit
from .._runs.program import new_event_loop
from .._threads.signals import LOOK_UP
from .._values.outcomes import is_machinery, trim

# Seconds. A Ctrl-C that interrupted the loop's own code is sent again after this time.
_RESEND_AFTER = 0.001
# Seconds that tasks get for their cleanup when the script has ended.
_CLEAN_UP = 5.0


def main(target: str, arguments: list[str], *, as_module: bool) -> int:
    """Run a script, or a module, and return its exit status.

    :param target: the script's path, or the module's name.
    :param arguments: what follows the target, as for ``sys.argv[1:]``.
    :raises SystemExit: raised by the script.
    """
    missing = None if as_module else _missing(target)
    if missing is not None:
        print(f"python -m bridge run: can't open file {os.path.abspath(target)!r}: {missing}", file=sys.stderr)
        return 2
    program = _Module(target) if as_module else _Script(target)
    sys.argv = [target, *arguments]
    loop = new_event_loop()
    attached = Bridge.attach(loop)
    use_as_default(attached)
    execution = _Execution(loop, attached, program)
    try:
        loop.run_until_complete(execution.run())
    finally:
        process_exit.be_quiet()
        attached.close()
        _close(loop)
    error = execution.error
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        raise error.with_traceback(None)
    trim(error)
    error.__traceback__ = _without_runpy(error.__traceback__)
    sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, KeyboardInterrupt):
        execution.die_of_interrupt = True
    return 1


def _missing(path: str) -> str | None:
    """Return why a script cannot be opened, as Python itself says it."""
    try:
        os.stat(path)
    except OSError as error:
        return f"[Errno {error.errno}] {error.strerror}"
    return None


class _Script:
    """A file, or a directory or zip file with a ``__main__.py``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def execute(self) -> None:
        if not os.path.isfile(self.path) or not self._is_source():
            runpy.run_path(self.path, run_name="__main__")
            return
        if not getattr(sys.flags, "safe_path", False):
            sys.path[0] = os.path.dirname(os.path.realpath(self.path))
        module = types.ModuleType("__main__")
        module.__dict__.update(__file__=os.path.abspath(self.path), __builtins__=builtins)
        if sys.version_info < (3, 15):
            module.__dict__["__cached__"] = None
        sys.modules["__main__"] = module  # stays there: pickle and the script's atexit functions need it
        with io.open_code(self.path) as file:
            code = compile(file.read(), module.__dict__["__file__"], "exec", dont_inherit=True)
        exec(code, module.__dict__)

    def _is_source(self) -> bool:
        with open(self.path, "rb") as file:
            return not file.read(4).startswith(b"PK\x03\x04")


class _Module:
    """A module or package, as of ``python -m``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def execute(self) -> None:
        runpy.run_module(self.name, run_name="__main__", alter_sys=True)


class _Execution:
    """Runs the program in a task, and raises Ctrl-C in its stack."""

    def __init__(self, loop: Any, bridge: Bridge, program: _Script | _Module) -> None:
        self.error: BaseException | None = None
        self.die_of_interrupt = False
        self._loop = loop
        self._bridge = bridge
        self._program = program
        self._task: Any = None
        atexit.register(self._die_of_interrupt)  # registered first, so it runs last

    async def run(self) -> None:
        """Run the program, then wait for its other threads, which may need the loop."""
        self._task = asyncio.current_task()
        handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if handles:
            signal.signal(signal.SIGINT, self._on_interrupt)
            self._wake_for_signals()
        try:
            try:
                self._program.execute()
            except BaseException as error:
                self.error = error
            await _wait_for_threads(self._bridge.exit_grace)
        except BaseException as error:  # Ctrl-C during the wait for the threads
            self.error = self.error or error
        finally:
            if handles and signal.getsignal(signal.SIGINT) == self._on_interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def _wake_for_signals(self) -> None:
        """Wake the loop now and then: a signal may come after Python's check for signals and before the loop sleeps."""
        self._loop.call_later(LOOK_UP, self._wake_for_signals)

    def _on_interrupt(self, signum: int, frame: types.FrameType | None) -> None:
        """Raise KeyboardInterrupt in the program's stack, never in the loop's own code."""
        if not self._is_blocked() and asyncio.current_task(self._loop) is self._task:
            if frame is None or not is_machinery(frame.f_globals.get("__name__"), frame.f_code.co_filename):
                raise KeyboardInterrupt
            _resend_interrupt()
        else:
            self._loop.post(self._interrupt_wait)

    def _interrupt_wait(self) -> None:
        if not self._is_blocked():
            _resend_interrupt()
        elif not self._loop.interrupted:
            self._loop.interrupted = self._task  # turns the cancellation into a KeyboardInterrupt
            wait = self._task.wait
            try:
                wait.cancel(None)
            except BaseException as error:  # raised by a Deferred's canceller
                wait.error = error
                self._loop.call_soon(wait)
        else:
            self._task.wait.error = KeyboardInterrupt()
            self._loop.call_soon(self._task.wait)

    def _is_blocked(self) -> bool:
        return getattr(self._task, "wait", None) is not None

    def _die_of_interrupt(self) -> None:
        """After an uncaught KeyboardInterrupt: end the process by SIGINT, as plain python does."""
        if self.die_of_interrupt:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError, AttributeError):
                    pass
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)


def _resend_interrupt() -> None:
    """Send SIGINT to this process again, a moment later."""

    def send() -> None:
        time.sleep(_RESEND_AFTER)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


async def _wait_for_threads(grace: float | None) -> None:
    """Wait for the non-daemon threads while the loop still runs; at most so many seconds, None for no limit."""
    deadline = None if grace is None else time.monotonic() + grace
    while others_at_work() and (deadline is None or time.monotonic() < deadline):
        await asyncio.sleep(0.01)


def _close(loop: Any) -> None:
    """Cancel the tasks that are left on the loop and close it, as asyncio.run does."""
    try:
        deadline = loop.time() + _CLEAN_UP
        run_to_end(loop, lambda: end_tasks(loop, deadline))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _without_runpy(traceback: types.TracebackType | None) -> types.TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") == "runpy":
        traceback = traceback.tb_next
    return traceback
