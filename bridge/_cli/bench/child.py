"""A fresh process that measures its rows on request.

Its arguments are the process's name, and the number of a core to stay on, or "free". It writes one line of JSON with
its metadata. Then it reads lines of JSON, ``[row, times]``, and answers each with the measured values, until its input
ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from .model import Host, Row

ANSWER_WITHIN = 150.0  # seconds that a batch may take, before the process prints its stacks and ends

# Metadata that would tell others about the owner of the machine.
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
            faulthandler.dump_traceback_later(ANSWER_WITHIN, exit=True)
            values = host.measure(held[row], times)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(values), flush=True)


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
