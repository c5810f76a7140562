"""Libraries of tomorrow: one private name is another, or one function has one more parameter. In a process of its own.

``python renamed.py LIBRARY OWNER NAME CHANGE...`` takes the rows of one name in ``bridge._private``. For each change
("gone", "optional", "required") it forks a process that changes the library as it is imported, before bridge is, and
uses bridge.

The library itself goes on to work, for it is changed everywhere: every mention of the name, every definition and every
call of the function. What is written in C cannot be changed so. There the row alone says that the name is gone.
"""

from __future__ import annotations

import ast
import faulthandler
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

CHANGES = ("gone", "optional", "required")  # and, without the name, "demo" and "exit"
LIMIT = 25.0  # seconds for a change
NEW = "_of_tomorrow"


class _Rename(ast.NodeTransformer):
    """Give the name another one, wherever it is written."""

    def __init__(self, name: str, is_everywhere: bool) -> None:
        self.name = name
        self.is_everywhere = is_everywhere  # else other modules go on to call it what they do

    def visit(self, node: ast.AST) -> Any:
        self.generic_visit(node)
        for field in ("id", "attr", "name", "value"):
            if getattr(node, field, None) == self.name and not isinstance(node, ast.alias | ast.ExceptHandler):
                setattr(node, field, self.name + NEW)
        if isinstance(node, ast.alias) and node.name == self.name:
            node.asname = node.asname or self.name + NEW
        if isinstance(node, ast.alias) and node.asname == self.name:
            node.asname += NEW
        is_of_c = isinstance(node, ast.ImportFrom) and not node.level and str(node.module).startswith("_")
        if isinstance(node, ast.ImportFrom) and self.is_everywhere and not is_of_c:
            for each in node.names:
                if each.name == self.name:
                    each.name = self.name + NEW
                    if each.asname == each.name:
                        each.asname = None
        if isinstance(node, ast.Global):
            node.names = [each + NEW if each == self.name else each for each in node.names]
        return node


class _AddParameter(ast.NodeTransformer):
    """Give a function one more parameter, and an argument for it to all that call it."""

    def __init__(self, name: str, owner: str, is_required: bool) -> None:
        self.name = name
        self.owner = owner  # the class; empty for a function of a module
        self.is_required = is_required
        self.within: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.within.append(node.name)
        self.generic_visit(node)
        self.within.pop()
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        if node.name == self.name and "." not in self.name:
            is_owner = (self.within[-1] if self.within else "") == self.owner
            node.args.kwonlyargs.append(ast.arg("added"))
            default = None if is_owner and self.is_required else ast.Constant(None)
            node.args.kw_defaults.append(default)
        self.generic_visit(node)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        if self.name in (getattr(node.func, "attr", None), getattr(node.func, "id", None)):
            node.keywords.append(ast.keyword("added", ast.Constant(1)))
        return node


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of one library, and changes those that know the name."""

    def __init__(self, owner: str, name: str, change: str) -> None:
        module, _, cls = owner.partition(":")
        self.name = name
        # An underscore marks the library's own names. Another name may be anybody's, but for this very module's.
        is_private = name[0] == "_" or name[0].isupper()
        self.modules = packages_of(module) if is_private else (module,)
        if change in ("gone", "demo", "exit"):
            self.transformer: ast.NodeTransformer = _Rename(name, is_private)
        else:
            self.transformer = _AddParameter(name, cls, change == "required")

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if not any(fullname == each or fullname.startswith(f"{each}.") for each in self.modules):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return spec
        if self.name in Path(spec.loader.path).read_text(encoding="utf-8"):
            spec.loader = Loader(spec.loader.name, spec.loader.path, self.transformer)
        return spec


def packages_of(module: str) -> tuple[str, ...]:
    """Return the packages that know the private names of a module."""
    return ("threading", "concurrent") if module == "threading" else (module.partition(".")[0],)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module as it will be."""

    def __init__(self, name: str, path: str, transformer: ast.NodeTransformer) -> None:
        super().__init__(name, path)
        self.transformer = transformer

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        return compile(ast.fix_missing_locations(self.transformer.visit(tree)), self.path, "exec", dont_inherit=True)


def is_of_c(row: Any) -> bool:
    """Return whether C's own code has the name, so that nothing here can change it."""
    of_tasks = row.name == "_source_traceback"  # of a Handle, but C's tasks have it too, and asyncio reads both
    return of_tasks or row.owner.startswith(("_asyncio", "_thread", "_signal", "asyncio:")) or row.name.startswith("__")


def is_imported_already(row: Any) -> bool:
    """Return whether much of what :mod:`warm` has imported refers to the module, which cannot be imported anew."""
    return bool(row.owner.startswith("threading"))


def changes_of(rows: Any) -> tuple[str, ...]:
    """Return the changes that can be made to a name: parameters only where a function and its calls are in Python."""
    row = max(rows, key=lambda each: each.passed)
    is_python = not is_of_c(row) and row.name not in ("_enter_task", "_leave_task", "_set_running_loop")
    return CHANGES if row.passed and is_python else CHANGES[:1]


def rows_of(library: str) -> Any:
    """Return the rows of a library, and import nothing of the package but that."""
    package = ModuleType("bridge")
    spec = importlib.machinery.PathFinder.find_spec("bridge")
    assert spec is not None
    package.__path__ = spec.submodule_search_locations
    sys.modules["bridge"] = package
    rows = importlib.import_module(f"bridge._private.{library}").NAMES
    forget("bridge")
    return rows


def forget(*packages: str) -> None:
    """Have packages imported anew."""
    for name in [each for each in sys.modules if each.partition(".")[0] in packages]:
        del sys.modules[name]


def main(library: str, owner: str, name: str, changes: Iterable[str]) -> int:
    """Fork a process for each change; return how many failed."""
    rows = [each for each in rows_of(library) if (each.owner, each.name) == (owner, name)]
    failed = 0
    for change in changes:
        pid = os.fork()
        if pid == 0:
            faulthandler.enable()
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            try:
                tomorrow(rows, change)
            except BaseException as error:
                error.add_note(f"{owner}.{name}, {change}")
                raise
            return 0
        failed += os.waitpid(pid, 0)[1] != 0
    return failed


def tomorrow(rows: list[Any], change: str) -> None:
    """Change the library and use bridge."""
    row = rows[0]
    # Twisted goes without TLS, whose libraries are a third of what is imported.
    sys.modules["OpenSSL"] = sys.modules["_cffi_backend"] = None  # type: ignore[assignment]
    if not is_of_c(row):
        forget("asyncio", *packages_of(row.owner.partition(":")[0]))  # asyncio refers to its own names and to others'
        sys.meta_path.insert(0, Finder(row.owner, row.name, change))
    if change == "demo":
        from bridge._cli import demo

        if demo.main(5):
            raise SystemExit(1)
        return
    import using_bridge

    if change == "exit":
        using_bridge.leave_a_thread_blocked()
        return
    if is_of_c(row):
        using_bridge.say_that_it_has_gone(row)
    using_bridge.use(rows, change)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
