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
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .model import Row
from .results import FREE, ONE_CORE, Results

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
    """

    processes: int
    rounds: int
    batch: float
    warm_up: float
    limit: float


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
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = None
        self._process.stdout.close()
        if exc_type is None and status != 0:
            what = "did not end" if status is None else f"ended with status {status}"
            raise RowFailed(f"the process of the rows {self.name!r} {what}; its error stands above")

    def wait_ready(self) -> dict[str, Any]:
        """Wait until the process has done its imports, and return its metadata."""
        metadata: dict[str, Any] = self._read()
        return metadata

    def warm_up(self, row: Row, effort: Effort) -> None:
        """Warm the row up, and find out how many calls fit in a batch."""
        if row.times is not None or not effort.batch:
            self._times[row.name] = row.times or 1
            return
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


def measure(
    rows: Sequence[Row],
    core: int | None,
    effort: Effort,
    results: Results,
    say: Callable[[str, float], object],
    command: Sequence[str] = (sys.executable, "-P", "-m", "bridge._cli.bench.child"),
) -> None:
    """Measure the rows in turns, on one core or wherever the scheduler puts them.

    :param say: called with the current step, and the part that is done, from 0 to 1.
    :raises RowFailed: a row cannot be measured, or its result is wrong.
    """
    placement = FREE if core is None else ONE_CORE
    share = effort.limit / effort.processes
    for process in range(effort.processes):
        done = process / effort.processes
        say(f"{placement}: starting", done)
        with ExitStack() as stack:
            chosen = [row for row in rows if not (row.once and process)]
            names = dict.fromkeys(row.process for row in chosen)
            workers = {name: stack.enter_context(Worker(command, name, core)) for name in names}
            metadata = {name: worker.wait_ready() for name, worker in workers.items()}
            for row in chosen:
                workers[row.process].warm_up(row, effort)
                samples = results.samples(row.name, placement, row.unit)
                samples.metadata.append(metadata[row.process])
                samples.runs.append([])
            begin = time.monotonic()
            for turn in range(effort.rounds):
                spent = time.monotonic() - begin
                if turn >= _LEAST_ROUNDS and spent > share:
                    break
                part = max(turn / effort.rounds, min(spent / share, 1.0))
                say(f"{placement}: round {turn + 1}", done + part / effort.processes)
                for row in random.sample(chosen, len(chosen)):
                    values = workers[row.process].batch(row)
                    samples = results.samples(row.name, placement)
                    samples.runs[-1].append(statistics.median(values))
                    if len(values) > 1:
                        samples.singles.extend(values)
    for row in rows:
        results.samples(row.name, placement).close()
