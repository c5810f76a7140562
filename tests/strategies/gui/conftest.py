"""Which tests of GUIs run on every Python."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# The conformance of a strategy that runs the toolkit's events, signals meanwhile, and the adoption of its reactor. Both
# bindings of Qt are served by one strategy: PySide6 stands for them where Python's version matters, as tkinter stands
# for itself. What PyQt6 and GTK do beside that, and how windows, timers and Futures behave, depends on no Python.
_ON_ALL = {"test_gui_conformance.py", "test_gui_adopt.py", "test_gui_signals.py"}
_ON_THE_ENDS = {"PyQt6", "gtk"}


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if _HERE not in item.path.parents:
            continue
        if item.path.name not in _ON_ALL or parameters.get("toolkit") in _ON_THE_ENDS:
            item.add_marker(pytest.mark.any_python)
