"""The benchmarks: ``python benchmarks/run.py [--effort quick] [--only GROUP] [--check] [--publish] [--compare OLD]``.

Rows share a process if they belong to one way to wait, the rows of a group are measured in turns, and after some rounds
all processes are replaced by fresh ones: bridge/_cli/bench/rounds.py. Writes results.json (in pyperf's format, for its
commands too), results.md and a picture in SVG for each of its kinds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import page
import pythons
import rows
import targets

from bridge._cli.bench import calls, command, compare, inside, machine, plot, tables, threads
from bridge._cli.bench.model import Curves, Group, Table
from bridge._cli.bench.results import Results, load
from bridge._cli.bench.rounds import Effort, RowFailed, measure
from bridge._cli.bench.way import versions

ROOT = Path(__file__).resolve().parent.parent

# By group: processes, rounds, seconds of a batch, of the warm-up, and the most for all in one placement. The last ones
# of all placements are less than eight minutes; the rounds that are made even without time left take two or three more.
STANDARD = {
    name: Effort(*effort, with_start=True)
    for name, effort in {
        "calls": (2, 20, 0.004, 0.03, 34),
        "busy": (1, 25, 0.015, 0.03, 34),
        "shared": (1, 30, 0.03, 0.1, 10),
        "inside": (2, 20, 0.01, 0.05, 14),
        "nested": (2, 15, 0.01, 0.03, 12),
        "verbs": (2, 15, 0.02, 0.1, 12),
        "loops": (3, 20, 0.01, 0.05, 20),
        "uses": (2, 8, 0.01, 0.05, 10),
        "threads": (1, 5, 0.1, 0.05, 32),
        "open": (1, 4, 0.0, 0.0, 16),
        "bridges": (1, 5, 0.03, 0.03, 12),
        "deferreds": (2, 6, 0.02, 0.03, 12),
        "memory": (3, 1, 0.0, 0.0, 12),
        "blocked": (3, 1, 0.0, 0.0, 40),
        "lives": (2, 8, 0.0, 0.0, 13),
    }.items()
}
QUICK = {
    name: replace(each, processes=1, rounds=3, batch=each.batch / 2, warm_up=each.warm_up / 2, limit=1)
    for name, each in STANDARD.items()
}
THOROUGH = {
    name: Effort(each.processes + 2, each.rounds * 2, each.batch * 2, each.warm_up * 2, each.limit * 5)
    for name, each in STANDARD.items()
}
EFFORTS = {"quick": QUICK, "standard": STANDARD, "thorough": THOROUGH}


def main() -> int:
    here = "{}.{}".format(*sys.version_info)
    parser = argparse.ArgumentParser(description="Compare the ways to call async code from sync code.")
    parser.add_argument("--effort", choices=list(EFFORTS), default="standard", help="standard takes some ten minutes")
    parser.add_argument("--only", choices=list(STANDARD), action="append", help="measure this group of rows only")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="show what changed since, and if by chance")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks", here), metavar="DIR")
    parser.add_argument("--publish", action="store_true", help="put figures and pictures into docs/figures/ as well")
    parser.add_argument("--core", type=int, help="the one core; default: the last one of those that we may use")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="measure nothing, report on this file")
    options = parser.parse_args()
    if options.only and options.publish:
        parser.error("--publish is for the whole suite")

    begin = time.monotonic()
    core = machine.last_core() if options.core is None else options.core
    if options.check and core is None:
        parser.error("the targets are for one core, and this system pins no process to one")
    old = load(options.compare) if options.compare else None
    groups = [group for group in rows.groups() if not options.only or group.name in options.only]
    if options.report:
        results = load(options.report)
        strange = unknown(results, here)
        if strange and options.publish:
            parser.error(f"{options.report} has to be published where it was measured: {strange}")
        if strange:
            print(strange, file=sys.stderr)
    else:
        warning = machine.busy()
        if warning:
            print(warning, file=sys.stderr)
        results = run(groups, core, EFFORTS[options.effort])

    shown = [table for group in groups for table in group.tables]
    grown = [curves for group in groups for curves in group.curves]
    found = targets.verdicts(results, targets.targets(groups))
    if options.only:
        found = [verdict for verdict in found if verdict.reached is not None]
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.report:
        results.save(options.output / "results.json")
    summary = "\n\n".join([*origin(results), "\n".join(f"- {verdict.text}" for verdict in found)])
    full = "\n\n".join([*origin(results), tables.markdown(results, shown, grown)])
    (options.output / "results.md").write_text(f"{full}\n\n{summary}\n")
    pictures = draw(results, shown, grown, options.output)
    if options.publish:
        first = page.short(results, [table for table in shown if table.picture == "latency"])
        page.publish(results.python(), full, summary, first, pictures, pythons.draw, ROOT)
    print(results.machine())
    if results.absent():
        print(f"Not installed, so not measured: {results.absent()}")
    if results.failed():
        print(f"Failed, so not measured: {results.failed()}")
    print(f"\n{tables.text(results, shown, grown)}\n")
    print("\n".join(verdict.text for verdict in found))
    if old is not None:
        print(f"\n{compare.text(old, results, compare.changes(old, results, references(groups)))}")
    print(f"\nwritten to {options.output}/ after {math.ceil(time.monotonic() - begin)} s")
    missed = options.check and any(verdict.reached is False for verdict in found)
    return 1 if missed or results.failed() else 0


def unknown(results: Results, here: str) -> str:
    """Say what of the results cannot be shown on this Python with the packages that are installed; "" if all can."""
    if results.python() != here:
        return f"its targets are those of Python {results.python()}, and this is {here}"
    lacking = sorted({row for row, _ in results.measured()} - rows.all_rows().keys())
    return f"here are no such rows: {', '.join(lacking)}" if lacking else ""


def run(groups: list[Group], core: int | None, efforts: dict[str, Effort]) -> Results:
    everyone = [*threads.PEERS, *threads.ours(), *inside.PEERS]
    results = Results(machine.describe(versions(everyone) | {"pyperf": version("pyperf")}))
    lacking = calls.absent().items()
    results.metadata["bridge_absent"] = ", ".join(f"{label} (needs {lack})" for label, lack in lacking)
    say = command.Progress()
    failures: list[str] = []

    def failed(failure: RowFailed) -> None:
        failures.append(str(failure))
        print(f"\n{failure}", file=sys.stderr)

    worker = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    # What runs in one thread is the same anywhere.
    todo = [
        (group, each) for group in groups for each in ([core, None] if group.threads and core is not None else [core])
    ]
    whole = sum(efforts[group.name].limit for group, _ in todo)
    past, begin = 0.0, time.monotonic()
    try:
        for group, each in todo:
            effort = efforts[group.name]
            chosen = group.rows if each == core else [row for row in group.rows if row in _of_threads(group)]
            if chosen:
                title = f"{group.name}, "
                measure(
                    chosen, each, effort, results,
                    lambda what, done, t=title, p=past, e=effort: say(t + what, (p + done * e.limit) / whole),
                    worker, failed,
                )  # fmt: skip
            past += effort.limit
            if not sys.stderr.isatty():
                where = "free" if each is None else "one core"
                print(f"{time.monotonic() - begin:4.0f} s  {group.name}, {where}", file=sys.stderr)
    finally:
        say.end()
    results.metadata["bridge_failed"] = "; ".join(failures)
    return results


def _of_threads(group: Group) -> list[object]:
    shown: list[Table | Curves] = [*group.tables, *group.curves]
    return [row for each in shown if each.threads for row in each.rows]


def origin(results: Results) -> list[str]:
    """Say where, when and on what it was measured, and what was not."""
    lacking = [("Not installed", results.absent()), ("Failed", results.failed())]
    return [results.machine(), *(f"{why}, so not measured: {rows}." for why, rows in lacking if rows)]


def draw(results: Results, shown: list[Table], grown: list[Curves], directory: Path) -> list[Path]:
    """Draw each picture that has anything in it, and return their files."""
    drawn: list[Path] = []
    for name in dict.fromkeys(each.picture for each in [*shown, *grown] if each.picture):
        path = directory / f"{name}.svg"
        path.unlink(missing_ok=True)
        plot.bars(results, [table for table in shown if table.picture == name], path)
        plot.curves(results, [curves for curves in grown if curves.picture == name], path)
        if path.exists():
            drawn.append(path)
    return drawn


def references(groups: list[Group]) -> dict[str, str]:
    """Return by row the one that it is compared by."""
    found: dict[str, str] = {}
    for group in groups:
        found |= command.references(group)
        for curves in group.curves:  # the first line is the others' reference
            first = dict(next(iter(curves.lines.values())))
            for points in curves.lines.values():
                found |= {row.name: first[number].name for number, row in points if number in first}
    return found


if __name__ == "__main__":
    sys.exit(main())
