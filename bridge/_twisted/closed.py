"""Descriptors of an idle reactor that somebody else has closed, as a daemonizer closes all that it does not know.

Their numbers belong to nobody, or to what was opened since. So nothing of the reactor's may close or watch them.
"""

from __future__ import annotations

import logging
import os
import stat
from typing import Any

from .._errors import at

log = logging.getLogger("bridge")

_kept: list[Any] = []  # what would close its descriptor when it is collected


def drop_closed(reactor: Any) -> None:
    """Part an idle reactor from its poller, its waker, its readers and its writers if they were closed.

    The waker is the one that is looked at: each reactor has one, from the start, and a daemonizer spares none.
    """
    waker = reactor.waker
    if waker is None or _is_pipe(getattr(waker, "i", None), getattr(waker, "o", None)):
        return
    reactor._internalReaders.discard(waker)
    reactor.waker = None
    _kept.append(waker)
    readers, writers = [*reactor.getReaders()], [*reactor.getWriters()]
    for name in ("_poller", "_kq"):
        if getattr(reactor, name, None) is not None:
            _kept.append(getattr(reactor, name))
            setattr(reactor, name, None)
    for name in ("_reads", "_writes", "_selectables", "_readers", "_writers"):
        if hasattr(reactor, name):
            getattr(reactor, name).clear()
    if hasattr(reactor, "_asyncioEventloop"):
        reactor._asyncioEventloop = None
    lost = list(dict.fromkeys(each for each in readers + writers if each is not waker))
    _kept.extend(lost)
    if lost:
        log.warning(
            "the descriptors of the idle reactor were closed, as by a daemonizer, and it serves these no more: %s; "
            "open them after that" + at("closed-descriptors"),
            ", ".join(map(repr, lost)),
        )


def _is_pipe(read_end: Any, write_end: Any) -> bool:
    """Return whether two descriptors are the ends of one pipe; True for a waker of another kind, which has none."""
    if not isinstance(read_end, int) or not isinstance(write_end, int):
        return True
    try:
        read, write = os.fstat(read_end), os.fstat(write_end)
    except OSError:
        return False
    return stat.S_ISFIFO(read.st_mode) and (read.st_dev, read.st_ino) == (write.st_dev, write.st_ino)
