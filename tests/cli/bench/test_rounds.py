"""The rounds: what a row that fails leaves of the others."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bridge._cli.bench.model import Row
from bridge._cli.bench.results import FREE, Results
from bridge._cli.bench.rounds import Effort, RowFailed, measure

pytestmark = [pytest.mark.process, pytest.mark.any_python]

PROGRAM = Path(__file__).with_name("programs") / "failing_rows.py"
EFFORT = Effort(processes=2, rounds=4, batch=0.001, warm_up=0.001, limit=60)

sys.path[:0] = [str(PROGRAM.parent), str(ROOT / "benchmarks")]
rows: Any = importlib.import_module("rows")
run: Any = importlib.import_module("run")
failing_rows: Any = importlib.import_module("failing_rows")
ROWS: list[Row] = failing_rows.ROWS


def measured(rows: list[Row]) -> tuple[Results, list[str]]:
    results, failures = Results({}), list[str]()
    command = [sys.executable, str(PROGRAM)]
    measure(rows, None, EFFORT, results, lambda what, done: None, command, lambda error: failures.append(str(error)))
    return results, failures


def test_rows_that_fail_are_left_out_and_named() -> None:
    results, failures = measured(ROWS)
    assert {row for row, _ in results.measured()} == {"good/one", "good/two", "good/three", "once/one"}
    assert len(results.batches("good/one", FREE)) == len(results.batches("good/two", FREE)) == 8
    assert {failure.split(":")[0] for failure in failures} == {"wrong/one", "later/one", "exits/one"}
    assert len(failures) == 3  # a row that has failed is not tried again by the second set of processes


def test_row_that_is_measured_once_is() -> None:
    results, failures = measured([row for row in ROWS if row.process == "other"])
    assert len(results.batches("once/one", FREE)) == 1
    assert len(results.batches("good/three", FREE)) == 8
    assert not failures


def test_standard_run_takes_less_than_ten_minutes() -> None:
    groups = rows.groups()
    assert {group.name for group in groups} == set(run.STANDARD)
    limits = [run.STANDARD[group.name].limit * (2 if group.threads else 1) for group in groups]
    assert all(each.with_start for each in run.STANDARD.values())
    assert sum(limits) <= 540


def test_process_that_cannot_start_takes_its_rows_only() -> None:
    unable = Row("unable/one", "unable", "unable", failing_rows.good)
    results, failures = measured([unable, ROWS[0]])
    assert [row for row, _ in results.measured()] == ["good/one"]
    assert len(failures) == 1
    assert "the process of the rows 'unable' ended" in failures[0]


def test_first_failure_is_raised_where_nobody_takes_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RowFailed, match="wrong/one: the process of the rows 'mixed' ended"):
        measure(ROWS[:2], None, EFFORT, Results({}), lambda what, done: None, [sys.executable, str(PROGRAM)])
    assert "a wrong result" in capfd.readouterr().err


def test_batch_that_never_ends_is_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    results, failures = measured([failing_rows.HANGS, ROWS[0]])
    assert [row for row, _ in results.measured()] == ["good/one"]
    assert len(failures) == 1
    assert "in measure" in capfd.readouterr().err  # the stack that hangs
