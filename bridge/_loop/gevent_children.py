"""asyncio's child processes in a process that gevent has patched.

There ``subprocess.Popen`` is gevent's, which works in the main thread only, and asyncio's transports would use it. Ours
use a Popen of an unpatched copy of the module. The loop watches a *pidfd* of the child, or a native thread waits for
it, as in :mod:`bridge._twisted.children`. asyncio's own child watchers are not used: that of 3.11 starts a
``threading.Thread``, which is a greenlet that would never run.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import logging
import os
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from .._errors import at
from .._private.abilities import lost, unavailable
from .._private.rows import CHILDREN
from .._threads import native

log = logging.getLogger("bridge")

LOST = 255 << 8  # the status that is reported if the real one is lost, as os.wait() encodes it
WAS_LOST = (
    "the exit status of child process %s is lost: SIGCHLD is ignored, or somebody else has waited for it; "
    "it is reported as 255"
)
_PATIENCE = 5.0  # seconds to wait for a status that gevent has taken


@functools.cache
def _unpatched_subprocess() -> Any:
    """Return a copy of the module ``subprocess`` as it is without gevent's patches, with the same exceptions."""
    patched: Any = importlib.import_module("subprocess")
    spec = importlib.util.find_spec("subprocess")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("SubprocessError", "CalledProcessError", "TimeoutExpired"):
        setattr(module, name, getattr(patched, name))
    return module


class ChildTransport(BaseSubprocessTransport):
    """The transport of a child process that was started without gevent."""

    def _start(self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **kwargs: Any) -> None:
        popen: Any = _unpatched_subprocess().Popen
        pipes = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        start: Any = functools.partial(popen, args, shell=shell, bufsize=bufsize, **pipes, **kwargs)
        self._proc: Any = native.patched().statuses.start(start, attrgetter("pid"))


async def start_child(
    loop: asyncio.AbstractEventLoop, protocol: Any, *args: Any, extra: Any = None, **kwargs: Any
) -> ChildTransport:
    """Start a child process and return its transport. For the arguments see ``_make_subprocess_transport()``.

    :raises StrategyUnavailable: this Python lacks a private name that this needs.
    """
    if lost(CHILDREN):
        raise unavailable(CHILDREN, "start the process by Twisted: reactor.spawnProcess(...)")
    waiter: asyncio.Future[None] = loop.create_future()
    make: Any = ChildTransport
    transport = make(loop, protocol, *args, waiter=waiter, extra=extra, **kwargs)
    _watch(loop, transport)
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await asyncio.shield(transport._wait())
        raise
    return transport  # type: ignore[no-any-return]


def _watch(loop: asyncio.AbstractEventLoop, transport: Any) -> None:
    """Tell the transport when its child has ended."""
    pid: int = transport.get_pid()
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # the system has none, or no descriptor is left; or the child has been reaped
        waiting = functools.partial(_wait_in_thread, loop, transport, pid)
        native.Thread(target=waiting, name=f"bridge-child-{pid}", daemon=True).start()
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        _end(loop, transport, pid)

    loop.add_reader(descriptor, ended)


def _wait_in_thread(loop: asyncio.AbstractEventLoop, transport: Any, pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # other code has reaped it
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_end, loop, transport, pid)


def _end(loop: asyncio.AbstractEventLoop, transport: Any, pid: int, *, is_last: bool = False) -> None:
    """Reap a child that has ended, and tell its transport. Called on the loop's thread."""
    if is_last:
        native.patched().statuses.forget(pid)
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        returncode = transport._proc.returncode  # its own send_signal() may have reaped it
        if returncode is None:
            log.warning(WAS_LOST + at("lost-exit-status"), pid)
            returncode = os.waitstatus_to_exitcode(LOST)
        transport._process_exited(returncode)
        return
    if ended:
        transport._process_exited(os.waitstatus_to_exitcode(status))
    else:
        await_status(loop, pid, functools.partial(_end, loop, transport, pid))


def await_status(loop: asyncio.AbstractEventLoop, pid: int, reap: Callable[..., object]) -> None:
    """Reap a child again, once, when gevent's hub has told the status that it has taken.

    Called on the loop's thread.

    :param reap: called on the loop, with ``is_last=True`` if the hub does not tell it in time.
    """

    def reap_once(is_last: bool) -> None:
        if not timer.cancelled():
            timer.cancel()
            reap(is_last=is_last)

    def post() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(reap_once, False)

    timer = loop.call_later(_PATIENCE, reap_once, True)
    native.patched().statuses.when_taken(pid, post)
