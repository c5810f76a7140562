"""bridge on a Python, a Twisted and an anyio that nobody has tried yet; and the rule that each private name has a row."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import renamed

import bridge
from bridge._private import abilities
from bridge._private.rows import ABILITIES, SWITCHING, Name

PACKAGE = Path(bridge.__file__).parent
HERE = Path(__file__).parent
ROWS = [(library, row) for library, row in abilities.rows()]
# Documented, though they begin with an underscore.
DOCUMENTED = {"_exit", "_fields", "_render_traceback_", "_thread"} | {"_current_frames", "_getframe"}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(PACKAGE.parent), str(HERE)])
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * renamed.LIMIT + 10,
    )


def _indexed() -> Iterator[Any]:
    counts: dict[str, int] = {}
    for library, row in ROWS:
        index = counts[library] = counts.get(library, -1) + 1
        yield pytest.param(library, index, row, id=f"{library}-{row}-{ABILITIES.index(row.ability)}-{row.passed}")


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.parametrize(("library", "index", "row"), list(_indexed()))
def test_a_name_of_tomorrow(library: str, index: int, row: Name) -> None:
    ended = _run(str(HERE / "renamed.py"), library, str(index), *renamed.changes_of(row))
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
