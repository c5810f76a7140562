"""The magics: ``%autoblock``, ``%%loop`` and ``%bridge``."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, Protocol

from .._api.default import default_bridge
from .._errors import at
from .._values.outcomes import trim
from ._cell import awaited, is_blocked_on, wait_for_cell
from ._cells import CellTransformer
from ._status import Status


class _Extension(Protocol):
    """The loaded extension, as its magics see it."""

    autoblock: bool
    transformer: CellTransformer


class Magics:
    """The magic functions of one shell."""

    def __init__(self, shell: Any, extension: _Extension) -> None:
        self._shell = shell
        self._extension = extension
        self._after_cell: list[Callable[[], object]] = []

    def register(self) -> Callable[[], None]:
        """Register the magics. Return a function that restores the previous ones."""
        ours: list[tuple[str, str, Callable[..., Any]]] = [
            ("line", "autoblock", self.autoblock),
            ("line", "bridge", self.bridge),
            ("cell", "loop", self.loop),
        ]
        manager = self._shell.magics_manager
        before: list[tuple[dict[str, Any], str, Any]] = []
        for kind, name, magic in ours:
            tables: list[dict[str, Any]] = [manager.magics[kind], vars(manager.user_magics)]
            before += [(table, name, table.get(name)) for table in tables]
            self._shell.register_magic_function(magic, kind, name)

        def undo() -> None:
            for table, name, magic in before:
                if magic is not None:
                    table[name] = magic
                else:
                    table.pop(name, None)

        return undo

    def autoblock(self, line: str) -> None:
        """Switch on or off whether a shown result is blocked on.

        ``%autoblock on``: a last expression that is a Deferred, coroutine or Future shows its value. ``_`` and
        ``Out[n]`` hold that value. A task from ``asyncio.create_task(...)`` is shown as it is, since it was put in the
        background on purpose. Ctrl-C stops the wait. It cancels work that the expression itself has made, and does not
        cancel work that the expression only names.

        ``%autoblock off``: they are shown as they are. ``%autoblock`` alone says whether it is on.
        """
        word = line.strip().lower()
        if word in ("on", "1", "true"):
            self._extension.autoblock = True
        elif word in ("off", "0", "false"):
            self._extension.autoblock = False
        elif word:
            raise _usage_error(f"%autoblock takes 'on' or 'off', not {line.strip()!r}" + at("magic-arguments"))
        print(f"autoblock is {'on' if self._extension.autoblock else 'off'}")

    def bridge(self, line: str) -> Any:
        """Show the bridge's state: its loop, the open calls with their stacks, and statistics.

        ``%bridge demo``, after ``%gui qt`` or ``%gui tk``, opens a window that plots the data of two clients. It is
        drawn at the prompt, while a cell blocks, and while the code behind its buttons blocks. ``demo = %bridge demo``
        keeps it.
        """
        word = line.strip().lower()
        if word == "demo":
            return self._open_demo()
        if word:
            raise _usage_error(f"%bridge takes nothing, or 'demo', not {line.strip()!r}" + at("magic-arguments"))
        return Status(default_bridge(), self._cell_of)

    def _open_demo(self) -> Any:
        name = getattr(self._shell, "active_eventloop", None) or ""
        if not name.startswith(("qt", "tk")):
            raise _usage_error(
                "%bridge demo needs a GUI that IPython runs: write %gui qt or %gui tk before it" + at("magic-arguments")
            )
        from .._cli.gui_demo import open_demo

        try:
            return open_demo(name[:2])
        except (ImportError, RuntimeError) as error:
            raise _usage_error(str(error)) from None

    def _cell_of(self, filename: str) -> str | None:
        names = self._shell.compile.format_code_name(filename)  # ("Cell", "In[1]")
        return None if names is None else " ".join(names)

    def loop(self, line: str, cell: str) -> Any:
        """Run the cell on the loop's thread, in a task.

        There the cell may call the reactor, ``await`` works, and ``block_on`` switches stacks. The names that the cell
        binds are the user's. Its last expression is the result. While the cell computes, the loop does nothing else. A
        second Ctrl-C ends the wait for a cell that does not stop.
        """
        if line.strip():
            raise _usage_error(f"%%loop takes no arguments, not {line.strip()!r}" + at("magic-arguments"))
        try:
            name, code, shown = self._compiled(cell)
        except SyntaxError:
            self._show_syntax_error_alone()
            raise
        try:
            return wait_for_cell(lambda: self._run(code, shown), name)
        except BaseException as error:
            trim(error)
            self._show_own_frames(error, name)
            raise

    def _compiled(self, cell: str) -> tuple[str, CodeType, CodeType | None]:
        """Return the cell's file name for tracebacks, its code, and the code of its last expression."""
        shell = self._shell
        lines = cell.splitlines()
        blank = next((number for number, line in enumerate(lines) if line.strip()), 0)
        # Keep line numbers right: IPython drops blank lines, and the first line is %%loop.
        source = "\n" * (blank + 1) + shell.transform_cell(cell)
        number = getattr(shell.displayhook.exec_result, "execution_count", None) or shell.execution_count
        name: str = shell.compile.cache(source, number)  # which tracebacks show as "Cell In[number]"
        tree: Any = shell.compile.ast_parse(source, filename=name)
        with self._extension.transformer.on_the_loop():
            tree = shell.transform_ast(tree)
        last = tree.body[-1] if tree.body else None
        value = last.value if isinstance(last, ast.Expr) else None
        if value is not None:
            tree.body.pop()
        # IPython's compiler keeps the __future__ imports of earlier cells.
        with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            code = shell.compile(tree, name, "exec")
            shown = shell.compile(ast.Expression(value), name, "eval") if value is not None else None
        return name, code, shown

    async def _run(self, code: CodeType, shown: CodeType | None) -> Any:
        await self._step(code)
        value: Any = await self._step(shown) if shown is not None else None
        return await awaited(value) if self._extension.autoblock and is_blocked_on(value) else value

    async def _step(self, code: CodeType) -> Any:
        value = eval(code, self._shell.user_global_ns, self._shell.user_ns)
        return await value if code.co_flags & inspect.CO_COROUTINE else value

    def _show_own_frames(self, error: BaseException, name: str) -> None:
        """Make IPython show this error with the frames of the cell only."""
        shell = self._shell
        traceback = _from(error.__traceback__, name)  # None for a KeyboardInterrupt that came during the wait

        def render() -> Any:
            return shell.InteractiveTB.structured_traceback(type(error), error, traceback, tb_offset=0)

        with contextlib.suppress(AttributeError):  # an exception that takes no attributes
            error._render_traceback_ = render  # type: ignore[attr-defined]
            self._after_cell.append(lambda: delattr(error, "_render_traceback_"))

    def _show_syntax_error_alone(self) -> None:
        """Make IPython show the SyntaxError of this cell without the frames of the compiler."""
        shell = self._shell
        show, is_own = shell.showsyntaxerror, "showsyntaxerror" in vars(shell)

        def show_alone(filename: str | None = None, running_compiled_code: bool = False) -> None:
            show(filename)

        shell.showsyntaxerror = show_alone
        self._after_cell.append(
            (lambda: setattr(shell, "showsyntaxerror", show)) if is_own else (lambda: delattr(shell, "showsyntaxerror"))
        )

    def forget_errors(self) -> None:
        """Let later cells show errors in their own way."""
        while self._after_cell:
            self._after_cell.pop()()


def _from(traceback: TracebackType | None, filename: str) -> TracebackType | None:
    """Return the traceback from the first frame of that file on."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename != filename:
        traceback = traceback.tb_next
    return traceback


def _usage_error(message: str) -> Exception:
    error: Exception = importlib.import_module("IPython.core.error").UsageError(message)
    return error
