"""The names of the GUI toolkits' modules, to check whether one is imported."""

BINDINGS = ("PySide6.QtCore", "PyQt6.QtCore")
