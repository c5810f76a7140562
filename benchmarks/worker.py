"""A fresh process that holds some rows of the suite and measures them when run.py tells it to."""

from __future__ import annotations

import sys

import rows

from bridge._cli.bench.child import serve

if __name__ == "__main__":
    serve((row for group in rows.groups() for row in group.rows), *sys.argv[1:])
