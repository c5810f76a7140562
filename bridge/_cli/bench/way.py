"""The interface of a peer, and the stopwatch."""

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
"""Wait for the work once, and return its result."""

# Context variables of the caller, as a real program has some. Peers that copy the context copy these.
_VARIABLES = [ContextVar[str](f"benchmark_{number}") for number in range(3)]


class Way(Protocol):
    """A peer that is set up and can wait."""

    def once(self, forms: Forms, work: Work) -> Once | None:
        """Return a function that waits for the work once; None if the peer cannot wait for such a work."""
        ...

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function in the place where the peer's callers run."""
        ...


class InThisThread:
    """A way whose callers run in plain sync code."""

    def __init__(self, once: Callable[[Forms, Work], Once | None]) -> None:
        self._once = once

    def once(self, forms: Forms, work: Work) -> Once | None:
        """See :meth:`Way.once`."""
        return self._once(forms, work)

    def run(self, function: Callable[[], Any]) -> Any:
        """Call the function."""
        return function()


def by_coroutine(call: Callable[[Callable[[], Any]], Once]) -> InThisThread:
    """Return the way of a peer that can wait for coroutines only."""
    return InThisThread(lambda forms, work: None if forms.coroutine is None else call(forms.coroutine))


def by_deferred(reactor: Any, call: Callable[[Callable[[], Any]], Once]) -> InThisThread:
    """Return the way of a peer that can wait for Deferreds only."""

    def once(forms: Forms, work: Work) -> Once | None:
        deferred = forms.deferred
        return None if deferred is None else call(lambda: deferred(reactor))

    return InThisThread(once)


@dataclass(frozen=True)
class Peer:
    """A library that can wait for works. A context manager sets it up.

    :param needs: the modules that it imports.
    :param worlds: which of "asyncio" and "twisted" it can wait for.
    :param contender: whether it does the same job as bridge, so that bridge should be faster.
    """

    name: str
    label: str
    open: Callable[[], AbstractContextManager[Way]]
    needs: Sequence[str] = ()
    worlds: frozenset[str] = frozenset({"asyncio", "twisted"})
    contender: bool = True
    only: frozenset[str] | None = None  # works, by name; None for all that its worlds admit

    def lacks(self) -> str | None:
        """Return the modules that are not installed; None if all are."""
        return ", ".join(missing(self.needs)) or None

    def waits_for(self, work: Work) -> bool:
        """Return whether it can wait for the work."""
        if self.only is not None and work.name not in self.only:
            return False
        if work.name == "asyncio_socket":
            return "asyncio" in self.worlds
        return work.name != "twisted_socket" or "twisted" in self.worlds


Meanwhile = Callable[[Host], AbstractContextManager[None]]


def stopwatch(peer: Peer, work: Work, meanwhile: Meanwhile = resting) -> Callable[[Host], Measure]:
    """Return a function that prepares a row, which times single calls by the peer.

    :param meanwhile: the background load during a batch.
    """

    def prepare(host: Host) -> Measure:
        way: Any = host.shared(peer.open)
        context = copy_context()
        for variable in _VARIABLES:
            context.run(variable.set, "value")
        if hasattr(way, "measure"):  # it awaits, so it cannot be called by a sync function
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
    """Return the versions of the installed peers' distributions."""
    from importlib.metadata import packages_distributions, version

    owners = packages_distributions()
    found: dict[str, str] = {}
    for peer in peers:
        if peer.lacks() is None:
            for module in peer.needs:
                for distribution in owners.get(module.split(".")[0], [])[:1]:
                    found[distribution] = version(distribution)
    return found
