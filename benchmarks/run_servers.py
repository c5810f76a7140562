"""Web servers under load: ``python benchmarks/run_servers.py [--effort quick] [--only SERVER] [--publish]``.

Requests a second, tails and memory of the same small page by each server: benchmarks/under_load.py. It needs wrk,
redis-server and two cores. Writes servers.json (in pyperf's format), servers.md and servers.svg.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import page
import under_load
from under_load import CLIENTS, SERVERS, Effort, Server

from bridge._cli.bench import command, machine, plot
from bridge._cli.bench.results import ONE_CORE, Results, load
from bridge._cli.bench.tables import quantity

ROOT = Path(__file__).resolve().parent.parent
EFFORTS = {
    "quick": Effort(1, dict.fromkeys(CLIENTS, 1), warm_up=0),
    "standard": Effort(4, dict(zip(CLIENTS, (2, 3, 4), strict=True))),
}


def main() -> int:
    here = "{}.{}".format(*sys.version_info)
    names = [server.name for server in SERVERS]
    parser = argparse.ArgumentParser(description="Compare web servers that wait for async code in their ways.")
    parser.add_argument("--effort", choices=list(EFFORTS), default="standard", help="standard takes eight minutes")
    parser.add_argument("--only", choices=names, action="append", help="measure this server only")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks", here), metavar="DIR")
    parser.add_argument("--publish", action="store_true", help="put the table and the picture into docs/ as well")
    parser.add_argument("--core", type=int, help="the servers' core; default: the last one of those that we may use")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="measure nothing, report on this file")
    options = parser.parse_args()
    if options.only and options.publish:
        parser.error("--publish is for all servers")

    begin = time.monotonic()
    servers = [server for server in SERVERS if not options.only or server.name in options.only]
    if options.report:
        results = load(options.report)
    else:
        reason = under_load.lacking()
        if reason is not None:
            parser.error(reason)
        warning = machine.busy()
        if warning:
            print(warning, file=sys.stderr)
        try:
            results = run(servers, options.core, EFFORTS[options.effort])
        except under_load.Failed as error:
            print(f"\n{error}", file=sys.stderr)
            return 1

    text = markdown(results, servers)
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.report:
        results.save(options.output / "servers.json")
    (options.output / "servers.md").write_text(f"{results.machine()}\n\n{text}\n")
    draw(results, servers, options.output)
    if options.publish:
        publish(results, servers, ROOT)
    print(f"{results.machine()}\n\n{text}\n")
    print(f"written to {options.output}/ after {math.ceil(time.monotonic() - begin)} s")
    return 0


def run(servers: Sequence[Server], core: int | None, effort: Effort) -> Results:
    chosen = under_load.measured(servers)
    others = {name: importlib.metadata.version(name) for name in dict.fromkeys(sum((s.needs for s in chosen), ()))}
    results = Results(machine.describe(others))
    results.metadata["bridge_absent"] = ", ".join(server.label for server in servers if server not in chosen)
    core = machine.last_core() if core is None else core
    assert core is not None
    say = command.Progress()
    try:
        under_load.measure(chosen, core, effort, results, say)
    finally:
        say.end()
    return results


def markdown(results: Results, servers: Sequence[Server]) -> str:
    """Return a table for each number of clients: medians of the rounds, and for the requests the spread."""
    blocks: list[str] = []
    for clients in CLIENTS:
        lines = [
            f"| {clients:,} client{'s' * (clients > 1)} | requests a second | 5 to 95 % | p50 | p99 | p99.9 | memory |",
            "| :-- | --: | --: | --: | --: | --: | --: |",
        ]
        for server in servers:
            name = under_load.row(server, clients, "requests").name
            if results.has(name, ONE_CORE):
                slow, fast = results.spread(name, ONE_CORE)[::-1]
                rate = f"{1 / results.median(name, ONE_CORE):,.0f} | {1 / slow:,.0f} to {1 / fast:,.0f}"
                others = [under_load.row(server, clients, what) for what in ("p50", "p99", "p99.9", "memory")]
                cells = [quantity(results.median(each.name, ONE_CORE), each.unit) for each in others]
                lines.append(f"| {server.label} | {rate} | {' | '.join(cells)} |")
        if len(lines) > 2:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def draw(results: Results, servers: Sequence[Server], directory: Path) -> None:
    plot.curves(results, under_load.curves(servers), directory / "servers.svg")


def publish(results: Results, servers: Sequence[Server], root: Path) -> None:
    """Put the tables into the page for users, and the picture beside the others.

    :raises ValueError: the page has no place for them.
    """
    draw(results, servers, root / "docs" / "figures")
    text = (
        f"{results.machine()}.\n\n{markdown(results, servers)}\n\n![{page.PICTURES['servers']}](../figures/servers.svg)"
    )
    page.fill(root / "docs" / "explanation" / "performance.md", "servers", text)


if __name__ == "__main__":
    sys.exit(main())
