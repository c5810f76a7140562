"""What programs look for in the package itself: IPython, for ``%load_ext bridge``.

Nothing of the package imports an extension, so that what it needs stays optional. These functions load theirs by name,
when they are called.
"""

from __future__ import annotations

import importlib
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Load the extension into an IPython shell, as ``%load_ext bridge`` does."""
    importlib.import_module("bridge.ext.ipython").load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Put back in an IPython shell what the extension has changed, as ``%unload_ext bridge`` does."""
    importlib.import_module("bridge.ext.ipython").unload_ipython_extension(shell)
