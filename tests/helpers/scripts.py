"""Scripts that run in a Python of their own; how often a test repeats what is random, and with which seed.

Normally a test repeats it for a share of the number that docs/contributing/proofs.md gives. ``BRIDGE_REPEATS=full``
makes it all.
The seed is printed when a test fails; ``BRIDGE_SEED`` sets it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from paths import ENVIRONMENT

SEED = int(os.environ.get("BRIDGE_SEED") or random.randrange(1_000_000))
# Several threads live when the tests fork. That is what they are about.
WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


def times(share: int, full: int) -> int:
    """Return how often to do something."""
    return full if os.environ.get("BRIDGE_REPEATS") == "full" else share


def run(arguments: list[str], where: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, with every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=where,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        **options,  # type: ignore[call-overload]
    )


def python(
    script: str | Path, *arguments: object, where: Path, timeout: float = 40.0
) -> subprocess.CompletedProcess[str]:
    """Run a script, or a copy of a file, in a Python of its own; one that hangs prints its stacks and fails."""
    if isinstance(script, Path):
        script = script.read_text(encoding="utf-8")
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
