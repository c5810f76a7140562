"""Compares two results: what changed, and whether that is more than chance."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from .ranks import p_value
from .results import Results
from .tables import quantity

CHANCE = 0.001  # with so many rows, a level of 0.05 would often be wrong
SMALL = 0.05  # a busy machine or a new build of Python changes as much


@dataclass(frozen=True)
class Change:
    """How a row has changed.

    :param times: the new median as a multiple of the old one.
    :param against: the name of the reference row by which both were divided; "" for none.
    :param relative: like ``times``, after that division.
    :param chance: the probability of so great a difference by chance.
    """

    row: str
    placement: str
    old: str
    new: str
    times: float
    against: str
    relative: float
    chance: float

    @property
    def verdict(self) -> str:
        """Return "faster", "slower" or "same"."""
        if self.chance > CHANCE or abs(self.relative - 1) < SMALL:
            return "same"
        return "slower" if self.relative > 1 else "faster"


def changes(old: Results, new: Results, references: Mapping[str, str]) -> list[Change]:
    """Compare the rows that both results have.

    :param references: for each row, a reference row that was measured in turns with it. The ratio of the two is
        compared, so a machine that has become slower as a whole makes no difference.
    """
    found: list[Change] = []
    for row, placement in new.measured():
        if not old.has(row, placement):
            continue
        reference = references.get(row, "")
        if reference == row or not (old.has(reference, placement) and new.has(reference, placement)):
            reference = ""
        was, now = old.median(row, placement), new.median(row, placement)
        if reference:
            before, after = (each.ratios(row, reference, placement) for each in (old, new))
        else:
            before, after = (each.batches(row, placement) for each in (old, new))
        unit = new.unit(row, placement)
        found.append(
            Change(
                row,
                placement,
                quantity(was, unit),
                quantity(now, unit),
                now / was,
                reference,
                statistics.median(after) / statistics.median(before),
                p_value(before, after),
            )
        )
    return found


def text(old: Results, new: Results, found: list[Change]) -> str:
    """Return the changed rows as a table, the greatest change first, and the number of unchanged rows."""
    lines = [f"old: {old.machine()}", f"new: {new.machine()}"]
    if old.metadata.get("bridge_machine") != new.metadata.get("bridge_machine"):
        lines.append("The machines differ: only changes against another row of the same run mean something.")
    changed = [change for change in found if change.verdict != "same"]
    changed.sort(key=lambda change: max(change.relative, 1 / change.relative), reverse=True)
    same = len(found) - len(changed)
    if not changed:
        lines.append(f"\nNothing changed: {same} rows differ by less than {SMALL:.0%}, or by chance.")
        return "\n".join(lines)
    cells = [["", "old", "new", "times", "against its reference", "chance", ""]]
    for change in changed:
        relative = f"{change.relative:.2f} of {change.against}" if change.against else "no reference"
        chance = f"{change.chance:.0e}" if change.chance >= 1e-9 else "< 1e-9"
        name = f"{change.row} ({change.placement})"
        cells.append([name, change.old, change.new, f"{change.times:.2f}", relative, chance, change.verdict])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines.append("")
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines.append(f"\n{len(changed)} rows changed; {same} differ by less than {SMALL:.0%}, or by chance.")
    return "\n".join(lines)
