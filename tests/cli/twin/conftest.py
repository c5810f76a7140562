"""The twin of the tests' own library, ``shelf``."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def sync() -> ModuleType:
    """The twin of the library, as it stands beside it."""
    return importlib.import_module("shelf.sync")
