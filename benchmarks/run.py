"""Run the benchmarks: ``python benchmarks/run.py [--quick] [--check] [--output DIR] [--publish]``.

Each row has a process of its own, and the rows of a group are measured in turns, a batch of some milliseconds each, in
a new random order every round. So whatever the machine does meanwhile happens to all of them alike, and a ratio is
taken between batches of the same round. After some rounds all processes are replaced by fresh ones.

Writes results.json (pyperf's format, for its commands too), results.md and latency.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyperf
import report
import rows
from rows import Row


@dataclass(frozen=True)
class Effort:
    """How much is measured of each row: so many processes, each for so many batches of so many seconds."""

    processes: int
    rounds: int
    batch: float
    warm_up: float


FULL = {"calls": Effort(5, 20, 0.04, 0.2), "tasks": Effort(5, 20, 0.04, 0.2), "imports": Effort(2, 10, 0.0, 0.0)}
QUICK = {"calls": Effort(1, 9, 0.012, 0.04), "tasks": Effort(1, 15, 0.02, 0.04), "imports": Effort(1, 5, 0.0, 0.0)}


class Worker:
    """A process that measures one row."""

    def __init__(self, row: Row, core: int | None) -> None:
        self.row = row
        self.batches: list[float] = []
        self._times: list[int] = []
        self._warm_up: list[tuple[int, float]] = []
        place = "free" if core is None else str(core)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), row.name, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_ready(self) -> None:
        """Wait until the row is open."""
        self._metadata = self._read()

    def warm_up(self, effort: Effort) -> None:
        """Warm up, and find out how many calls make a batch."""
        spent, calls = 0.0, 1
        while True:
            times = self._measure(calls)
            self._warm_up.append((calls, statistics.median(times) / 1e9))
            spent += sum(times) / 1e9
            if spent >= effort.warm_up:
                break
            calls = min(calls * 2, 1000)
        self._calls = max(1, round(effort.batch / self._warm_up[-1][1]))

    def batch(self) -> None:
        """Measure once more."""
        times = self._measure(self._calls)
        self._times += times
        self.batches.append(statistics.median(times) / 1e9)

    def run(self, placement: str, common: dict[str, Any]) -> pyperf.Run:
        """Return what was measured; a value is the median call of a batch."""
        metadata = self._metadata | common | {"name": f"{self.row.name} ({placement})", "loops": self._calls}
        if len(self._times) >= 1000:
            metadata["p99"] = statistics.quantiles(self._times, n=100)[98] / 1e9
        return pyperf.Run(self.batches, warmups=self._warm_up, metadata=metadata, collect_metadata=False)

    def _measure(self, calls: int) -> list[int]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        times: list[int] = self._read()
        return times

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of row {self.row.name!r} ended; its error stands above")
        return json.loads(line)


def measure(
    chosen: list[Row], core: int | None, effort: Effort, common: dict[str, Any], say: report.Progress
) -> list[pyperf.Benchmark]:
    """Measure the rows in turns, on one core or wherever the scheduler puts them."""
    placement = report.FREE if core is None else report.ONE_CORE
    runs: dict[str, list[pyperf.Run]] = {row.name: [] for row in chosen}
    for process in range(effort.processes):
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(row, core)) for row in chosen]
            for worker in workers:
                worker.wait_ready()
            for worker in workers:
                worker.warm_up(effort)
            for turn in range(effort.rounds):
                say(f"{placement}: process {process + 1} of {effort.processes}, round {turn + 1} of {effort.rounds}")
                for worker in random.sample(workers, len(workers)):
                    worker.batch()
            for worker in workers:
                runs[worker.row.name].append(worker.run(placement, common))
    return [pyperf.Benchmark(of_row) for of_row in runs.values()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the ways to call async code from a thread.")
    parser.add_argument("--quick", action="store_true", help="half a minute instead of several")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--only", choices=list(FULL), action="append", help="measure this group of rows only")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"), metavar="DIR")
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md as well")
    parser.add_argument("--core", type=int, help="the one core; default: the last one of those that we may use")
    options = parser.parse_args()

    core: int | None = None
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    elif options.check:
        parser.error("the targets are for one core, and this system pins no process to one")
    say = report.Progress()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        print(f"The machine is busy (load {os.getloadavg()[0]:.2f}): expect noise.", file=sys.stderr)

    common = {
        "bridge_date": date.today().isoformat(),
        "bridge_versions": ", ".join(f"{name} {version(name)}" for name in ("twisted", "anyio", "greenlet", "pyperf")),
    }
    efforts = QUICK if options.quick else FULL
    begin = time.monotonic()
    benchmarks: list[pyperf.Benchmark] = []
    groups = {name: tables for name, tables in rows.groups().items() if not options.only or name in options.only}
    for name, tables in groups.items():
        chosen = rows.rows_of(tables)
        if core is not None:
            benchmarks += measure(chosen, core, efforts[name], common, say)
        if core is None or tables[0].threads:  # what runs in one thread is the same anywhere
            benchmarks += measure(chosen, None, efforts[name], common, say)
    say.end()

    suite = pyperf.BenchmarkSuite(benchmarks)
    results = report.Results(suite, [table for tables in groups.values() for table in tables])
    verdicts = report.verdicts(results, rows.targets())
    options.output.mkdir(parents=True, exist_ok=True)
    suite.dump(str(options.output / "results.json"), replace=True)
    (options.output / "results.md").write_text(report.markdown(results, verdicts) + "\n")
    report.plot(results, options.output / "latency.svg")
    if options.publish:
        report.publish(results, verdicts, Path(__file__).parent.parent / "docs" / "performance.md")
    print(report.text(results, verdicts))
    print(f"\nwritten to {options.output}/ after {math.ceil(time.monotonic() - begin)} s")
    return 1 if options.check and not all(verdict.reached for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
