"""Rewrites a cell: the cell runs in the shell's thread, and the work that it awaits runs on the loop.

The syntax tree is rewritten. A new node has the position of the node that it replaces, so a traceback shows the user's
own lines. ``cell`` is the :class:`~bridge.ext._cell.Cell` that runs it:

- ``await E`` becomes ``cell.wait(lambda: E)``. E is evaluated on the loop's thread, since ``asyncio.gather(...)`` or
  ``treq.get(...)`` belong there. An ``await`` inside E blocks there by a switch of the stack.
- An asynchronous comprehension becomes ``cell.wait(lambda: cell.collect("list", (... async for ...)))``. A lambda may
  contain an asynchronous generator, but no asynchronous comprehension.
- A statement with an ``async for`` or ``async with`` in it has to run in one task. It becomes the body of an
  ``async def``, in which the names that it binds are global.
- ``asyncio.create_task(...)`` and similar calls become ``cell.caller(asyncio.create_task)(...)``, which checks the
  object that is called, not its name.
- The last expression becomes ``cell.show(E)``, which blocks on the value to be shown.

A walrus inside E would bind a local variable of the lambda. So it becomes ``cell.bind("name", value)``.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import warnings
from collections.abc import Callable, Generator
from typing import Any

from .._errors import at
from ._scopes import imported_as, is_async, names_bound, needs_a_task

# The Cell's name in builtins, where %reset of the user's namespace does not remove it.
CELL = "__bridge_cell__"
# Not an identifier, so it cannot clash with a user's name. Tracebacks show it as the function's name.
ASYNC_PART = "<async cell>"

# Functions of asyncio that need the running loop of their thread.
ON_THE_LOOP = frozenset({"as_completed", "create_task", "ensure_future", "gather", "shield"})
# The ones that start a task in the background. The user does not want to wait for its result at once.
_BACKGROUND = frozenset({"create_task", "ensure_future"})


class CellTransformer:
    """Rewrites the syntax tree of each cell. IPython calls ``visit()``, and would unregister us if that raised.

    :param awaits: returns whether the shell allows ``await`` at the top level (``%autoawait``).
    :param shows: returns which of the cell's expressions are shown: ``"last"``, ``"all"`` or ``"none"``.
    :param known: returns the value of a user's name, None if it has none. By it, functions of asyncio are found that
        were imported under another name.
    """

    def __init__(
        self, awaits: Callable[[], bool], shows: Callable[[], str], known: Callable[[str], Any | None]
    ) -> None:
        self._awaits = awaits
        self._shows = shows
        self._known = known
        self._on_the_loop = False

    @contextlib.contextmanager
    def on_the_loop(self) -> Generator[None]:
        """While this is entered, rewrite cells that run on the loop's thread, where ``await`` needs no rewriting."""
        self._on_the_loop = True
        try:
            yield
        finally:
            self._on_the_loop = False

    def visit(self, tree: Any) -> Any:
        """Return the rewritten tree of a cell."""
        if not isinstance(tree, ast.Module):
            return tree
        try:
            return self._rewritten(tree)
        except Exception as error:
            warnings.warn(
                f"bridge runs this cell as it stands, for it could not be rewritten: {error!r}"
                + at("cell-not-rewritten"),
                stacklevel=2,
            )
            return tree

    def _rewritten(self, module: ast.Module) -> ast.Module:
        awaits = self._awaits() and not self._on_the_loop
        shows = "none" if self._on_the_loop else self._shows()
        shown = {id(each) for each in (module.body if shows == "all" else module.body[-1:] if shows == "last" else [])}
        calls = _AsyncioCalls(self._known, imported_as(module, ON_THE_LOOP))
        in_cell = _CellScope(calls) if awaits else calls
        rewrites = any(map(calls.may_need_rewriting, ast.walk(module)))
        body: list[ast.stmt] = []
        for statement in module.body:
            is_shown = id(statement) in shown
            # Rewrite a copy, so that the cell can run as it is if this fails. Most cells need no copy.
            statement = copy.deepcopy(statement) if rewrites else statement
            if rewrites and awaits and needs_a_task(statement):
                body += _in_one_task(calls.visit(statement), statement)
                continue
            value = statement.value if is_shown and isinstance(statement, ast.Expr) else None
            show, is_fresh = value is not None and _blocks_when_shown(value), isinstance(value, ast.Call)
            new: ast.stmt = in_cell.visit(statement) if rewrites else statement
            if show and isinstance(new, ast.Expr):
                new.value = _call(new.value, "show", new.value, ast.Constant(is_fresh))
            body.append(new)
        return ast.Module(body, module.type_ignores)


class _AsyncioCalls(ast.NodeTransformer):
    """Rewrites calls of asyncio's functions that need a running loop: they use ours. For every scope of a cell."""

    def __init__(self, known: Callable[[str], Any | None], renamed: frozenset[str]) -> None:
        self._known = known
        self._renamed = renamed

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Decide at run time what to call: the name alone does not tell whether the function is asyncio's."""
        self.generic_visit(node)
        if self._is_candidate(node.func):
            node.func = _call(node.func, "caller", node.func)
        return node

    def may_need_rewriting(self, node: ast.AST) -> bool:
        """Return whether a cell with this node may have to be rewritten."""
        return (
            isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith))
            or (isinstance(node, ast.comprehension) and bool(node.is_async))
            or (isinstance(node, ast.Call) and self._is_candidate(node.func))
        )

    def _is_candidate(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Attribute):
            return function.attr in ON_THE_LOOP
        if not isinstance(function, ast.Name):
            return False
        if function.id in ON_THE_LOOP or function.id in self._renamed:
            return True
        return getattr(self._known(function.id), "__name__", None) in ON_THE_LOOP


class _CellScope(_AsyncioCalls):
    """Rewrites code in the scope of the cell itself, which runs in the shell's thread.

    :param nested: rewrites nested scopes, such as functions.
    :param in_lambda: whether the code will stand in a lambda of ours.
    """

    def __init__(self, nested: _AsyncioCalls, *, in_lambda: bool = False) -> None:
        super().__init__(nested._known, nested._renamed)
        self._nested = nested
        self._in_lambda = in_lambda
        self._inner = self if in_lambda else _CellScope(nested, in_lambda=True)

    def visit_Await(self, node: ast.Await) -> ast.expr:
        """Wait in the shell's thread."""
        return _call(node, "wait", _thunk(self._inner.visit(node.value)))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        """Bind the name in the user's namespace. In a lambda a walrus would bind a local variable."""
        self.generic_visit(node)
        return _bind(node) if self._in_lambda else node

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        """Wait for the whole of it, if it is asynchronous."""
        return self._comprehension(node, node.elt, "list")

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        """Wait for the whole of it, if it is asynchronous."""
        return self._comprehension(node, node.elt, "set")

    def visit_DictComp(self, node: Any) -> ast.expr:
        """Wait for the whole of it, if it is asynchronous."""
        item: ast.expr
        if node.value is None:  # {**mapping for ...}, from Python 3.15 on: all items of a mapping
            items = ast.Call(ast.Attribute(node.key, "items", ast.Load()), [], [])
            item = ast.Starred(items, ast.Load())
        else:
            item = ast.Tuple([node.key, node.value], ast.Load())
        return self._comprehension(node, item, "dict")

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        """Leave it: it is evaluated later, where it is iterated over. Only its first iterable is evaluated here."""
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        return node

    def _comprehension(self, node: Any, item: ast.expr, kind: str) -> ast.expr:
        if not is_async(node):
            self.generic_visit(node)
            result: ast.expr = node
            return result
        first, *others = node.generators
        first.iter = self._inner.visit(first.iter)
        walruses = _Walruses()
        first.ifs = [walruses.visit(each) for each in first.ifs]
        for each in others:
            walruses.visit(each)
        items = ast.copy_location(ast.GeneratorExp(walruses.visit(item), node.generators), node)
        return _call(node, "wait", _thunk(_call(node, "collect", ast.Constant(kind), items)))

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        """Rewrite the defaults, which are evaluated here. The body is a nested scope."""
        node.args = self.visit(node.args)
        node.body = self._nested.visit(node.body)
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        """Rewrite decorators and defaults, which are evaluated here. The body is a nested scope."""
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        node.args = self.visit(node.args)
        node.body = [self._nested.visit(each) for each in node.body]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """Rewrite decorators and bases, which are evaluated here. The body is a nested scope."""
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        node.bases = [self.visit(each) for each in node.bases]
        node.keywords = [self.visit(each) for each in node.keywords]
        node.body = [self._nested.visit(each) for each in node.body]
        return node


class _Walruses(ast.NodeTransformer):
    """Rewrites the walruses of a comprehension. They bind names in the scope around the comprehension."""

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        """Bind the name in the user's namespace."""
        self.generic_visit(node)
        return _bind(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        """Leave it: its body binds local variables."""
        return node


def _in_one_task(statement: ast.stmt, place: ast.stmt) -> list[ast.stmt]:
    """Return statements that run the statement in a task on the loop and bind its names in the user's namespace."""
    bound = sorted(set(names_bound(statement)))
    body: list[ast.stmt] = [ast.Global(bound)] if bound else []
    body.append(_NameAssignments().visit(statement))
    arguments = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    # cell.run is a decorator here, since code cannot call a function whose name is not an identifier.
    runner = ast.Attribute(ast.Name(CELL, ast.Load()), "run", ast.Load())
    fields: dict[str, Any] = {"name": ASYNC_PART, "args": arguments, "body": body, "decorator_list": [runner]}
    if "type_params" in ast.AsyncFunctionDef._fields:  # from 3.12 on
        fields["type_params"] = []
    parts = (ast.AsyncFunctionDef(**fields), ast.Delete([ast.Name(ASYNC_PART, ast.Del())]))
    return [ast.fix_missing_locations(ast.copy_location(each, place)) for each in parts]


class _NameAssignments(ast.NodeTransformer):
    """Removes the annotations of assignments, since an annotated name cannot be global."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        """Drop the annotation of a name."""
        if not isinstance(node.target, ast.Name):
            return node
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_FunctionDef(self, node: Any) -> Any:
        """Leave it: a nested scope."""
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef


def _blocks_when_shown(value: ast.expr) -> bool:
    """Return whether to block on a shown expression's result: not after an ``await``, not on a background task."""
    if isinstance(value, ast.Await):
        return False
    if not isinstance(value, ast.Call):
        return True
    name = getattr(value.func, "attr", getattr(value.func, "id", None))
    return name not in _BACKGROUND


def _thunk(value: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]), value)


def _call(place: ast.AST, method: str, *arguments: ast.expr) -> ast.Call:
    """Return a call of a method of the Cell, with the position of another node."""
    function = ast.Attribute(ast.Name(CELL, ast.Load()), method, ast.Load())
    call = ast.copy_location(ast.Call(function, list(arguments), []), place)
    # Python takes the line number of a method call from the end of the attribute node.
    function.lineno = function.end_lineno = call.lineno
    function.col_offset = function.end_col_offset = call.col_offset
    return ast.fix_missing_locations(call)


def _bind(walrus: ast.NamedExpr) -> ast.Call:
    return _call(walrus, "bind", ast.Constant(walrus.target.id), walrus.value)
