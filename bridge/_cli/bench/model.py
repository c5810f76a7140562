"""The model: rows, which are measured; tables and curves, which show them; the host of a process's rows."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

Measure = Callable[[int], list[float]]
"""Measure so many times and return the values, in the row's unit. Raises AssertionError if a result is wrong."""


class Host:
    """Resources that the rows of one process share. Each is opened on first use and closed at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: dict[Callable[[], AbstractContextManager[Any]], Any] = {}
        self._measures: dict[str, Measure] = {}

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def shared(self, make: Callable[[], AbstractContextManager[T]]) -> T:
        """Return the value of a context manager. For each ``make`` it is made and entered once."""
        if make not in self._open:
            self._open[make] = self._stack.enter_context(make())
        value: T = self._open[make]
        return value

    def measure(self, row: Row, times: int) -> list[float]:
        """Measure a row so many times. Prepare it on first use."""
        if row.name not in self._measures:
            self._measures[row.name] = row.prepare(self)
        return self._measures[row.name](times)


@dataclass(frozen=True)
class Row:
    """One thing that is measured.

    :param process: the name of its process. Rows with the same name share a process.
    :param unit: the unit of the values: "s" or "B". Less is better in both.
    :param times: how often it is measured in a batch; None for as often as the batch has time for.
    :param once: measure it in the first round of the first set of processes only, since it takes long.
    :param per_second: for a row that shows a throughput: the number of things that are done in one measured time; 0 for
        a row that shows the time.
    """

    name: str
    label: str
    process: str
    prepare: Callable[[Host], Measure]
    unit: str = "s"
    times: int | None = None
    per_second: int = 0
    once: bool = False


@dataclass(frozen=True)
class Table:
    """Rows that are shown together, the baseline first.

    :param references: by title of a column, the row whose multiples the column shows.
    :param threads: whether it matters on which cores the threads run.
    :param picture: the name of the file in which it is drawn; "" for none.
    :param percentiles: show the percentiles, since the slow calls matter.
    """

    title: str
    rows: list[Row]
    references: dict[str, str]
    threads: bool = False
    picture: str = ""
    percentiles: bool = False


@dataclass(frozen=True)
class Curves:
    """Growth with some number: lines on logarithmic axes.

    :param picture: the name of the file in which it is drawn, beside other curves with that name.
    :param lines: by label, the points of a line: the number on the x axis and its row.
    """

    title: str
    picture: str
    xlabel: str
    ylabel: str
    lines: dict[str, list[tuple[int, Row]]]
    threads: bool = False

    @property
    def rows(self) -> list[Row]:
        """Every row of every line."""
        return [row for points in self.lines.values() for _, row in points]


@dataclass(frozen=True)
class Group:
    """Tables and curves whose rows are measured in turns, so that their ratios hold."""

    name: str
    tables: list[Table] = field(default_factory=list[Table])
    curves: list[Curves] = field(default_factory=list[Curves])

    @property
    def rows(self) -> list[Row]:
        """The rows, each once."""
        shown: Sequence[Table | Curves] = [*self.tables, *self.curves]
        return list({row.name: row for each in shown for row in each.rows}.values())

    @property
    def threads(self) -> bool:
        """Whether it matters on which cores the threads run."""
        shown: Sequence[Table | Curves] = [*self.tables, *self.curves]
        return any(each.threads for each in shown)


def library(name: str) -> Any:
    """Import an optional library. Type checkers take it for ``Any``."""
    return importlib.import_module(name)


def missing(names: Sequence[str]) -> list[str]:
    """Return the modules that are not installed."""
    return [name for name in names if _is_missing(name)]


@functools.cache
def _is_missing(name: str) -> bool:
    return importlib.util.find_spec(name) is None
