"""Foreign greenlets beside ours: what they send to any greenlet of ours goes to the one that is in charge.

SQLAlchemy, greenback, Playwright and pytest-twisted run sync code in a greenlet of their own, called *foreign* here. It
gives control back by ``getcurrent().parent.switch(value)``, by a ``switch()`` of a greenlet that the library has kept,
or by ending. On asyncio's own loop the target is always the same greenlet: the one that runs the loop. It gets the
value in the ``switch()`` by which it has resumed the foreign greenlet.

Here several greenlets share that role. One of them is *in charge*: the runner that iterates the loop, or the stack that
has resumed. It stays in charge while it is in a ``switch()`` to a foreign greenlet. The others are parked or blocked.
A value sent to any greenlet of ours belongs to the one in charge. Three mechanisms deliver it there:

1. :class:`Runner` has its own ``switch()``, ``throw()`` and ``gr_context``, which act on the greenlet in charge.
2. When a greenlet ends, its parent resumes without a call of ``switch()``. So each greenlet of ours that resumes checks
   whether it is in charge, and if not hands on what it was sent: see :meth:`Charge.hand_on`.
3. A foreign greenlet that blocks leaves the runner under it in the middle of a ``switch()``. The code around that is
   foreign and checks nothing. So while a foreign greenlet is blocked, a trace function (``greenlet.settrace``) changes
   the parent of every other foreign greenlet that is switched to: it will end in the one in charge. See
   :meth:`Charge.adopt`.

Before a greenlet of ours switches to another one it puts that in charge, with no call between the two lines. A signal
handler could run there, and an exception of the handler would be taken for one that a greenlet has sent. "Interrupts"
in :mod:`bridge._threads` says where CPython runs signal handlers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from greenlet import GreenletExit, getcurrent, gettrace, greenlet, settrace

from .._threads.native import get_ident, original

# The methods of greenlet itself, by which our code switches. Those of a Runner are for foreign code.
switch: Callable[..., Any] = greenlet.switch
throw: Callable[..., Any] = greenlet.throw


class Retired(SystemExit, GreenletExit):
    """Ends a runner that is parked in a callback. asyncio lets SystemExit pass, and GreenletExit ends the greenlet."""


class Charge:
    """Which of a loop's greenlets is in charge, and the duties of the others."""

    __slots__ = ("_before", "active", "ident", "inside", "parked", "root")

    def __init__(self) -> None:
        # The greenlet in charge. While the loop does not run: the greenlet that has run it last. None if the loop is
        # closed or has not run yet.
        self.active: Any = None
        self.root: greenlet | None = None  # the greenlet that runs the loop, while the loop runs
        self.ident: int | None = None  # the identifier of the thread that our greenlets belong to
        self.parked: list[greenlet] = []  # idle runners
        self.inside: set[greenlet] = set()  # the foreign greenlets that are blocked
        self._before: Callable[[str, Any], object] | None = None  # the foreign trace function that was set before ours

    def is_kept(self, each: greenlet) -> bool:
        """Return whether this greenlet of ours will be switched to again. If not, it may be collected."""
        return each in self.parked or each is self.root

    def give(self, me: greenlet, heir: greenlet, target: greenlet) -> Any:
        """Put an heir in charge and switch to the target. Return when the caller is in charge again.

        :param me: the caller. If the greenlet in charge ends, the caller is in charge again.
        :param target: the heir, or the foreign greenlet that is blocked above it.
        """
        value = error = None
        self.active = heir
        try:
            value = switch(target)
        except BaseException as raised:
            error = raised
        if error is not None or self.active is not me:
            return self.hand_on(me, value, error)
        return value

    def hand_on(self, me: greenlet, value: Any, error: BaseException | None) -> Any:
        """Hand a value or an error that the caller was sent on to the greenlet in charge, until that is the caller.

        Return or raise what the caller was sent last. What ends the caller itself is not handed on: its loop is closed,
        it is retired, or no reference to it is left.

        :param me: the greenlet that must be in charge before this returns: the caller, or the runner that it is blocked
            above.
        """
        sent: Any = None
        thrown: BaseException | None = None
        try:
            while (owner := self.active) is not me and owner is not None:
                try:
                    if isinstance(error, GreenletExit) and self._is_own_end(error):
                        break
                    if owner.dead and getcurrent() is self.root:
                        self.active = me
                        break
                    # Outside `except`, or the greenlet would keep the exception during its wait.
                    sent, thrown, value, error = value, error, None, None
                    if thrown is None:
                        value = switch(owner, sent)
                    else:
                        value = throw(owner, type(thrown), thrown, _traceback_above(thrown))
                except BaseException as raised:  # sent by a greenlet, or raised by a signal handler
                    error = raised
                sent = thrown = None
            if error is not None:
                raise error
            return value
        finally:
            del error, thrown

    def _is_own_end(self, error: GreenletExit) -> bool:
        return type(error) is Retired or not self.is_kept(getcurrent())

    def adopt(self, each: greenlet) -> None:
        """If a foreign greenlet would end in one of ours, make it end in the one in charge. Call before it resumes.

        If its parent is foreign as well, this applies to the outermost foreign greenlet.
        """
        active = self.active
        parent = each.parent
        while parent is not None and type(parent) is not Runner:
            each, parent = parent, parent.parent
        if active is None or parent is None or parent is active or parent.charge is not self:
            return
        try:
            each.parent = active
        except ValueError:  # the loop runs inside the foreign greenlet, so ours are its descendants
            pass

    def go_inside(self, stack: greenlet) -> None:
        """Note that a foreign greenlet is about to block."""
        self.adopt(stack)
        self.inside.add(stack)
        before: Any = gettrace()
        if before != self._trace:
            self._before = before
            settrace(self._trace)

    def come_out(self, stack: greenlet) -> None:
        """Undo :meth:`go_inside`."""
        self.inside.discard(stack)
        self.trace_no_more()

    def trace_no_more(self) -> None:
        """Restore the foreign trace function if no foreign greenlet is blocked."""
        if not self.inside and gettrace() == self._trace:
            before, self._before = self._before, None
            settrace(before)

    def _trace(self, event: str, args: Any) -> None:
        """Adopt each greenlet of the thread that is switched to. Called in that greenlet, before it resumes."""
        if self._before is not None:
            self._before(event, args)
        target = args[1]
        if type(target) is not Runner:
            self.adopt(target)


class Runner(greenlet):
    """A greenlet of ours that iterates the loop. For foreign code it represents the greenlet in charge."""

    __slots__ = ("charge",)
    charge: Charge
    own_context: Any = greenlet.gr_context  # the context of this greenlet itself

    def switch(self, *args: Any, **kwargs: Any) -> Any:
        """Switch to the greenlet in charge."""
        charge = self.charge
        try:
            return switch(charge.active if self._is_here() else self, *args, **kwargs)
        finally:
            charge.adopt(getcurrent())  # another greenlet may be in charge now

    def throw(self, *args: Any) -> Any:
        """Throw an exception into the greenlet in charge."""
        charge = self.charge
        try:
            return throw(charge.active if self._is_here() else self, *args)
        finally:
            charge.adopt(getcurrent())

    @property
    def gr_context(self) -> Any:
        """The context of the greenlet in charge. greenback passes on that of the greenlet in which its portal began."""
        active = self.charge.active if self._is_here() else self
        return active.own_context if isinstance(active, Runner) else active.gr_context

    @gr_context.setter
    def gr_context(self, value: Any) -> None:
        active = self.charge.active if self._is_here() else self
        if isinstance(active, Runner):
            active.own_context = value
        else:
            active.gr_context = value

    def _is_here(self) -> bool:
        return self.charge.active is not None and self.charge.ident == get_ident()


def start_runner(charge: Charge, context: Any) -> Runner:
    """Return a runner that will iterate the loop of a charge, once it is switched to.

    A new greenlet takes 8 µs, most of them for the memory of its Python frames. So each thread keeps one runner whose
    loop has stopped, and the next run of a loop in this thread gets it, whichever loop that is.
    """
    runner: Runner | None = getattr(_of_thread, "idle", None)
    _of_thread.idle = None
    if runner is not None and not runner.dead:  # dead: a foreign greenlet, whose parent it was, has ended in it
        try:
            runner.parent = getcurrent()
        except ValueError:  # a foreign greenlet runs the loop, and would end in the runner
            runner = None
    else:
        runner = None
    if runner is None:
        runner = Runner(_work_once if _is_deep() else _work)
    runner.charge = charge
    runner.own_context = context
    return runner


def _is_deep() -> bool:
    """Return whether the thread's stack is so deep that its runner may not be kept.

    A greenlet counts its frames from where it was first switched to. In a later run, from a stack that is less deep,
    the callbacks would come to the recursion limit too early.
    """
    try:
        sys._getframe(_DEEP)
    except ValueError:
        return False
    return True


def _work() -> object:
    """Iterate a loop until it is to stop, wait for the next loop, and so on. A runner that may be kept runs this.

    A traceback may keep the frame of this call for longer than the thread lasts. So when the call ends, no variable
    refers to the thread's main greenlet: when a thread has ended, greenlet asks the garbage collector what refers to
    its main greenlet, and if there is one reference and the collector finds none, greenlet drops it. A collector that
    is running finalizers does not find what is in its garbage. It would then visit the freed greenlet in the frame,
    and the process would crash.
    """
    while True:
        runner: Any = getcurrent()
        charge = runner.charge
        charge.iterate()
        parent = runner.parent
        # If this is not the main greenlet of the thread, a runner that waits would keep it alive.
        if getattr(_of_thread, "idle", None) is not None or parent is not charge.root or parent.parent is not None:
            runner = charge = parent = None
            return False
        # No call may stand between these lines: a signal handler that blocked there would block a runner that the
        # thread gives to another loop. The variables would keep the loop alive, and the runner itself.
        runner.charge, runner.own_context = _NO_CHARGE, None
        charge.active, _of_thread.idle = parent, runner
        runner = charge = None
        try:
            sent: object = switch(parent, False)
        finally:
            parent = None
        if _of_this_greenlet() is _NO_CHARGE:
            return sent  # by a foreign greenlet that has ended in this one. It goes on to the parent.


def _work_once() -> object:
    """Iterate a loop until it is to stop."""
    runner: Any = getcurrent()
    return runner.charge.iterate()


def _of_this_greenlet() -> Any:
    runner: Any = getcurrent()
    return runner.charge


_DEEP = 100  # frames; the recursion limit is 1,000 unless the program changes it
_NO_CHARGE = Charge()
_of_thread: Any = original("_thread", "_local")()  # ``idle``: the runner that the thread keeps


def _traceback_above(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception that the calling function has caught, without the frame of that function."""
    return error.__traceback__ and error.__traceback__.tb_next
