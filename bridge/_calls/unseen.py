"""The errors of submitted work that nobody has asked its Future for: each kind of failure is logged once.

A Future that is dropped tells of its error. The Futures that are left when the process exits tell of theirs then: an
interrupted program may have hundreds. Calls that were submitted at the same place and failed with the same type of
error are one kind.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from .._runs.exit import process_exit
from .._values.origin import Origin, shown
from .._watch.records import Repeatable, records

log = logging.getLogger("bridge")

# Futures with such an error, by id. Another thread may add one at any moment. valuerefs() is atomic.
_failed: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
# Failures that were told of while the process exits.
_at_exit: deque[Unseen] = deque()

# Called with each failure before it is logged: those of a test session. They only take note of it.
watchers: list[Callable[[Unseen], object]] = []


class Unseen(NamedTuple):
    """A failure of submitted work."""

    what: str  # that was submitted
    error: BaseException
    origin: Origin  # where submit() was called
    is_late: bool = False  # it came after the end of the loop had failed the call

    @property
    def key(self) -> Hashable:
        """The kind of the failure."""
        return self.what, type(self.error), tuple(self.origin), self.is_late

    def record(self, count: int) -> logging.LogRecord:
        """Return the record for so many failures of this kind, of which this is the first."""
        failed = f"submit({self.what}) failed"
        if count > 1:
            failed += f" {count} times with {type(self.error).__name__}"
        why = "as its loop ended" if self.is_late else "and nobody asked its Future for the error"
        text = f"{failed}, {why}; it was called at:"
        text = f"{text}\n{shown(self.origin)}"
        exc_info = type(self.error), self.error, self.error.__traceback__
        return log.makeRecord("bridge", logging.ERROR, __file__, 0, text, (), exc_info)


def keep(future: Any) -> None:
    """Remember a Future with an ``unseen`` error until it is dropped or the process exits."""
    _failed[id(future)] = future


def tell(unseen: Unseen) -> None:
    """Log a failure, with others of its kind. May be called by a finalizer, at any line of any thread."""
    for watch in watchers:
        watch(unseen)
    if process_exit.has_begun:
        _at_exit.append(unseen)
    elif log.isEnabledFor(logging.ERROR):
        records.handle(Repeatable(unseen.key, unseen.record))


def _tell_at_exit() -> None:
    """Log the failures that are left, when the loops have ended."""
    for ref in _failed.valuerefs():
        future = ref()
        unseen: Unseen | None = None if future is None else future.take_unseen()
        if unseen is not None:
            _at_exit.append(unseen)
    kinds: dict[Hashable, list[Unseen]] = {}
    while _at_exit:
        unseen = _at_exit.popleft()
        kinds.setdefault(unseen.key, []).append(unseen)
    if log.isEnabledFor(logging.ERROR):
        for kind in kinds.values():
            records.handle(kind[0].record(len(kind)))


process_exit.reports.append(_tell_at_exit)
