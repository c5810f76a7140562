"""Folders for sockets of AF_UNIX, whose paths may have some 100 bytes only, wherever the tests and TMPDIR stand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def socket_folder() -> Iterator[Path]:
    """Make a folder with a short path, and remove it with what is in it."""
    system = "/tmp" if os.path.isdir("/tmp") else None
    with tempfile.TemporaryDirectory(prefix="b", dir=system, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
