"""Child processes of a reactor: each is watched by itself, so that it is reaped whatever becomes of SIGCHLD.

Twisted reaps its children as SIGCHLD arrives, which takes a handler for it: in the main thread, in the place of the
program's own, and not at all where the reactor runs in another thread. There it tries once, when a child's pipes are
closed, and a child that has not quite ended then stays a zombie for good, its protocol never told (twisted#6738). Here
a *pidfd* of the child is added to the loop, which is readable when the child has ended; where the system has none, a
thread waits for the child and leaves it to be reaped by the loop. No signal is needed, and none is touched.

Somebody else may take the exit status before us: a handler of SIGCHLD that calls ``os.waitpid(-1, ...)``, or the system
itself where SIGCHLD is ignored. Then the child has ended with status 255, as far as its protocol is told, and a warning
is logged; asyncio does the same with its own.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import Any

from twisted.internet import process as twisted_process

from .._threads import native

log = logging.getLogger("bridge")

_pidfd_open: Any = getattr(os, "pidfd_open", None)

# What the child is said to have ended with, as os.wait() would encode exit status 255, when nobody knows.
_LOST = 255 << 8

# Children that were still running when their reactor was closed for good. The next child to be watched has them looked
# after, as the standard library's subprocess does; no protocol is told.
_left: set[int] = set()


def watch(reactor: Any, child: Any) -> None:
    """Have the child reaped by the reactor's loop as soon as it has ended. Called on the loop's thread."""
    _reap_left()
    if _is_reaped(child) or child in reactor.children:
        return
    try:
        if _pidfd_open is None:
            raise OSError("this system has no pidfd_open")
        descriptor = _pidfd_open(child.pid)
    except ProcessLookupError:  # it has ended, and its status is lost: see above
        reactor.children[child] = None
        reactor.callLater(0, end, reactor, child)
        return
    except OSError:  # not on this system, or no descriptor is left
        reactor.children[child] = None
        waiting = functools.partial(_wait, reactor, child, child.pid)
        native.Thread(target=waiting, name=f"bridge-child-{child.pid}", daemon=True).start()
        return
    reactor.children[child] = descriptor
    _add(reactor, child, descriptor)


def watch_again(reactor: Any) -> None:
    """Watch all children of the reactor on its new loop; also those of its run before the adoption."""
    for child, descriptor in list(reactor.children.items()):
        if descriptor is not None:
            _add(reactor, child, descriptor)
    for child in list(twisted_process.reapProcessHandlers.values()):
        if reactor in (getattr(child, "_reactor", None), getattr(child, "reactor", None)):
            watch(reactor, child)


def forget(reactor: Any) -> None:
    """Leave the children that still run to themselves, as the reactor is closed for good."""
    while reactor.children:
        child, descriptor = reactor.children.popitem()
        if descriptor is not None:
            os.close(descriptor)
        if not _is_reaped(child):
            _left.add(child.pid)
            twisted_process.unregisterReapProcessHandler(child.pid, child)  # type: ignore[no-untyped-call]
    _reap_left()


def leave_to_parent(reactor: Any) -> None:
    """Forget all children in a forked child, whose children they are not."""
    for descriptor in reactor.children.values():
        if descriptor is not None:
            os.close(descriptor)
    reactor.children.clear()
    twisted_process.reapProcessHandlers.clear()
    _left.clear()


def end(reactor: Any, child: Any) -> None:
    """Reap a child that has ended, and tell its protocol. Called on the loop's thread."""
    descriptor = reactor.children.pop(child, None)
    if descriptor is not None:
        reactor._asyncioEventloop.remove_reader(descriptor)
        os.close(descriptor)
    if not _is_reaped(child):
        _reap(child)  # Twisted logs what its protocol raises


def _reap(child: Any) -> None:
    pid = child.pid
    child.reapProcess()
    if _is_reaped(child):
        return
    log.warning(
        "the exit status of child process %s is lost: SIGCHLD is ignored, or somebody else has waited for it; "
        "it is reported as 255",
        pid,
    )
    twisted_process.unregisterReapProcessHandler(pid, child)  # type: ignore[no-untyped-call]
    child.processEnded(_LOST)


def _is_reaped(child: Any) -> bool:
    """Return whether the child's status has been taken and its protocol told."""
    return child.pid is None or twisted_process.reapProcessHandlers.get(child.pid) is not child


def _add(reactor: Any, child: Any, descriptor: int) -> None:
    reactor._asyncioEventloop.add_reader(descriptor, end, reactor, child)


def _wait(reactor: Any, child: Any, pid: int) -> None:
    """Wait in this thread until the child has ended; leave it to be reaped."""
    with contextlib.suppress(ChildProcessError):  # somebody else was faster
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
