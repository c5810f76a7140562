"""Puts the figures where they are read: a page for each Python and the pictures into docs/figures/, and a short table.

A place in a page is what stands between ``<!-- name -->`` and ``<!-- end of name -->``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge._cli.bench.model import Table
from bridge._cli.bench.results import ONE_CORE, Results

PICTURES = {
    "latency": "Calls from a thread, at rest",
    "inside": "Calls in the loop's own thread",
    "growth": "How cost grows with threads, open calls, bridges, blocked stacks, and tasks that await Deferreds",
    "blocked": "Memory for each of the calls that are blocked at once in the loop's own thread",
    "contended": "Calls from a thread while another computes in Python",
    "works": "Calls from a thread that do something",
    "servers": "Web servers under load: requests a second, times and memory with 1, 64 and 1,024 clients",
}
# Read by Sphinx: no page leads on to this one, and its numbers are not searched.
_HEAD = "---\norphan: true\nnosearch: true\n---\n\n"


def publish(
    version: str,
    tables: str,
    summary: str,
    short: str,
    pictures: Sequence[Path],
    side_by_side: Callable[[Path], object],
    root: Path,
) -> None:
    """Publish the figures of one Python; those of the newest one that there are figures of are shown to users as well.

    :param version: of Python, such as "3.12".
    :param short: the table that the page for users opens with.
    :param pictures: the files of the pictures.
    :param side_by_side: draws the picture of all Pythons, from the pages in a directory.
    :raises ValueError: a page has no place for what belongs there.
    """
    figures = root / "docs" / "figures"
    page = figures / f"{version}.md"
    text = f"{_HEAD}# Figures of Python {version}\n\n## Aims\n\n{summary}\n\n## Tables\n\n{tables}\n"
    page.write_text(text)
    side_by_side(figures)
    if any(number(each) > number(page) for each in figures.glob("3.*.md")):
        return  # there are figures of a newer one
    for picture in pictures:
        shutil.copy(picture, figures)
    users = root / "docs" / "explanation" / "performance.md"
    fill(users, "table", f"Python {version}, in µs:\n\n{short}")
    fill(users, "latency", "![{latency}](../figures/latency.svg)".format_map(PICTURES))
    fill(root / "README.md", "latency", "![{latency}](docs/figures/latency.svg)".format_map(PICTURES))


def number(page: Path) -> tuple[int, ...]:
    """Return the version of Python that a page of figures is about, to sort by."""
    return tuple(map(int, page.stem.split(".")))


def short(results: Results, tables: Sequence[Table]) -> str:
    """Return the medians on one core as one table: a row for each way to wait, a column for each table."""
    columns = {table.title: {row.label: row.name for row in table.rows} for table in tables}
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --: |' * len(columns)}"]
    for label in labels:
        names = [column.get(label) for column in columns.values()]
        cells = [f"{results.median(name, ONE_CORE) * 1e6:.1f}" if _has(results, name) else "" for name in names]
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _has(results: Results, name: str | None) -> bool:
    return name is not None and results.has(name, ONE_CORE)


def fill(page: Path, name: str, text: str) -> None:
    """Put a text into its place.

    :raises ValueError: the page has no such place.
    """
    old = page.read_text()
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if any(old.count(mark) != 1 for mark in marks):
        raise ValueError(f"{page.name} has no place for {name}, from {marks[0]} to {marks[1]}")
    before, rest = old.split(marks[0])
    page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{rest.split(marks[1])[1]}")
