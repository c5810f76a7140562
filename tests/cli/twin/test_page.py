"""docs/how-to/sync-twin.md: its project is made, its twin written, its tests run; what it shows of the twin is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ENVIRONMENT, ROOT

PAGE = (ROOT / "docs" / "how-to" / "sync-twin.md").read_text()


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.timeout(120)
def test_the_project_of_the_page(tmp_path: Path) -> None:
    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == [
        "books/_client.py",
        "books/__init__.py",
        "tests/test_sync.py",
        "docs/index.rst",
    ]
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (command,) = re.findall(r"^\$ python (-m bridge twin .*)$", PAGE, re.MULTILINE)

    def run(*arguments: str) -> None:
        environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{ENVIRONMENT.get('PYTHONPATH', '')}"}
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    run(*command.split())
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path / "tests"))
    written = (tmp_path / "books" / "sync.py").read_text()
    shown = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(shown) == 2
    for part in shown:
        assert part in written
