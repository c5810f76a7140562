"""Describes the machine, the system, the versions and the date of a measurement."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path


def describe(others: Mapping[str, str]) -> dict[str, str]:
    """Return the description, for the metadata of a file of results.

    :param others: versions of further distributions.
    """
    own = {name: version(name) for name in ("twisted", "anyio", "greenlet")}
    return {
        "bridge_machine": f"{_processor()}, {os.cpu_count()} cores{_virtual()}",
        "bridge_kernel": _kernel(),
        "bridge_python": f"Python {platform.python_version()}",
        "bridge_versions": ", ".join(f"{name} {number}" for name, number in (own | dict(others)).items()),
        "bridge_date": date.today().isoformat(),
    }


def busy() -> str | None:
    """Return a warning if the machine is busy; None if not, or if its load is unknown."""
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        if load > 0.5:
            return f"The machine is busy (load {load:.1f}): expect noise."
    return None


def last_core() -> int | None:
    """Return the core to measure on; None if a process cannot be pinned to a core."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


def _kernel() -> str:
    found = re.match(r"[\d.]+", platform.release())
    return f"{platform.system()} {found.group().rstrip('.')}" if found else sys.platform


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return re.sub(r"\s+", " ", found.group(1)) if found else platform.processor() or platform.machine()


def _virtual() -> str:
    return ", virtual" if "hypervisor" in _cpuinfo() else ""
