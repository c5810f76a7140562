"""Draws results as SVG. Each picture names the machine, the versions and the date of the measurement."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .model import Curves, Row, Table, library, missing
from .results import FREE, ONE_CORE, Results
from .tables import quantity

_FLOOR, _PEER, _OURS = "#8a8f98", "#c08a3e", "#2f6db3"
_STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "bridge",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": "#e4e6ea",
    "grid.linewidth": 0.6,
}
_COLOURS = ["#c08a3e", "#4b9b6e", "#a34f6b", "#6f5fa8", "#b5a642", "#3aa0a8", "#d06a4c", "#7a5c46", "#9a9a3a"]
_MARKS = "oDsv^<>Pp*"
_FEW = 4  # panels that stand two beside each other, more of them three

Spread = tuple[float, float, float]
"""The low end, the median and the high end."""


class NoMatplotlib(Exception):
    """matplotlib is not installed."""


def check() -> None:
    """Check that pictures can be drawn.

    :raises NoMatplotlib: matplotlib is not installed.
    """
    if missing(["matplotlib"]):
        raise NoMatplotlib("a plot needs matplotlib, which is not installed: pip install 'bridge-interop[bench]'")


def bars(results: Results, tables: Sequence[Table], path: Path) -> None:
    """Draw tables as bars below each other, one SVG.

    :raises NoMatplotlib: matplotlib is not installed.
    """
    shown = [(table, [row for row in table.rows if _placements(results, row)]) for table in tables]
    shown = [(table, rows) for table, rows in shown if rows]
    if not shown:
        return
    heights = [len(rows) + 1.6 for _, rows in shown]
    with _figure(results.machine(), path, len(shown), (8.5, 0.27 * sum(heights) + 0.7), height_ratios=heights) as axes:
        for axis, (table, rows) in zip(axes, shown, strict=True):
            (_percentiles if table.percentiles else _bars)(axis, results, table, rows)
        if any(table.percentiles for table, _ in shown):
            axes[0].figure.suptitle("Dot: median.  Line: to p99.  Cross: p99.9", fontsize=9, x=0.01, ha="left")
        elif any(table.threads for table, _ in shown):
            axes[0].figure.suptitle(
                "Dot: median with all threads on one core.  "
                "Bar: left to the scheduler, 5 to 95 % of the batches, and their median",
                fontsize=9, x=0.01, ha="left",
            )  # fmt: skip


def curves(results: Results, growths: Sequence[Curves], path: Path) -> None:
    """Draw curves beside each other, one SVG.

    :raises NoMatplotlib: matplotlib is not installed.
    """
    shown = [
        (growth, placement)
        for growth in growths
        for placement in (ONE_CORE, FREE)
        if any(results.has(row.name, placement) for row in growth.rows)
    ]
    if not shown:
        return
    columns = min(2 if len(shown) <= _FEW else 3, len(shown))
    lines = -(-len(shown) // columns)
    labels = len({label for growth in growths for label in growth.lines})
    size = (4.6 * columns, 3.3 * lines + 0.6 + 0.17 * -(-labels // columns))
    with _figure(results.machine(), path, lines, size, columns=columns) as axes:
        styles = _styles(list(dict.fromkeys(label for growth in growths for label in growth.lines)))
        for axis, (growth, placement) in zip(axes, shown, strict=False):
            _curve(axis, results, growth, placement, styles)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        axes[0].figure.legend(
            handles.values(), handles.keys(), loc="outside upper left", ncols=columns, fontsize=7.5, frameon=False
        )


def side_by_side(panels: Mapping[str, Mapping[str, Mapping[str, Spread]]], where: str, path: Path) -> None:
    """Draw, for each panel, a line for each label over versions of Python.

    :param panels: by title, by label and by version: the low end, the median and the high end, in µs.
    :param where: the machines and the dates.
    :raises NoMatplotlib: matplotlib is not installed.
    """
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    versions = list(dict.fromkeys(version for lines in panels.values() for line in lines.values() for version in line))
    styles = _styles(labels)
    with _figure(
        f"{where}.  Bars: 5 to 95 % of the batches.", path, 1, (3.6 * len(panels), 3.9), columns=len(panels)
    ) as axes:
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for label, line in lines.items():
                places = [versions.index(version) for version in line]
                low, median, high = zip(*line.values(), strict=True)
                axis.vlines(places, low, high, color=styles[label]["color"], linewidth=4, alpha=0.3)
                axis.plot(places, median, markersize=4.5, label=label, **styles[label])
            axis.set_title(textwrap.fill(title, 36))
            axis.set_xticks(range(len(versions)), versions)
            axis.set_xlim(-0.4, len(versions) - 0.6)
            axis.set_ylim(bottom=0)
            axis.set_ylabel("µs a call, all threads on one core")
            axis.grid(axis="y")
        handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        axes[0].figure.legend(
            handles.values(), handles.keys(), loc="outside upper left", ncols=2, fontsize=7.5, frameon=False
        )


def _styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the style of the line for each label: bridge is blue, a floor is grey."""
    others = iter(_COLOURS)
    found: dict[str, dict[str, Any]] = {}
    for number, label in enumerate(labels):
        ours = label.startswith("bridge")
        colour = _OURS if ours else _FLOOR if label.startswith("floor") else next(others, "#555555")
        dashed = ours and any(found[each]["color"] == _OURS for each in found)
        found[label] = {
            "color": colour,
            "marker": _MARKS[number % len(_MARKS)],
            "linewidth": 2.2 if ours else 1.0,
            "linestyle": "--" if dashed else "-",
        }
    return found


@contextmanager
def _figure(machine: str, path: Path, lines: int, size: tuple[float, float], *, columns: int = 1,
            **options: Any) -> Generator[Any]:  # fmt: skip
    check()
    library("matplotlib").use("svg")
    pyplot = library("matplotlib.pyplot")
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(lines, columns, squeeze=False, figsize=size, layout="constrained", **options)
        yield list(axes.flat)
        where = "\n".join(textwrap.wrap(machine, round(14.7 * size[0])))
        figure.text(0.01, -0.08 / size[1], where, fontsize=7, color="#555555", ha="left", va="top")
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)


def _bars(axis: Any, results: Results, table: Table, rows: Sequence[Row]) -> None:
    words, reference = next(iter(table.references.items()), ("", ""))
    placements = [each for each in (ONE_CORE, FREE) if any(results.has(row.name, each) for row in rows)]
    first = placements[0]
    largest = max(results.median(row.name, placement) for row in rows for placement in _placements(results, row))
    scale, name = (1e3, "ms") if largest > 5e-3 else (1e6, "µs")
    for position, row in enumerate(rows):
        colour = _colour(row)
        if len(placements) > 1 and results.has(row.name, FREE):
            low, high = (scale * end for end in results.spread(row.name, FREE))
            axis.plot([low, high], [position, position], "-", color=colour, alpha=0.3, linewidth=5)
            axis.plot([scale * results.median(row.name, FREE)], [position], "|", color=colour, markersize=9)
        if results.has(row.name, first):
            median = scale * results.median(row.name, first)
            axis.plot([median], [position], "o", color=colour, markersize=6)
            ratio = f"{results.ratio(row.name, reference, first):.2f}" if results.has(reference, first) else ""
            _beside(axis, position, f"{median:.1f}" if median >= 10 else f"{median:.2f}", ratio)
    _beside(axis, -1.0, name, words)
    axis.set_title(table.title, pad=14)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xscale("log")
    ticker = library("matplotlib.ticker")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(_plain))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="both")


def _beside(axis: Any, position: float, *cells: str) -> None:
    """Write cells to the right of the axis."""
    for number, cell in enumerate(cells):
        place = {"transform": axis.get_yaxis_transform(), "fontsize": 7.5, "va": "center", "ha": "right"}
        axis.text(1.08 + 0.17 * number, position, cell, **place)


def _percentiles(axis: Any, results: Results, table: Table, rows: Sequence[Row]) -> None:
    placement = ONE_CORE if any(results.has(row.name, ONE_CORE) for row in rows) else FREE
    for position, row in enumerate(rows):
        if not results.has(row.name, placement):
            continue
        colour = _colour(row)
        median = 1e6 * results.median(row.name, placement)
        axis.plot([median], [position], "o", color=colour, markersize=5)
        p99, p999 = (results.percentile(row.name, placement, each) for each in ("p99", "p99.9"))
        if p99 is not None:
            axis.plot([median, 1e6 * p99], [position, position], "-", color=colour, linewidth=2.5)
        if p999 is not None:
            axis.plot([1e6 * p999], [position], "x", color=colour, markersize=5)
    axis.set_title(f"{table.title} ({placement})" if table.threads else table.title)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xscale("log")
    ticker = library("matplotlib.ticker")
    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(_plain))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_xlabel("µs a call")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")


def _curve(axis: Any, results: Results, growth: Curves, placement: str, styles: dict[str, dict[str, Any]]) -> None:
    unit, per_second = growth.rows[0].unit, growth.rows[0].per_second
    for label, points in growth.lines.items():
        here = [(number, row) for number, row in points if results.has(row.name, placement)]
        medians = [(row, results.median(row.name, placement)) for _, row in here]
        values = [row.per_second / value if row.per_second else value for row, value in medians]
        if here:
            axis.plot([number for number, _ in here], values, markersize=3.5, label=label, **styles[label])
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title(f"{growth.title} ({placement})" if growth.threads else growth.title)
    axis.set_xlabel(growth.xlabel)
    axis.set_ylabel(growth.ylabel)
    ticker = library("matplotlib.ticker")
    in_units: Callable[[float, object], str] = _plain if per_second else lambda value, _: quantity(value, unit)
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(in_units))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(_plain))
    axis.grid(which="major")


def _plain(value: float, position: object) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _placements(results: Results, row: Row) -> list[str]:
    return [placement for placement in (ONE_CORE, FREE) if results.has(row.name, placement)]


def _colour(row: Row) -> str:
    if row.label.startswith("floor"):
        return _FLOOR
    return _OURS if row.label.startswith("bridge") else _PEER
