"""How much memory this process holds."""

from __future__ import annotations

import gc
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
CAN_TELL = _STATM.exists()


def resident() -> int:
    """Return the bytes that are resident, after the garbage is gone."""
    gc.collect()
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
