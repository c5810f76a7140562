"""What the modules of GUI toolkits are called, for those who look whether one is imported."""

BINDINGS = ("PySide6.QtCore", "PyQt6.QtCore")
