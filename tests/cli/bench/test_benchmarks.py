"""The benchmarks: every row runs and checks its result, and the reports say what was measured.

How long anything takes is no matter here, but for the guard against regressions at the end.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from isolated import isolated
from paths import ROOT

import bridge
from bridge._cli.bench import calls, compare, inside, plot, ranks, tables, threads
from bridge._cli.bench.model import Curves, Group, Host, Row, Table
from bridge._cli.bench.results import FREE, ONE_CORE, Results, load
from bridge._cli.bench.rounds import Effort, RowFailed, Worker, measure
from bridge._cli.bench.works import WORKS

# Seconds for a program that measures, which is busy for half a minute at the most where it has a core to itself.
PATIENCE = 280

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # they are no package, and import each other by their bare names

rows: Any = importlib.import_module("rows")
blocked: Any = importlib.import_module("blocked")
page: Any = importlib.import_module("page")
targets: Any = importlib.import_module("targets")

GROUPS: list[Group] = rows.groups()
ROWS: dict[str, Row] = rows.all_rows()
# What installs or patches something in its process, for good, or shows what a fresh one needs.
OWN_PROCESS = re.compile(
    r"(thread|inside|memory|nested)/|verbs/not_out$|blocked/\d+/nest_asyncio2?$|iterate/synchronicity$"
)
PROCESSES = sorted({row.process for row in ROWS.values() if OWN_PROCESS.match(row.process)})
HERE = sorted(row.name for row in ROWS.values() if not OWN_PROCESS.match(row.process))
# The same code as with fewer calls.
TOO_MANY = re.compile(r"(blocked|blocked_memory|open|submit|threads|deferreds)_\d{4,}/")


def worker(process: str) -> Worker:
    return Worker([sys.executable, str(BENCHMARKS / "worker.py")], process, None)


# --- the rows, on the newest Python: what they compare with is other libraries


@pytest.mark.newest
@pytest.mark.process
@pytest.mark.parametrize("process", PROCESSES)
def test_rows_of_a_process_run_and_it_ends(process: str) -> None:
    with worker(process) as each:
        each.wait_ready()
        for row in ROWS.values():
            if row.process == process and not TOO_MANY.match(row.name):
                values = each.measure(row, row.times or 3)
                assert values
                assert min(values) > 0


@pytest.mark.newest
@pytest.mark.process
@pytest.mark.parametrize("name", [name for name in HERE if not TOO_MANY.match(name)])
def test_row_runs_and_leaves_no_thread(name: str) -> None:
    before = set(threading.enumerate())
    with Host() as host:
        values = host.measure(ROWS[name], min(ROWS[name].times or 3, 3))
    assert min(values) > 0
    for thread in set(threading.enumerate()) - before:
        if thread.name != "bridge-watchdog":  # one for the process, which stays
            thread.join(30.0)
            assert not thread.is_alive()


@pytest.mark.parametrize("peer", [*threads.PEERS, *inside.PEERS], ids=lambda peer: peer.name)
def test_peer_has_rows(peer: Any) -> None:
    lacking = peer.lacks()
    if lacking is not None:
        assert peer.label in calls.absent()
        pytest.skip(f"{lacking} is not installed; pip install --group bench")
    found = {name.split("/")[0] for name in ROWS if name.endswith(f"/{peer.name}")}
    assert {"at_once", "at_once+busy"} <= found or {"inside_at_once", "inside_suspends_once"} <= found


def test_strategies_that_can_be_used_have_rows() -> None:
    usable = {name for name, strategy in bridge.strategies().items() if strategy.unavailable() is None} - {"auto"}
    for work in WORKS:
        assert {f"{work.name}/block_on[{name}]" for name in usable} <= set(ROWS)
        assert {f"{work.name}{calls.BUSY}/block_on[{name}]" for name in usable} <= set(ROWS)


def test_baseline_stands_first_and_references_stand_in_the_table() -> None:
    for group in GROUPS:
        for table in group.tables:
            names = [row.name for row in table.rows]
            assert set(table.references.values()) <= set(names)
            if "floor" in "".join(row.label for row in table.rows):
                assert table.rows[0].label.startswith("floor")


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for group in GROUPS for row in group.rows]
    assert len(names) == len(set(names))


def test_wrong_result_is_an_error() -> None:
    work = WORKS[0]
    peer = threads.FLOOR
    wrong = type(work)("wrong", "", work.prepare, lambda result: False)
    with Host() as host:
        measured = calls.stopwatch(peer, wrong)(host)
        with pytest.raises(AssertionError, match="a call returned"):
            measured(1)


@pytest.mark.process
def test_process_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RowFailed, match="nowhere"), worker("nowhere") as each:
        each.wait_ready()
    assert "no row belongs to a process 'nowhere'" in capfd.readouterr().err


def test_blocked_calls_end_in_any_order() -> None:
    for blocker in blocked.BLOCKERS:
        if not blocker.needs:
            seconds, size = blocked.block(blocker, 200)
            assert seconds > 0
            assert size > 0


# --- the rounds


@pytest.mark.process
def test_rounds_fill_the_results_in_turns() -> None:
    table = Table("t", [ROWS["task_at_once/plain"], ROWS["task_at_once/bridge"]], {"of plain": "task_at_once/plain"})
    results = Results({})
    said: list[float] = []
    command = [sys.executable, str(BENCHMARKS / "worker.py")]
    effort = Effort(processes=2, rounds=3, batch=0.001, warm_up=0.001, limit=60)
    measure(table.rows, None, effort, results, lambda what, done: said.append(done), command)
    for row in table.rows:
        assert len(results.batches(row.name, FREE)) == 6
        assert not results.has(row.name, ONE_CORE)
    assert said == sorted(said)
    assert all(0 <= done <= 1 for done in said)
    assert results.ratio("task_at_once/bridge", "task_at_once/plain", FREE) > 0


# --- the reports


def made(scale: float = 1.0, *, slower: str = "") -> tuple[Results, Table, Curves]:
    """Return made-up results: the n-th row takes n µs, and a tenth more in every second batch."""
    table = Table("A call", [Row(f"call/{name}", f"the {name}", "p", _never) for name in ("base", "peer", "ours")],
                  {"of base": "call/base"}, threads=True, picture="p")  # fmt: skip
    line = [(count, Row(f"calls_{count}/ours", "ours", "p", _never, per_second=1)) for count in (1, 8)]
    curves = Curves("Calls a second", "p", "threads", "calls a second", {"bridge": line})
    results = Results({"bridge_machine": "a machine", "bridge_date": "2026-11-24", "bridge_python": "Python 3"})
    for number, row in enumerate([*table.rows, *curves.rows], 1):
        for placement in (ONE_CORE, FREE):
            samples = results.samples(row.name, placement)
            value = number * 1e-6 * scale * (2 if row.name == slower else 1)
            samples.runs.append([value * (1 + turn % 2 / 10 + turn / 1000) for turn in range(20)])
            samples.singles.extend([value] * 4000)
            samples.close()
    return results, table, curves


def _never(host: Host) -> Any:
    raise AssertionError("these rows are made up")


def test_tables_show_every_row_and_the_ratios() -> None:
    results, table, curves = made()
    for shown in (tables.text(results, [table], [curves]), tables.markdown(results, [table], [curves])):
        assert all(row.label in shown for row in table.rows)
        assert "3.00" in shown
        assert "2.00" in shown
    assert results.percentile("call/ours", ONE_CORE, "p99.9") == pytest.approx(3e-6)
    assert results.ratio("call/ours", "call/base", ONE_CORE) == pytest.approx(3.0)


def test_the_head_says_where_the_threads_ran_above_their_columns() -> None:
    results, table, _ = made()
    title, where, head, *_ = tables.text(results, [table]).splitlines()
    assert title == "A call"
    assert re.findall(r"\S+(?: \S+)*:", where) == ["all threads on one core:", "where the system puts them:"]
    assert head.count("median") == 2
    assert ": " not in head
    assert head.index("median") == where.index("all threads")


def test_verdicts_in_both_directions() -> None:
    results, _, _ = made()
    ours, base = "call/ours", ("call/base",)
    found = [
        (targets.Target("t", ours, base, at_most=3.1), True),
        (targets.Target("t", ours, base, at_most=2.9), False),
        (targets.Target("t", "call/base", (ours,), at_least=2.9), True),
        (targets.Target("t", "call/base", (ours,), at_least=3.1), False),
        (targets.Target("t", ours, at_most=1e-3), True),
        (targets.Target("t", ours, at_most=1e-9), False),
        (targets.Target("t", ours, ("call/base", "call/peer"), at_most=2.9), False),  # the best of both counts
        (targets.Target("t", "call/base", ("call/peer", ours), at_least=2.5), False),
        (targets.Target("t", ours, base, at_most=3.1, percentile="p99"), True),
        (targets.Target("t", "call/nothing", base, at_most=1.0), None),
        (targets.Target("t", ours, ("call/nothing",), at_most=1.0), None),
    ]
    for target, reached in found:
        (verdict,) = targets.verdicts(results, [target])
        assert verdict.reached is reached, verdict.text
        assert {True: "reached", False: "MISSED", None: "not measured"}[reached] in verdict.text


def test_targets_are_for_rows_that_there_are_and_that_are_measured_together() -> None:
    group_of = {row.name: group.name for group in GROUPS for row in group.rows}
    absent = {peer.name for peer in [*threads.PEERS, *threads.ours(), *inside.PEERS] if peer.lacks() is not None}
    known = targets.targets(GROUPS)
    assert len({target.row for target in known}) > 20
    for target in known:
        for name in (target.row, *target.references):
            peer = name.split("/")[1]
            assert name in group_of or peer in absent or not target.references
        groups = {group_of[name] for name in (target.row, *target.references) if name in group_of}
        assert len(groups) <= 1


def test_same_results_show_no_change() -> None:
    results, _, _ = made()
    found = compare.changes(results, results, {"call/ours": "call/base"})
    assert {change.verdict for change in found} == {"same"}
    assert "Nothing changed" in compare.text(results, results, found)


def test_row_that_takes_twice_the_time_has_changed_and_no_other() -> None:
    old, _, _ = made()
    new, _, _ = made(slower="call/ours")
    references = {"call/ours": "call/base", "call/peer": "call/base", "call/base": "call/base"}
    found = compare.changes(old, new, references)
    assert {change.row for change in found if change.verdict != "same"} == {"call/ours"}
    assert {change.verdict for change in found if change.row == "call/ours"} == {"slower"}
    text = compare.text(old, new, found)
    assert re.search(r"call/ours \(one core\) .* 2\.00 of call/base .* slower", text)
    assert {change.verdict for change in compare.changes(new, old, references) if change.row == "call/ours"} == {
        "faster"
    }


def test_machine_that_is_slower_as_a_whole_changes_no_ratio() -> None:
    old, table, _ = made()
    new, _, _ = made(scale=1.7)
    references = dict.fromkeys((row.name for row in table.rows), "call/base")
    found = [change for change in compare.changes(old, new, references) if change.against]
    assert len(found) == 4
    assert {change.verdict for change in found} == {"same"}


@pytest.mark.parametrize(
    ("one", "other", "chance"),
    [
        (
            [1, 2, 3, 4, 5, 6, 7, 8],
            [9, 10, 11, 12, 13, 14, 15, 16],
            0.00094,
        ),  # by the tables of the normal distribution
        ([1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16], 0.7132),
        ([5, 5, 5], [5, 5, 5], 1.0),
        ([], [1.0], 1.0),
    ],
)
def test_rank_test(one: list[float], other: list[float], chance: float) -> None:
    assert ranks.p_value(one, other) == pytest.approx(chance, rel=0.01)
    assert ranks.p_value(other, one) == pytest.approx(chance, rel=0.01)


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    results, table, _ = made()
    results.save(tmp_path / "results.json")
    again = load(tmp_path / "results.json")
    assert again.machine() == results.machine() != ""
    for row in table.rows:
        assert again.batches(row.name, FREE) == results.batches(row.name, FREE)
        assert again.percentile(row.name, FREE, "p99") == results.percentile(row.name, FREE, "p99")


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for text in ("no json", "[]", '{"benchmarks": [{}]}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ValueError, match="no file of results"):
            load(tmp_path / "other.json")


def test_pyperf_reads_the_file(tmp_path: Path) -> None:
    pyperf = pytest.importorskip("pyperf", reason="pyperf is not installed; pip install --group bench")
    results, table, _ = made()
    results.save(tmp_path / "results.json")
    suite = pyperf.BenchmarkSuite.load(str(tmp_path / "results.json"))
    benchmark = suite.get_benchmark(f"{table.rows[2].name} (one core)")
    assert list(benchmark.get_values()) == results.batches(table.rows[2].name, ONE_CORE)


@pytest.mark.process  # to find fonts
def test_pictures_say_what_was_measured_and_where(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install --group bench")
    results, table, curves = made()
    plot.bars(results, [table], tmp_path / "bars.svg")
    plot.curves(results, [curves], tmp_path / "curves.svg")
    for name in ("bars.svg", "curves.svg"):
        drawn = (tmp_path / name).read_text()
        assert "<svg" in drawn
        assert "a machine" in drawn
        assert "2026-11-24" in drawn
    drawn = (tmp_path / "bars.svg").read_text()
    assert all(row.label in drawn for row in table.rows)


def test_short_table_has_the_medians_of_each_way(tmp_path: Path) -> None:
    results, table, _ = made()
    short = page.short(results, [table])
    first, rule, *rows = short.splitlines()
    assert table.title in first
    assert rule == "| --- | --: |"
    assert [row.split(" | ")[0] for row in rows] == [f"| {row.label}" for row in table.rows]


# --- the programs


@pytest.mark.any_python
@pytest.mark.process
@pytest.mark.timeout(2 * PATIENCE + 20)
def test_suite_measures_reports_and_compares(tmp_path: Path) -> None:
    pytest.importorskip("pyperf", reason="pyperf is not installed; pip install --group bench")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install --group bench")
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--effort", "quick", "--only", "inside",
               "--output", str(tmp_path)]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "in the loop's own thread" in ended.stdout
    assert "in the loop's thread, suspends once, of await's time" in ended.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md", "inside.svg"}
    again = [*command, "--report", str(tmp_path / "results.json"), "--compare", str(tmp_path / "results.json")]
    ended = subprocess.run(again, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Nothing changed" in ended.stdout


@pytest.mark.process
@pytest.mark.measures
@pytest.mark.timeout(PATIENCE + 20)
def test_no_ratio_has_doubled() -> None:
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / "guard.py")], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.any_python
@pytest.mark.parametrize("benchmarks", [str(BENCHMARKS)])
@pytest.mark.timeout(150)
@isolated(timeout=120, stdout=r"TOO SLOW +at_once/block_on takes .*\nok +deferred/block_on takes .*")
def test_ratio_beyond_its_bound_fails_the_guard(benchmarks: str) -> None:
    import sys

    sys.path.insert(0, benchmarks)
    import guard

    guard.GUARDS[:] = [
        guard.Guard("at_once/block_on", "at_once/floor", 0.1),
        guard.Guard("deferred/block_on", "at_once/floor", 100.0),
    ]
    assert guard.main() == 1
