"""The rooms of the package: what may import what, how long a file and a function may be, and whose names are whose."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge._private.abilities import rows

# Private names of asgiref, which _calls/asgiref.py has a table of, and a method that IPython looks for in errors.
OF_OPTIONAL_LIBRARIES = {"_broken", "_old_executor", "_work_items", "_work_ready", "_render_traceback_"}
ROOT = Path(__file__).resolve().parents[2]

# Highest first: a module imports only from the rooms below its own, or out of its own room, TYPE_CHECKING included.
ROOMS = [
    "bridge.ext",
    "bridge.__main__",
    "bridge._cli",
    "bridge",
    "bridge._api",
    "bridge._views",
    "bridge._diagnostics",
    "bridge._calls",
    "bridge._runs",
    "bridge._twisted",
    "bridge._loop",
    "bridge._watch",
    "bridge._values",
    "bridge.strategies",
    "bridge._threads",
    "bridge._private",
    "bridge._errors",
]


def test_every_module_stands_in_a_room():
    for module in MODULES:
        _layer(module)


def test_imports_go_down():
    upward = [
        (module, imported)
        for module in MODULES
        for imported in IMPORTS[module] & MODULES.keys()
        if _layer(imported) < _layer(module)
    ]
    assert not upward


def test_imports_go_round_in_no_circle():
    graph = {module: (IMPORTS[module] & MODULES.keys()) - {module} for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()


def test_threads_know_the_standard_library_alone():
    others = {name for name in MODULES if not _is_in(name, "bridge._threads") and not _is_in(name, "bridge._private")}
    assert not _crossings("bridge._threads", {"anyio", "greenlet", "twisted", *others} - {"bridge"})


def test_strategies_know_only_threads_and_errors():
    below = ["bridge.strategies", "bridge._threads", "bridge._private", "bridge._errors"]
    others = {name for name in MODULES if not any(_is_in(name, each) for each in below)}
    assert not _crossings("bridge.strategies", others - {"bridge"})


def test_strategies_know_no_asyncio_and_no_twisted():
    assert not _crossings("bridge.strategies", {"asyncio", "twisted"})


def test_loop_knows_no_strategies():
    assert not _crossings("bridge._loop", {"bridge.strategies"})


def test_only_the_room_for_twisted_imports_twisted():
    # The demo and the benchmark measure and show Twisted itself; crochet is about it. A signature may name Deferred.
    may = ["bridge._twisted", "bridge._private", "bridge._cli", "bridge.ext.crochet"]
    crossing = {module for module, _ in _crossings("bridge", {"twisted"})}
    outside = {module for module in crossing if not any(_is_in(module, each) for each in may)}
    assert outside == {"bridge._api.decorators"}
    in_all_processes = MODULES["bridge._api.decorators"].read_text().split("if TYPE_CHECKING:")[0]
    found = _imports(ast.parse(in_all_processes), package="bridge._api", known=set(MODULES))
    assert not [each for each in found if _is_in(each, "twisted")]


def test_nothing_imports_an_extension():
    others = [module for module in MODULES if not _is_in(module, "bridge.ext")]
    assert not [(module, each) for module in others for each in IMPORTS[module] if _is_in(each, "bridge.ext")]


def test_no_file_is_over_500_lines():
    lengths = {_in_package(path): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert not {file: lines for file, lines in lengths.items() if lines > 500}


def test_no_function_is_over_60_lines():
    lengths = {
        f"{_in_package(path)}::{name}": lines
        for module, path in MODULES.items()
        for name, lines in _functions(TREES[module])
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 60}


def test_no_room_uses_a_private_name_of_another():
    """Private names of other projects, which have rows in _private, may have the same name as one of ours."""
    of_others = {name.name for _, name in rows()} | OF_OPTIONAL_LIBRARIES
    owners = defaultdict(set)
    for module in MODULES:
        for name in _private_definitions(TREES[module]):
            owners[name].add(_room(module))
    used = [
        f"{module}:{line}: {text}"
        for module in MODULES
        for name, line, text in _private_uses(TREES[module])
        if name in owners and _room(module) not in owners[name] and name not in of_others
    ]
    assert not used


@pytest.mark.parametrize(
    ("code", "defined", "used"),
    [
        ("class A:\n    def _f(self): self._x = 1", {"_f", "_x"}, []),
        ("class A:\n    _x: int\n    _y = 1", {"_x", "_y"}, []),
        ("def f(a, b):\n    a._x = b.c._y()", set(), ["_x", "_y"]),
        ("class A:\n    def f(self, other): return self._x + other._x", set(), ["_x"]),
        ("super()._f(); a.__dict__", set(), []),
        ("from ._loop.task import _steps", set(), []),
    ],
)
def test_reading_private_names(code, defined, used):
    tree = ast.parse(code)
    assert set(_private_definitions(tree)) == defined
    assert sorted(name for name, _, _ in _private_uses(tree)) == sorted(used)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def outer():\n    def inner():\n        pass\n    return inner", {"outer": 4, "outer.inner": 2}),
        ("class Thing:\n    @property\n    def name(self):\n        return 1", {"Thing.name": 2}),
        ("if True:\n    async def later():\n        pass", {"later": 2}),
    ],
)
def test_reading_the_lengths_of_functions(code, found):
    assert dict(_functions(ast.parse(code))) == found


@pytest.mark.process
def test_extensions_are_loaded_by_name_when_they_are_asked_for():
    # %load_ext bridge looks for its functions in the package, which must not import what may not be installed.
    code = "import sys, bridge; bridge.load_ipython_extension; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [module for module in loaded if _is_in(module, "bridge.ext") or module == "IPython"]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import bridge._loop", {"bridge._loop"}),
        ("import asyncio.tasks", {"asyncio.tasks"}),
        ("from . import base", {"bridge._loop.base"}),
        ("from . import Thing", {"bridge._loop"}),
        ("from .task import BridgeTask", {"bridge._loop.task"}),
        ("from .._errors import BridgeError", {"bridge._errors"}),
        ("from bridge import block_on", {"bridge"}),
        ("def later():\n    import twisted", {"twisted"}),
        ("if TYPE_CHECKING:\n    import twisted\nelse:\n    import anyio", {"anyio", "twisted"}),
    ],
)
def test_reading_imports(code, found):
    known = {"bridge", "bridge._loop", "bridge._loop.base", "bridge._loop.task", "bridge._errors"}
    assert _imports(ast.parse(code), package="bridge._loop", known=known) == found


def _layer(module: str) -> int:
    for number, room in enumerate(ROOMS):
        if module == room or (room != "bridge" and _is_in(module, room)):
            return number
    pytest.fail(f"{module} stands in no room")


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_own(node: ast.Attribute) -> bool:
    owner = node.value
    if isinstance(owner, ast.Call):
        return ast.unparse(owner.func) == "super"
    return isinstance(owner, ast.Name) and owner.id in ("self", "cls")


def _private_definitions(tree: ast.AST) -> Iterator[str]:
    """Yield the private names of attributes and methods that a module defines."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node):
            names.append(node.attr)
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.append(each.name)
                elif isinstance(each, ast.AnnAssign | ast.Assign):
                    targets = each.targets if isinstance(each, ast.Assign) else [each.target]
                    names += [target.id for target in targets if isinstance(target, ast.Name)]
        yield from filter(_is_private, names)


def _private_uses(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """Yield the private attributes of other objects that a module uses, with the line and how it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and not _is_own(node):
            yield node.attr, node.lineno, ast.unparse(node)


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _crossings(package: str, banned: set[str]) -> list[tuple[str, str]]:
    return [
        (module, imported)
        for module in MODULES
        if _is_in(module, package)
        for imported in IMPORTS[module]
        if any(_is_in(imported, name) for name in banned)
    ]


def _in_package(path: Path) -> str:
    return path.relative_to(ROOT / "bridge").as_posix()


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Give the name of each function and its number of lines, from ``def`` on and with the functions inside it."""
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            assert child.end_lineno is not None
            yield f"{prefix}{child.name}", child.end_lineno - child.lineno + 1
        yield from _functions(child, inner)


def _modules() -> dict[str, Path]:
    modules = {}
    for path in sorted((ROOT / "bridge").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def _imports(tree: ast.AST, package: str, known: set[str]) -> set[str]:
    """Return what the code of a module in the package imports, TYPE_CHECKING included, as absolute names."""
    found: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # A name that is no module is in the one that it comes from.
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
        todo += ast.iter_child_nodes(node)
    return found


MODULES = _modules()
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}
IMPORTS = {
    module: _imports(
        TREES[module],
        package=module if path.name == "__init__.py" else module.rpartition(".")[0],
        known=set(MODULES),
    )
    for module, path in MODULES.items()
}
