"""The picture that shows the Pythons side by side: ``python benchmarks/pythons.py [FOLDER]``.

It is drawn from what was last published of each Python: the tables in the pages of figures, docs/figures/3.*.md, and
the line above them that says where and when they were measured.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from page import number

from bridge._cli.bench import plot, threads
from bridge._cli.bench.works import AT_ONCE, DEFERRED, SUSPENDS_ONCE

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
NAME = "pythons.svg"

WORKS = [AT_ONCE, SUSPENDS_ONCE, DEFERRED]
# By the names of the rows; the floor is measured with the first work only, in turns with the rows of all three.
SHOWN = ["floor", "run_coroutine_threadsafe", "blockingCallFromThread_epoll", "block_on"]
_LABELS = {peer.name: peer.label for peer in [threads.FLOOR, *threads.PEERS, *threads.ours()]}
_MICROSECONDS = {"s": 1e6, "ms": 1e3, "µs": 1.0}

Table = dict[str, plot.Spread]


def tables(text: str) -> dict[str, Table]:
    """Return the tables of a page of figures: by title and label, what its first placement has, in µs."""
    found: dict[str, Table] = {}
    for block in re.finditer(
        r"^\*\*(.+)\*\*\n\n\| (\S+) \| [^|]*median \|.*\n\|[-: |]+\n((?:\|.*\n)+)", text, re.MULTILINE
    ):
        title, unit, rows = block.groups()
        if unit in _MICROSECONDS:
            cells = ([cell.strip() for cell in row.split("|")[1:4]] for row in rows.splitlines())
            found[title] = {
                label: _spread(median, ends, _MICROSECONDS[unit]) for label, median, ends in cells if median and ends
            }
    return found


def _spread(median: str, ends: str, scale: float) -> plot.Spread:
    low, high = ends.split(" to ")
    first, middle, last = (scale * float(each.replace(",", "")) for each in (low, median, high))
    return first, middle, last


def panels(pages: dict[str, str]) -> dict[str, dict[str, dict[str, plot.Spread]]]:
    """Return by work, by label and by Python, what the pages say."""
    read = {version: tables(text) for version, text in pages.items()}
    found: dict[str, dict[str, dict[str, plot.Spread]]] = {}
    for work in WORKS:
        for name in SHOWN:
            label = _LABELS.get(name, "")
            title = AT_ONCE.title if name == "floor" else work.title
            line = {version: each[title][label] for version, each in read.items() if label in each.get(title, {})}
            if line:
                found.setdefault(work.title, {})[label] = line
    return found


def machines(pages: dict[str, str]) -> str:
    """Return where and when the figures of each Python were measured."""
    where: dict[str, list[str]] = {}
    for text in pages.values():
        line = re.search(r"^Python (\S+); (.+?; .+?; \d{4}-\d\d-\d\d)", text, re.MULTILINE)
        if line:
            where.setdefault(line[2], []).append(line[1])
    return ".  ".join(f"Python {', '.join(versions)}: {place}" for place, versions in where.items())


def draw(folder: Path) -> None:
    """Draw the picture into the folder that the pages are in.

    :raises ValueError: no page has what the picture shows.
    """
    pages = {page.stem: page.read_text() for page in sorted(folder.glob("3.*.md"), key=number)}
    shown = panels(pages)
    if not shown:
        raise ValueError(f"no page in {folder} has the tables of {NAME}")
    plot.side_by_side(shown, machines(pages), folder / NAME)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
