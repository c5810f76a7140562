"""crochet's class EventLoop, which its tests make with a reactor of their own, and the names that they import."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from bridge.ext import crochet as ours
from bridge.ext.crochet import EventualResult, ReactorStopped, TimeoutError

__all__ = ["EventLoop", "EventualResult", "ReactorStopped", "ResultRegistry", "ThreadLogObserver", "TimeoutError"]

ResultRegistry = ThreadLogObserver = None  # the tests of these are not run
_store = SimpleNamespace(retrieve=ours.retrieve_result)


class EventLoop:
    """The functions of the module, on the reactor that a factory returns."""

    def __init__(self, factory: Callable[[], Any], *_: object) -> None:
        self._factory = factory
        self._places: dict[str, Any] = {}

    @classmethod
    def of_the_module(cls) -> EventLoop:
        """Return the one whose place is the module's."""
        made = cls(lambda: None)
        made._places = ours._places
        return made

    @property
    def _reactor(self) -> Any:
        return self._places[""].reactor

    @property
    def _registry(self) -> Any:
        return SimpleNamespace(_results=set(self._places[""]._results.values()))

    def no_setup(self) -> None:
        """Run the functions on the reactor."""
        reactor = self._factory()
        if reactor is None:
            ours.no_setup()
            return
        import twisted.internet

        loaded = mock.patch.dict(sys.modules, {"twisted.internet.reactor": reactor})
        with self._here(), loaded, mock.patch.object(twisted.internet, "reactor", reactor, create=True):
            ours.no_setup()

    def run_in_reactor(self, function: Any) -> Any:
        """Decorate a function."""
        return self._decorated(ours.run_in_reactor, function)

    def wait_for(self, timeout: float) -> Callable[[Any], Any]:
        """Return a decorator."""
        return functools.partial(self._decorated, ours.wait_for(timeout))

    def _decorated(self, decorate: Callable[[Any], Any], function: Any) -> Any:
        if isinstance(function, classmethod):
            return classmethod(self._decorated(decorate, function.__func__))
        decorated = decorate(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._here():
                return decorated(*args, **kwargs)

        vars(call).update(vars(decorated))
        call.__name__ = decorated.__name__
        return call

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        with mock.patch.object(ours, "_places", self._places):
            yield
