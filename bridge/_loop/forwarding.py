"""Greenlets of others beside ours: what they send to a greenlet of ours goes to the one that is in charge.

SQLAlchemy, greenback, Playwright and pytest-twisted run sync code in a greenlet of their own. It gives control back by
``getcurrent().parent.switch(value)``, by a ``switch()`` of a greenlet that they have kept, or by ending. On asyncio's
own loop that is always the same greenlet, the one that runs the loop, and it gets the value where it stands: in the
``switch()`` by which it has resumed the other one. Here several greenlets share that part. One is *in charge*: the
runner that iterates the loop, or the stack that goes on, and it stays in charge while it is in a ``switch()`` to a
greenlet of somebody else's. The others are parked or blocked. Whatever is sent to any of ours belongs to the one in
charge. Three things see to it:

1. :class:`Runner` has a ``switch()`` and a ``throw()`` of its own, and a ``gr_context``, that are those of the greenlet
   in charge.
2. A greenlet that ends is followed by its parent, without a call of ``switch()``. So each greenlet of ours that is
   switched to looks whether it is in charge, and if not hands on what it has got: see :meth:`Charge.hand_on`.
3. A greenlet of somebody else's that blocks leaves the runner under it in the middle of a ``switch()``, in code that is
   not ours and looks at nothing. As long as there is one, a trace function of greenlet's lets every other greenlet of
   somebody else's that is switched to end in the one in charge: see :meth:`Charge.adopt`.

Whoever of ours switches to another one of ours puts that in charge first, with no call between the two lines: a signal
handler would run there, and what it raised would be taken for something that somebody has sent. CPython handles signals
where a function is entered, where a call returns, and where a loop goes round.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from greenlet import GreenletExit, getcurrent, gettrace, greenlet, settrace

from .._threads.native import get_ident

# The methods of greenlet itself, by which ours are switched to: those of a Runner are for others.
switch: Callable[..., Any] = greenlet.switch
throw: Callable[..., Any] = greenlet.throw


class Retired(SystemExit, GreenletExit):
    """Ends a runner that is parked in a callback: asyncio lets a SystemExit pass, a greenlet ends by a GreenletExit."""


class Charge:
    """Which of a loop's greenlets is in charge, and the duties of the others."""

    __slots__ = ("_before", "_tracer", "active", "ident", "inside", "parked", "root")

    def __init__(self) -> None:
        # In charge. While the loop does not run that is the greenlet that has run it last; None: it is closed, or has
        # not run yet.
        self.active: Any = None  # a greenlet
        self.root: greenlet | None = None  # that runs the loop, while the loop runs
        self.ident: int | None = None  # of the thread that ours belong to
        self.parked: list[greenlet] = []  # runners that have nothing to do
        self.inside: set[greenlet] = set()  # those of others that are blocked
        self._tracer = self._trace
        self._before: Callable[[str, Any], object] | None = None  # the trace function that somebody else has set

    def is_kept(self, each: greenlet) -> bool:
        """Return whether somebody is going to switch to this one of ours; if not, it is thrown away."""
        return each in self.parked or each is self.root

    def give(self, me: greenlet, heir: greenlet, target: greenlet) -> Any:
        """Put an heir in charge and switch to the target; return when the caller is in charge again.

        :param me: the caller. It is in charge again if the one in charge ends.
        :param target: the heir, or what is blocked above it.
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
        """Give what the caller was sent to the one in charge, until the caller is in charge itself.

        It returns, or raises, what the caller was sent last. That is its own if it ends: as its loop is closed, as it
        is retired, or as nobody keeps it any more.

        :param me: what is in charge when the caller may go on: the caller, or the runner that it is blocked above.
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
                    # Not in an except block, where the greenlet would keep the exception for as long as it waits.
                    sent, thrown, value, error = value, error, None, None
                    if thrown is None:
                        value = switch(owner, sent)
                    else:
                        value = throw(owner, type(thrown), thrown, _above(thrown))
                except BaseException as raised:  # sent by somebody, or raised by a signal handler
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
        """Let a greenlet of somebody else's, that is about to go on, end in the one in charge if it is to end in ours.

        If its parent is somebody else's as well, that one is meant.
        """
        active = self.active
        parent = each.parent
        while parent is not None and type(parent) is not Runner:
            each, parent = parent, parent.parent
        if active is None or parent is None or parent is active or parent.charge is not self:
            return
        try:
            each.parent = active
        except ValueError:  # it has the loop itself run, and ours end in it
            pass

    def go_inside(self, stack: greenlet) -> None:
        """Note that a greenlet of somebody else's is about to block."""
        self.adopt(stack)
        self.inside.add(stack)
        before: Any = gettrace()
        if before != self._tracer:
            self._before = before
            settrace(self._tracer)

    def come_out(self, stack: greenlet) -> None:
        """Undo :meth:`go_inside`."""
        self.inside.discard(stack)
        self.trace_no_more()

    def trace_no_more(self) -> None:
        """Put back the trace function that was there before, if no greenlet of somebody else's is blocked."""
        if not self.inside and gettrace() == self._tracer:
            before, self._before = self._before, None
            settrace(before)

    def _trace(self, event: str, args: Any) -> None:
        """Adopt each greenlet of the thread that is switched to. Called there, before it goes on."""
        if self._before is not None:
            self._before(event, args)
        target = args[1]
        if type(target) is not Runner:
            self.adopt(target)


class Runner(greenlet):
    """A greenlet of ours that iterates the loop. To others it is the one that runs the loop, whichever that is now."""

    __slots__ = ("charge",)
    charge: Charge
    own_context: Any = greenlet.gr_context  # the attribute of greenlet itself

    def switch(self, *args: Any, **kwargs: Any) -> Any:
        """Switch to the greenlet in charge."""
        charge = self.charge
        try:
            return switch(charge.active if self._is_here() else self, *args, **kwargs)
        finally:
            charge.adopt(getcurrent())  # who has resumed it may be another one than before

    def throw(self, *args: Any) -> Any:
        """Throw an exception into the greenlet in charge."""
        charge = self.charge
        try:
            return throw(charge.active if self._is_here() else self, *args)
        finally:
            charge.adopt(getcurrent())

    @property
    def gr_context(self) -> Any:
        """The context of the greenlet in charge: greenback hands on that of the greenlet that its portal began in."""
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


def start_runner(charge: Charge, run: Callable[[], object], context: Any) -> Runner:
    """Return a new runner, that has not begun."""
    runner = Runner(run)
    runner.charge = charge
    runner.own_context = context
    return runner


def _above(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception that was caught by the calling function, without that one's frame."""
    return error.__traceback__ and error.__traceback__.tb_next
