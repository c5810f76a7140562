"""Break lines as ruff and black do, so that a formatter has little to change."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Breaks lines that are longer than ``width``."""

    width: int = 88

    def definition(self, indent: int, head: str, parameters: list[str], tail: str) -> list[str]:
        """Return the lines of ``def name(parameters) -> tail:``, on one line if it fits."""
        space = " " * indent
        inner = ", ".join(parameters)
        whole = f"{space}{head}({inner}){tail}"
        if len(whole) <= self.width or not parameters:
            return [whole]
        last = self.statement(indent, f"x{tail}")  # a name in place of the bracket
        last[0] = last[0].replace("x", ")", 1)
        if len(f"{space}    {inner}") <= self.width:
            return [f"{space}{head}(", f"{space}    {inner}", *last]
        lines = [line for each in parameters for line in self._parameter(indent + 4, f"{each},")]
        return [f"{space}{head}(", *lines, *last]

    def _parameter(self, indent: int, text: str) -> list[str]:
        """Return the lines of one parameter, broken between the types of a union if it is too long."""
        space = " " * indent
        arms = split_at(text, " | ")
        if len(space + text) <= self.width or len(arms) == 1:
            return self.statement(indent, text)
        return [f"{space}{arms[0]}", *(f"{space}| {each}" for each in arms[1:])]

    def statement(self, indent: int, text: str) -> list[str]:
        """Return the lines of a statement, broken in its last brackets with something inside if it is too long."""
        space = " " * indent
        if len(space + text) <= self.width:
            return [space + text]
        if len(split_at(text, " else ")) > 1 and ("lambda" not in text or text.startswith("lambda: ")):
            prefix = re.match(r"return |\w+=|lambda: |", text)
            assert prefix is not None
            end = "," if text.endswith(",") else ""
            parts = [text[prefix.end() : len(text) - len(end)]]
            for mark in (" else ", " if "):
                parts = [
                    part if index == 0 else f"{mark.strip()} {part}"
                    for each in parts
                    for index, part in enumerate(split_at(each, mark))
                ]
            if not prefix[0]:
                return [*(f"{space}{each}" for each in parts[:-1]), f"{space}{parts[-1]}{end}"]
            return [f"{space}{prefix[0]}(", *(f"{space}    {each}" for each in parts), f"{space}){end}"]
        found = _last_brackets(text)
        if found is None:
            return [space + text]
        opening, closing = found
        inner = text[opening + 1 : closing]
        parts = split_at(inner, ",")
        lines = [f"{space}    {inner}"]
        comprehended = split_at(inner, " for ")
        if len(lines[0]) > self.width and len(comprehended) > 1:
            lines = [f"{space}    {comprehended[0]}", *(f"{space}    for {each}" for each in comprehended[1:])]
        elif len(lines[0]) > self.width and len(parts) > 1:
            lines = [line for each in parts for line in self.statement(indent + 4, f"{each},")]
        elif len(lines[0]) > self.width:
            lines = self.statement(indent + 4, inner)
        return [f"{space}{text[: opening + 1]}", *lines, f"{space}{text[closing:]}"]

    def docstring(self, indent: int, text: str | None) -> list[str]:
        """Return the lines of a docstring; none for none."""
        if not text or not text.strip():
            return []
        space = " " * indent
        cleaned = inspect.cleandoc(text).rstrip()
        raw = "\\" in cleaned and '"""' not in cleaned and not cleaned.endswith(("\\", '"'))
        if not raw:
            cleaned = cleaned.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
            if cleaned.endswith('"'):
                cleaned = f'{cleaned[:-1]}\\"'
        lines = f'{"r" if raw else ""}"""{cleaned}'.split("\n")
        if len(lines) == 1:
            return [f'{space}{lines[0]}"""']
        return [*(f"{space}{line.rstrip()}" if line.strip() else "" for line in lines), f'{space}"""']

    def imports(self, line: str) -> list[str]:
        """Return the lines of an import, one name on each if it is too long for one."""
        if len(line) <= self.width or " import " not in line:
            return [line]
        head, _, names = line.partition(" import ")
        return [f"{head} import (", *(f"    {each}," for each in names.split(", ")), ")"]


def _outside_quotes(text: str) -> Iterator[tuple[int, str]]:
    """Yield the characters that stand outside quotes, with their indices."""
    quote = ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        else:
            yield index, char


def _last_brackets(text: str) -> tuple[int, int] | None:
    """Return where the last brackets on the outermost level stand that have something in them."""
    depth, start = 0, 0
    found = None
    for index, char in _outside_quotes(text):
        if char in "([{":
            if depth == 0:
                start = index
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0 and index > start + 1:
                found = start, index
    return found


def split_at(text: str, mark: str) -> list[str]:
    """Split at a mark where it stands on the outermost level."""
    parts, depth, start = [], 0, 0
    for index, char in _outside_quotes(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and index >= start and text.startswith(mark, index):
            parts.append(text[start:index].strip())
            start = index + len(mark)
    return [*parts, text[start:].strip()]
