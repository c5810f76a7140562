"""Context variables between a thread that calls and a task that works for it over several calls.

Each ``block_on`` runs in a copy of its caller's context. A task that serves one iteration, or one ``with`` block, has
one context for all its calls, because a generator may reset in one step a variable that it set in an earlier one. So
before a call the caller's changes are set in the task, and after it the task's changes are set in the caller.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, Token, copy_context
from typing import Any

from .._values.context import caller, library
from . import asgiref
from .errands import Passing, call_here

_MISSING = object()


class Variables:
    """Keeps two contexts in step, change by change, so that neither side's older value overwrites a newer one."""

    def __init__(self) -> None:
        self.context: Context | None = None  # the task's
        self._caller = Passing()
        self._executor: Any = None  # asgiref's, of the caller
        self._seen: Context  # the caller's, as of the last call
        self._before: Context  # the task's, as of the last call
        self._incoming: list[tuple[ContextVar[Any], Any]] = []
        self._outgoing: list[tuple[ContextVar[Any], Any]] = []
        self._gone: list[ContextVar[Any]] = []
        self._tokens: dict[ContextVar[Any], Token[Any]] = {}

    def send(self) -> None:
        """Note the caller's changes. Called in its thread, before a call."""
        now = copy_context()
        if self.context is None:
            self._before = self.context = now.copy()
        else:
            self._incoming += _changes(self._seen, now)
        self._seen = now

    def note_caller(self) -> None:
        """Note which call the task works for from now on. Called on the loop's thread, in the call's own context."""
        call = self._caller.call = call_here()
        self._executor = asgiref.followed(self._executor, call)

    def begin(self) -> None:
        """Set the caller's changes. Called in the task."""
        assert self.context is not None
        incoming, self._incoming = self._incoming, []
        for variable, value in incoming:
            if variable.get(_MISSING) is not value:
                variable.set(value)
        caller.set(self._caller)
        if self._executor is not None:
            asgiref.enter(self._executor)
        if library.get() not in (None, "asyncio"):
            library.set(None)
        self._before = self.context.copy()

    def end(self) -> None:
        """Note the task's changes. Called in the task, or while it waits."""
        assert self.context is not None
        before, self._before = self._before, self.context.copy()
        self._outgoing += _changes(before, self._before)
        self._gone += [variable for variable in before if variable not in self._before]

    def drop(self) -> None:
        """Leave the task's changes with it. Called instead of :meth:`receive`."""
        self._outgoing.clear()
        self._gone.clear()

    def receive(self) -> None:
        """Set the task's changes. Called in the caller's thread, after a call."""
        if not self._outgoing and not self._gone:
            return
        outgoing, self._outgoing = asgiref.for_here(self._outgoing), []
        gone, self._gone = self._gone, []
        for variable, value in outgoing:
            if variable.get(_MISSING) is not value:
                token = variable.set(value)
                if token.old_value is Token.MISSING:
                    self._tokens[variable] = token
        for variable in gone:
            # Only a token that was made in this very context can unset a variable.
            made = self._tokens.pop(variable, None)
            if made is not None:
                try:
                    variable.reset(made)
                except (ValueError, RuntimeError):
                    pass
        self._seen = copy_context()


def _changes(before: Context, after: Context) -> list[tuple[ContextVar[Any], Any]]:
    return [(variable, value) for variable, value in after.items() if before.get(variable, _MISSING) is not value]
