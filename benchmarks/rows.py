"""The whole suite: every row, by group. The rows of a group are measured in turns, so that their ratios hold."""

from __future__ import annotations

import blocked
import crowds
import lives
import loops
import many
import nested
import verbs

from bridge._cli.bench import calls
from bridge._cli.bench.model import Group, Row
from bridge._cli.bench.works import AT_ONCE, DEFERRED, SUSPENDS_ONCE, WORKS


def groups() -> list[Group]:
    first = (AT_ONCE, SUSPENDS_ONCE, DEFERRED)
    resting = [calls.of_threads(work, picture="latency" if work in first else "works") for work in WORKS]
    busy = [calls.of_threads(work, calls.COMPUTING, picture="contended") for work in WORKS]
    return [
        Group("calls", resting),
        Group("busy", busy),
        Group("shared", [calls.of_threads(AT_ONCE, calls.SHARING)]),
        Group("inside", [calls.of_inside(work) for work in (AT_ONCE, SUSPENDS_ONCE)]),
        Group("nested", nested.tables()),
        Group("verbs", verbs.tables()),
        Group("loops", loops.tables()),
        Group("uses", loops.uses()),
        Group("threads", curves=crowds.throughput()),
        Group("open", curves=crowds.submitted()),
        Group("bridges", curves=many.bridges()),
        Group("deferreds", curves=many.deferreds()),
        Group("memory", crowds.memory()),
        Group("blocked", curves=blocked.curves()),
        Group("lives", lives.tables()),
    ]


def all_rows() -> dict[str, Row]:
    return {row.name: row for group in groups() for row in group.rows}
