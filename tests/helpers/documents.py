"""The pages of the documentation: README.md and docs/, without the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from paths import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "figures")]


def name_of(page: Path) -> str:
    """Return the page's path in the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Give each fenced block of code in a language, with its page and line as its name."""
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{name_of(page)}:{line}", match[1]


def promised(code: str) -> list[str]:
    """Return what an example says that it prints."""
    at_the_end = re.findall(r"^# prints: (.*)$", code, re.MULTILINE)
    return at_the_end or re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
