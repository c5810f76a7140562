"""Puts the figures into docs/performance.md, between the marks of this Python."""

from __future__ import annotations

import sys
from pathlib import Path


def publish(report: str, page: Path) -> bool:
    """Put the report there; return whether this is the newest Python on the page, whose pictures it shows.

    :raises ValueError: the page has no such marks.
    """
    version = "{}.{}".format(*sys.version_info)
    old = page.read_text()
    marks = f"<!-- {version} -->", f"<!-- end of {version} -->"
    if any(mark not in old for mark in marks):
        raise ValueError(f"{page.name} has no place for {version}, from {marks[0]} to {marks[1]}")
    before, rest = old.split(marks[0])
    after = rest.split(marks[1])[1]
    page.write_text(f"{before}{marks[0]}\n{report}\n{marks[1]}{after}")
    return "<!-- end of" not in after
