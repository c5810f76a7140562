"""Errands: functions that work on a loop runs in the thread that waits for that work.

Each thread has a queue of errands. A new errand wakes every open wait of its thread. The wait that has control serves
the queue and waits on with a new waiter. The other waits find nothing to do. So an errand may block, and the thread
serves other errands meanwhile.

A call without errands pays nothing. When an errand comes, its thread's calls are found among the open calls, and their
waiters are wrapped (:class:`_Bell`).

An errand begins when it is *taken*, which happens once: by the call that serves it, by its sender, which was cancelled,
or by the call that it was for, which leaves. It stays in the queue until it has ended. So if Ctrl-C comes after an
errand was taken and before it runs, the call that has taken it finds it in the queue and ends it.

Any thread may be interrupted between two steps (see "Interrupts" in :mod:`bridge._threads`), so their order counts:

- The sender puts the errand into the queue, *then* finds the open calls and rings them, and *then* checks whether the
  errand's call is still open. A call enters the open calls, and *then* reads the queue. It leaves the open calls, and
  *then* reads the queue for its errands. So a call of the thread sees the errand, or the sender sees the end.
- The thread that rings replaces the call's waiter by the bell, and *then* checks whether the call is still open. The
  thread that ends the call removes it from the open calls, and *then* reads the waiter to notify. So both use the bell,
  or only the thread that ends the call notifies.
- The waiting thread gives the bell a new waiter, and *then* checks whether the call has ended. The thread that ends the
  call notes the end, and *then* reads which waiter to notify.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from .._runs.run import Run
from .._threads.native import ThreadRLock, get_ident, is_patched
from .._values.context import caller
from .._watch.watchdog import watchdog
from ..strategies import resolve
from ..strategies.interface import Strategy, Waiter

# The queues, by the identifier of the thread. Most often a queue exists only while an errand is in it.
pending: dict[int, deque[Errand]] = {}

# Held while a waiter gets its bell, so that it gets one. Reentrant, since a signal handler may ring meanwhile.
_ringing = ThreadRLock()
# The takers of an errand that are not calls.
_WITHDRAWN, _LEFT = object(), object()


class Errand:
    """Work for a caller's thread. Subclasses say what it does (:meth:`run`), and how it ends if it cannot run."""

    __slots__ = ("_process", "_taken", "call", "has_begun", "has_ended", "owner")

    def __init__(self, call: Any) -> None:
        self.call = call
        self.owner = owner_of(call)
        self.has_begun = False  # to run
        self.has_ended = False
        self._process = os.getpid()
        self._taken: dict[None, object] = {}

    def run(self) -> None:
        """Do the work. Called in the caller's thread, once. An exception ends the wait there, and the errand too."""
        raise NotImplementedError

    def drop(self) -> None:
        """End an errand that was interrupted before it could end itself. Called in the caller's thread."""
        raise NotImplementedError

    def refuse(self) -> None:
        """End an errand whose caller has left. Called in the caller's thread."""
        raise NotImplementedError

    def take(self, by: object) -> bool:
        """Take the errand. Return False if another taker was first."""
        return self._taken.setdefault(None, by) is by

    @property
    def taken_by(self) -> object:
        """The taker; None if the errand was not taken yet."""
        return self._taken.get(None)

    @property
    def is_parents(self) -> bool:
        """Whether this process is a forked child, and the sender stayed in the parent."""
        return self._process != os.getpid()

    def withdraw(self) -> bool:
        """Take the errand back. Return False if it has begun. Called in any thread."""
        if not self.take(_WITHDRAWN):
            return False
        _remove(self)
        return True


class _Bell:
    """Replaces a call's waiter once an errand has come, and gets a new waiter for each wait."""

    def __init__(self, waiter: Waiter) -> None:
        self.inner = waiter
        self.was_told = False  # the call has ended, and its outcome is set
        self._silent = [waiter]  # empty once the waiter was notified

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def notify(self) -> None:
        """End the wait for good, because the call has ended."""
        self.was_told = True
        self.ring()

    def ring(self) -> None:
        """End the wait, unless it was ended before."""
        try:
            waiter = self._silent.pop()
        except IndexError:
            return
        waiter.notify()

    @property
    def has_rung(self) -> bool:
        """Whether the bell has notified its waiter."""
        return not self._silent

    def renew(self, waiter: Waiter) -> None:
        """Take a new waiter, after the old one was notified."""
        self.inner = waiter
        self._silent.append(waiter)


class Passing:
    """Refers to the current call of a task that serves calls one after the other."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Any = None


def call_here() -> Any:
    """Return the call or BlockedStack whose work the running code is; None where no caller ever blocked for it."""
    value = caller.get()
    return value.call if type(value) is Passing else value


def owner_of(call: Any) -> object:
    """Return the greenlet that a call waits in, if its thread runs other greenlets meanwhile; else None."""
    return getattr(call.waiter, "owner", None)


def is_open(call: Any) -> bool:
    """Return whether a thread waits for the call."""
    return call in call.run.open


def is_here(call: Any) -> bool:
    """Return whether the call waits in this very thread; the running code is an errand then."""
    return bool(call.caller == get_ident()) and is_open(call)


# In the sender's thread.


def post(errand: Errand) -> bool:
    """Make the caller's thread run the errand. Return False, and do nothing, if the caller has left."""
    call = errand.call
    if not is_open(call):
        return False
    _put(call.caller, errand)
    for each in _waits_of(call.caller):
        if _serves(each, errand):
            _ring(each)
    # A call that has ended may have read the queue before the errand was in it.
    return is_open(call) or not errand.withdraw()


def _put(ident: int, errand: Errand) -> None:
    while True:
        queue = pending.setdefault(ident, deque())
        queue.append(errand)
        if pending.get(ident) is queue:
            return
        try:  # its thread has just removed the queue as empty
            queue.remove(errand)
        except ValueError:  # and has seen the errand all the same
            return


def _waits_of(ident: int) -> list[Any]:
    runs = [target for target in watchdog.targets if isinstance(target, Run)]
    calls: list[Any] = [call for run in runs for call in run.calls()]
    return [call for call in calls if call.caller == ident]


def _ring(call: Any) -> None:
    """Wake the call's thread, so that it serves the queue."""
    with _ringing:
        bell = call.waiter
        if type(bell) is not _Bell:
            bell = call.waiter = _Bell(bell)
    if is_open(call):
        bell.ring()


# In the thread that waits.


def ring_self(call: Any) -> None:
    """Make a call that is about to wait serve the queue first, if an errand in it is for it to run."""
    for errand in tuple(pending.get(call.caller, ())):
        # Not taken yet; or taken by this call, which was interrupted.
        if (errand.taken_by is None and _serves(call, errand)) or (errand.taken_by is call and not errand.has_ended):
            _ring(call)
            return


def has_rung(call: Any) -> bool:
    """Return whether a bell has notified the call's waiter, which must not be used again then."""
    bell = call.waiter
    return type(bell) is _Bell and bell.has_rung


def serve(call: Any, strategy: Strategy) -> bool:
    """Run the errands of this thread that may run where the call waits, and give the call a new waiter.

    :returns: whether the call has ended, so that the waiter may never be notified.
    :raises BaseException: an exception of the caller's own that ended an errand: Ctrl-C, ``SystemExit``.
    """
    bell = call.waiter
    if bell.was_told:
        return True
    while (errand := _take(call)) is not None:
        try:
            if errand.has_begun:  # it was interrupted the last time
                errand.drop()
            else:
                errand.has_begun = True
                errand.run()
        finally:
            if errand.has_ended:
                _remove(errand)
    _drop_if_empty(call.caller)
    if strategy.unavailable() is not None:  # an errand has ended what the strategy needs, such as a GUI
        strategy = resolve("auto")
    waiter: Any = strategy.waiter()
    if hasattr(waiter, "was_told"):  # a GUI's: the application has ended, which is reported once
        waiter.was_told = getattr(bell.inner, "was_told", False)
    bell.renew(waiter)
    ring_self(call)
    return bool(bell.was_told)


def _take(call: Any) -> Errand | None:
    for errand in tuple(pending.get(call.caller, ())):
        if not errand.has_ended and _serves(call, errand) and errand.take(call):
            return errand
    return None


def leave(call: Any) -> None:
    """End the errands for a call that is not open any more, and those it took and did not run. Called by its thread."""
    for errand in tuple(pending.get(call.caller, ())):
        if errand.taken_by is call:
            if not errand.has_ended:
                errand.drop()
        elif errand.call is call and errand.take(_LEFT):
            errand.refuse()
        else:
            continue
        _remove(errand)
    _drop_if_empty(call.caller)


def _serves(call: Any, errand: Errand) -> bool:
    """Return whether the errand may run where the call waits.

    If a wait lets other greenlets of its thread go on, only the greenlet that the errand is for runs it. A thread that
    sleeps runs all its errands. In a process that gevent has patched it does not, because there a greenlet takes the
    place of a thread.
    """
    owner = owner_of(call)
    return owner is errand.owner or ((owner is None or errand.owner is None) and not is_patched())


def _remove(errand: Errand) -> None:
    queue = pending.get(errand.call.caller)
    if queue is not None:
        try:
            queue.remove(errand)
        except ValueError:
            pass


def _drop_if_empty(ident: int) -> None:
    if pending.get(ident, True):
        return
    queue = pending.pop(ident, None)
    for errand in tuple(queue or ()):  # a sender has put it there and not checked again yet
        try:
            queue.remove(errand)  # type: ignore[union-attr]
        except ValueError:
            continue
        _put(ident, errand)


def after_fork() -> None:
    """Forget the errands of the parent's work, in a forked child."""
    global _ringing
    _ringing = ThreadRLock()
    pending.clear()
