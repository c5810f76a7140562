"""What the benchmarks show: tables as text and Markdown, the plot, and whether the targets are reached.

All of it comes from a pyperf suite, so from one run.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyperf
from rows import Row, Table, Target

ONE_CORE = "one core"
FREE = "free"


class Progress:
    """Says on a terminal how far the run is, in one line that it writes again and again."""

    def __call__(self, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{what:<70}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if sys.stderr.isatty():
            print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)


class Results:
    """A suite and the tables that it fills."""

    def __init__(self, suite: pyperf.BenchmarkSuite, tables: Sequence[Table]) -> None:
        self.tables = tables
        self._benchmarks: dict[str, Any] = {benchmark.get_name(): benchmark for benchmark in suite}
        self.metadata: dict[str, Any] = suite.get_metadata()

    def has(self, row: str, placement: str) -> bool:
        """Return whether the row was measured there."""
        return _key(row, placement) in self._benchmarks

    def batches(self, row: str, placement: str) -> list[float]:
        """Return the median call of each batch, in seconds."""
        return list(self._benchmarks[_key(row, placement)].get_values())

    def median(self, row: str, placement: str) -> float:
        """Return the median over the batches, in seconds."""
        return statistics.median(self.batches(row, placement))

    def spread(self, row: str, placement: str) -> tuple[float, float]:
        """Return between what times nine tenths of the batches lie, in seconds."""
        cuts = statistics.quantiles(self.batches(row, placement), n=20, method="inclusive")
        return cuts[0], cuts[-1]

    def p99(self, row: str, placement: str) -> float | None:
        """Return the time that one call in a hundred exceeds, in seconds; None where there are too few calls."""
        runs = [run.get_metadata().get("p99") for run in self._benchmarks[_key(row, placement)].get_runs()]
        return statistics.median(runs) if runs and None not in runs else None

    def ratio(self, row: str, reference: str, placement: str) -> float:
        """Return the row's time as a multiple of the reference's, as the median over the rounds that had both."""
        pairs = zip(self.batches(row, placement), self.batches(reference, placement), strict=True)
        return statistics.median(time / base for time, base in pairs)

    def machine(self) -> str:
        """Say in one line where, when and on what this was measured."""
        data = self.metadata
        kernel = re.search(r"^\w+-[\d.]+", data.get("platform", ""))
        parts = [
            f"Python {data['python_version'].split()[0]}",
            data["bridge_versions"],
            f"{data.get('cpu_model_name', 'unknown CPU')}, {data.get('cpu_count', '?')} cores{_virtual()}",
            kernel.group().replace("-", " ") if kernel else sys.platform,
            data["bridge_date"],
        ]
        return "; ".join(parts)


def _virtual() -> str:
    try:
        return ", virtual" if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    except OSError:
        return ""


@dataclass(frozen=True)
class Verdict:
    """Whether a target is reached, and the sentence that says so."""

    reached: bool
    text: str


def verdicts(results: Results, targets: Sequence[Target]) -> list[Verdict]:
    """Compare with the targets whose rows were measured on one core."""
    found = []
    for target in targets:
        if results.has(target.row, ONE_CORE) and results.has(target.reference, ONE_CORE):
            ratio = results.ratio(target.row, target.reference, ONE_CORE)
            reached = ratio <= target.at_most
            mark = "reached" if reached else "MISSED"
            line = f"{mark}: {target.row} is {ratio:.2f} of {target.reference}, and is to be at most {target.at_most}"
            found.append(Verdict(reached, line))
    return found


# --- tables


def text(results: Results, found: Sequence[Verdict]) -> str:
    """Return the tables for a terminal."""
    blocks = [results.machine()]
    for table in results.tables:
        columns = list(zip(*_cells(results, table), strict=True))
        widths = [max(map(len, column)) for column in columns]
        padded = [[cell.rjust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
        padded[0] = [cell.ljust(widths[0]) for cell in columns[0]]
        lines = ("  ".join(cells).rstrip() for cells in zip(*padded, strict=True))
        blocks.append("\n".join([table.title, *lines]))
    blocks.append("\n".join(verdict.text for verdict in found))
    return "\n\n".join(blocks)


def markdown(results: Results, found: Sequence[Verdict]) -> str:
    """Return the tables as Markdown."""
    blocks = [results.machine()]
    for table in results.tables:
        head, *body = _cells(results, table)
        rule = [":--", *["--:"] * (len(head) - 1)]
        lines = (f"| {' | '.join(cells)} |" for cells in [head, rule, *body])
        blocks.append("\n".join([f"**{table.title}**", "", *lines]))
    blocks.append("\n".join(f"- {verdict.text}" for verdict in found))
    return "\n\n".join(blocks)


def _cells(results: Results, table: Table) -> list[list[str]]:
    """Return the table's lines, the heads of the columns first."""
    placements = [placement for placement in (ONE_CORE, FREE) if results.has(table.rows[0].name, placement)]
    unit, scale = _unit(max(results.median(row.name, placements[0]) for row in table.rows))
    has_p99 = ONE_CORE in placements and all(results.p99(row.name, ONE_CORE) is not None for row in table.rows)
    head = [unit]
    body = [[row.label] for row in table.rows]
    for placement in placements:
        prefix = f"{placement}: " if table.threads else ""
        head += [f"{prefix}median", "5 to 95 %"]
        head += ["p99"] if has_p99 and placement == ONE_CORE else []
        head += list(table.references) if placement == ONE_CORE else list(table.references)[:1]
        for row, cells in zip(table.rows, body, strict=True):
            low, high = results.spread(row.name, placement)
            cells.append(f"{results.median(row.name, placement) * scale:.1f}")
            cells.append(f"{low * scale:.1f} to {high * scale:.1f}")
            p99 = results.p99(row.name, placement)
            if "p99" in head and placement == ONE_CORE and p99 is not None:
                cells.append(f"{p99 * scale:.1f}")
            for reference in list(table.references.values())[: None if placement == ONE_CORE else 1]:
                cells.append(f"{results.ratio(row.name, reference, placement):.2f}")
    return [head, *body]


def _unit(seconds: float) -> tuple[str, float]:
    return ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)


def _key(row: str, placement: str) -> str:
    return f"{row} ({placement})"


# --- the page


def publish(results: Results, found: Sequence[Verdict], page: Path) -> None:
    """Put the figures into the page, between the marks of this Python; the last Python on the page owns the plot.

    :raises ValueError: the page has no such marks.
    """
    version = "{}.{}".format(*sys.version_info)
    old = page.read_text()
    marks = f"<!-- {version} -->", f"<!-- end of {version} -->"
    if any(mark not in old for mark in marks):
        raise ValueError(f"{page.name} has no place for {version}, from {marks[0]} to {marks[1]}")
    before, rest = old.split(marks[0])
    after = rest.split(marks[1])[1]
    page.write_text(f"{before}{marks[0]}\n{markdown(results, found)}\n{marks[1]}{after}")
    if "<!-- end of" not in after:
        plot(results, page.with_name("latency.svg"))


# --- the plot

_BASE, _PEER, _OURS = "#8a8f98", "#c08a3e", "#2f6db3"


def plot(results: Results, path: Path) -> None:
    """Draw the tables that are meant for it as an SVG; nothing is written if none was measured."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    tables = [table for table in results.tables if table.plotted]
    if not tables:
        return
    style: Any = {"font.size": 9, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "bridge"}
    with pyplot.rc_context(style):
        heights = [len(table.rows) for table in tables]
        figure, axes = pyplot.subplots(
            len(tables), 1, sharex=True, squeeze=False, figsize=(8.5, 0.42 * sum(heights) + 0.6 * len(tables) + 0.9),
            height_ratios=heights, layout="constrained",
        )  # fmt: skip
        for axis, table in zip(axes[:, 0], tables, strict=True):
            _draw(axis, results, table)
        axes[-1, 0].set_xlabel("µs a call; less is better")
        figure.suptitle(
            "Solid: median on one core, and its multiple of run_coroutine_threadsafe.  Pale: left to the scheduler, "
            "5 to 95 % of batches, and their median",
            fontsize=9, x=0.01, ha="left",
        )  # fmt: skip
        figure.text(0.01, -0.01, results.machine(), fontsize=7, color="#555555", ha="left", va="top")
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)


def _draw(axis: Any, results: Results, table: Table) -> None:
    axis.set_title(table.title, loc="left", fontsize=10, fontweight="bold")
    reference = next(iter(table.references.values()))
    for position, row in enumerate(table.rows):
        colour = _colour(row)
        if results.has(row.name, FREE):
            low, high = (1e6 * end for end in results.spread(row.name, FREE))
            axis.barh(position, high - low, left=low, height=0.3, color=colour, alpha=0.25)
            axis.plot([1e6 * results.median(row.name, FREE)], [position], "|", color=colour, markersize=8)
        if results.has(row.name, ONE_CORE):
            median = 1e6 * results.median(row.name, ONE_CORE)
            ratio = results.ratio(row.name, reference, ONE_CORE)
            axis.barh(position, median, height=0.6, color=colour)
            inside = {"xytext": (-3, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
            axis.annotate(f"{median:.1f}   {ratio:.2f}", (median, position), color="white", fontsize=7.5, **inside)
    axis.set_yticks(range(len(table.rows)), [row.label.split(":")[0] for row in table.rows])
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#e4e6ea", linewidth=0.6)
    axis.set_axisbelow(True)


def _colour(row: Row) -> str:
    if row.name == "floor":
        return _BASE
    return _OURS if "block_on" in row.name else _PEER
