"""Child processes of a reactor: each is watched separately and reaped without SIGCHLD.

Twisted reaps its children when SIGCHLD arrives. That takes a signal handler, which Twisted can set only if the reactor
runs in the main thread, and which replaces the program's own. In another thread Twisted tries to reap a child once,
when the child's pipes are closed. A child that has not quite ended then stays a zombie for good, and its protocol is
never notified (twisted#6738). Here the loop watches a *pidfd* of the child, which becomes readable when the child has
ended. Where the system has no pidfd, a thread waits for the child, and the loop reaps it. No signal handler is needed,
and none is changed.

Other code may take the exit status first: a handler of SIGCHLD that calls ``os.waitpid(-1, ...)``, or the system itself
where SIGCHLD is ignored. Then the protocol is told that the child has ended with status 255, and a warning is logged.
asyncio does the same for its children. In a process that gevent has patched, gevent may be that other code. There the
status comes from gevent.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import Any

from twisted.internet import process as twisted_process

from .._errors import at
from .._loop.gevent_children import LOST, WAS_LOST, await_status
from .._threads import native

log = logging.getLogger("bridge")

_pidfd_open: Any = getattr(os, "pidfd_open", None)

# Pids of children that still ran when their reactor was closed for good. They are reaped when the next child is watched
# or the next reactor is closed, as in the standard library's subprocess. No protocol is notified.
_left: set[int] = set()


def watch(reactor: Any, child: Any) -> None:
    """Make the reactor's loop reap the child as soon as it has ended. Called on the loop's thread."""
    _reap_left()
    if _is_reaped(child) or child in reactor.children:
        return
    try:
        if _pidfd_open is None:
            raise OSError("this system has no pidfd_open")
        descriptor = _pidfd_open(child.pid)
    except ProcessLookupError:  # it has ended and its status is lost; see the head of this module
        reactor.children[child] = None
        reactor.callLater(0, end, reactor, child)
        return
    except OSError:  # the system has no pidfd, or no descriptor is left
        reactor.children[child] = None
        waiting = functools.partial(_wait_in_thread, reactor, child, child.pid)
        native.Thread(target=waiting, name=f"bridge-child-{child.pid}", daemon=True).start()
        return
    reactor.children[child] = descriptor
    _add_reader(reactor, child, descriptor)


def watch_again(reactor: Any) -> None:
    """Watch all children of the reactor on its new loop, including children from before its adoption."""
    for child, descriptor in list(reactor.children.items()):
        if descriptor is not None:
            _add_reader(reactor, child, descriptor)
    for child in list(twisted_process.reapProcessHandlers.values()):
        if reactor in (getattr(child, "_reactor", None), getattr(child, "reactor", None)):
            watch(reactor, child)


def forget(reactor: Any) -> None:
    """Stop watching the children that still run, because the reactor is closed for good."""
    while reactor.children:
        child, descriptor = reactor.children.popitem()
        if descriptor is not None:
            os.close(descriptor)
        if not _is_reaped(child):
            _left.add(child.pid)
            twisted_process.unregisterReapProcessHandler(child.pid, child)  # type: ignore[no-untyped-call]
    _reap_left()


def leave_to_parent(reactor: Any) -> None:
    """Forget all children, in a forked process: they are children of its parent."""
    for descriptor in reactor.children.values():
        if descriptor is not None:
            os.close(descriptor)
    reactor.children.clear()
    twisted_process.reapProcessHandlers.clear()
    _left.clear()


def end(reactor: Any, child: Any) -> None:
    """Reap a child that has ended, and notify its protocol. Called on the loop's thread."""
    descriptor = reactor.children.pop(child, None)
    if descriptor is not None:
        reactor._asyncioEventloop.remove_reader(descriptor)
        os.close(descriptor)
    if not _is_reaped(child):
        _reap(reactor, child, child.pid)


def _reap(reactor: Any, child: Any, pid: int, *, is_last: bool = False) -> None:
    backend = native.patched()
    if backend is not None and is_last:
        backend.statuses.forget(pid)
    child.reapProcess()  # Twisted logs errors of the protocol
    if not _is_reaped(child):
        if backend is not None and backend.statuses.may_come(pid):
            await_status(reactor._asyncioEventloop, pid, functools.partial(_reap, reactor, child, pid))
            return
        log.warning(WAS_LOST + at("lost-exit-status"), pid)
        twisted_process.unregisterReapProcessHandler(pid, child)  # type: ignore[no-untyped-call]
        child.processEnded(LOST)


def _is_reaped(child: Any) -> bool:
    """Return whether the child's status has been taken and its protocol notified."""
    return child.pid is None or twisted_process.reapProcessHandlers.get(child.pid) is not child


def _add_reader(reactor: Any, child: Any, descriptor: int) -> None:
    reactor._asyncioEventloop.add_reader(descriptor, end, reactor, child)


def _wait_in_thread(reactor: Any, child: Any, pid: int) -> None:
    """Wait in this thread until the child has ended, then post its reaping to the loop."""
    with contextlib.suppress(ChildProcessError):  # other code has reaped it
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reactor.callFromThread(end, reactor, child)


def _reap_left() -> None:
    for pid in list(_left):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _left.discard(pid)
