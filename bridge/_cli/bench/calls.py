"""Makes rows and tables from peers and works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import inside, threads
from .model import Row, Table
from .way import Meanwhile, Peer, stopwatch
from .works import Work, computing, resting, sharing

BUSY, SHARED = "+busy", "+shared"


@dataclass(frozen=True)
class Situation:
    """A background load while a caller waits for a work.

    :param mark: is appended to the names of the rows.
    :param only: the names of the peers that are measured under it; None for all peers.
    """

    mark: str
    title: str
    meanwhile: Meanwhile
    only: frozenset[str] | None = None


RESTING = Situation("", "", resting)
COMPUTING = Situation(BUSY, "; another thread computes in Python", computing)
SHARING = Situation(
    SHARED,
    "; another process is busy on the last core",
    sharing,
    frozenset({"floor", "run_coroutine_threadsafe", "block_on"}),
)


def of_threads(work: Work, situation: Situation = RESTING, *, picture: str = "") -> Table:
    """Return the table of a call from another thread: floors, installed peers, and bridge."""
    prefix = work.name + situation.mark
    floors = [threads.PING_PONG, threads.FLOOR] if work.name == "at_once" else []
    peers = [peer for peer in [*floors, *threads.PEERS, *threads.ours()] if peer.lacks() is None]
    if situation.only is not None:
        peers = [peer for peer in peers if peer.name in situation.only]
    rows = [_row(prefix, peer, work, situation.meanwhile) for peer in peers if peer.waits_for(work)]
    first = "blockingCallFromThread" if work.name == "twisted_socket" else "run_coroutine_threadsafe"
    references = {"of Twisted's" if first.startswith("blocking") else "of asyncio's": f"{prefix}/{first}"}
    if floors:
        references["of floor"] = f"{prefix}/floor"
    title = f"{work.title}{situation.title}"
    return Table(title, rows, references, threads=True, picture=picture, percentiles=situation is not RESTING)


def of_inside(work: Work) -> Table:
    """Return the table of a call in the loop's own thread."""
    peers = [peer for peer in [inside.AWAIT, *inside.PEERS, inside.OURS] if peer.lacks() is None]
    rows = [_row(f"inside_{work.name}", peer, work, resting) for peer in peers]
    references = {"of await": f"inside_{work.name}/await"}
    if any(row.name.endswith("/await_only") for row in rows):
        references["of SQLAlchemy's"] = f"inside_{work.name}/await_only"
    return Table(f"{work.title}, in the loop's own thread", rows, references, picture="inside")


def peers_of(rows: Sequence[Row], contenders: Sequence[Peer]) -> list[str]:
    """Return the names of the rows whose peers are contenders."""
    names = {peer.name for peer in contenders if peer.contender}
    return [row.name for row in rows if row.name.split("/")[1] in names]


def absent() -> dict[str, str]:
    """Return, by label, the peers that cannot be measured, with the missing modules."""
    everyone = [*threads.PEERS, *threads.ours(), *inside.PEERS]
    return {peer.label: lack for peer in everyone if (lack := peer.lacks()) is not None}


def _row(prefix: str, peer: Peer, work: Work, meanwhile: Meanwhile) -> Row:
    process = f"inside/{peer.name}" if prefix.startswith("inside_") else f"thread/{peer.name}"
    return Row(f"{prefix}/{peer.name}", peer.label, process, stopwatch(peer, work, meanwhile))
