"""How often the tests of life and death repeat what is random, and with which seed.

In the normal suite they do a share. ``BRIDGE_LIFE=full`` makes them do what is promised in docs/life.md. The seed is
printed when a test fails; ``BRIDGE_SEED`` sets it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import bridge

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(bridge.__file__).parent.parent)}
SEED = int(os.environ.get("BRIDGE_SEED") or random.randrange(1_000_000))
# Several threads live when the tests fork. That is what they are about.
WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


def times(share: int, full: int) -> int:
    """Return how often to do something."""
    return full if os.environ.get("BRIDGE_LIFE") == "full" else share


def python(script: str, *arguments: object, where: Path, timeout: float = 40.0) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python of its own; one that hangs prints the stacks of its threads and fails."""
    # Not dump_traceback_later(): a child that is forked beside its thread cannot exit.
    guard = "import faulthandler, signal; faulthandler.register(signal.SIGALRM, chain=True); "
    guard += f"signal.alarm({int(timeout)})\n"
    (where / "script.py").write_text(guard + script)
    return subprocess.run(
        [sys.executable, *WARNINGS, "script.py", *map(str, arguments)],
        cwd=where,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout + 10,
    )
