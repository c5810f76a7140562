"""docs/errors.md: what it quotes is what the package says, and each class of error has its part."""

from __future__ import annotations

import ast
import re

from documents import DOCS
from paths import ROOT

import bridge

PAGE = (DOCS / "errors.md").read_text()
# What stands for values in a quote: they are between the package's own words.
VALUES = r"\.\.\.|; |, and |\\<.*?\\>|'\w+'|\b[\d.]+\b|\b(?:bridge|timeout|coroutine fetch)\b"
# Before this, the page quotes asyncio, Twisted, Django and gevent.
SYMPTOMS, OURS = PAGE.split("\n## BridgeClosed\n")


def said() -> str:
    """Return every text of the package's code, with "..." in the places of values."""
    texts: list[str] = []
    for path in (ROOT / "bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(_text(each) for each in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                texts.append(_text(node.left) + _text(node.right))
    return "\n".join(texts)


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "..."


def test_what_is_quoted_is_what_the_package_says() -> None:
    texts = said()
    quotes = re.findall(r"^> (.*)$", OURS, re.MULTILINE)
    assert len(quotes) > 40
    for quote in quotes:
        for part in re.split(VALUES, quote):
            words = part.strip(" ,:()")
            if len(words) > 11:
                assert words in texts, f"nothing says {words!r}, which docs/errors.md quotes in {quote!r}"


def test_every_class_of_error_has_its_part() -> None:
    classes = [name for name in bridge.__all__ if _is_error(getattr(bridge, name))]
    assert len(classes) == 6
    for name in classes:
        assert f"\n## {name}\n" in PAGE


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def test_every_entry_says_what_to_write_and_has_an_anchor_of_its_own() -> None:
    entries = re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    titles = [title for title, _ in entries]
    assert len(titles) == len({title.lower() for title in titles}) > 60
    for title, text in entries:
        if text not in PAGE.split("\n## Warnings in the log\n")[1]:
            assert "**What to write.**" in text, title
