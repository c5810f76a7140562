"""Functions that other programs look for in the package itself: IPython, for ``%load_ext bridge``.

No module of the package imports an extension, so that the extension's dependencies stay optional. These functions
import theirs by name, when they are called.
"""

from __future__ import annotations

import importlib
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Load the extension into an IPython shell, as ``%load_ext bridge`` does."""
    importlib.import_module("bridge.ext.ipython").load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Undo what the extension has changed in an IPython shell, as ``%unload_ext bridge`` does."""
    importlib.import_module("bridge.ext.ipython").unload_ipython_extension(shell)
