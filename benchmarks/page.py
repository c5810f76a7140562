"""Puts the figures where they are read: a page of all tables for each Python, a summary, and the pictures.

A place in a page is what stands between ``<!-- name -->`` and ``<!-- end of name -->``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

PICTURES = {
    "latency": "Calls from a thread, at rest",
    "inside": "Calls in the loop's own thread",
    "growth": "How calls a second and the time of a call grow with threads and open calls",
    "blocked": "Calls blocked at once in the loop's own thread: time and memory for each",
    "contended": "Calls from a thread while another computes in Python",
    "works": "Calls from a thread that do something",
}


def publish(tables: str, summary: str, draw: Callable[[Path], object], root: Path) -> None:
    """Publish the figures of this Python; those of the newest one that the page knows are drawn as well.

    :param draw: draws every picture into a directory.
    :raises ValueError: docs/performance.md has no place for this Python.
    """
    version = "{}.{}".format(*sys.version_info)
    docs = root / "docs"
    page = docs / "performance.md"
    link = f"All tables: [Python {version}](figures-{version}.md)."
    fill(page, version, f"{summary}\n\n{link}")
    (docs / f"figures-{version}.md").write_text(f"# Figures of Python {version}\n\n{tables}\n")
    if "<!-- end of 3." in page.read_text().split(f"<!-- end of {version} -->")[1]:
        return  # a newer one follows
    draw(docs)
    drawn = {name: title for name, title in PICTURES.items() if (docs / f"{name}.svg").exists()}
    fill(page, "pictures", "\n\n".join(f"![{title}]({name}.svg)" for name, title in drawn.items()))
    fill(root / "README.md", "latency", "![{latency}](docs/latency.svg)".format_map(PICTURES))


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
