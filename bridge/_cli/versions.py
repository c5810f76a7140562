"""What a report of a bug needs: the versions of everything that takes part, and which abilities are there."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version

from .._private.abilities import abilities
from ..strategies import strategies

# Beside the three that the package depends on: what it works with, where that is installed.
_OTHERS = ("asgiref", "crochet", "gevent", "greenback", "ipykernel", "IPython", "nest-asyncio", "pytest", "uvloop")


def report(own: str) -> str:
    """Return the versions and the abilities, in lines.

    :param own: the version of bridge.
    """
    lines = [f"bridge {own}", f"Python {_python()}", _installed(("Twisted", "anyio", "greenlet"))]
    others = _installed(_OTHERS)
    if others:
        lines.append(f"beside them: {others}")
    lines.append("")
    lines += [f"{'yes' if reason is None else 'no ':3}  {what}{_because(reason)}" for what, reason in _abilities()]
    lines.append("")
    for name, strategy in sorted(strategies().items()):
        reason = strategy.unavailable()
        lines.append(f"{'yes' if reason is None else 'no ':3}  strategy {name}{_because(reason)}")
    return "\n".join(lines)


def _because(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _python() -> str:
    build = "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "with the GIL"
    return (
        f"{platform.python_version()} ({platform.python_implementation()}, {build}), "
        f"{platform.system()} {platform.release()}, {platform.machine()}"
    )


def _installed(names: tuple[str, ...]) -> str:
    found: list[str] = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            pass
    return ", ".join(found)


def _abilities() -> list[tuple[str, str | None]]:
    """Return what can be done here, each with the reason why not, or None."""
    return [
        *abilities(),
        ("wake the loop by one call of the system", None if hasattr(os, "eventfd") else "the system has no eventfd"),
        ("watch children without threads", None if hasattr(os, "pidfd_open") else "the system has no pidfd_open"),
        ("start over in forked children", None if hasattr(os, "register_at_fork") else "the system has no fork"),
        ("shells: python -m bridge shell", _unless_there("IPython")),
    ]


def _unless_there(module: str) -> str | None:
    is_there = module in sys.modules or importlib.util.find_spec(module) is not None
    return None if is_there else f"{module} is not installed"
