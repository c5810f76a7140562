"""The project itself: its files, its metadata, its README's commands, and the order of its layers."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import pytest
from paths import HELPERS, ROOT, TESTS

import bridge

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The nox sessions say so, where they have installed the wheel and left the checkout.
needs_wheel = pytest.mark.skipif(os.environ.get("BRIDGE_TEST_WHEEL") != "1", reason="needs the installed wheel")

TOP_LEVEL = {
    *(".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "benchmarks", "bridge", "docs"),
    *("noxfile.py", "pyproject.toml", "tests"),
}

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


# --- what is shipped


@needs_wheel
def test_installed_package_is_what_gets_tested():
    assert Path(bridge.__file__).resolve().is_relative_to(Path(sysconfig.get_path("purelib")).resolve())


@pytest.mark.process
@needs_wheel
def test_subprocesses_import_the_installed_package_too():
    code = "import bridge; print(bridge.__file__)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == bridge.__file__


@needs_wheel
def test_wheel_holds_the_package_and_nothing_else():
    installed = {file.parts[0] for file in metadata.files("bridge-interop") or ()}
    assert {name for name in installed if not name.endswith(".dist-info")} == {"bridge"}


@needs_wheel
def test_wheel_asks_for_what_pyproject_says():
    required = metadata.requires("bridge-interop") or ()
    assert _names(each for each in required if "extra ==" not in each) == _names(PYPROJECT["project"]["dependencies"])


def test_types_are_shipped():
    assert resources.files(bridge).joinpath("py.typed").is_file()


def test_runtime_dependencies_are_three():
    assert _names(PYPROJECT["project"]["dependencies"]) == {"anyio", "greenlet", "twisted"}


def test_bench_extra_is_part_of_the_bench_group():
    assert set(PYPROJECT["project"]["optional-dependencies"]["bench"]) <= set(PYPROJECT["dependency-groups"]["bench"])


def _names(requirements):
    return {re.match(r"[\w.-]+", each)[0].lower() for each in requirements}


@pytest.mark.process
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_top_level_holds_the_agreed_names():
    # The owner of a checkout may be another user, as in a container; git refuses to look at it until told.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    listing = [*git, "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {Path(file).parts[0] for file in files} == TOP_LEVEL


@pytest.mark.process
def test_import_leaves_heavy_libraries_alone():
    heavy = {"aiohttp", "httpx", "hypothesis", "matplotlib", "psutil", "pyperf", "pytest", "treq", "twisted"}
    code = "import sys, bridge; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(loaded)


# --- the README's commands


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_readme_has_one_command_of_one_line(heading):
    commands = list(_sh_blocks(heading))
    assert len(commands) == 1
    assert len(commands[0].splitlines()) == 1


@pytest.mark.process
def test_ci_runs_the_test_command_of_the_readme():
    shown = subprocess.run([str(ROOT / ".ci" / "run"), "--show"], capture_output=True, text=True, check=True).stdout
    assert [shown] == list(_sh_blocks("Test it"))


def _sh_blocks(heading: str) -> Iterator[str]:
    readme = (ROOT / "README.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE)
    assert section, f"README.md has no heading '## {heading}'"
    return (match[1] for match in re.finditer(r"^```sh\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE))


# --- tests that run out of time, and others that break a rule


@pytest.mark.any_python
@pytest.mark.process
@pytest.mark.timeout(170)
def test_a_hang_takes_no_other_tests_report_with_it(tmp_path):
    ended = _pytest(tmp_path, "with_a_worker.py", "-n1")
    assert ended.returncode == 1, ended.stdout
    assert re.search(r"^=+ 4 failed, 1 passed in [\d.]+s.* =+$", ended.stdout, re.MULTILINE), ended.stdout
    for name in ("hang", "hang_with_the_gil", "property", "failure"):
        assert re.search(rf"^FAILED test_it.py::test_{name} - ", ended.stdout, re.MULTILINE), ended.stdout
    assert "crashed while running 'test_it.py::test_hang'" in ended.stdout
    assert len((tmp_path / "examples").read_text()) <= 3  # it fails, and fails again
    _has_stacks(ended.stderr)
    assert "said before" in ended.stderr
    gil = r'Timeout \(.*\)!.*File ".*test_it.py", line \d+ in test_hang_with_the_gil'
    assert re.search(gil, ended.stderr, re.DOTALL), ended.stderr


@pytest.mark.any_python
@pytest.mark.process
@pytest.mark.timeout(170)
def test_without_workers_a_hang_ends_the_run_with_the_report_of_what_was_before(tmp_path):
    ended = _pytest(tmp_path, "without_workers.py", "-n0")
    assert ended.returncode == 1
    assert re.search(r"^=+ 2 failed, 3 passed, 2 errors in [\d.]+s.* =+$", ended.stdout, re.MULTILINE), ended.stdout
    assert re.search(r"^FAILED test_it.py::test_failure - .*another failure$", ended.stdout, re.MULTILINE)
    assert re.search(r"^FAILED test_it.py::test_hang - ", ended.stdout, re.MULTILINE)
    _has_stacks(ended.stderr)
    assert re.search(r"^ERROR test_it.py::test_unmarked_process - .*it starts processes", ended.stdout, re.MULTILINE)
    assert re.search(r"^ERROR test_it.py::test_unmarked_fork - .*it starts processes", ended.stdout, re.MULTILINE)


def _pytest(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in a file of ``programs`` under our conftest.py and settings in another process."""
    shutil.copy(TESTS / "conftest.py", folder)
    shutil.copy(TESTS / "project" / "programs" / tests, folder / "test_it.py")
    path = os.pathsep.join(filter(None, [str(HELPERS), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "pytest", f"-c{ROOT / 'pyproject.toml'}", f"--rootdir={folder}", *options, str(folder)],
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
    )


def _has_stacks(text: str) -> None:
    line = r"^\++ Timeout \++\n"
    stack = r'File ".*test_it.py", line \d+, in test_hang\n'
    assert re.search(f"{line}.*{stack}.*{line}", text, re.DOTALL | re.MULTILINE), text


# --- the order of the layers


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


def test_strategies_know_no_asyncio_and_no_twisted():
    assert not _crossings("bridge.strategies", {"asyncio", "twisted"})


def test_loop_knows_no_strategies():
    assert not _crossings("bridge._loop", {"bridge.strategies"})


def test_only_the_room_for_twisted_imports_twisted():
    # The demo and the benchmark measure and show Twisted itself. A signature may name Twisted's Deferred.
    may = ["bridge._twisted", "bridge._private", "bridge._cli"]
    crossing = {module for module, _ in _crossings("bridge", {"twisted"})}
    outside = {module for module in crossing if not any(_is_in(module, each) for each in may)}
    assert outside == {"bridge._api.decorators"}
    in_all_processes = MODULES["bridge._api.decorators"].read_text().split("if TYPE_CHECKING:")[0]
    found = _imports(ast.parse(in_all_processes), package="bridge._api", known=set(MODULES))
    assert not [each for each in found if _is_in(each, "twisted")]


def test_nothing_imports_an_extension():
    others = [module for module in MODULES if not _is_in(module, "bridge.ext")]
    assert not [(module, each) for module in others for each in IMPORTS[module] if _is_in(each, "bridge.ext")]


# What is still to be split.
LONG_FILES = {"_api/bridge.py"}
LONG_FUNCTIONS = {"_calls/block_on.py::block_on"}


def test_no_file_is_over_500_lines():
    lengths = {_in_package(path): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert not {file: lines for file, lines in lengths.items() if lines > 500 and file not in LONG_FILES}


def test_no_function_is_over_60_lines():
    lengths = {
        f"{_in_package(path)}::{name}": lines
        for path in MODULES.values()
        for name, lines in _functions(ast.parse(path.read_text()))
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 60 and name not in LONG_FUNCTIONS}


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
IMPORTS = {
    module: _imports(
        ast.parse(path.read_text()),
        package=module if path.name == "__init__.py" else module.rpartition(".")[0],
        known=set(MODULES),
    )
    for module, path in MODULES.items()
}
