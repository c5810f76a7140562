"""To whom a thing belongs that is on a loop: to a fixture, or to the run of a test.

The variable ``maker`` says for whom code runs. It is set while a fixture of a wider scope is set up and torn down, and
during the rest of a test. Tasks and callbacks inherit it by their context, delayed calls by their function
(:mod:`bridge._twisted.makers`), threads here. So what a fixture's task, timer or server makes later is the fixture's,
whichever test runs by then. What is made by nobody who is known is charged to no test.

A client of a fixture may connect, or start a task, when a test first uses it. What such a test makes is the fixture's
too if the fixture's value, or something else that is the fixture's, refers to it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from types import FrameType, FunctionType, ModuleType
from typing import Any, cast

from ..._values.context import maker
from ..._values.deferreds import is_deferred_type

# Libraries whose threads work for whoever has work.
_POOLS = frozenset({"anyio", "asyncio", "bridge", "concurrent", "twisted"})


class Maker:
    """A fixture of a wider scope from its set-up to its teardown, or one run of a test."""

    def __init__(self, fixture: Any = None) -> None:
        self.fixture = fixture
        self.is_over = False
        self.was_told = False  # what is left of it has been reported

    @property
    def is_open(self) -> bool:
        """Whether this is a fixture that has not been torn down."""
        return self.fixture is not None and not self.is_over

    def __str__(self) -> str:
        return f"the fixture {self.fixture.argname!r} ({self.fixture.scope})"


def now_for(made_by: Maker | None, lasting: Iterable[asyncio.Task[Any]]) -> Maker | None:
    """Note for whom code runs from now on, and return for whom it did.

    :param lasting: tasks, of another plugin, that run fixtures and tests one after the other.
    """
    before: Any = maker.get()
    maker.set(made_by)
    for task in lasting:
        context = _context_of(task)
        if context is not None:
            with suppress(RuntimeError):  # it is in this context that this runs
                context.run(maker.set, made_by)
    return before  # type: ignore[no-any-return]


def maker_in(context: Context | None) -> Any:
    """Return the maker that a context has."""
    return None if context is None else context.get(maker)


def maker_of_task(task: asyncio.Task[Any]) -> Any:
    """Return the maker in a task's context."""
    return maker_in(_context_of(task))


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    context: Context | None = getattr(task, "_context", None)  # of a task that is written in Python
    if context is None:
        context = next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)
    return context


class Threads:
    """Notes who starts a thread, and has the thread inherit it."""

    def __init__(self) -> None:
        self._makers: weakref.WeakKeyDictionary[threading.Thread, Any] = weakref.WeakKeyDictionary()
        self._start = threading.Thread.start
        makers, start = self._makers, self._start

        def noted(thread: threading.Thread) -> None:
            made_by = maker.get()
            if made_by is not None:
                makers[thread] = made_by
                if sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] not in _POOLS:
                    _inherit(thread, made_by)
            start(thread)

        self._noted = noted
        threading.Thread.start = noted  # type: ignore[method-assign, assignment]

    def maker_of(self, thread: threading.Thread) -> Any:
        """Return who has started a thread."""
        return self._makers.get(thread)

    def end(self) -> None:
        """Note no more threads."""
        if threading.Thread.start is self._noted:
            threading.Thread.start = self._start  # type: ignore[method-assign]


def _inherit(thread: threading.Thread, made_by: object) -> None:
    def run() -> None:
        del thread.run
        maker.set(made_by)
        thread.run()

    thread.run = run  # type: ignore[method-assign]


# What everything can be reached from.
_NOT_FOLLOWED = (Maker, ModuleType, type, FrameType, Context, asyncio.AbstractEventLoop)


def held_by(roots: Iterable[Any]) -> set[int]:
    """Return the ids of all objects that these refer to."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        each = todo.pop()
        if id(each) in seen or _is_of_all(each):
            continue
        seen.add(id(each))
        todo += _referents(each)
    return seen


def _is_of_all(x: object) -> bool:
    kind = type(x)  # a proxy's __class__ may be another, or fail
    is_reactor = hasattr(kind, "callWhenRunning")
    return issubclass(kind, _NOT_FOLLOWED) or is_reactor or str(kind.__module__).startswith("_pytest.")


def _referents(x: Any) -> list[Any]:
    kind = cast("type[object]", type(x))
    if kind is FunctionType:
        return [x.__closure__, x.__defaults__, x.__kwdefaults__, x.__dict__]
    if issubclass(kind, asyncio.Task):
        # CPython 3.12.1's get_coro() reads from address 0 if the task was eager and has ended.
        return [] if x.done() else [x.get_coro()]
    if issubclass(kind, asyncio.Future) or is_deferred_type(kind):
        return []  # whoever waits for it is not part of it
    return gc.get_referents(x)
