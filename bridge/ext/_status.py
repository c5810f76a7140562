"""Status: what ``%bridge`` shows, as text and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from .._api.bridge import Bridge
from .._diagnostics import reports


class Status:
    """The state of a bridge at one moment: its loop, the open calls with their stacks, and its statistics.

    Making it starts no loop. It holds text only, and keeps nothing else alive.

    :param cell: returns the name of the cell that a file stands for; None if the file is not a cell.
    """

    def __init__(self, bridge: Bridge, cell: Callable[[str], str | None] = lambda filename: None) -> None:
        run: Any = bridge.last_run
        self.title = repr(bridge).strip("<>")
        self.facts = list(_facts(bridge, run))
        calls = [] if run is None or run.over is not None else reports.open_calls(run)
        self.calls = [_with_cells(call, cell) for call in calls]

    def __repr__(self) -> str:
        width = max(len(name) for name, _ in self.facts)
        lines = [self.title, *(f"  {name:<{width}}  {value}" for name, value in self.facts)]
        return "\n".join([*lines, *(f"\n{call}" for call in self.calls)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in self.facts)
        calls = ""
        for call in self.calls:
            summary, _, stacks = call.partition("\n")
            calls += f"<details><summary>{_text(summary)}</summary><pre>{_text(stacks)}</pre></details>"
        return f"<div><strong>{_text(self.title)}</strong><table>{rows}</table>{calls}</div>"


def _facts(bridge: Bridge, run: Any) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if run is None or not run.is_ready:
        facts.append(("loop", "not started; the first call starts it"))
        return facts
    if run.over is not None:
        facts.append(("loop", f"ended: {run.over}; the next call starts a new one"))
        if run.cause is not None:
            facts.append(("cause", repr(run.cause)))
    else:
        thread = bridge.thread
        facts.append(("loop", f"runs, a {type(run.loop).__name__}"))
        facts.append(("thread", "someone else's" if thread is None else thread.name))
        facts.append(("reactor", "none" if run.reactor is None else type(run.reactor).__name__))
    facts.append(("strategy", bridge.strategy.name))
    stats = bridge.stats()
    ends = [(stats.failed, "failed"), (stats.cancelled, "cancelled"), (stats.timed_out, "timed out")]
    facts.append(("calls", ", ".join([str(stats.calls), *(f"{number} {how}" for number, how in ends if number)])))
    if stats.latency:
        facts.append(("median", f"less than {stats.percentile(50):.2g} seconds"))
        facts.append(("99 % took", f"less than {stats.percentile(99):.2g} seconds"))
    facts.append(("open calls", str(stats.open)))
    return facts


def _with_cells(text: str, cell: Callable[[str], str | None]) -> str:
    """Return the text with file names of cells replaced by the cells' names, as in IPython's tracebacks."""

    def named(match: re.Match[str]) -> str:
        name = cell(match["file"])
        return match[0] if name is None else f"{name}, line"

    return re.sub(r'File "(?P<file>[^"\n]+)", line', named, text)


def _text(value: str) -> str:
    return html.escape(value)
