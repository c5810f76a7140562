"""Modules as syntax trees: what they define, what they import, and what a name in them means."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
MISSING: Any = object()


class TwinError(Exception):
    """A twin cannot be written; the message is one sentence that says why."""


@dataclass(frozen=True)
class Target:
    """What a name means: a name in a module, or the module itself if ``name`` is empty."""

    module: str
    name: str
    typing_only: bool = False  # imported for type checkers only

    @property
    def value(self) -> Any:
        """The object; MISSING if there is none at run time."""
        module = imported(self.module)
        if module is None:
            return MISSING
        if not self.name:
            return module
        value = getattr(module, self.name, MISSING)
        if value is MISSING and (follows := module_of(self.module).names.get(self.name)) and follows != self:
            return follows.value
        return value


@dataclass
class Scope:
    """Where an annotation stands: its module, and the type parameters and class names that are valid there."""

    module: Module
    local: frozenset[str] = frozenset()
    cls: type[Any] | None = None

    def with_local(self, names: frozenset[str]) -> Scope:
        """Return this scope with more type parameters."""
        return Scope(self.module, self.local | names, self.cls) if names else self


class Module:
    """One module of the library, or of what it imports from."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: dict[str, Target] = {}  # what its imports bind
        self.nodes: dict[str, ast.stmt] = {}  # what it defines: the last definition that type checkers see
        self.functions: dict[str, list[Function]] = {}  # every def, by its qualified name
        self.classes: dict[str, ast.ClassDef] = {}
        self.for_checkers: set[int] = set()  # the identities of those defs that only type checkers see
        self._stars: list[str] = []
        self._typed: set[str] = set()  # what is defined for type checkers only
        self.value = imported(name)
        try:
            tree = ast.parse(inspect.getsource(self.value)) if self.value is not None else None
        except (OSError, TypeError, SyntaxError):  # written in C
            tree = None
        if tree is not None:
            self._read(tree.body, "", False)

    def resolve(self, name: str) -> Target | None:
        """Return what a global name means; None for a builtin or if it is unknown."""
        if name in self.names:
            return self.names[name]
        if name in self.nodes:
            return Target(self.name, name)
        for star in self._stars:
            if hasattr(imported(star), name):
                return module_of(star).resolve(name) or Target(star, name)
        if self.value is not None and name in vars(self.value) and not hasattr(builtins, name):
            return Target(self.name, name)
        return None

    def _read(self, body: list[ast.stmt], prefix: str, typing_only: bool) -> None:
        for node in body:
            for name in _defined(node):
                if typing_only or prefix + name not in self._typed:
                    self.nodes[prefix + name] = node
                if typing_only:
                    self._typed.add(prefix + name)
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, prefix, typing_only)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = self.functions.setdefault(prefix + node.name, [])
                if typing_only:
                    self.for_checkers.add(id(node))
                found.insert(0 if typing_only and "overload" not in decorators(node) else len(found), node)
            elif isinstance(node, ast.ClassDef):
                self.classes.setdefault(prefix + node.name, node)
                self._read(node.body, f"{prefix}{node.name}.", typing_only)
            elif isinstance(node, ast.If):
                for_checkers = "TYPE_CHECKING" in ast.unparse(node.test)
                negated = for_checkers and ast.unparse(node.test).startswith("not ")
                self._read(node.body, prefix, typing_only or (for_checkers and not negated))
                self._read(node.orelse, prefix, typing_only or negated)
            elif isinstance(node, ast.Try):
                for part in (node.body, *(each.body for each in node.handlers), node.orelse, node.finalbody):
                    self._read(part, prefix, typing_only)
            elif isinstance(node, ast.With):
                self._read(node.body, prefix, typing_only)

    def _import(self, node: ast.Import | ast.ImportFrom, prefix: str, typing_only: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                self.names.setdefault(prefix + bound, Target(alias.name if alias.asname else bound, "", typing_only))
            return
        base = node.module or ""
        if node.level:
            package = self.name if hasattr(self.value, "__path__") else self.name.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = f"{package}.{base}" if base else package
        for alias in node.names:
            if alias.name == "*":
                self._stars.append(base)
            elif (key := prefix + (alias.asname or alias.name)) not in self.names or self.names[key].typing_only:
                self.names[key] = _imported_target(base, alias.name, typing_only)


def _imported_target(base: str, name: str, typing_only: bool) -> Target:
    module = imported(base)
    if module is not None and not hasattr(module, name) and imported(f"{base}.{name}") is not None:
        return Target(f"{base}.{name}", "", typing_only)
    if isinstance(value := getattr(module, name, None), ModuleType):
        return Target(value.__name__, "", typing_only)
    return Target(base, name, typing_only)


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (each.id for each in node.targets if isinstance(each, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif type(node).__name__ == "TypeAlias":
        yield node.name.id  # type: ignore[attr-defined]


@functools.cache
def module_of(name: str) -> Module:
    """Return a module, read once."""
    return Module(name)


@functools.cache
def imported(name: str) -> ModuleType | None:
    """Return a module by its name; None if it cannot be imported, as one that exists for type checkers only."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def type_parameters(node: ast.stmt | None) -> frozenset[str]:
    """Return the names of the type parameters that a class or function declares: ``class Page[T]``."""
    return frozenset(each.name for each in getattr(node, "type_params", ()))


def decorators(node: Function | ast.ClassDef) -> list[str]:
    """Return the last parts of the names of the decorators: ``overload`` for ``@typing.overload``."""
    found = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
    return [ast.unparse(each).rpartition(".")[2] for each in found]


def is_generator(node: Function) -> bool:
    """Return whether a function yields."""
    todo: list[ast.AST] = list(node.body)
    while todo:
        each = todo.pop()
        if isinstance(each, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(each)
    return False


def returned(node: Function) -> list[ast.expr | None]:
    """Return the expressions that a function returns."""
    found: list[ast.expr | None] = []
    todo: list[ast.AST] = list(node.body)
    while todo:
        each = todo.pop()
        if isinstance(each, ast.Return):
            found.append(each.value)
        elif not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(each)
    return found
