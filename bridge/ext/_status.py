"""Status: what ``%bridge`` shows, as text and as HTML."""

from __future__ import annotations

import html
import threading
from typing import Any

from .. import _stacks
from .._adapt import describe
from .._bridge import Bridge


class Status:
    """The state of a bridge at one moment: its loop, the calls that are open with their stacks, and its statistics.

    It starts nothing, and holds text only: none of what it shows is kept alive by it.
    """

    def __init__(self, bridge: Bridge) -> None:
        life: Any = bridge._life
        self.title = repr(bridge).strip("<>")
        self.facts = list(_facts(bridge, life))
        self.calls = [_described(call) for call in list(life.open)] if life is not None else []

    def __repr__(self) -> str:
        width = max(len(name) for name, _ in self.facts)
        lines = [self.title, *(f"  {name:<{width}}  {value}" for name, value in self.facts)]
        for title, stacks in self.calls:
            lines.append(f"\n{title}")
            for what, stack in stacks:
                lines += [f"  {what}", *(f"    {line}" for line in stack.splitlines())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in self.facts)
        calls = "".join(
            f"<details><summary>{_text(title)}</summary>"
            + "".join(f"<p>{_text(what)}</p><pre>{_text(stack)}</pre>" for what, stack in stacks)
            + "</details>"
            for title, stacks in self.calls
        )
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
    facts.append(("open calls", str(len(life.open))))
    return facts


def _described(call: Any) -> tuple[str, list[tuple[str, str]]]:
    caller: int | None = getattr(call, "caller", None)
    stacks: list[tuple[str, str]] = []
    if caller is None:
        title = f"submit({describe(call.x)})"
    else:
        title = f"block_on({describe(call.x)}) in thread {_thread_name(caller)}"
        stacks.append(("called by", _stacks.thread_stack(caller)))
    stacks.append(("waits for", _stacks.work_stack(call.work)))
    return title, stacks


def _thread_name(ident: int) -> str:
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), str(ident))


def _text(value: str) -> str:
    return html.escape(value)
