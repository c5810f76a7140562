"""Rows and tables out of peers and works."""

from __future__ import annotations

from collections.abc import Sequence

from . import inside, threads
from .model import Row, Table
from .way import Peer, stopwatch
from .works import Work

BUSY = "+busy"


def of_threads(work: Work, *, busy: bool = False, picture: str = "") -> Table:
    """Return the table of a call from a thread: the floors, the peers that are installed, and ours.

    :param busy: with another thread computing in Python.
    """
    prefix = work.name + (BUSY if busy else "")
    floors = [threads.PING_PONG, threads.FLOOR] if work.name == "at_once" else []
    peers = [peer for peer in [*floors, *threads.PEERS, *threads.ours()] if peer.lacks() is None]
    rows = [_row(prefix, peer, work, busy) for peer in peers if peer.waits_for(work)]
    first = "blockingCallFromThread" if work.name == "twisted_socket" else "run_coroutine_threadsafe"
    references = {"of Twisted's" if first.startswith("blocking") else "of asyncio's": f"{prefix}/{first}"}
    if floors:
        references["of floor"] = f"{prefix}/floor"
    title = f"{work.title}; another thread computes in Python" if busy else work.title
    return Table(title, rows, references, threads=True, picture=picture, percentiles=busy)


def of_inside(work: Work) -> Table:
    """Return the table of a call in the loop's own thread."""
    peers = [peer for peer in [inside.AWAIT, *inside.PEERS, inside.OURS] if peer.lacks() is None]
    rows = [_row(f"inside_{work.name}", peer, work, False) for peer in peers]
    references = {"of await": f"inside_{work.name}/await"}
    if any(row.name.endswith("/await_only") for row in rows):
        references["of SQLAlchemy's"] = f"inside_{work.name}/await_only"
    return Table(f"{work.title}, in the loop's own thread", rows, references, picture="inside")


def peers_of(rows: Sequence[Row], contenders: Sequence[Peer]) -> list[str]:
    """Return the names of the rows that belong to contenders."""
    names = {peer.name for peer in contenders if peer.contender}
    return [row.name for row in rows if row.name.split("/")[1] in names]


def absent() -> dict[str, str]:
    """Return the peers that are left out, by label, with what is not installed."""
    everyone = [*threads.PEERS, *threads.ours(), *inside.PEERS]
    return {peer.label: lack for peer in everyone if (lack := peer.lacks()) is not None}


def _row(prefix: str, peer: Peer, work: Work, busy: bool) -> Row:
    process = f"inside/{peer.name}" if prefix.startswith("inside_") else f"thread/{peer.name}"
    return Row(f"{prefix}/{peer.name}", peer.label, process, stopwatch(peer, work, busy))
