"""Status: what ``%bridge`` shows, as text and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from .._api.bridge import Bridge
from .._diagnostics import reports


class Status:
    """The state of a bridge at one moment: its loop, the calls that are open with their stacks, and its statistics.

    It starts nothing, and holds text only: none of what it shows is kept alive by it.

    :param cell: returns what to call the cell that a file stands for, None if the file is none.
    """

    def __init__(self, bridge: Bridge, cell: Callable[[str], str | None] = lambda filename: None) -> None:
        life: Any = bridge.last_run
        self.title = repr(bridge).strip("<>")
        self.facts = list(_facts(bridge, life))
        calls = [] if life is None or life.over is not None else reports.open_calls(life)
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


def _facts(bridge: Bridge, life: Any) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if life is None or not life.is_ready:
        facts.append(("loop", "not started; the first call starts it"))
        return facts
    if life.over is not None:
        facts.append(("loop", f"ended: {life.over}; the next call starts a new one"))
        if life.cause is not None:
            facts.append(("cause", repr(life.cause)))
    else:
        thread = bridge.thread
        facts.append(("loop", f"runs, a {type(life.loop).__name__}"))
        facts.append(("thread", "someone else's" if thread is None else thread.name))
        facts.append(("reactor", "none" if life.reactor is None else type(life.reactor).__name__))
    facts.append(("strategy", bridge.strategy.name))
    stats = bridge.stats()
    ends = [(stats.failed, "failed"), (stats.cancelled, "cancelled"), (stats.timed_out, "timed out")]
    facts.append(("calls", ", ".join([str(stats.calls), *(f"{number} {how}" for number, how in ends if number)])))
    if stats.latency:
        facts.append(("half took", f"less than {stats.percentile(50):.2g} seconds"))
        facts.append(("99 % took", f"less than {stats.percentile(99):.2g} seconds"))
    facts.append(("open calls", str(stats.open)))
    return facts


def _with_cells(text: str, cell: Callable[[str], str | None]) -> str:
    """Return the text with the names of cells for those of their files, as IPython's tracebacks have them."""

    def named(match: re.Match[str]) -> str:
        name = cell(match["file"])
        return match[0] if name is None else f"{name}, line"

    return re.sub(r'File "(?P<file>[^"\n]+)", line', named, text)


def _text(value: str) -> str:
    return html.escape(value)
