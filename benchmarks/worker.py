"""A fresh process that holds one row and measures it when it is told to.

Started by run.py with the row's name and the core to stay on, or "free". It writes its pyperf metadata as one line of
JSON, then for each number of calls that it reads the times that they took, until its input ends.
"""

from __future__ import annotations

import json
import os
import sys

import pyperf
import rows

# Where a file of results comes from is nobody's business but its owner's.
_PRIVATE = ("hostname", "python_executable", "python_cflags", "python_config_args", "command")


def main(name: str, core: str) -> None:
    (row,) = (each for tables in rows.groups().values() for each in rows.rows_of(tables) if each.name == name)
    if core != "free":
        os.sched_setaffinity(0, {int(core)})  # before a thread starts: each inherits it
    metadata = pyperf.Run([1.0]).get_metadata()
    for key in _PRIVATE:
        metadata.pop(key, None)
    with row.open() as measure:
        print(json.dumps(metadata), flush=True)
        for line in sys.stdin:
            print(json.dumps(measure(int(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
