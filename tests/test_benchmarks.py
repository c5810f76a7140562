"""The benchmarks: every row runs and checks its result. How long anything takes is no matter here."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from isolated import isolated

import bridge

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def _load(name: str) -> ModuleType:
    """Import a module of the benchmarks, which are no package; they import each other by their bare names."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rows: Any = _load("rows")
GROUPS = rows.groups()
TABLES = [table for tables in GROUPS.values() for table in tables]
ROWS = {row.name: row for tables in GROUPS.values() for row in rows.rows_of(tables)}
# They start the default bridge, which installs the reactor of its process.
OF_THE_DEFAULT_BRIDGE = [name for name in ROWS if name.endswith("/block_on")]


@pytest.mark.parametrize("name", [name for name in ROWS if name not in OF_THE_DEFAULT_BRIDGE])
def test_row_runs_and_leaves_no_thread(name: str) -> None:
    before = set(threading.enumerate())
    calls = 1 if name.startswith("import/") else 3
    with ROWS[name].open() as measure:
        times = measure(calls)
    assert len(times) == calls
    assert min(times) > 0
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
        assert not thread.is_alive()


@pytest.mark.parametrize(("benchmarks", "names"), [(str(BENCHMARKS), OF_THE_DEFAULT_BRIDGE)])
@isolated
def test_rows_of_the_default_bridge_run(benchmarks: str, names: list[str]) -> None:
    import sys

    sys.path.insert(0, benchmarks)
    import rows

    found = {row.name: row for tables in rows.groups().values() for row in rows.rows_of(tables)}
    for name in names:
        with found[name].open() as measure:
            assert len(measure(3)) == 3


def test_wrong_result_is_an_error() -> None:
    class Wrong:
        def __enter__(self) -> Any:
            return lambda: "something else"

        def __exit__(self, *exc_info: object) -> None: ...

    with (
        rows._timed(lambda work: Wrong(), rows.AT_ONCE) as measure,
        pytest.raises(AssertionError, match="something else"),
    ):
        measure(1)


def test_every_strategy_that_can_be_used_has_its_rows() -> None:
    usable = {name for name, strategy in bridge.strategies().items() if strategy.unavailable() is None} - {"auto"}
    for work in rows.WORKS:
        assert {f"{work.name}/block_on[{name}]" for name in usable} <= set(ROWS)


def test_baseline_stands_first_and_references_stand_in_the_table() -> None:
    for table in TABLES:
        names = [row.name for row in table.rows]
        assert set(table.references.values()) <= set(names)
        if table.threads:
            assert names[0] == "floor"


def test_targets_are_for_rows_that_are_measured_together() -> None:
    group_of = {row.name: group for group, tables in GROUPS.items() for row in rows.rows_of(tables)}
    for target in rows.targets():
        assert group_of[target.row] == group_of[target.reference]


def test_report_of_one_run(tmp_path: Path) -> None:
    pyperf = pytest.importorskip("pyperf")
    pytest.importorskip("matplotlib")
    report = _load("report")
    table = TABLES[0]
    metadata = {"python_version": "3", "bridge_versions": "twisted 1", "bridge_date": "2026-11-24", "p99": 9e-6}
    benchmarks = [
        pyperf.Benchmark(
            [pyperf.Run([1e-6 * number, 2e-6 * number], metadata=metadata | {"name": f"{row.name} ({placement})"},
                        collect_metadata=False)]
        )
        for placement in (report.ONE_CORE, report.FREE)
        for number, row in enumerate(table.rows, 1)
    ]  # fmt: skip
    results = report.Results(pyperf.BenchmarkSuite(benchmarks), [table])
    assert results.median("floor", report.ONE_CORE) == pytest.approx(1.5e-6)
    assert results.ratio(table.rows[2].name, table.rows[1].name, report.ONE_CORE) == pytest.approx(1.5)

    reached, missed = (rows.Target(table.rows[2].name, "floor", at_most) for at_most in (3.1, 2.9))
    found = report.verdicts(results, [reached, missed])
    assert [verdict.reached for verdict in found] == [True, False]

    page = tmp_path / "performance.md"
    version = "{}.{}".format(*sys.version_info)
    page.write_text(f"before\n<!-- {version} -->\nold\n<!-- end of {version} -->\nafter\n")
    report.publish(results, found, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert all(row.label in text for row in table.rows)
    assert "<svg" in (tmp_path / "latency.svg").read_text()
    assert table.title in report.text(results, found)
