"""A way to wait for a work, and the stopwatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from .model import Host, Measure, missing
from .works import Forms, Refused, Work, resting

Once = Callable[[], object]
"""Wait for the work once, and return what came of it."""

# What a caller's context holds in a program of any size; those that copy it copy these.
_VARIABLES = [ContextVar[str](f"benchmark_{number}") for number in range(3)]


class Way(Protocol):
    """How a peer waits, once it has been set up."""

    def once(self, forms: Forms, work: Work) -> Once | None:
        """Return what waits for the work once, or None if the peer cannot wait for such a work."""
        ...

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function where the peer's callers stand."""
        ...


class InThisThread:
    """A way whose callers stand in plain sync code."""

    def __init__(self, once: Callable[[Forms, Work], Once | None]) -> None:
        self._once = once

    def once(self, forms: Forms, work: Work) -> Once | None:
        """As :meth:`Way.once`."""
        return self._once(forms, work)

    def run(self, function: Callable[[], Any]) -> Any:
        """Call it."""
        return function()


def by_coroutine(call: Callable[[Callable[[], Any]], Once]) -> InThisThread:
    """Return the way of a peer that knows asyncio only."""
    return InThisThread(lambda forms, work: None if forms.coroutine is None else call(forms.coroutine))


def by_deferred(reactor: Any, call: Callable[[Callable[[], Any]], Once]) -> InThisThread:
    """Return the way of a peer that knows Twisted only."""

    def once(forms: Forms, work: Work) -> Once | None:
        deferred = forms.deferred
        return None if deferred is None else call(lambda: deferred(reactor))

    return InThisThread(once)


@dataclass(frozen=True)
class Peer:
    """A library's means to wait, set up by a context manager.

    :param needs: the modules that it imports.
    :param worlds: which of "asyncio" and "twisted" it can wait for.
    :param contender: whether it does the same job as we do, so that being first means being before it.
    """

    name: str
    label: str
    open: Callable[[], AbstractContextManager[Way]]
    needs: Sequence[str] = ()
    worlds: frozenset[str] = frozenset({"asyncio", "twisted"})
    contender: bool = True
    only: frozenset[str] | None = None  # works, by name; None for all that its worlds admit

    def lacks(self) -> str | None:
        """Return what has to be installed first, None if nothing has to."""
        return ", ".join(missing(self.needs)) or None

    def waits_for(self, work: Work) -> bool:
        """Return whether it can."""
        if self.only is not None and work.name not in self.only:
            return False
        if work.name == "asyncio_socket":
            return "asyncio" in self.worlds
        return work.name != "twisted_socket" or "twisted" in self.worlds


Meanwhile = Callable[[Host], AbstractContextManager[None]]


def stopwatch(peer: Peer, work: Work, meanwhile: Meanwhile = resting) -> Callable[[Host], Measure]:
    """Return what prepares to time single calls by the peer.

    :param meanwhile: what else happens during a batch.
    """

    def prepare(host: Host) -> Measure:
        way: Any = host.shared(peer.open)
        context = copy_context()
        for variable in _VARIABLES:
            context.run(variable.set, "value")
        if hasattr(way, "measure"):  # no function can stand between: it awaits
            timed: Measure = way.measure(work.prepare(host), work)
        else:
            once = way.once(work.prepare(host), work)
            if once is None:
                raise LookupError(f"{peer.name} cannot wait for {work.name}")
            timed = _timed(way, once, work)

        def measure(calls: int) -> list[float]:
            with meanwhile(host):
                return context.run(timed, calls)

        return measure

    return prepare


def _timed(way: Way, once: Once, work: Work) -> Measure:
    if work.raises:
        once = _caught(once)
    is_right = work.is_right

    def measure(calls: int) -> list[float]:
        clock = perf_counter
        times: list[float] = []
        for _ in range(calls):
            begin = clock()
            result = once()
            times.append(clock() - begin)
            if not is_right(result):
                raise AssertionError(f"a call returned {result!r}")
        return times

    return lambda calls: way.run(lambda: measure(calls))


def _caught(once: Once) -> Once:
    def call() -> object:
        try:
            return once()
        except Refused as error:
            return error.with_traceback(None)

    return call


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Return the versions of the distributions that the peers which are installed come from."""
    from importlib.metadata import packages_distributions, version

    owners = packages_distributions()
    found: dict[str, str] = {}
    for peer in peers:
        if peer.lacks() is None:
            for module in peer.needs:
                for distribution in owners.get(module.split(".")[0], [])[:1]:
                    found[distribution] = version(distribution)
    return found
