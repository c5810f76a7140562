"""What differs in a process that gevent has patched: :func:`bridge._threads.native.patched` returns this module there.

There ``threading.Thread`` starts a greenlet, ``get_ident()`` identifies greenlets, locks block greenlets and
``selectors.DefaultSelector`` waits in gevent's hub. A greenlet takes the place of a thread, so what blocks should block
the greenlet only. Our loop, its workers and its watchdog need native threads and the original functions all the same,
which gevent keeps.

gevent has replaced functions of ``os`` too. Those that start a child process watch it in the main thread's hub, and
raise an error in any other thread, once the child exists. ``os.close()`` leaves it to the hub of its thread to close a
descriptor, and the hub of a thread of ours never runs. So in our threads these functions do without gevent. So they do
in a thread that runs a loop of ours, whose hub stands still meanwhile.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, TypeVar

from .native import get_ident, original, start_new_thread

REFUSAL = (
    "gevent has patched this process, and what it waits on is for greenlets now; leave the strategy out, or write "
    "strategy='gevent'"
)

T = TypeVar("T")

_LOOK = 0.002  # seconds
_PATIENCE = 5.0  # seconds to wait for the status of a child that gevent has reaped
_ours: set[int] = set()  # the identifiers of our native threads
without_hub: set[int] = set()  # the identifiers of the other threads in which a loop of ours runs


def wait_until(is_so: Callable[[], bool], timeout: float | None) -> bool:
    """Poll a condition until it is true. Return False on time-out. Blocks the greenlet only.

    gevent's events raise an error where the hub has nothing else to wait for: it takes that for a deadlock. Polling is
    cheap enough for the start and the end of threads, which is what this is for.

    :param timeout: seconds; None waits for ever.
    """
    deadline = inf if timeout is None else monotonic() + timeout
    gevent: Any = importlib.import_module("gevent")
    # The hub, in which signal handlers run, cannot switch to itself.
    blocks = get_ident() in _ours or gevent.getcurrent() is gevent.get_hub()
    sleep = original("time", "sleep") if blocks else gevent.sleep
    while not is_so() and monotonic() < deadline:
        sleep(_LOOK)
    return is_so()


def new_simple_queue() -> Any:
    """Return a queue for threads: of the class in C, which gevent does not patch."""
    return importlib.import_module("_queue").SimpleQueue()


class NativeThread:
    """Runs the ``run()`` of a Thread in a native thread, past gevent's patched ``start()``."""

    def __init__(self, thread: threading.Thread) -> None:
        self.ident: int | None = None
        self.is_over = False
        self._thread = thread

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: the system can start no more threads.
        """
        free_our_threads()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        self.ident = get_ident()
        _ours.add(self.ident)
        try:
            self._thread.run()
        except SystemExit:
            pass
        except BaseException as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))
        finally:
            _ours.discard(self.ident)
            self.is_over = True

    def join(self, timeout: float | None) -> None:
        """Wait until the thread has ended.

        :param timeout: seconds; None waits for ever.
        """
        wait_until(lambda: self.is_over, timeout)


def free_our_threads() -> None:
    """Let functions of ``os`` do without gevent's hub when a thread of ours calls them. Done once a process."""
    theirs: Any = importlib.import_module("gevent.os")
    ours: dict[str, Callable[..., Any]] = {"close": original("os", "close"), "waitpid": _waitpid}
    # As gevent's own, but without the watch: the child can use gevent, as ever.
    forks = {name: getattr(theirs, f"{name}_gevent", None) for name in ("fork", "forkpty")}
    spawns = {name: original("os", name) for name in ("posix_spawn", "posix_spawnp") if hasattr(os, name)}
    ours |= {name: functools.partial(_start, start) for name, start in (forks | spawns).items() if start is not None}
    for name, function in ours.items():
        if getattr(os, name) is getattr(theirs, name, None):
            setattr(os, name, _by_thread(getattr(os, name), function))


def _by_thread(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(theirs)
    def by_thread(*args: Any, **kwargs: Any) -> Any:
        ident = get_ident()
        return (ours if ident in _ours or ident in without_hub else theirs)(*args, **kwargs)

    return by_thread


def _start(start: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return statuses.start(functools.partial(start, *args, **kwargs), _pid_of)


def _pid_of(started: Any) -> int:
    return started[0] if isinstance(started, tuple) else started  # type: ignore[no-any-return]


def _waitpid(pid: int, options: int) -> tuple[int, int]:
    """Wait for a child as ``os.waitpid()`` does, also if gevent has reaped it in our place."""
    try:
        ended, status = original("os", "waitpid")(pid, options)
    except ChildProcessError:
        known = statuses.taken_of(pid)
        deadline = monotonic() + (0.0 if options & os.WNOHANG else _PATIENCE)
        while known is None and statuses.may_come(pid) and monotonic() < deadline:
            original("time", "sleep")(_LOOK)
            known = statuses.taken_of(pid)
        if known is None:
            if options & os.WNOHANG and statuses.may_come(pid):
                return 0, 0
            raise
        ended, status = pid, known
    if ended:
        statuses.forget(ended)
    return ended, status


class Statuses:
    """The exit statuses of our children that gevent has reaped in our place.

    Once a greenlet has started a child process, gevent's handler of SIGCHLD reaps *every* child of the process in the
    main thread's hub, and drops the status of one that no watcher of gevent's waits for. So there is a watcher for all
    children, from our first child on. Our threads reap their children too; whoever comes first has the status.

    Not with libuv, where such a watcher sees one child of many. There a status may be lost, as it is to asyncio beside
    any handler of SIGCHLD that reaps all children.
    """

    def __init__(self) -> None:
        self._call_hub: Any = None  # a watcher that makes the main thread's hub call _listen()
        self._hub: Any = None
        self._watcher: Any = None
        self._count = 0
        self._taken: dict[int, tuple[int, int]] = {}  # by process id: the place among all, and the status
        self._starting: dict[object, int] = {}  # starts that go on, with the number of statuses before
        self._children: dict[int, int] = {}  # ours, with the number of statuses when each was started
        self._waiting: dict[int, Callable[[], object]] = {}

    def start(self, start: Callable[[], T], pid_of: Callable[[T], int]) -> T:
        """Start a child process by calling ``start``, and return its result. Statuses of before are not the child's."""
        if self._call_hub is not None and get_ident() in _ours:
            self._call_hub.send()
        starting = object()
        self._starting[starting] = count = self._count
        try:
            started = start()
            if pid_of(started):  # else this is the child
                self._children[pid_of(started)] = count
        finally:
            del self._starting[starting]
        return started

    def use(self, hub: Any) -> None:
        """Let the hub of the main thread listen once a child is started. Called in that thread.

        Its watcher for that has the highest priority. libev calls it before its own handler of a SIGCHLD that has come
        later.
        """
        if hub is not self._hub and "libuv" not in type(hub.loop).__module__:
            self._hub, self._watcher = hub, None
            call_hub = hub.loop.async_(ref=False, priority=hub.loop.MAXPRI)
            call_hub.start(self._listen)
            self._call_hub = call_hub

    def may_come(self, pid: int) -> bool:
        """Return whether the status of a child that has been reaped elsewhere is known, or may become known."""
        return self._call_hub is not None and self._mark(pid) is not None

    def taken_of(self, pid: int) -> int | None:
        """Return the status of a child of ours that gevent has reaped; None if it is not known, or not yet."""
        mark = self._mark(pid)
        count, status = self._taken.get(pid, (0, 0))
        return status if mark is not None and count > mark else None

    def _mark(self, pid: int) -> int | None:
        """Return how many statuses had come before the child was started; None if it is not ours.

        Popen waits for a child whose exec() has failed before its start is over.
        """
        return self._children.get(pid, min([*self._starting.values()], default=None))

    def when_taken(self, pid: int, use: Callable[[], object]) -> None:
        """Call ``use``, in any thread, as soon as the status of a child is known. It may be called twice."""
        self._waiting[pid] = use
        if self.taken_of(pid) is not None:
            use()

    def forget(self, pid: int) -> None:
        """Forget a child that has been reaped."""
        self._waiting.pop(pid, None)
        self._children.pop(pid, None)
        if not self._children and not self._starting:
            self._taken.clear()

    def _listen(self) -> None:
        if self._watcher is None:
            self._watcher = self._hub.loop.child(0, ref=False)
            self._watcher.start(self._take)

    def _take(self) -> None:
        self._count += 1
        pid = self._watcher.rpid
        if pid in self._children or self._starting:
            self._taken[pid] = self._count, self._watcher.rstatus
            use = self._waiting.get(pid)
            if use is not None:
                use()


statuses = Statuses()
