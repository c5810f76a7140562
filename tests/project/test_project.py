"""The project itself: its files, its metadata, its README's commands, and the order of its layers."""

from __future__ import annotations

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


def test_the_version_stands_in_one_place_and_heads_the_changelog():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "bridge/__init__.py"
    (newest, *_) = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest in (bridge.__version__, "Unreleased")


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
