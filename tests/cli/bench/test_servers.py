"""benchmarks/run_servers.py: each server answers every request, of 1,024 clients too; its figures are published."""

from __future__ import annotations

import importlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from bridge._cli.bench.results import ONE_CORE, Results

sys.path.insert(0, str(ROOT / "benchmarks"))  # they are no package, and import each other by their bare names

run_servers: Any = importlib.import_module("run_servers")
under_load: Any = importlib.import_module("under_load")


@pytest.fixture
def machine() -> Iterator[None]:
    """Skip where nothing can be measured; restore what measuring sets for this process."""
    reason = under_load.lacking()
    if reason is not None:
        pytest.skip(reason)
    cores, limits = os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    os.sched_setaffinity(0, cores)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.newest
@pytest.mark.process
@pytest.mark.timeout(200)
@pytest.mark.parametrize("server", under_load.SERVERS, ids=lambda server: server.name)
def test_server_answers_every_request(server: Any, machine: None) -> None:
    if not under_load.measured([server]):
        pytest.skip(f"needs {', '.join(server.needs)}; pip install --group servers")
    results = Results()
    effort = under_load.Effort(1, dict.fromkeys(under_load.CLIENTS, 1), warm_up=0)
    under_load.measure([server], max(os.sched_getaffinity(0)), effort, results, lambda what, done: None)
    for clients in under_load.CLIENTS:
        p50, p99, slowest = (
            results.median(under_load.row(server, clients, what).name, ONE_CORE) for what in ("p50", "p99", "p99.9")
        )
        assert 0 < p50 <= p99 <= slowest
        assert results.median(under_load.row(server, clients, "memory").name, ONE_CORE) > 10_000_000


@pytest.mark.process
def test_wrong_answer_fails(machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server = next(each for each in under_load.SERVERS if each.name == "aiohttp")
    pytest.importorskip("aiohttp")
    with under_load.redis() as redis_port, under_load.serving(server, None, redis_port) as (port, _):
        assert under_load.load(port, 2, 1)["requests"]
        monkeypatch.setattr(under_load, "NAME", b"somebody else")
        with pytest.raises(under_load.Failed, match=r"wrong.*Hello, ann"):
            under_load.load(port, 2, 1)


def test_tables_go_into_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results({"bridge_machine": "a machine"})
    for number, server in enumerate(under_load.SERVERS, 1):
        for clients in under_load.CLIENTS:
            for what in ("requests", "p50", "p99", "p99.9", "memory"):
                each = under_load.row(server, clients, what)
                value = 1e6 * number if what == "memory" else number / 1000
                results.samples(each.name, ONE_CORE, each.unit).runs += [[value], [value], [2 * value]]
    monkeypatch.setattr(run_servers, "draw", lambda *args: None)
    users = tmp_path / "docs" / "explanation"
    users.mkdir(parents=True)
    (users / "performance.md").write_text("before\n<!-- servers -->\nold\n<!-- end of servers -->\nafter\n")
    run_servers.publish(results, under_load.SERVERS, tmp_path)
    written = (users / "performance.md").read_text()
    assert "old" not in written
    assert written.count(" | 1,000 | 526 to 1,000 | 1.00 ms |") == len(under_load.CLIENTS)
    assert all(written.count(f"| {server.label} |") == len(under_load.CLIENTS) for server in under_load.SERVERS)
    page = (ROOT / "docs" / "explanation" / "performance.md").read_text()
    assert page.count("<!-- servers -->") == page.count("<!-- end of servers -->") == 1
