"""docs/how-to/engines.md: its programs print what they say, and its table has the rows that are measured."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import DOCS, blocks

PAGE = DOCS / "how-to" / "engines.md"
CODE = [pytest.param(code, id=name) for name, code in blocks("py") if name.startswith("docs/how-to/engines.md")]
pytestmark = [pytest.mark.process, pytest.mark.timeout(3000)]


@pytest.mark.parametrize("code", CODE)
def test_program_prints_what_it_says(code: str, program: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    file = tmp_path / "program.py"  # which the processes import
    file.write_text(code)
    stdout, stderr = program(file)
    # On a machine that is busy Dask kills a worker that takes its time to end.
    noise = [line for line in stderr.splitlines() if "distributed.nanny - WARNING - Worker process still" not in line]
    assert not noise
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert stdout.splitlines() == promised
    assert promised


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, with "..." for figures."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[re.sub(r"^\d+$", "...", cell.strip()) for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.measures
def test_the_table_has_what_is_measured(measure: Callable[[int], str]) -> None:
    """With BRIDGE_ENGINES_TABLE=1 in the environment this measures for longer, and writes the table into the page."""
    write = "BRIDGE_ENGINES_TABLE" in os.environ
    measured = measure(1000 if write else 40)
    before, table, after = re.split(r"(?<=<!-- throughput -->\n)|(?=<!-- end of throughput -->)", PAGE.read_text())
    assert rows(measured) == rows(table)
    assert len(rows(table)) > 8
    if write:
        PAGE.write_text(before + measured + after)
