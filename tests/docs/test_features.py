"""The README's table of features: each "yes" and "no" is tried, with the libraries themselves."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ENVIRONMENT, ROOT

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).with_name("programs") / "features.py"
LIBRARIES = {"crochet": "crochet", "asgiref": "asgiref", "nest_asyncio": "nest_asyncio", "greenback": "greenback"}


def table() -> dict[str, dict[str, str]]:
    """Return what the README says, by way and feature."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| \| `asyncio\.run`.*?(?=^$)", (ROOT / "README.md").read_text(), re.DOTALL | re.M)[
            0
        ].splitlines()
    ]
    head, _, *rows = lines
    return {way: {row[0]: row[number] for row in rows} for number, way in enumerate(head) if way}


@pytest.mark.parametrize("way", list(table()))
def test_the_table_says_what_is_so(way: str) -> None:
    library = LIBRARIES.get(way)
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}: pip install --group docs")
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), way], env=ENVIRONMENT, capture_output=True, text=True, timeout=40
    )
    assert ended.returncode == 0, ended.stderr
    found = {line.partition(" ")[2]: line.partition(" ")[0] for line in ended.stdout.splitlines()}
    assert found == table()[way], ended.stderr
