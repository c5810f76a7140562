"""The windows of the GUI demo, for Tk and Qt behind one interface: a plot, some buttons, and a line of text."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

WIDTH, HEIGHT, MARGIN = 560, 240, 12
COLOURS = ("#c0392b", "#1f618d")
TITLE = "bridge: two clients, one window"

Points = Sequence[tuple[float, float]]  # x and y, from 0 to 1


class Window(Protocol):
    """The interface of a window. Every method is called in the GUI's thread."""

    def add_button(self, text: str, press: Callable[[], object], *, stays: bool = False) -> None:
        """Add a button that calls a function. ``enable(False)`` does not disable a button that ``stays``."""
        ...

    def enable(self, enabled: bool) -> None:
        """Enable or disable the buttons."""
        ...

    def every(self, milliseconds: int, function: Callable[[], object]) -> None:
        """Call a function periodically."""
        ...

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        """Call a function once."""
        ...

    def draw(self, curves: Sequence[tuple[str, Points]]) -> None:
        """Draw the curves, each with its name."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text."""
        ...

    def run(self) -> None:
        """Show the window until it is closed."""
        ...

    def show(self) -> None:
        """Show the window and return. Other code runs the GUI's loop."""
        ...

    def on_close(self, function: Callable[[], object]) -> None:
        """Call a function when the window is closed, once."""
        ...

    def close(self) -> None:
        """Close the window."""
        ...


def make_window(toolkit: str) -> Window:
    """Make a window, and the application if there is none.

    :raises ImportError: the toolkit is not installed; the message says how to get it.
    :raises RuntimeError: there is no screen.
    """
    return _TkWindow() if toolkit == "tk" else _QtWindow()


def _place(points: Points, top: int) -> list[tuple[float, float]]:
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN - top
    return [(MARGIN + x * width, MARGIN + top + (1 - y) * height) for x, y in points]


class _TkWindow:
    def __init__(self) -> None:
        try:
            self._tk: Any = importlib.import_module("tkinter")
        except ImportError as error:
            raise ImportError(f"{error}; install your system's python3-tk, or use --gui qt") from None
        try:
            # All windows share one Tcl interpreter: blocking calls run the events of one.
            root = getattr(self._tk, "_default_root", None)
            self._root = self._tk.Tk() if root is None else self._tk.Toplevel(root)
        except self._tk.TclError as error:
            raise RuntimeError(f"Tk cannot open a window: {error}") from None
        self._root.title(TITLE)
        self._canvas = self._tk.Canvas(self._root, width=WIDTH, height=HEIGHT, background="white")
        self._canvas.pack()
        self._row = self._tk.Frame(self._root)
        self._row.pack(fill="x")
        self._text = self._tk.Label(self._root, anchor="w", padx=MARGIN, pady=6)
        self._text.pack(fill="x")
        self._buttons: list[Any] = []
        self._is_open = True
        self._root.bind("<Destroy>", self._destroyed)
        self._closed: Callable[[], object] = lambda: None

    def add_button(self, text: str, press: Callable[[], object], *, stays: bool = False) -> None:
        button = self._tk.Button(self._row, text=text, command=press)
        button.pack(side="left", padx=4, pady=4)
        if not stays:
            self._buttons.append(button)

    def enable(self, enabled: bool) -> None:
        for button in self._buttons:
            button.configure(state="normal" if enabled else "disabled")

    def every(self, milliseconds: int, function: Callable[[], object]) -> None:
        def tick() -> None:
            if self._is_open:
                self._root.after(milliseconds, tick)
                function()

        self._root.after(milliseconds, tick)

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self._root.after(milliseconds, function)

    def draw(self, curves: Sequence[tuple[str, Points]]) -> None:
        self._canvas.delete("all")
        for number, (name, points) in enumerate(curves):
            colour = COLOURS[number]
            self._canvas.create_text(MARGIN + 270 * number, MARGIN, text=name, fill=colour, anchor="w")
            if len(points) > 1:
                self._canvas.create_line(*_place(points, 20), fill=colour, width=2)

    def say(self, text: str) -> None:
        self._text.configure(text=text)

    def run(self) -> None:
        self._root.mainloop()

    def show(self) -> None:
        pass

    def on_close(self, function: Callable[[], object]) -> None:
        self._closed = function

    def close(self) -> None:
        self._root.destroy()

    def _destroyed(self, event: Any) -> None:
        if event.widget is self._root and self._is_open:  # the event comes for each inner widget too
            self._is_open = False
            self._closed()


class _QtWindow:
    def __init__(self) -> None:
        binding = _find_binding()
        self._core: Any = importlib.import_module(f"{binding}.QtCore")
        self._gui: Any = importlib.import_module(f"{binding}.QtGui")
        self._widgets: Any = importlib.import_module(f"{binding}.QtWidgets")
        if sys.platform == "linux" and not any(
            os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
        ):
            # Without a display, Qt would end the process.
            raise RuntimeError("Qt cannot open a window: there is no display, and QT_QPA_PLATFORM is not set")
        self._application = self._widgets.QApplication.instance() or self._widgets.QApplication([])
        self._timers: list[Any] = []
        self._closed: Callable[[], object] = lambda: None
        self._window = self._make()
        self._window.setWindowTitle(TITLE)
        column = self._widgets.QVBoxLayout(self._window)
        self._plot = self._widgets.QLabel()
        column.addWidget(self._plot)
        self._row = self._widgets.QHBoxLayout()
        column.addLayout(self._row)
        self._text = self._widgets.QLabel()
        column.addWidget(self._text)
        self._buttons: list[Any] = []
        self.draw([])

    def add_button(self, text: str, press: Callable[[], object], *, stays: bool = False) -> None:
        button = self._widgets.QPushButton(text)
        button.clicked.connect(lambda: press() and None)
        self._row.addWidget(button)
        if not stays:
            self._buttons.append(button)

    def enable(self, enabled: bool) -> None:
        for button in self._buttons:
            button.setEnabled(enabled)

    def every(self, milliseconds: int, function: Callable[[], object]) -> None:
        timer = self._core.QTimer(self._window)
        timer.timeout.connect(lambda: function() and None)
        timer.start(milliseconds)
        self._timers.append(timer)

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self._core.QTimer.singleShot(milliseconds, lambda: function() and None)

    def draw(self, curves: Sequence[tuple[str, Points]]) -> None:
        image = self._gui.QPixmap(WIDTH, HEIGHT)
        image.fill(self._core.Qt.GlobalColor.white)
        painter = self._gui.QPainter(image)
        painter.setRenderHint(self._gui.QPainter.RenderHint.Antialiasing)
        for number, (name, points) in enumerate(curves):
            pen = self._gui.QPen(self._gui.QColor(COLOURS[number]))
            pen.setWidth(2)
            painter.setPen(pen)
            painter.drawText(MARGIN + 270 * number, MARGIN + 6, name)
            placed = [self._core.QPointF(x, y) for x, y in _place(points, 20)]
            for begin, end in itertools.pairwise(placed):
                painter.drawLine(begin, end)
        painter.end()
        self._plot.setPixmap(image)

    def say(self, text: str) -> None:
        self._text.setText(text)

    def run(self) -> None:
        self._window.show()
        self._application.exec()

    def show(self) -> None:
        self._window.show()

    def on_close(self, function: Callable[[], object]) -> None:
        self._closed = function

    def _make(self) -> Any:
        def close(widget: Any, event: Any) -> None:
            event.accept()
            for timer in self._timers:
                timer.stop()
            closed, self._closed = self._closed, lambda: None
            closed()

        return type("DemoWindow", (self._widgets.QWidget,), {"closeEvent": close})()

    def close(self) -> None:
        self._window.close()


def _find_binding() -> str:
    names = ("PySide6", "PyQt6")
    for name in names:
        if f"{name}.QtCore" in sys.modules:  # a process that imports both would crash
            return name
    for name in names:
        if importlib.util.find_spec(name) is not None:
            return name
    raise ImportError("neither PySide6 nor PyQt6 is installed; 'pip install PySide6-Essentials', or use --gui tk")
