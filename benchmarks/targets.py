"""What is to be reached, and whether it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bridge._cli.bench import calls, inside, threads
from bridge._cli.bench.model import Group, Row
from bridge._cli.bench.results import FREE, ONE_CORE, Results
from bridge._cli.bench.tables import quantity


@dataclass(frozen=True)
class Target:
    """A bound on a row: at most so many times another, at least so many times as fast as it, or at most an amount.

    :param references: the rows to compare with, of which the best counts; none for a bound in seconds or bytes.
    :param at_most: on the row's value, as a multiple of the reference's.
    :param at_least: on the reference's value, as a multiple of the row's: so many times as fast.
    :param percentile: which one is compared, such as "p99"; "" for the median.
    """

    text: str
    row: str
    references: tuple[str, ...] = ()
    at_most: float | None = None
    at_least: float | None = None
    percentile: str = ""
    placement: str = ONE_CORE


@dataclass(frozen=True)
class Verdict:
    """Whether a target is reached, None if it was not measured, and the sentence that says so."""

    reached: bool | None
    text: str


def verdicts(results: Results, targets: Sequence[Target]) -> list[Verdict]:
    """Compare with the targets."""
    return [_verdict(results, target) for target in targets]


def _verdict(results: Results, target: Target) -> Verdict:
    bound = target.at_most if target.at_most is not None else target.at_least
    assert bound is not None
    where = "" if target.placement == ONE_CORE else f", {target.placement}"
    wanted = "at most" if target.at_most is not None else "at least"
    here = [each for each in target.references if _is_there(results, target, each)]
    if not _is_there(results, target, target.row) or (target.references and not here):
        return Verdict(None, f"not measured: {target.text}, {wanted} {bound:g}{where}")
    if here:
        # Of several peers the one that is hardest to beat.
        hardest = max if target.at_most is not None else min
        value, best = hardest((_ratio(results, target, each), each) for each in here)
        peer = f" ({best.split('/')[1]})" if len(target.references) > 1 else ""
        shown = f"{target.text}{peer}: {value:.2f}, {wanted} {bound:g}"
    else:
        unit = results.unit(target.row, target.placement)
        value = results.median(target.row, target.placement)
        shown = f"{target.text}: {quantity(value, unit)}, at most {quantity(bound, unit)}"
    reached = value <= bound if target.at_most is not None else value >= bound
    return Verdict(reached, f"{'reached' if reached else 'MISSED'}: {shown}{where}")


def _is_there(results: Results, target: Target, row: str) -> bool:
    if not results.has(row, target.placement):
        return False
    return not target.percentile or results.percentile(row, target.placement, target.percentile) is not None


def _ratio(results: Results, target: Target, reference: str) -> float:
    if target.percentile:
        value, base = (
            results.percentile(each, target.placement, target.percentile) for each in (target.row, reference)
        )
        assert value is not None
        assert base is not None
        ratio = value / base
    else:
        ratio = results.ratio(target.row, reference, target.placement)
    return ratio if target.at_most is not None else 1 / ratio


def targets(groups: Sequence[Group]) -> list[Target]:
    """Return what has to be reached on this Python, in the suite's groups."""
    rows = {row.name: row for group in groups for row in group.rows}
    return [*_thread_calls(rows), *_in_the_loop(), *_verbs(), *_memory_and_lives()]


def _peers(rows: dict[str, Row], prefix: str) -> tuple[str, ...]:
    return tuple(calls.peers_of([row for name, row in rows.items() if name.startswith(f"{prefix}/")], threads.PEERS))


def _thread_calls(rows: dict[str, Row]) -> list[Target]:
    asyncio_s, floor, portal = "at_once/run_coroutine_threadsafe", "at_once/floor", "at_once/portal"
    new = sys.version_info >= (3, 12)  # before, there are no eager tasks
    call = "a call that returns at once"
    ours = "at_once/block_on"
    found = [
        Target(f"{call}, of run_coroutine_threadsafe's time", ours, (asyncio_s,), 0.42 if new else 0.75),
        Target(f"{call}, of anyio's portal's time", ours, (portal,), 0.20),
        Target(f"{call}, of the floor's time", ours, (floor,), 1.25),
        Target(f"{call}, of the best peer's time", ours, _peers(rows, "at_once"), 1.0),
        Target(f"{call}, of the best peer's time", ours, _peers(rows, "at_once"), 1.0, placement=FREE),
        Target(f"{call}, on uvloop, of that on our own loop", "at_once/block_on[uvloop]", (ours,), 1.15),
        Target(f"{call}, p99, of the best peer's", ours, _peers(rows, "at_once"), 1.0, percentile="p99"),
        Target("a Deferred, of blockingCallFromThread's time", "deferred/block_on",
               ("deferred/blockingCallFromThread",), 0.50),
        Target("a Deferred, of crochet's time", "deferred/block_on", ("deferred/crochet",), 0.25),
    ]  # fmt: skip
    for name in ("at_once", "suspends_once", "deferred", "asyncio_socket", "twisted_socket", "megabyte", "raises"):
        for prefix, situation in ((name, "at rest"), (name + calls.BUSY, "the GIL contended")):
            peers = _peers(rows, prefix)
            found.append(Target(f"{name}, {situation}, of the best peer's time", f"{prefix}/block_on", peers, 1.0))
    return [
        *found,
        Target("calls a second by 64 threads, of the best peer's", "threads_64/block_on", _peers(rows, "threads_64"),
               at_least=1.5),
        Target("calls a second by 512 threads, of those by 64", "threads_512/block_on", ("threads_64/block_on",),
               at_least=1.0),
    ]  # fmt: skip


def _in_the_loop() -> list[Target]:
    at_once, once = "inside_at_once", "inside_suspends_once"
    return [
        Target("in the loop's thread, returns at once, of await_only's time", f"{at_once}/block_on",
               (f"{at_once}/await_only",), 0.7),
        Target("in the loop's thread, returns at once, of greenback's time", f"{at_once}/block_on",
               (f"{at_once}/greenback",), 0.4),
        Target("in the loop's thread, suspends once, of await's time", f"{once}/block_on", (f"{once}/await",), 1.6),
        Target("in the loop's thread, suspends once, of the best peer's time", f"{once}/block_on",
               tuple(f"{once}/{peer.name}" for peer in inside.PEERS if peer.contender), 1.0),
        Target("a task that returns at once, of a plain one's time", "task_at_once/bridge",
               ("task_at_once/plain",), 1.12),
        Target("a task that suspends once, of a plain one's time", "task_suspends_once/bridge",
               ("task_suspends_once/plain",), 1.09),
        Target("a task that suspends five times, of a plain one's time", "task_suspends_five_times/bridge",
               ("task_suspends_five_times/plain",), 1.05),
        Target("an iteration of the loop, of a plain one's time", "iteration/bridge", ("iteration/plain",), 1.02),
        Target("a loop made, run and closed, of a plain one's time", "loop_life/bridge", ("loop_life/plain",),
               2.5),
        Target("10,000 calls blocked at once, memory for each", "blocked_memory_10000/block_on", at_most=9_000),
        # Linear: twelve times the whole for ten times the number.
        Target("10,000 calls blocked at once, time for each, of that with 1,000", "blocked_10000/block_on",
               ("blocked_1000/block_on",), 1.2),
    ]  # fmt: skip


def _verbs() -> list[Target]:
    return [
        Target("blocking(f)(), of block_on(f())'s time", "view/blocking", ("view/block_on",), 1.10),
        Target("iterate(prefetch=64), of the speed of prefetch=0", "iterate/prefetch_64", ("iterate/prefetch_0",),
               at_least=10),
        # "Nothing measurable" is what the rounds do not tell apart from it.
        Target("context variables out, none set, of a call without", "context/none_set", ("context/not_out",), 1.05),
    ]  # fmt: skip


def _memory_and_lives() -> list[Target]:
    return [
        Target("memory for each open call, beyond its thread", "memory/block_on", at_most=3_000),
        Target("start of a bridge, after imports", "life/start", at_most=0.005),
        Target("import of bridge, of that of its parts", "import/bridge", ("import/parts",), 1.05),
        Target("a process with one coroutine, of asyncio.Runner's time", "process/block_on", ("process/runner",), 1.4),
        Target("a process that imports bridge, of one with asyncio", "process/package", ("process/asyncio",), 1.0),
    ]
