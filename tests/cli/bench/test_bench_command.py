"""``python -m bridge bench``, each time in a process of its own, most often with fewer rows."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# The limit is for what takes some ten seconds where nothing else runs.
pytestmark = [pytest.mark.process, pytest.mark.any_python, pytest.mark.timeout(300)]

FEWER = """
import sys
from pathlib import Path
from bridge._cli.bench import command, quick
from bridge._cli.bench.model import Group, Table
whole = quick.group
def fewer():
    names = {"at_once/floor", "at_once/run_coroutine_threadsafe", "at_once/block_on"}
    tables = [table for table in whole().tables if any(row.name in names for row in table.rows)]
    return Group("quick", [Table(table.title, [row for row in table.rows if row.name in names],
                                 table.references, table.threads) for table in tables])
quick.group = fewer
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    code = FEWER + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=140)


def test_it_prints_a_table_and_saves_and_compares(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    process = run(f"sys.exit(command.main(None, Path({str(old)!r}), None, 1))")
    assert process.returncode == 0, process.stderr
    assert "A coroutine that returns at once" in process.stdout
    assert "asyncio.run_coroutine_threadsafe" in process.stdout
    assert "bridge.block_on" in process.stdout
    assert old.exists()
    process = run(f"sys.exit(command.main(None, Path({str(new)!r}), Path({str(old)!r}), 1))")
    assert process.returncode == 0, process.stderr
    assert "old: Python" in process.stdout
    assert "by chance" in process.stdout


def test_it_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install --group bench")
    process = run(f"sys.exit(command.main(Path({str(tmp_path / 'plot.svg')!r}), None, None, 1))")
    assert process.returncode == 0, process.stderr
    assert "bridge.block_on" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("Path('plot.svg'), None, None", "a plot needs matplotlib, which is not installed: pip install"),
        ("None, Path('nowhere/at/all.json'), None", "there is no directory"),
        ("None, None, Path('nowhere.json')", "No such file"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(arguments: str, complaint: str) -> None:
    process = run(f"""
        sys.modules["matplotlib"] = None
        sys.exit(command.main({arguments}, 1))
    """)
    assert process.returncode == 2
    assert process.stdout == ""
    assert complaint in process.stderr
    assert "Traceback" not in process.stderr


def test_row_that_fails_ends_it_with_status_1() -> None:
    process = run("""
        from bridge._cli.bench.model import Row
        row = fewer().tables[0].rows[0]
        broken = Row("unknown/row", "a row that no process has", row.process, row.prepare)
        quick.group = lambda: Group("quick", [Table("t", [broken], {})])
        sys.exit(command.main(None, None, None, 1))
    """)
    assert process.returncode == 1
    assert "its error stands above" in process.stderr


def test_peers_that_are_not_installed_are_named() -> None:
    process = run("""
        import importlib.util
        from bridge._cli.bench import calls
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name == "crochet" else find(name, package)
        assert "crochet's wait_for" in calls.absent(), calls.absent()
        sys.exit(command.main(None, None, None, 1))
    """)
    assert process.returncode == 0, process.stderr
    assert "Not installed, so not measured: " in process.stdout
    assert "crochet's wait_for (needs crochet)" in process.stdout


def test_help_says_what_it_takes() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "bridge", "bench", "--help"], capture_output=True, text=True, timeout=40
    )
    assert process.returncode == 0
    for option in ("--plot FILE.svg", "--json FILE", "--compare OLD.json", "--seconds N"):
        assert option in process.stdout
