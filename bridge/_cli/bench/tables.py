"""Shows results as tables, in text and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .model import Curves, Row, Table
from .results import FREE, ONE_CORE, Results

_TIMES = [("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)]
_BYTES = [("MB", 1e6), ("KB", 1e3), ("B", 1.0)]


def text(results: Results, tables: Sequence[Table], curves: Sequence[Curves] = ()) -> str:
    """Return the tables as text, without the spread, since a terminal is narrow.

    Above the columns of each placement stands where the threads ran.
    """
    blocks: list[str] = []
    for title, cells in _all(results, tables, curves, spread=False):
        head, cells[0] = cells[0], [_bare(cell) for cell in cells[0]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [title, *_where(head, widths)]
        for row in cells:
            first, *others = row
            rest = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
            lines.append("  ".join([first.ljust(widths[0]), *rest]).rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


_WHERE = {f"{ONE_CORE}: ": "all threads on one core:", f"{FREE}: ": "where the system puts them:"}


def _bare(cell: str) -> str:
    """Return a cell of a head without its placement."""
    for prefix in _WHERE:
        cell = cell.removeprefix(prefix)
    return cell


def _where(head: list[str], widths: list[int]) -> list[str]:
    """Return the line above the head, if a placement begins anywhere in it."""
    line = ""
    for column, cell in enumerate(head):
        for prefix, words in _WHERE.items():
            if cell.startswith(prefix):
                begin = sum(widths[:column]) + 2 * column
                line = (f"{line}  " if line else "").ljust(begin) + words
    return [line] if line else []


def markdown(results: Results, tables: Sequence[Table], curves: Sequence[Curves] = ()) -> str:
    """Return the tables as Markdown."""
    blocks: list[str] = []
    for title, cells in _all(results, tables, curves, spread=True):
        head, *body = cells
        rule = [":--", *["--:"] * (len(head) - 1)]
        blocks.append("\n".join([f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in [head, rule, *body])]))
    return "\n\n".join(blocks)


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit, for a sentence."""
    name, scale = _scale(value, unit)
    return f"{_number(value / scale)} {name}"


def _all(
    results: Results, tables: Sequence[Table], curves: Sequence[Curves], *, spread: bool
) -> list[tuple[str, list[list[str]]]]:
    found: list[tuple[str, list[list[str]]]] = []
    for table in tables:
        if any(_placements(results, row) for row in table.rows):
            found.append((table.title, _table(results, table, spread)))
    for growth in curves:
        for placement in (ONE_CORE, FREE):
            if any(results.has(row.name, placement) for row in growth.rows):
                title = f"{growth.title} ({placement})" if growth.threads else growth.title
                found.append((title, _curves(results, growth, placement)))
    return found


def _table(results: Results, table: Table, spread: bool) -> list[list[str]]:
    rows = [row for row in table.rows if _placements(results, row)]
    placements = [each for each in (ONE_CORE, FREE) if any(results.has(row.name, each) for row in rows)]
    unit = rows[0].unit
    largest = max(results.median(row.name, placement) for row in rows for placement in _placements(results, row))
    name, scale = _scale(largest / 10, unit)  # the unit should fit most values, not the largest
    head = [name]
    lines = [[row.label] for row in rows]
    for placement in placements:
        prefix = f"{placement}: " if table.threads and len(placements) > 1 else ""
        columns = [(f"{prefix}median", [_value(results, row, placement, scale) for row in rows])]
        if spread:
            columns.append(("5 to 95 %", [_spread(results, row, placement, scale) for row in rows]))
        for percentile in ("p99", "p99.9") if table.percentiles else ("p99",):
            column = [_percentile(results, row, placement, percentile, scale) for row in rows]
            if any(column):
                columns.append((percentile, column))
        for words, reference in list(table.references.items())[: None if placement == placements[0] else 1]:
            if results.has(reference, placement):
                columns.append((words, [_ratio(results, row, reference, placement) for row in rows]))
        for title, column in columns:
            head.append(title)
            for line, cell in zip(lines, column, strict=True):
                line.append(cell)
    return [head, *lines]


def _curves(results: Results, growth: Curves, placement: str) -> list[list[str]]:
    numbers = sorted({number for points in growth.lines.values() for number, _ in points})
    head = [f"{growth.ylabel}, by {growth.xlabel}", *map("{:,}".format, numbers)]
    lines: list[list[str]] = []
    for label, points in growth.lines.items():
        by_number = dict(points)
        cells = [label]
        for number in numbers:
            row = by_number.get(number)
            cells.append("" if row is None or not results.has(row.name, placement) else shown(results, row, placement))
        lines.append(cells)
    return [head, *lines]


def shown(results: Results, row: Row, placement: str) -> str:
    """Return the row's median with its unit: a time, a size, or a throughput."""
    value = results.median(row.name, placement)
    return f"{row.per_second / value:,.0f}/s" if row.per_second else quantity(value, row.unit)


def _placements(results: Results, row: Row) -> list[str]:
    return [placement for placement in (ONE_CORE, FREE) if results.has(row.name, placement)]


def _value(results: Results, row: Row, placement: str, scale: float) -> str:
    return _number(results.median(row.name, placement) / scale) if results.has(row.name, placement) else ""


def _spread(results: Results, row: Row, placement: str, scale: float) -> str:
    if not results.has(row.name, placement):
        return ""
    low, high = results.spread(row.name, placement)
    return f"{_number(low / scale)} to {_number(high / scale)}"


def _percentile(results: Results, row: Row, placement: str, name: str, scale: float) -> str:
    value = results.percentile(row.name, placement, name) if results.has(row.name, placement) else None
    return "" if value is None else _number(value / scale)


def _ratio(results: Results, row: Row, reference: str, placement: str) -> str:
    return f"{results.ratio(row.name, reference, placement):.2f}" if results.has(row.name, placement) else ""


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _scale(value: float, unit: str) -> tuple[str, float]:
    scales = _TIMES if unit == "s" else _BYTES
    return next((each for each in scales if value >= each[1]), scales[-1])
