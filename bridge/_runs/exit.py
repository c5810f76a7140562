"""As the process exits: calls in other threads are given their grace, then fail; then every bridge is closed.

Python exits in three steps. It calls what ``threading._register_atexit`` was given, last first; it joins the threads
that are no daemons, for as long as they take; it calls the handlers of ``atexit``, last first. A thread that is blocked
in a call would keep it in the second step for ever, and so would a worker of an executor, which
``concurrent.futures.thread`` joins in the first. So our part begins in the first step, before that: see
:meth:`Exit.begin`. The loops end in the third: see :meth:`Exit.close`.

From 3.12 on no thread can start once Python exits (python/cpython#113964), so nothing here starts one, and a bridge
that does not run by then is not started, in any version.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .._errors import BridgeClosed
from .._threads.imports import AfterImport
from .._threads.native import Thread
from .runs import registered

if TYPE_CHECKING:
    from .run import OpenCall, Run

# How often the exit looks whether the other threads have ended, and a loop whether another call has come, in seconds.
_LOOK = 0.02
# Seconds beyond its shutdown_timeout after which a loop's thread is taken not to end.
_SLACK = 0.5
# Seconds that the handlers of logging are given for what Twisted has logged.
_LOG = 5.0

_FAILED = (
    "the process is exiting: its main thread has ended; join the other threads before it does, or give their calls "
    "time: bridge.configure(exit_grace=...)"
)
_REFUSED = "the process is exiting, and the bridge has ended or was never started; make the call before"


_PROCESSES = "concurrent.futures.process"


class Exit:
    """The exit of this process."""

    def __init__(self) -> None:
        self.has_begun = False
        self._is_over = False  # the loops are being closed
        self._is_watching = False
        self._is_ending_calls = False
        self._child = 0  # the process of multiprocessing's that has been told
        self._refusing: set[Run] = set()  # those whose grace is over

    def watch(self) -> None:
        """Take part in the exit. Called before the first bridge starts, and again if that was interrupted.

        :raises BridgeClosed: it has begun already.
        """
        if self._is_watching:
            return
        # Here, for ``import bridge`` loads this module, and does not need the tables of names.
        from .._private.abilities import lost
        from .._private.cpython import register_atexit
        from .._private.rows import EXIT

        try:
            # After these imports, since the last to be registered is the first to be called.
            import_module("concurrent.futures.thread")
            if lost(EXIT):
                _begin_later(self.begin)
            else:
                register_atexit(self.begin)
                if _PROCESSES not in sys.modules:
                    AfterImport(_PROCESSES, self._register_again).watch()
        except RuntimeError:  # each does that
            self.has_begun = self._is_over = True
            raise BridgeClosed(_REFUSED) from None
        atexit.register(self.close)
        self._is_watching = True

    def _register_again(self) -> None:
        """See that the calls end before ``concurrent.futures.process`` joins its threads, once it has been imported.

        It takes longer to import than the rest of what a first call needs, and few programs use it.
        """
        from .._private.cpython import register_atexit

        with contextlib.suppress(RuntimeError):  # the exit has begun
            register_atexit(self.begin)

    def watch_child(self) -> None:
        """Take part in the end of a child process of multiprocessing's, which calls no handlers of ``atexit``.

        Called before each start of a loop. The child of a fork forgets the finalizers of its parent.
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
        """Refuse what would begin now.

        :param made: a run that was made just now; the exit may have looked before there was it.
        :raises BridgeClosed: the exit has begun.
        """
        if self.has_begun:
            if made is not None:
                made.end("the process is exiting")
            raise BridgeClosed(_REFUSED)

    def run_of(self, run: Run | None) -> Run:
        """Return the run of a bridge for a call that is made while the process exits.

        Handlers of ``atexit`` may call until ours has been called, and so may daemon threads; other threads until
        their grace is over.

        :raises BridgeClosed: there is none any more for this thread.
        """
        if run is None or not run.is_ready or run.over is not None or self._is_over:
            raise BridgeClosed(_REFUSED)
        if run in self._refusing and threading.current_thread() in _others():
            raise BridgeClosed(_FAILED)
        return run

    def begin(self) -> None:
        """Give the calls of other threads their grace and fail them then, so that Python need not wait for them.

        Called in the main thread when that has ended, before Python joins the other ones.
        """
        if self._is_ending_calls:  # for it is registered twice; see _register_again
            return
        self.has_begun = self._is_ending_calls = True
        is_patient = True
        while True:
            try:
                self._end_calls(is_patient)
                return
            except KeyboardInterrupt:  # at any line: the calls have to fail all the same, or Python waits for ever
                is_patient = False

    def _end_calls(self, is_patient: bool) -> None:
        self.be_quiet()
        runs: list[tuple[float, Run]] = []
        begun = time.monotonic()
        for each in registered():
            run, grace = each.last, each.options.exit_grace
            # Without a limit its callers are like any threads that the interpreter waits for.
            if run is not None and run.over is None and grace is not None:
                runs.append((begun + grace, run))
        for deadline, run in sorted(runs, key=lambda each: each[0]):
            while is_patient and time.monotonic() < deadline and _may_call(run):
                time.sleep(_LOOK)
            self._refuse(run)

    def be_quiet(self) -> None:
        """Let a thread that dies of its failed call do so in silence from now on."""
        threading.excepthook = _quiet(threading.excepthook)

    def _refuse(self, run: Run) -> None:
        self._refusing.add(run)
        if not run.is_ready:  # it is starting, and has no loop yet by which its calls could be failed
            run.end(_FAILED)
            return
        run.accepts = False
        # A thread may begin to wait for a Future of a call that is open.
        for call in list(run.open):
            call.on_wait(functools.partial(_fail_here, run, call))
        _fail(run)
        # And by concurrent.futures.wait(), too.
        with contextlib.suppress(RuntimeError):
            run.post(lambda: _go_on_failing(run))

    def close(self) -> None:
        """Close every bridge, as a handler of ``atexit``; name on standard error what has not ended in its time."""
        self._is_over = True
        begun = time.monotonic()
        runs: list[tuple[float, Any]] = []
        for each in registered():
            each.is_closed = True
            if each.last is not None:
                runs.append((begun + each.options.shutdown_timeout + _SLACK, each.last))
        all_told = False
        while not all_told:
            with contextlib.suppress(KeyboardInterrupt):  # they have to end all the same, or nothing cleans up
                for _, run in runs:
                    run.end_at_exit()
                all_told = True
        for deadline, run in runs:
            with contextlib.suppress(KeyboardInterrupt):
                left = run.left_at_exit(deadline)
                if left and sys.stderr is not None:
                    print(f"bridge: the process exits without the end of: {', '.join(left)}", file=sys.stderr)
        if runs:
            from .._watch.records import records

            with contextlib.suppress(KeyboardInterrupt):
                records.flush(_LOG)


process_exit = Exit()


def _begin_later(begin: Callable[[], object]) -> None:
    """Have a function called as the process exits, where Python has no private name for that.

    The main thread counts as ended before Python joins the others.
    """

    def wait() -> None:
        main.join()
        begin()

    main = threading.main_thread()
    Thread(target=wait, name="bridge-exit", daemon=True).start()


def _others() -> list[threading.Thread]:
    """Return the threads that the interpreter is going to wait for."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


def others_at_work() -> list[threading.Thread]:
    """Return those of them that end by themselves; workers of executors wait until they are told to, at the exit."""
    from .._private.cpython import idle_workers

    workers = idle_workers()
    return [thread for thread in _others() if thread not in workers]


def callers(run: Run) -> list[threading.Thread]:
    """Return those of them that wait for a call, as far as can be known."""
    calls = list(run.open)
    return [thread for thread in others_at_work() if any(call.is_waited_for({thread.ident}) for call in calls)]


def _may_call(run: Run) -> bool:
    """Return whether another thread has a call open or may make one."""
    if others_at_work():
        return True
    idents = {thread.ident for thread in _others()}
    return any(call.is_waited_for(idents) for call in list(run.open))


def _fail_call(run: Run, call: OpenCall) -> None:
    run.fail(call, BridgeClosed(f"{_FAILED}; the call was not completed"))


def _fail_here(run: Run, call: OpenCall) -> None:
    """Fail a call that this thread waits for, if the interpreter is going to wait for the thread."""
    if threading.current_thread() in _others():
        _fail_call(run, call)


def _fail(run: Run) -> bool:
    """Fail the calls that other threads wait for. Return whether there are such threads."""
    idents = {thread.ident for thread in _others()}
    if idents:
        for call in list(run.open):
            if call.is_waited_for(idents):
                _fail_call(run, call)
    return bool(idents)


def _go_on_failing(run: Run) -> None:
    if run.over is None and _fail(run):
        run.loop.call_later(_LOOK, _go_on_failing, run)


def _quiet(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return a hook for threads that says nothing of a call that the exit has failed."""

    def except_hook(args: Any) -> None:
        if not issubclass(args.exc_type, BridgeClosed):
            hook(args)

    return except_hook
