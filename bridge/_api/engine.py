"""Loads the calls, and asyncio with them, when they are first needed; renews in a forked child what a fork breaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import CoroutineType, ModuleType
from typing import Any

from .._runs import runs
from .._runs.exit import process_exit
from .._threads.native import new_lock
from ..strategies import renew_after_fork

_lock = new_lock()
_calls: ModuleType | None = None
_users: list[Callable[[ModuleType], object]] = []
_after_fork: list[Callable[[], object]] = []
_renewing = new_lock()
_process: int | None = None  # the id of the process that has what stands here


def when_loaded(use: Callable[[ModuleType], object]) -> None:
    """Call ``use`` with the module of the calls once it is loaded. Its own global is faster to read than ours."""
    _users.append(use)


def after_fork(renew: Callable[[], object]) -> None:
    """Call ``renew`` in every forked child."""
    _after_fork.append(renew)


def calls_for(x: Any = None) -> ModuleType:
    """Return the module of the calls; load it if need be.

    :param x: the argument of the call. A coroutine is closed if the module cannot be loaded.
    :raises BridgeClosed: the process is exiting.
    """
    try:
        return _calls or load()
    except BaseException:  # the exit, or Ctrl-C in the imports
        _close(x)
        raise


async def load_on_a_loop(x: Any) -> None:
    """Load the calls as :func:`calls_for` does, but in a worker thread if an asyncio loop runs in this one."""
    import asyncio

    if _calls is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the coroutine runs under another library
            loop = None
        if loop is not None:
            try:
                await loop.run_in_executor(None, load)
            except BaseException:  # a cancellation too
                _close(x)
                raise
    calls_for(x)


def _close(x: Any) -> None:
    """Close a coroutine that no call will take. ``discard()`` does the same, but its module imports asyncio."""
    if isinstance(x, CoroutineType):
        x.close()


def load() -> ModuleType:
    """Load the calls, once.

    :raises BridgeClosed: the process is exiting.
    """
    global _calls, _process
    with _lock:
        if _calls is None:
            _process = os.getpid()
            process_exit.watch()
            from .._calls import block_on as calls
            from .._watch.watchdog import watchdog

            watchdog.report = _report
            watchdog.is_held_up = _is_held_up
            # After the imports: the fork handlers of those modules have to run before ours.
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forked)
            for use in _users:
                use(calls)
            _calls = calls
    return _calls


def _report(target: Any, calls: list[Any]) -> None:
    from .._diagnostics import reports

    reports.report(target, calls)


def _is_held_up(call: Any) -> bool:
    from .._diagnostics import reports

    return reports.is_held_up(call)


def _forked() -> None:
    """Renew what a forked child has from its parent. Of the parent's threads, only the one that forked exists."""
    global _lock, _process
    _lock = new_lock()  # another thread may have held it
    for renew in _after_fork:
        renew()
    for each in runs.registered():
        each.forget()
    from .._calls import deadlock, errands
    from .._loop.worker_threads import forget_worker_loop
    from .._twisted import arrival
    from .._watch.records import records
    from .._watch.watchdog import watchdog

    forget_worker_loop()
    watchdog.after_fork()
    records.after_fork()
    arrival.after_fork()
    deadlock.after_fork()
    errands.after_fork()
    renew_after_fork()
    _process = os.getpid()  # last: _renew() reads it without a lock


def _renew() -> None:
    if _process in (None, os.getpid()):
        return
    with _renewing:  # a thread that comes second waits until the first has renewed everything
        if _process != os.getpid():
            _forked()


def flush_log(seconds: float) -> None:
    """Wait until the handlers have handled what was logged. Not on a loop, which would stand still meanwhile."""
    from .._runs.where import where
    from .._watch.records import records

    if where().loop is None:
        records.flush(seconds)


runs.engine.load = load
runs.engine.renew = _renew
