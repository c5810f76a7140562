"""The site, built once for the tests that look at it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS
from paths import ENVIRONMENT

NEEDED = ("sphinx", "furo", "myst_parser")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. The session "docs" has built it; elsewhere it is built here."""
    built = os.environ.get("BRIDGE_SITE")
    if built:
        return Path(built)
    if any(importlib.util.find_spec(each) is None for each in NEEDED):
        pytest.skip("needs Sphinx: pip install --group docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(folder)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=55)
    assert ended.returncode == 0, ended.stderr
    return folder
