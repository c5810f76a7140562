"""Starts processes for the rows, and measures the rows in rounds.

The rows of a group are measured in turns: a batch of some milliseconds each, in a new random order every round. So a
disturbance of the machine hits all rows alike, and ratios are taken between batches of the same round.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from .model import Row
from .results import FREE, ONE_CORE, Results

T = TypeVar("T")

_END_WITHIN = 20.0  # seconds that a process has to end, before it is killed
_LEAST_CALLS = 20  # calls in a batch, at least: the first ones are slower
_LEAST_ROUNDS = 3  # rounds that are made even without time left


class RowFailed(Exception):
    """A process of rows ended too early. It has written its error to standard error."""


@dataclass(frozen=True)
class Effort:
    """How much is measured of each row.

    :param processes: how many sets of fresh processes are measured, one after the other.
    :param rounds: rounds of each set, at most.
    :param batch: seconds of a batch; 0 to measure once.
    :param warm_up: seconds before the first batch.
    :param limit: seconds for all rounds of the group in one placement, after which no further one begins.
    :param with_start: whether the limit includes the start of the processes and the warm-up.
    """

    processes: int
    rounds: int
    batch: float
    warm_up: float
    limit: float
    with_start: bool = False


class Worker:
    """A process that measures rows; see :mod:`.child`.

    :param command: the command that starts it. The process's name and the core, or "free", are appended.
    """

    def __init__(self, command: Sequence[str], name: str, core: int | None) -> None:
        self.name = name
        self._times: dict[str, int] = {}
        self._process = subprocess.Popen(
            [*command, name, "free" if core is None else str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # keeps Ctrl-C from the process, which ends when its input ends
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # of a question to a process that had ended
            self._process.stdin.close()
        try:
            status = self._process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        if exc_type is None and status != 0:
            what = "did not end" if status is None else f"ended with status {status}"
            raise RowFailed(f"the process of the rows {self.name!r} {what}; its error stands above")

    def kill(self) -> None:
        """End the process, whatever it does, if it has not ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def replacement(self, command: Sequence[str], core: int | None) -> Worker:
        """End the process, and return a fresh one, which measures rows as often as this one."""
        self.kill()
        fresh = Worker(command, self.name, core)
        fresh._times = self._times
        fresh.wait_ready()
        return fresh

    def wait_ready(self) -> dict[str, Any]:
        """Wait until the process has done its imports, and return its metadata."""
        metadata: dict[str, Any] = self._read()
        return metadata

    def warm_up(self, row: Row, effort: Effort) -> int:
        """Warm the row up, find out how many calls fit in a batch, and return that number."""
        if row.times is not None or not effort.batch:
            return self._times.setdefault(row.name, row.times or 1)
        self.measure(row, 1)  # prepares the row, which may take long
        spent, times = 0.0, 1
        while True:
            begin = time.perf_counter()
            self.measure(row, times)
            took = time.perf_counter() - begin
            spent += took
            if spent >= effort.warm_up:
                break
            times = min(times * 2, 4000)
        self._times[row.name] = max(_LEAST_CALLS, min(round(effort.batch * times / took), 100_000))
        return self._times[row.name]

    def batch(self, row: Row) -> list[float]:
        """Measure one batch of the row."""
        return self.measure(row, self._times[row.name])

    def measure(self, row: Row, times: int) -> list[float]:
        """Measure the row so many times and return the values."""
        assert self._process.stdin is not None
        try:
            print(json.dumps([row.name, times]), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._failed() from None
        values: list[float] = self._read()
        return values

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        return json.loads(line)

    def _failed(self) -> RowFailed:
        return RowFailed(f"the process of the rows {self.name!r} ended; its error stands above")


class Crew:
    """The processes of some rows. One that a row has ended is replaced by a fresh one, for its other rows.

    :param failed: is told every failure. It raises the failure, or the other rows are measured without that one.
    """

    def __init__(self, command: Sequence[str], core: int | None, failed: Callable[[RowFailed], object]) -> None:
        self._command, self._core, self._failed = command, core, failed
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failures: list[RowFailed] = []
        for worker in self._workers.values():
            try:
                worker.__exit__(exc_type, exc, traceback)
            except RowFailed as error:
                failures.append(error)
        for failure in failures:
            self._failed(failure)

    def start(self, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
        """Start the processes of rows, side by side. Return the metadata of those that have started, by their names."""
        for name in dict.fromkeys(row.process for row in rows):
            self._workers[name] = Worker(self._command, name, self._core)
        found: dict[str, dict[str, Any]] = {}
        for name, worker in list(self._workers.items()):
            try:
                found[name] = worker.wait_ready()
            except RowFailed as error:
                self._workers.pop(name).kill()
                self._failed(error)
        return found

    def ask(self, row: Row, question: Callable[[Worker], T]) -> T | None:
        """Have the row's process do something. Return its answer; None if that has failed."""
        worker = self._workers[row.process]
        try:
            return question(worker)
        except RowFailed as error:
            self._failed(RowFailed(f"{row.name}: {error}"))
            self._workers[row.process] = worker.replacement(self._command, self._core)
            return None


def raised(failure: RowFailed) -> None:
    """Let one failure end the whole measurement."""
    raise failure


def measure(
    rows: Sequence[Row],
    core: int | None,
    effort: Effort,
    results: Results,
    say: Callable[[str, float], object],
    command: Sequence[str] = (sys.executable, "-P", "-m", "bridge._cli.bench.child"),
    failed: Callable[[RowFailed], object] = raised,
) -> None:
    """Measure the rows in turns, on one core or wherever the scheduler puts them.

    :param say: called with the current step, and the part that is done, from 0 to 1.
    :param failed: called with each failure. If it returns, the results lack the rows that have failed.
    :raises RowFailed: a row cannot be measured, or its result is wrong.
    """
    placement = FREE if core is None else ONE_CORE
    left = list(rows)
    for process in range(effort.processes):
        done = process / effort.processes
        say(f"{placement}: starting", done)
        chosen = [row for row in left if not (row.once and process)]

        def progress(turn: int, part: float, done: float = done) -> None:
            say(f"{placement}: round {turn + 1}", done + part / effort.processes)

        with Crew(command, core, failed) as crew:
            measured = _measure_set(crew, chosen, placement, effort, results, progress)
        left = [row for row in left if row in measured or row not in chosen]
    for row in rows:
        if row in left:
            results.samples(row.name, placement).close()
        else:
            results.drop(row.name, placement)


def _measure_set(
    crew: Crew, rows: Sequence[Row], placement: str, effort: Effort, results: Results,
    progress: Callable[[int, float], object],
) -> list[Row]:  # fmt: skip
    """Measure the rows in one set of processes, and return those that have not failed."""
    begin = time.monotonic()
    metadata = crew.start(rows)
    left = [row for row in rows if row.process in metadata]
    left = [row for row in left if crew.ask(row, partial(Worker.warm_up, row=row, effort=effort))]
    for row in left:
        samples = results.samples(row.name, placement, row.unit)
        samples.metadata.append(metadata[row.process])
        samples.runs.append([])
    share = effort.limit / effort.processes
    if not effort.with_start:
        begin = time.monotonic()
    for turn in range(effort.rounds):
        spent = time.monotonic() - begin
        if turn >= _LEAST_ROUNDS and spent > share:
            break
        progress(turn, max(turn / effort.rounds, min(spent / share, 1.0)))
        todo = [row for row in left if not (row.once and turn)]
        for row in random.sample(todo, len(todo)):
            values = crew.ask(row, partial(Worker.batch, row=row))
            if values is None:
                left.remove(row)
                continue
            samples = results.samples(row.name, placement)
            samples.runs[-1].append(statistics.median(values))
            if len(values) > 1:
                samples.singles.extend(values)
    return left
