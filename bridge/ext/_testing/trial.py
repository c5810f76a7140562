"""Test cases of ``twisted.trial`` on the loop of the tests.

trial runs the reactor for each Deferred that it waits for, and crashes it then. Here the reactor has been started, and
goes on: ``run()`` runs the loop, and ``crash()`` stops that. At the end of a test trial ends all delayed calls and
connections of the reactor; here those that were there before are kept from it, and those that fixtures of wider scopes
have made since.

Twisted's driver runs the coroutine of an ``async def`` method, and knows Deferreds only. Here a task runs it, which may
await both.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from .leftovers import Leftovers
from .loops import SharedLoop

_TRIAL = "twisted.trial.unittest"
_REPLACED = ("run", "crash", "getDelayedCalls", "removeAll")
# Set and put back by trial itself, as attributes of the reactor.
_BY_TRIAL = ("crash", "iterate", "stop")


def is_trial(item: pytest.Item) -> bool:
    """Return whether a test is one of a ``twisted.trial.unittest.TestCase``, which runs the reactor."""
    module: Any = sys.modules.get(_TRIAL)
    cls = getattr(item, "cls", None)
    return module is not None and isinstance(cls, type) and issubclass(cls, module.TestCase)


@contextmanager
def on_loop(shared: SharedLoop, case: Any, leftovers: Leftovers) -> Generator[None]:
    """Have the reactor do what trial expects of it, and the async methods of a test case run in tasks."""
    from ..._twisted.reactor import connections_of

    reactor = shared.reactor()
    timers_of, removed = reactor.getDelayedCalls, reactor.removeReader
    before = {*timers_of(), *connections_of(reactor)}

    def run(installSignalHandlers: bool = True) -> None:
        shared.loop.run_forever()

    def getDelayedCalls() -> list[Any]:
        return leftovers.not_of_fixtures(each for each in timers_of() if each not in before)

    def removeAll() -> list[Any]:
        left = leftovers.not_of_fixtures(each for each in connections_of(reactor) if each not in before)
        for each in left:
            removed(each)
            reactor.removeWriter(each)
        return left

    replaced: list[Any] = [run, shared.loop.stop, getDelayedCalls, removeAll]
    for name, function in zip(_REPLACED, replaced, strict=True):
        setattr(reactor, name, function)
    for name in ("setUp", "tearDown", case.id().rpartition(".")[2]):
        method = getattr(case, name)
        if inspect.iscoroutinefunction(method):
            setattr(case, name, functools.partial(_in_task, shared.loop, method))
    try:
        yield
    finally:
        for name in (*_REPLACED, *_BY_TRIAL):
            vars(reactor).pop(name, None)


def _in_task(loop: asyncio.AbstractEventLoop, method: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Call a coroutine function in a task, and return a Deferred. The task is cancelled when trial's time is up."""
    from ..._twisted.deferreds import Deferred

    deferred: Deferred[Any] = Deferred()
    task = loop.create_task(method())

    def ended(task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not deferred.called:  # trial fires it when the time is up
            deferred.callback(None) if error is None else deferred.errback(error)

    def cancel(result: Any) -> Any:
        task.cancel()
        return result

    task.add_done_callback(ended)
    deferred.addBoth(cancel)
    return deferred
