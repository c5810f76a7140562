"""Runs benchmarks/run.py with another folder in the place of the project's, which it publishes to.

Arguments: the folder of the benchmarks, the folder to publish to, and the arguments of run.py.
"""

import sys
from pathlib import Path

benchmarks, site, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, benchmarks)

import run  # noqa: E402 - it is found by now

run.ROOT = Path(site)
sys.exit(run.main())
