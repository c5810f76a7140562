"""bridge on a Python, a Twisted and an anyio that nobody has tried yet; and the rule that private names have rows."""

from __future__ import annotations

import ast
import asyncio
import importlib
import os
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import renamed
import warm
from paths import HELPERS, PACKAGES

import bridge
from bridge._private import abilities
from bridge._private.rows import SWITCHING, Name

PACKAGE = Path(bridge.__file__).parent
ROWS = [(library, row) for library, row in abilities.rows()]
# Documented, though they begin with an underscore.
DOCUMENTED = {"_exit", "_fields", "_render_traceback_", "_thread", "_current_frames", "_getframe"}
# Known to type checkers only: no other module of the standard library's names it.
DOCUMENTED |= {"_base"}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([PACKAGES, str(HELPERS)])
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * renamed.LIMIT + 10,
    )


def _names() -> list[Any]:
    """Return the names, each with its rows, that this version of Python has and that stand in what is installed."""
    found: dict[tuple[str, str, str], list[Name]] = {}
    for library, row in ROWS:
        if row.is_used and not row.of_loaded and row.name != "__init__":
            found.setdefault((library, row.owner, row.name), []).append(row)
    return [pytest.param(*key, rows, id=f"{key[0]}-{rows[0]}") for key, rows in found.items()]


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.parametrize(("library", "owner", "name", "rows"), _names())
def test_a_name_of_tomorrow(library: str, owner: str, name: str, rows: list[Name]) -> None:
    changes = renamed.changes_of(rows)
    if renamed.is_imported_already(rows[0]):
        ended = _run(str(HELPERS / "renamed.py"), library, owner, name, *changes)
    else:
        code = f"import sys, renamed; sys.exit(renamed.main({library!r}, {owner!r}, {name!r}, {changes!r}))"
        ended = warm.run(code, options=("-P",), path=PACKAGES, timeout=3 * renamed.LIMIT + 10)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.parametrize(
    ("library", "owner", "name"),
    [
        ("cpython", "asyncio.base_events:BaseEventLoop", "_run_once"),
        ("twisted", "twisted.internet.asyncioreactor:AsyncioSelectorReactor", "_asyncioEventloop"),
    ],
)
def test_the_demo_shows_what_is_off(library: str, owner: str, name: str) -> None:
    ended = _run(str(HELPERS / "renamed.py"), library, owner, name, "demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "FAIL" not in ended.stdout
    (ability,) = {row.ability for _, row in ROWS if (row.owner, row.name) == (owner, name)}
    assert re.search(rf"^  off   {ability}: .*\.{name} is missing", ended.stdout, re.MULTILINE), ended.stdout
    assert re.search(r"^  ok    asyncio client, asyncio server", ended.stdout, re.MULTILINE), ended.stdout


@pytest.mark.process
@pytest.mark.any_python
def test_python_exits_though_a_thread_is_blocked_and_nothing_comes_before_its_join() -> None:
    ended = _run(str(HELPERS / "renamed.py"), "cpython", "threading", "_register_atexit", "exit")
    assert (ended.returncode, ended.stderr) == (0, "")


# --- each private name has a row


def test_each_private_name_has_a_row() -> None:
    strangers = {
        f"bridge/{path.relative_to(PACKAGE)}:{line}: {name}"
        for path, tree in _TREES.items()
        for name, line in _private_names(tree)
        if name not in _KNOWN | _OWN and not name.startswith("_bridge_")
    }
    assert not strangers, "give each a row in bridge/_private, or use a public name:\n" + "\n".join(sorted(strangers))


def test_each_private_method_that_is_overridden_has_a_row() -> None:
    for path in _TREES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if not {"_cli", "gui", "__main__"} & set(parts):
            importlib.import_module(".".join(parts).removesuffix(".__init__"))
    classes = [
        each
        for name, module in list(sys.modules.items())
        if name.startswith("bridge.")
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == name
    ]
    assert classes
    overridden = {
        f"{each.__qualname__}.{name}"
        for each in classes
        for name, own in vars(each).items()
        if isinstance(own, types.FunctionType | property)
        if name.startswith("_") and not name.endswith("_") and name not in _KNOWN
        if any(name in vars(base) for base in each.__mro__ if not base.__module__.startswith("bridge."))
    }
    assert not overridden


def test_each_row_is_used() -> None:
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name != "_private")
    # By the name of a class, by a function of bridge._private, and by a class that derives from Twisted's.
    own = {"__init__", "_threads_queues", "__init_subclass__"}
    used = {word.strip("_") for word in re.findall(r"\w+", text)}
    assert not [str(row) for _, row in ROWS if row.name not in own and row.name.strip("_") not in used]


@pytest.mark.process
@pytest.mark.any_python
def test_the_import_of_the_package_loads_no_rows() -> None:
    ended = _run("-c", "import sys, bridge; print(*sys.modules)")
    assert not [each for each in ended.stdout.split() if each.startswith("bridge._private")]
    assert "bridge" in ended.stdout.split()


def test_rows_are_compared_in_little_time() -> None:
    """In 2 ms at the most, or on a busy machine in what a few loops of asyncio's take to be made."""

    def seconds(function: Callable[[], object]) -> float:
        began = time.perf_counter()
        function()
        return time.perf_counter() - began

    def compare() -> None:
        assert not abilities.lost(SWITCHING)

    compared: list[float] = []
    made: list[float] = []
    for _ in range(5):  # of each the shortest: another process may have had the core
        abilities.compare_again()
        compared.append(seconds(compare))
        made.append(seconds(lambda: asyncio.SelectorEventLoop().close()))
    assert min(compared) < max(0.002, 5 * min(made))


def _trees() -> dict[Path, ast.AST]:
    """Return the modules of the package but for those of libraries that may be absent, whose names stand there."""
    found = [path for path in PACKAGE.rglob("*.py") if path.name != "asgiref.py"]
    return {path: ast.parse(path.read_text()) for path in found if PACKAGE / "ext" not in path.parents}


def _private_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the private names that a module reads or writes: attributes, and what it imports of other packages."""
    for node in ast.walk(tree):
        names: list[Any] = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "hasattr",
            "setattr",
            "delattr",
        ):
            names = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant)]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        for name in names:
            if name.startswith("_") and not name.endswith("__"):
                yield name, node.lineno


def _own_names() -> set[str]:
    """Return the private names that the package defines."""
    found: set[str] = set()
    for tree in _TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    found.add(node.attr)
            elif isinstance(node, ast.Assign) and any(getattr(each, "id", "") == "__slots__" for each in node.targets):
                found |= {each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)}
    return found


_KNOWN = {part for _, row in ROWS for part in re.split("[.:]", f"{row.owner}.{row.name}")} | DOCUMENTED
_TREES = _trees()
_OWN = _own_names()
