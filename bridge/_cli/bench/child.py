"""A fresh process that holds some rows and measures them when it is told to.

Started with the process's name and the core to stay on, or "free". It writes its metadata as one line of JSON, then for
each ``[row, times]`` that it reads the values, until its input ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from .model import Host, Row

# Where a file of results comes from is nobody's business but its owner's.
_PRIVATE = ("hostname", "python_executable", "python_cflags", "python_config_args", "command")


def serve(rows: Iterable[Row], name: str, core: str) -> None:
    """Measure the rows of the process of that name until the input ends."""
    held = {row.name: row for row in rows if row.process == name}
    if not held:
        raise LookupError(f"no row belongs to a process {name!r}")
    metadata = _metadata()
    if core != "free":
        os.sched_setaffinity(0, {int(core)})  # before a thread starts: each inherits it
    with Host() as host:
        print(json.dumps(metadata), flush=True)
        for line in sys.stdin:
            row, times = json.loads(line)
            print(json.dumps(host.measure(held[row], times)), flush=True)


def _metadata() -> dict[str, Any]:
    try:
        from importlib import import_module

        found: dict[str, Any] = import_module("pyperf").Run([1.0]).get_metadata()
    except ImportError:
        return {}
    return {key: value for key, value in found.items() if key not in _PRIVATE}


if __name__ == "__main__":
    from .quick import group

    serve(group().rows, *sys.argv[1:])
