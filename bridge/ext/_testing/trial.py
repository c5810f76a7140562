"""Test cases of ``twisted.trial`` on the loop of the tests.

trial runs the reactor for each Deferred that it waits for, and crashes it then. Here the reactor has been started, and
goes on: ``run()`` runs the loop, and ``crash()`` stops that. At the end of a test trial ends all delayed calls and
connections of the reactor; here those that were there before are kept from it, such as those of fixtures.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

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
def on_loop(shared: SharedLoop) -> Generator[None]:
    """Have the reactor do what trial expects of it."""
    from ..._twisted.reactor import connections_of

    reactor = shared.reactor()
    timers_of, removed = reactor.getDelayedCalls, reactor.removeReader
    before = {*timers_of(), *connections_of(reactor)}

    def run(installSignalHandlers: bool = True) -> None:
        shared.loop.run_forever()

    def getDelayedCalls() -> list[Any]:
        return [each for each in timers_of() if each not in before]

    def removeAll() -> list[Any]:
        left = [each for each in connections_of(reactor) if each not in before]
        for each in left:
            removed(each)
            reactor.removeWriter(each)
        return left

    replaced: list[Any] = [run, shared.loop.stop, getDelayedCalls, removeAll]
    for name, function in zip(_REPLACED, replaced, strict=True):
        setattr(reactor, name, function)
    try:
        yield
    finally:
        for name in (*_REPLACED, *_BY_TRIAL):
            vars(reactor).pop(name, None)
