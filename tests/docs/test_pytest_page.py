"""docs/how-to/pytest.md: its tests pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS
from paths import ENVIRONMENT


@pytest.mark.process
@pytest.mark.skipif(sys.version_info < (3, 13), reason="IsolatedAsyncioTestCase.loop_factory is new in 3.13")
def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "pytest.md").read_text()
    files = re.findall(r"^`tests/([\w.]+)`:\n\n```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == ["test_both.py", "test_async.py"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", f"--rootdir={tmp_path}", "."],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
