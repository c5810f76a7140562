"""Errands: functions that work on a loop has run in the thread that waits for that work.

They stand in a queue of the thread. Every wait of the thread that is open when one comes is woken, and whichever of
them has control serves the queue and waits on with a new waiter; the others find nothing to do. So an errand may block
itself, and the thread serves meanwhile.

A call pays nothing for this: it is found among the open calls when there is an errand, and its waiter gets what it
needs then (:class:`_Bell`).

An errand begins when it is *taken*, which happens once: by the call that serves it, by who asked for it and was
cancelled, or by the call that it was for, which leaves. It stays in the queue until it has ended, so that one that was
taken and never run, as Ctrl-C came between two lines, is found and ended by the call that has taken it.

Any thread may be interrupted between two steps, so their order counts:

- Who asks puts the errand into the queue, *then* looks for open calls and rings them, and *then* looks whether the
  call that it is for is still open. A call enters the open ones, and *then* looks at the queue; it leaves them, and
  *then* looks at the queue for what was for it. So an errand is seen by a call of the thread, or by who put it there.
- Who rings puts the bell in the place of the waiter, and *then* looks whether the call is still open. Who ends the call
  takes it from the open ones, and *then* takes the waiter to notify. So both use the bell, or only the second notifies.
- The thread gives the bell a new waiter, and *then* looks whether the call has ended. Who ends it notes that, and
  *then* looks for a waiter to notify.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from .._runs.run import Run
from .._threads.condition import ThreadRLock
from .._threads.native import get_ident, is_patched
from .._values.context import caller
from .._watch.watchdog import watchdog
from ..strategies import resolve
from ..strategies.interface import Strategy, Waiter

# The queues, by the identifier of the thread. Each is there only while there is something in it, most likely.
pending: dict[int, deque[Errand]] = {}

# Held by who rings, so that a waiter gets one bell. Reentrant, since a signal handler may ring in the middle of it.
_ringing = ThreadRLock()
# Who has taken an errand, if it is no call.
_WITHDRAWN, _LEFT = object(), object()


class Errand:
    """Something to do in a caller's thread. Subclasses say what (:meth:`run`), and what becomes of it otherwise."""

    __slots__ = ("_process", "_taken", "call", "has_begun", "has_ended", "owner")

    def __init__(self, call: Any) -> None:
        self.call = call
        self.owner = owner_of(call)
        self.has_begun = False  # to run
        self.has_ended = False
        self._process = os.getpid()
        self._taken: dict[None, object] = {}

    def run(self) -> None:
        """Do it. Called in the caller's thread, once. What it raises ends the wait there; then it has ended, too."""
        raise NotImplementedError

    def drop(self) -> None:
        """End it, as it was interrupted where it could not do so itself. Called in the caller's thread."""
        raise NotImplementedError

    def refuse(self) -> None:
        """End it, as its caller has left. Called in the caller's thread."""
        raise NotImplementedError

    def take(self, by: object) -> bool:
        """Return whether it is for this one to deal with; it is for the first who asks."""
        return self._taken.setdefault(None, by) is by

    @property
    def taken_by(self) -> object:
        """Who has taken it, None if nobody has."""
        return self._taken.get(None)

    @property
    def is_parents(self) -> bool:
        """Whether this is a forked child, and who asked for it stayed with the parent."""
        return self._process != os.getpid()

    def withdraw(self) -> bool:
        """Take it back. Return False if it has begun. Called in any thread."""
        if not self.take(_WITHDRAWN):
            return False
        _remove(self)
        return True


class _Bell:
    """Stands in the place of a call's waiter once an errand has come. It has a new waiter for each wait."""

    def __init__(self, waiter: Waiter) -> None:
        self.inner = waiter
        self.was_told = False  # that the call has ended, with its outcome there
        self._silent = [waiter]  # empty once it was notified

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def notify(self) -> None:
        """End the wait for good, as the call has ended."""
        self.was_told = True
        self.ring()

    def ring(self) -> None:
        """End the wait, if nobody has."""
        try:
            waiter = self._silent.pop()
        except IndexError:
            return
        waiter.notify()

    @property
    def has_rung(self) -> bool:
        """Whether the waiter was notified by way of this."""
        return not self._silent

    def renew(self, waiter: Waiter) -> None:
        """Take a new waiter, as the old one has been notified."""
        self.inner = waiter
        self._silent.append(waiter)


class Passing:
    """Stands for the call that is the last one, for a task that serves one after the other."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Any = None


def call_here() -> Any:
    """Return the call whose work this is, or the BlockedStack; None where nobody blocks for it or ever did."""
    value = caller.get()
    return value.call if type(value) is Passing else value


def owner_of(call: Any) -> object:
    """Return the greenlet that a call waits in, if its thread goes on with others meanwhile; else None."""
    return getattr(call.waiter, "owner", None)


def is_open(call: Any) -> bool:
    """Return whether a thread waits for the call."""
    return call in call.run.open


def is_here(call: Any) -> bool:
    """Return whether the call waits in this very thread, which runs an errand then."""
    return bool(call.caller == get_ident()) and is_open(call)


# In the thread of who asks.


def post(errand: Errand) -> bool:
    """Have the caller's thread run the errand. Return False, and do nothing, if the caller has left."""
    call = errand.call
    if not is_open(call):
        return False
    _put(call.caller, errand)
    for each in _waits_of(call.caller):
        if _serves(each, errand):
            _ring(each)
    # Else the call's end may have looked before the errand was there.
    return is_open(call) or not errand.withdraw()


def _put(ident: int, errand: Errand) -> None:
    while True:
        queue = pending.setdefault(ident, deque())
        queue.append(errand)
        if pending.get(ident) is queue:
            return
        try:  # its thread has just taken the queue away as empty
            queue.remove(errand)
        except ValueError:  # and has seen the errand all the same
            return


def _waits_of(ident: int) -> list[Any]:
    runs = [target for target in watchdog.targets if isinstance(target, Run)]
    calls: list[Any] = [call for run in runs for call in run.calls()]
    return [call for call in calls if call.caller == ident]


def _ring(call: Any) -> None:
    """Let the call's thread look at the queue."""
    with _ringing:
        bell = call.waiter
        if type(bell) is not _Bell:
            bell = call.waiter = _Bell(bell)
    if is_open(call):
        bell.ring()


# In the thread that waits.


def ring_self(call: Any) -> None:
    """Let a call that is about to wait serve the queue first, if there is something in it."""
    for errand in tuple(pending.get(call.caller, ())):
        # Either nobody has begun it, or this call has and was interrupted.
        if (errand.taken_by is None and _serves(call, errand)) or (errand.taken_by is call and not errand.has_ended):
            _ring(call)
            return


def has_rung(call: Any) -> bool:
    """Return whether the call's waiter was notified by way of a bell: it must not be used again."""
    bell = call.waiter
    return type(bell) is _Bell and bell.has_rung


def serve(call: Any, strategy: Strategy) -> bool:
    """Run the errands of this thread that may run where the call waits, and give the call a new waiter.

    :returns: whether the call has ended, so that the waiter may never be notified.

    :raises BaseException: what ended an errand and is the caller's: Ctrl-C, ``SystemExit``.
    """
    bell = call.waiter
    if bell.was_told:
        return True
    while (errand := _take(call)) is not None:
        try:
            if errand.has_begun:  # the last time it was interrupted
                errand.drop()
            else:
                errand.has_begun = True
                errand.run()
        finally:
            if errand.has_ended:
                _remove(errand)
    _drop_if_empty(call.caller)
    if strategy.unavailable() is not None:  # an errand has ended what it stands on, such as a GUI
        strategy = resolve("auto")
    waiter: Any = strategy.waiter()
    if hasattr(waiter, "was_told"):  # that the application has ended; to hear it once is enough
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
    """End what waits for a call that is not open any more, and what it has taken and not run. Called by its thread."""
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

    Where a wait lets other greenlets of its thread go on, the greenlet that the errand is for runs it. But a thread
    that sleeps runs them all, except in a process that gevent has patched: there a greenlet is what a thread is to
    others.
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
    for errand in tuple(queue or ()):  # put there by somebody who has not looked again yet
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
