"""docs/how-to/engines.md: its programs print what they say, and its table has the rows that are measured."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import DOCS, blocks
from paths import ENVIRONMENT

PAGE = "docs/how-to/engines.md"
pytestmark = pytest.mark.process


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("py") if name.startswith(PAGE)])
def test_program_prints_what_it_says(code: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # a file, which the processes import
    program.write_text(code)
    process = subprocess.run(
        [sys.executable, program], env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert process.stdout.splitlines() == promised
    assert promised


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, with "..." for figures."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[re.sub(r"^\d+$", "...", cell.strip()) for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.measures
@pytest.mark.timeout(3000)
def test_the_table_has_what_is_measured(measure: Callable[[], str]) -> None:
    """With ``-s``, and ``BRIDGE_ENGINES_TASKS=1000``, this prints the table for the page."""
    measured = measure()
    print(f"\n{measured}")
    page = (DOCS / "how-to" / "engines.md").read_text()
    (table,) = re.findall(r"<!-- throughput -->(.*?)<!-- end of throughput -->", page, re.DOTALL)
    assert rows(measured) == rows(table)
    assert len(rows(table)) > 8
