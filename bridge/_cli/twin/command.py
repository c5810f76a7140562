"""``python -m bridge twin``: write a twin, or check that the one that was written is still right."""

from __future__ import annotations

import ast
import difflib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import module
from .layout import Layout
from .plan import Plan
from .source import TwinError

BAD_INPUT = 2


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    names: Sequence[str]
    output: str | None = None
    renamed: Sequence[str] = ()
    check: bool = False
    bridge: str | None = None
    line_length: int = 88


def main(asked: Asked, version: str) -> int:
    """Write the twin of what is named, or check the file, and return the exit status.

    The status is 1 where a file that is checked has drifted, and 2 where nothing can be written.
    """
    try:
        if asked.check and asked.output is None:
            raise TwinError("--check needs the file that it is to check: -o client.py")
        text = _text(asked, version)
        if asked.output is None:
            sys.stdout.write(text)
        elif asked.check:
            return _check(Path(asked.output), text)
        else:
            Path(asked.output).write_text(text, encoding="utf-8")
    except TwinError as error:
        print(f"python -m bridge twin: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"python -m bridge twin: cannot write {asked.output}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _text(asked: Asked, version: str) -> str:
    plan = Plan(_pairs(asked.names, asked.renamed))
    for name in asked.names:
        plan.add(name)
    parts = ["python", "-m", "bridge", "twin", *asked.names]
    parts += [part for each in asked.renamed for part in ("--name", each)]
    parts += ["--bridge", asked.bridge] if asked.bridge is not None else []
    parts += ["--line-length", str(asked.line_length)] if asked.line_length != 88 else []
    parts += ["-o", Path(asked.output).name] if asked.output is not None else []
    return module.written(plan, shlex.join(parts), version, asked.bridge, Layout(asked.line_length))


def _pairs(names: Sequence[str], renamed: Sequence[str]) -> dict[str, str]:
    """Return the new names by the old ones. A single object may be given its name alone."""
    pairs: dict[str, str] = {}
    for each in renamed:
        old, equals, new = each.partition("=")
        if not equals:
            if len(names) != 1 or ":" not in names[0]:
                raise TwinError(f"--name {each} does not say whose name it is: write --name AsyncClient={each}")
            old, new = names[0].partition(":")[2], each
        pairs[old] = new
    return pairs


def _check(path: Path, text: str) -> int:
    """Compare a file with what would be written, apart from comments and from how its lines are broken."""
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        print(f"{path} has drifted: it cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    try:
        if ast.dump(ast.parse(found)) == ast.dump(ast.parse(text)):
            return 0
        before, after = (ast.unparse(ast.parse(each)).splitlines() for each in (found, text))
    except SyntaxError as error:
        print(f"{path} has drifted: it is no Python: {error}", file=sys.stderr)
        return 1
    print(f"{path} has drifted from the library; run the command in its head again:", file=sys.stderr)
    for line in difflib.unified_diff(before, after, str(path), "the library", n=1, lineterm=""):
        print(line, file=sys.stderr)
    return 1
