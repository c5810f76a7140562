"""The measured values, and their file. It has pyperf's format, so pyperf's commands can read it.

https://pyperf.readthedocs.io/en/latest/api.html#pyperf-json-format
"""

from __future__ import annotations

import json
import statistics
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ONE_CORE = "one core"
FREE = "free"

_UNITS = {"s": "second", "B": "byte"}

# Rank, and the least number of values, so that some calls are slower than the percentile.
_PERCENTILES = {"p90": (0.9, 100), "p99": (0.99, 500), "p99.9": (0.999, 2000)}


@dataclass
class Samples:
    """The measured values of one row in one placement.

    :param runs: for each process its batches, each as the median of the batch's values.
    :param percentiles: percentiles of all single values, such as "p99", if there were enough values.
    :param singles: the single values, until close().
    """

    unit: str
    runs: list[list[float]] = field(default_factory=list[list[float]])
    percentiles: dict[str, float] = field(default_factory=dict[str, float])
    metadata: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    singles: array[float] = field(default_factory=lambda: array("d"))

    @property
    def batches(self) -> list[float]:
        """Every batch of every process."""
        return [value for run in self.runs for value in run]

    def close(self) -> None:
        """Compute the percentiles, and drop the single values."""
        values = sorted(self.singles)
        for name, (part, least) in _PERCENTILES.items():
            if len(values) >= least:
                self.percentiles[name] = values[int(len(values) * part)]
        self.singles = array("d")


class Results:
    """The samples by row and placement."""

    def __init__(self, metadata: dict[str, str] | None = None) -> None:
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._samples: dict[tuple[str, str], Samples] = {}

    def samples(self, row: str, placement: str, unit: str = "s") -> Samples:
        """Return the samples of the row; make them if they are new."""
        return self._samples.setdefault((row, placement), Samples(unit))

    def has(self, row: str, placement: str) -> bool:
        """Return whether the row was measured in this placement."""
        return (row, placement) in self._samples

    def drop(self, row: str, placement: str) -> None:
        """Forget the samples of a row, if there are any."""
        self._samples.pop((row, placement), None)

    def measured(self) -> list[tuple[str, str]]:
        """Return every row with its placement."""
        return list(self._samples)

    def batches(self, row: str, placement: str) -> list[float]:
        """Return the batches of a row."""
        return self._samples[row, placement].batches

    def unit(self, row: str, placement: str) -> str:
        """Return the unit of the row's values."""
        return self._samples[row, placement].unit

    def median(self, row: str, placement: str) -> float:
        """Return the median over the batches."""
        return statistics.median(self.batches(row, placement))

    def spread(self, row: str, placement: str) -> tuple[float, float]:
        """Return the range of the middle 90 % of the batches."""
        batches = self.batches(row, placement)
        if len(batches) < 2:
            return batches[0], batches[0]
        cuts = statistics.quantiles(batches, n=20, method="inclusive")
        return cuts[0], cuts[-1]

    def percentile(self, row: str, placement: str, name: str) -> float | None:
        """Return a percentile of all single values; None if there were too few values."""
        return self._samples[row, placement].percentiles.get(name)

    def ratios(self, row: str, reference: str, placement: str) -> list[float]:
        """Return the row's batches as multiples of the reference's.

        If the two were measured in turns, each batch is divided by that of the same round; else by the median.
        """
        batches, bases = self.batches(row, placement), self.batches(reference, placement)
        if len(batches) != len(bases):
            bases = [statistics.median(bases)] * len(batches)
        return [value / base for value, base in zip(batches, bases, strict=True)]

    def ratio(self, row: str, reference: str, placement: str) -> float:
        """Return the median of the ratios."""
        return statistics.median(self.ratios(row, reference, placement))

    def python(self) -> str:
        """Return the minor version of Python that measured, such as "3.12"; "" if that is unknown."""
        full = str(self.metadata.get("bridge_python", "")).removeprefix("Python ")
        return ".".join(full.split(".")[:2])

    def machine(self) -> str:
        """Return one line with Python, machine, system, date and versions of the measurement."""
        keys = ("bridge_python", "bridge_machine", "bridge_kernel", "bridge_date", "bridge_versions")
        return "; ".join(str(self.metadata[key]) for key in keys if self.metadata.get(key))

    def absent(self) -> str:
        """Return the names of the peers that were not measured since they are not installed; "" if there are none."""
        return str(self.metadata.get("bridge_absent", ""))

    def failed(self) -> str:
        """Return the errors of the rows that have failed; "" if there are none."""
        return str(self.metadata.get("bridge_failed", ""))

    def save(self, path: Path) -> None:
        """Write the file."""
        benchmarks: list[Any] = []
        for (row, placement), samples in self._samples.items():
            common = {"name": f"{row} ({placement})", "unit": _UNITS[samples.unit], **samples.percentiles}
            padded: Sequence[dict[str, Any]] = [*samples.metadata, *([{}] * len(samples.runs))]
            runs = [{"metadata": own, "values": run} for own, run in zip(padded, samples.runs, strict=False) if run]
            benchmarks.append({"metadata": common, "runs": runs})
        document = {"version": "1.0", "metadata": self.metadata, "benchmarks": benchmarks}
        path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: Path) -> Results:
    """Read a file of results.

    :raises ValueError: the file was not written by save().
    """
    try:
        document: Any = json.loads(path.read_text())
        results = Results(document.get("metadata", {}))
        units = {name: unit for unit, name in _UNITS.items()}
        for benchmark in document["benchmarks"]:
            own = benchmark["metadata"]
            row, _, placement = own["name"].rpartition(" (")
            samples = results.samples(row, placement.rstrip(")"), units[own.get("unit", "second")])
            samples.runs = [list(map(float, run["values"])) for run in benchmark["runs"]]
            samples.percentiles = {name: float(own[name]) for name in _PERCENTILES if name in own}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no file of results that this program wrote: {error!r}") from error
    return results
