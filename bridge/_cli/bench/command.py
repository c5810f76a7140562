"""``python -m bridge bench``: compare the installed ways to wait, in a minute."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path

from . import calls, compare, inside, machine, plot, quick, tables, threads
from .model import Group
from .results import Results, load
from .rounds import Effort, RowFailed, measure
from .way import versions

_PROCESSES = 1
_ROUNDS = 200
_WIDTH = 100
_LEGEND = """Half of the calls took less than the median, 99 of 100 less than p99. "of asyncio's" 0.40: it took
0.40 of the time of asyncio.run_coroutine_threadsafe. "of floor": of the least that could do."""


class Progress:
    """A progress bar on a terminal. Does nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._width = 24

    def __call__(self, what: str, done: float) -> None:
        """Show the current step, and the part of all work that is done, from 0 to 1."""
        if self._shown:
            full = round(self._width * min(done, 1.0))
            bar = "#" * full + "." * (self._width - full)
            print(f"\r[{bar}] {min(done, 1.0):4.0%}  {what:<40.40}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            print(f"\r{'':<75}\r", end="", file=sys.stderr, flush=True)


def main(plot_to: Path | None, json_to: Path | None, against: Path | None, seconds: float) -> int:
    """Measure, print the tables, and return the exit status.

    :param plot_to: the path of an SVG to draw.
    :param json_to: the path of a file of results to write.
    :param against: a file of results to compare with.
    :param seconds: time for measuring, without starting the processes.
    """
    began = time.monotonic()
    try:
        if plot_to is not None:
            plot.check()
        old = None if against is None else load(against)
        for path in (plot_to, json_to):
            if path is not None and not path.absolute().parent.is_dir():
                raise FileNotFoundError(f"there is no directory {path.absolute().parent}")
    except (OSError, ValueError, plot.NoMatplotlib) as error:
        print(f"python -m bridge bench: {error}", file=sys.stderr)
        return 2
    warning = machine.busy()
    if warning:
        print(warning, file=sys.stderr)
    group = quick.group()
    try:
        results = run(group, seconds)
    except RowFailed as error:
        print(f"\npython -m bridge bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npython -m bridge bench: interrupted", file=sys.stderr)
        return 130
    print(textwrap.fill(results.machine(), _WIDTH))
    if results.absent():
        print(textwrap.fill(f"Not installed, so not measured: {results.absent()}", _WIDTH))
    print(f"\n{_LEGEND}\n")
    print(tables.text(results, group.tables))
    if old is not None:
        print()
        print(compare.text(old, results, compare.changes(old, results, references(group))))
    if json_to is not None:
        results.save(json_to)
    if plot_to is not None:
        plot.bars(results, group.tables, plot_to)
    written = " and ".join(str(path) for path in (json_to, plot_to) if path is not None)
    print(f"\n{f'Written to {written}, after' if written else 'Measured in'} {time.monotonic() - began:.0f} s.")
    return 0


def run(group: Group, seconds: float) -> Results:
    """Measure the group in every placement that this system supports: on one core, and free."""
    every = [*threads.PEERS, *threads.ours(), *inside.PEERS]
    results = Results(machine.describe(versions(every)))
    absent = calls.absent()
    results.metadata["bridge_absent"] = ", ".join(f"{label} (needs {lack})" for label, lack in absent.items())
    say = Progress()
    core = machine.last_core()
    cores = [None] if core is None else [core, None]
    effort = Effort(_PROCESSES, _ROUNDS, batch=0.004, warm_up=0.03, limit=seconds / len(cores))
    try:
        for number, each in enumerate(cores):
            # Tables with one thread are measured in the first placement only.
            shown = group.tables if number == 0 else [table for table in group.tables if table.threads]
            rows = Group(group.name, shown).rows
            measure(rows, each, effort, results, lambda what, done, n=number: say(what, (n + done) / len(cores)))  # type: ignore[misc]
    finally:
        say.end()
    return results


def references(group: Group) -> dict[str, str]:
    """Return for each row its reference in comparisons: the first reference of its table."""
    found: dict[str, str] = {}
    for table in group.tables:
        first = next(iter(table.references.values()), "")
        for row in table.rows:
            found.setdefault(row.name, first)
    return found
