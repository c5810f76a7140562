"""Which tests of GUIs run on every Python."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# Both bindings of Qt are served by one strategy: PySide6 stands for them where Python's version matters, as tkinter
# stands for itself. What PyQt6 and GTK do beside that is their own, and no Python's.
_ON_THE_ENDS = {"PyQt6", "gtk"}


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if _HERE in item.path.parents and parameters.get("toolkit") in _ON_THE_ENDS:
            item.add_marker(pytest.mark.any_python)
