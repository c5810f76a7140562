"""``%load_ext bridge``: Deferreds and coroutines in the cells of IPython and Jupyter.

A cell runs in the shell's thread, where Ctrl-C and the kernel's interrupt reach it. The work that it awaits runs on the
default bridge. :mod:`bridge.ext._cells` rewrites the cell, :mod:`bridge.ext._cell` runs it. A loop runner of our own
keeps ipykernel from running the cell as a task on the kernel's loop, where an interrupt comes too late
(ipython/ipykernel#881).

It uses these names of IPython, of 8.20 to 9.18. The tests in test_shell_cells.py and test_shell_extension.py fail if
one is removed: ``loop_runner_map`` and ``loop_runner``, ``ast_transformers``, ``events``,
``magics_manager.magics`` and ``.user_magics``, ``compile.cache``, ``.ast_parse``, ``.extra_flags`` and
``.format_code_name``, ``displayhook.exec_result``, ``InteractiveTB``, ``showsyntaxerror``, and the
``_render_traceback_`` of an exception.

``%unload_ext bridge`` removes everything that was added to the shell, except what the user has changed since.
"""

from __future__ import annotations

import builtins
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from .._api import default
from .._api.default import block_on, blocking, default_bridge
from .._errors import at
from ._cell import Cell
from ._cells import CELL, CellTransformer
from ._magics import Magics

_NAME = "bridge"
_loaded: dict[int, Extension] = {}


def load_ipython_extension(shell: Any) -> None:
    """Add the extension to a shell. Does nothing if the shell has it."""
    if id(shell) not in _loaded:
        extension = Extension(shell)
        extension.load()
        _loaded[id(shell)] = extension


def unload_ipython_extension(shell: Any) -> None:
    """Remove the extension from a shell."""
    extension = _loaded.pop(id(shell), None)
    if extension is not None:
        extension.unload()


class Extension:
    """The extension in one shell. It knows how to restore the previous state."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.autoblock = True
        self._cell = Cell(lambda: shell.user_ns, lambda: self.autoblock)
        self.transformer = CellTransformer(self._awaits, self._shows, self._known)
        self._magics = Magics(shell, self)
        self._undo: list[Callable[[], object]] = []
        self._runs_cell = False
        self._loop_ends = _LoopEnds()

    def load(self) -> None:
        """Add everything, or nothing."""
        try:
            self._load()
        except BaseException:
            self.unload()
            raise

    def _load(self) -> None:
        if not default_bridge().running and not default.is_configured("stall_after"):
            # No watchdog: the user of a blocked shell sees that it waits, and has the interrupt and %bridge.
            default.set_options({"stall_after": None}, "%load_ext bridge")
        default_bridge().start()
        self._loop_ends.new_message()
        self._add_cell()
        self._add_runner()
        self._shell.ast_transformers.append(self.transformer)
        self._undo.append(self._remove_transformer)
        self._undo.append(self._magics.register())
        for event, function in (("pre_run_cell", self._before_cell), ("post_run_cell", self._after_cell)):
            self._shell.events.register(event, function)
            self._undo.append(functools.partial(self._shell.events.unregister, event, function))
        self._add_names()
        self._cell.begins()

    def unload(self) -> None:
        """Undo what was added, in reverse order."""
        while self._undo:
            self._undo.pop()()

    def _add_cell(self) -> None:
        had = vars(builtins).get(CELL)
        setattr(builtins, CELL, self._cell)

        def undo(result: Any = None) -> None:
            if had is not None:
                setattr(builtins, CELL, had)
            elif vars(builtins).get(CELL) is self._cell:
                delattr(builtins, CELL)

        def undo_after_cell(result: Any = None) -> None:
            self._shell.events.unregister("post_run_cell", undo_after_cell)
            undo()

        def undo_soon() -> None:
            # A cell that unloads the extension is rewritten already. The rest of it still needs the Cell.
            if self._runs_cell:
                self._shell.events.register("post_run_cell", undo_after_cell)
            else:
                undo()

        self._undo.append(undo_soon)

    def _add_runner(self) -> None:
        shell = self._shell
        runner, before, autoawait = _Runner(), shell.loop_runner, shell.autoawait
        shell.loop_runner_map[_NAME] = (runner, True)
        shell.loop_runner = _NAME  # which sets autoawait too

        def undo() -> None:
            shell.loop_runner_map.pop(_NAME, None)
            if shell.loop_runner is runner:
                shell.loop_runner = before
                shell.autoawait = autoawait

        self._undo.append(undo)

    def _remove_transformer(self) -> None:
        if self.transformer in self._shell.ast_transformers:
            self._shell.ast_transformers.remove(self.transformer)

    def _add_names(self) -> None:
        ours = {
            "bridge": sys.modules[_NAME],
            "block_on": block_on,
            "blocking": blocking,
            "loop": default_bridge().loop,
            "reactor": default_bridge().reactor,
        }
        names = self._shell.user_ns
        self._names = {name: value for name, value in ours.items() if name not in names}
        # Not interactive: %who lists only the user's own names.
        self._shell.push(self._names, interactive=False)
        self._undo.append(self._remove_names)

    def _remove_names(self) -> None:
        self._shell.drop_by_id(self._names)

    # For the transformer.

    def _awaits(self) -> bool:
        return bool(self._shell.autoawait)

    def _shows(self) -> str:
        return {"all": "all", "none": "none"}.get(self._shell.ast_node_interactivity, "last")

    def _known(self, name: str) -> Any | None:
        return self._shell.user_ns.get(name)

    # Around every cell.

    def _before_cell(self, info: Any = None) -> None:
        self._runs_cell = True
        self._cell.begins()
        self._report_loop_change()

    def _after_cell(self, result: Any = None) -> None:
        self._runs_cell = False
        self._magics.forget_errors()
        self._report_loop_change()

    def _report_loop_change(self) -> None:
        """Say once that a loop has ended. Bind the name ``loop`` to the new loop once it runs."""
        message = self._loop_ends.new_message()
        if message is not None:
            print(message)
        served = default_bridge()
        old = self._names.get("loop")
        if old is not None and served.running and served.loop is not old and self._shell.user_ns.get("loop") is old:
            self._names["loop"] = served.loop
            self._shell.push({"loop": served.loop}, interactive=False)


class _Runner:
    """Drives a cell's coroutine. It never suspends, since each ``await`` was rewritten into a blocking call."""

    def __call__(self, coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            coro.send(None)
        except StopIteration as stop:
            return stop.value
        coro.close()
        raise RuntimeError(
            "an 'await' of this cell was not rewritten; write block_on(...) instead" + at("cell-not-rewritten")
        )

    def __str__(self) -> str:
        return _NAME  # printed by %autoawait


class _LoopEnds:
    """Notices that the default bridge's loop has ended."""

    def __init__(self) -> None:
        self._reported: object = None

    def new_message(self) -> str | None:
        """Return the message about a loop that has ended; None if there is no such loop, or it was reported."""
        run = default_bridge().last_run
        if run is None or run.over is None or run is self._reported:
            return None
        self._reported = run
        return f"bridge: {run.over}; the next call starts a new loop."
