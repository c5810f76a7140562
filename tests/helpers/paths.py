"""Where the project's files are, and the package that is tested, for tests and for the processes that they start."""

from __future__ import annotations

import os
from pathlib import Path

import bridge

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
TESTS = ROOT / "tests"
HELPERS = TESTS / "helpers"
PACKAGES = str(Path(bridge.__file__).resolve().parent.parent)  # the checkout, or where the wheel was installed
# With this a process imports the package that is tested here.
ENVIRONMENT = os.environ | {"PYTHONPATH": PACKAGES}
