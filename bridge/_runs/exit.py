"""The exit of the process: fail the calls of other threads after their grace period, then close every bridge.

Python exits in three steps:

1. It calls the functions registered by ``threading._register_atexit``, last first. Here ``concurrent.futures.thread``
   joins the workers of executors.
2. It joins the non-daemon threads, without a time limit.
3. It calls the handlers of ``atexit``, last first.

A thread that is blocked in a call would keep Python in step 2 for ever, and a blocked worker in step 1. So the calls
fail in step 1, before the workers are joined: see :meth:`Exit.begin`. The loops end in step 3: see :meth:`Exit.close`.

From 3.12 on no thread can start once Python exits (python/cpython#113964). So this module starts none, and in every
version a bridge that does not run by then is not started.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .._errors import BridgeClosed, at
from .._threads.imports import AfterImport
from .._threads.native import Thread
from .runs import engine, registered
from .states import REFUSE, REFUSING

if TYPE_CHECKING:
    from .run import OpenCall, Run

# Seconds between two checks: by the exit that other threads have ended, and by a loop that a new call is open.
_LOOK = 0.02
# Seconds beyond its shutdown_timeout after which a loop's thread is reported as not ended.
_SLACK = 0.5
# Seconds that the handlers of logging get for the events that Twisted has logged.
_LOG = 5.0

_FAILED = (
    "the process is exiting: its main thread has ended; join the other threads before it does, or give their calls "
    "time: bridge.configure(exit_grace=...)"
)
_CUT_OFF = (
    "bridge: the main thread has ended, and calls were not completed in {}; join these threads before it does, or give "
    "their calls time: bridge.configure(exit_grace=None)"
)
_REFUSED = "the process is exiting, and the bridge has ended or was never started; make the call before"


_PROCESSES = "concurrent.futures.process"

# How far the exit of the process has come.
_BEFORE, _ENDING_CALLS, _CLOSING = "before", "calls are ended", "loops are closed"


class Exit:
    """The exit of this process."""

    def __init__(self) -> None:
        # Moved by the main thread alone, and only forward.
        self._phase = _BEFORE
        self._is_watching = False  # watch() has registered
        self._child = 0  # the id of the multiprocessing child in which watch_child() has registered
        self._cut_off: set[str] = set()  # names of threads that have lost a call, and nobody is told
        self.reports: list[Callable[[], object]] = []  # called when the loops have ended, to log what is left to say

    @property
    def has_begun(self) -> bool:
        """Whether the code of the main thread has ended."""
        return self._phase is not _BEFORE

    @property
    def is_closing(self) -> bool:
        """Whether the loops are being closed, or are closed."""
        return self._phase is _CLOSING

    def watch(self) -> None:
        """Register with Python's exit. Called before the first bridge starts, and again if that was interrupted.

        :raises BridgeClosed: the exit has begun already.
        """
        if self._is_watching:
            return
        # Imported here, since ``import bridge`` loads this module and needs no tables of private names.
        from .._private.abilities import lost
        from .._private.cpython import register_atexit
        from .._private.rows import EXIT

        try:
            # This import registers a function too. Ours is registered after it, and so is called before it.
            import_module("concurrent.futures.thread")
            if lost(EXIT):
                _begin_after_main_thread(self.begin)
            else:
                register_atexit(self.begin)
                if _PROCESSES not in sys.modules:
                    AfterImport(_PROCESSES, self._register_again).watch()
        except RuntimeError:  # the exit has begun: the import raises it, and so does each of the functions
            self._phase = _CLOSING
            raise self._refused(_REFUSED + at("process-exiting")) from None
        atexit.register(self.close)
        self._is_watching = True

    def _register_again(self) -> None:
        """Register ``begin`` again, so that it is called before ``concurrent.futures.process`` joins its threads.

        Called when the program imports that module. It is not imported for this purpose: its import takes longer than
        all else that a first call needs, and few programs use it.
        """
        from .._private.cpython import register_atexit

        with contextlib.suppress(RuntimeError):  # the exit has begun
            register_atexit(self.begin)

    def watch_child(self) -> None:
        """Register with the end of a child process of multiprocessing, which calls no handlers of ``atexit``.

        Called before each start of a loop, since a forked child drops the finalizers of its parent.
        """
        util: Any = sys.modules.get("multiprocessing.util")
        process: Any = sys.modules.get("multiprocessing.process")
        if util is not None and process.parent_process() is not None and self._child != os.getpid():
            self._child = os.getpid()
            util.Finalize(None, self._end_child, exitpriority=0)

    def _end_child(self) -> None:
        self.begin()
        self.close()

    def check(self, made: Run | None = None) -> None:
        """Refuse to start a run once the exit has begun.

        :param made: a run that was just made; the exit may have walked the register before it was there.
        :raises BridgeClosed: the exit has begun.
        """
        if self.has_begun:
            if made is not None:
                made.end("the process is exiting")
            raise self._refused(_REFUSED + at("process-exiting"))

    def run_of(self, run: Run | None) -> Run:
        """Return the run of a bridge for a call that is made while the process exits.

        Handlers of ``atexit`` and daemon threads may call until :meth:`close`. Other threads may call until their
        grace period is over.

        :raises BridgeClosed: this thread may make no more calls, or the bridge does not run.
        """
        if run is None or not run.is_ready or run.state.is_over or self.is_closing:
            raise self._refused(_REFUSED + at("process-exiting"))
        if run.state is REFUSING and threading.current_thread() in _joined_threads():
            raise self._refused(_FAILED + at("process-exiting"))
        return run

    def begin(self) -> None:
        """Fail the calls of other threads after their grace period, so that Python need not wait for them.

        Called when the code of the main thread has ended, before Python joins the other threads.
        """
        if self.has_begun:  # this is registered twice; see _register_again
            return
        self._phase = _ENDING_CALLS
        is_patient = True
        while True:
            try:
                self._end_calls(is_patient)
                return
            except KeyboardInterrupt:  # the calls have to fail all the same, or Python waits for ever
                is_patient = False

    def _end_calls(self, is_patient: bool) -> None:
        engine.renew()  # in a forked child that has called no hooks, and made no call yet
        self.be_quiet()
        runs: list[tuple[float, Run]] = []
        begun = time.monotonic()
        for each in registered():
            run, grace = each.last, each.options.exit_grace
            # With exit_grace=None Python waits for the callers without a limit, as for any thread.
            if run is not None and not run.state.is_over and grace is not None:
                runs.append((begun + grace, run))
        for deadline, run in sorted(runs, key=lambda each: each[0]):
            while is_patient and time.monotonic() < deadline and _may_call(run):
                time.sleep(_LOOK)
            self._refuse(run)

    def be_quiet(self) -> None:
        """Note from now on a thread that ends because the exit has failed its call. It prints no traceback."""
        hook: Any = threading.excepthook

        def except_hook(args: Any) -> None:
            if not issubclass(args.exc_type, BridgeClosed):
                hook(args)
            elif args.thread is not None:
                self._cut_off.add(args.thread.name)

        threading.excepthook = except_hook

    def fail(self, run: Run, call: OpenCall, idents: Collection[int]) -> None:
        """Fail a call that these threads wait for."""
        self._note_workers(idents)
        run.fail(call, BridgeClosed(f"{_FAILED}; the call was not completed" + at("process-exiting")))

    def _refused(self, message: str) -> BridgeClosed:
        self._note_workers({threading.get_ident()})
        return BridgeClosed(message)

    def _note_workers(self, idents: Collection[int]) -> None:
        """Note those of these threads that are workers of executors, whose errors stay in Futures."""
        from .._private.cpython import idle_workers

        names = [each.name for each in list(idle_workers()) if each.ident in idents]
        if names and not self._is_watching:  # the first call of all came too late
            self._is_watching = True
            atexit.register(self.close)
        self._cut_off.update(names)

    def _refuse(self, run: Run) -> None:
        run.move(REFUSE)
        run.refuses = True  # again: an interrupt may have come between the move and this
        if run.state is not REFUSING:  # it is starting, and has no loop yet that could fail its calls; or it has ended
            run.end(_FAILED)
            return
        # A thread may yet begin to wait for the Future of an open call.
        for call in list(run.open):
            call.on_wait(functools.partial(_fail_own_wait, run, call))
        _fail_waits(run)
        # It may also wait by concurrent.futures.wait(), which on_wait does not see: the loop looks for it repeatedly.
        with contextlib.suppress(RuntimeError):
            run.post(lambda: _keep_failing(run))

    def close(self) -> None:
        """Close every bridge. Called as a handler of ``atexit``.

        Print to standard error the names of threads and tasks that have not ended in time, and of threads that have
        lost a call.
        """
        self._phase = _CLOSING
        with contextlib.suppress(KeyboardInterrupt):
            engine.renew()  # for a program in C that calls the handlers of atexit only
        begun = time.monotonic()
        runs: list[tuple[float, Any]] = []
        for each in registered():
            each.is_closed = True
            if each.last is not None:
                runs.append((begun + each.options.shutdown_timeout + _SLACK, each.last))
        all_told = False
        while not all_told:
            with contextlib.suppress(KeyboardInterrupt):  # the runs have to end all the same, so that tasks clean up
                for _, run in runs:
                    run.end_at_exit()
                all_told = True
        for deadline, run in runs:
            with contextlib.suppress(KeyboardInterrupt):
                left = run.left_at_exit(deadline)
                if left and sys.stderr is not None:
                    print(f"bridge: the process exits without the end of: {', '.join(left)}", file=sys.stderr)
        if self._cut_off and sys.stderr is not None:
            print(_CUT_OFF.format(", ".join(sorted(self._cut_off))) + at("process-exiting"), file=sys.stderr)
        if runs:
            from .._watch.records import records

            with contextlib.suppress(KeyboardInterrupt):
                for report in self.reports:
                    report()
                records.flush(_LOG)
        _keep_status()


process_exit = Exit()


def _keep_status() -> None:
    """Have a process whose program was ended by Ctrl-C exit with the status that says so.

    CPython notes such an end in a flag, which it clears whenever some thread compiles and runs a string: as the loops'
    threads do while they end, in imports. A shell would then see status 1 and go on with its script.
    """
    error = getattr(sys, "last_value", None)
    frame = error.__traceback__.tb_frame if isinstance(error, KeyboardInterrupt) and error.__traceback__ else None
    # The prompt of a Python shell has not ended by it.
    if frame is not None and frame.f_back is None and not hasattr(sys, "ps1"):
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


def _begin_after_main_thread(begin: Callable[[], object]) -> None:
    """Have a function called when the process exits, on a Python without ``threading._register_atexit``.

    A thread joins the main thread, which counts as ended before Python joins the other threads.
    """

    def wait() -> None:
        main.join()
        begin()

    main = threading.main_thread()
    Thread(target=wait, name="bridge-exit", daemon=True).start()


def _joined_threads() -> list[threading.Thread]:
    """Return the threads that Python joins at its exit: all non-daemon threads but the main one."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


def others_at_work() -> list[threading.Thread]:
    """Return the non-daemon threads, without workers of executors, which end only when the exit tells them to."""
    from .._private.cpython import idle_workers

    workers = idle_workers()
    return [thread for thread in _joined_threads() if thread not in workers]


def callers(run: Run) -> list[threading.Thread]:
    """Return the non-daemon threads that are known to wait for a call of the run."""
    calls = list(run.open)
    return [thread for thread in others_at_work() if any(call.is_waited_for({thread.ident}) for call in calls)]


def _may_call(run: Run) -> bool:
    """Return whether another non-daemon thread waits for a call or may still make one."""
    if others_at_work():
        return True
    idents = {thread.ident for thread in _joined_threads()}
    return any(call.is_waited_for(idents) for call in list(run.open))


def _fail_own_wait(run: Run, call: OpenCall) -> None:
    """Fail a call that this thread begins to wait for, if Python is going to join the thread."""
    if threading.current_thread() in _joined_threads():
        process_exit.fail(run, call, {threading.get_ident()})


def _fail_waits(run: Run) -> bool:
    """Fail the calls that non-daemon threads wait for. Return whether there are such threads."""
    idents = {thread.ident for thread in _joined_threads() if thread.ident is not None}
    if idents:
        for call in list(run.open):
            if call.is_waited_for(idents):
                process_exit.fail(run, call, {each for each in idents if call.is_waited_for({each})})
    return bool(idents)


def _keep_failing(run: Run) -> None:
    if not run.state.is_over and _fail_waits(run):
        run.loop.call_later(_LOOK, _keep_failing, run)
