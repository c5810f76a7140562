"""The prompt of a terminal's IPython, for the length of a wait that stands inside it.

IPython runs the GUI while it waits for the user (``%gui``), by a loop of the toolkit's that ends as soon as a pipe is
readable. When code behind a button blocks there, the pipe becomes readable all the same, after a key or after some
time-out of the prompt's, and nobody empties it before the button's code has ended. The toolkit would find it readable
again and again, which takes a quarter of a core. So the pipe's number stands for a silent one meanwhile, which loses
nothing: what is written comes out of the real one afterwards. A toolkit that watches by epoll does not notice.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from ..._private import cpython

_MODULE = "prompt_toolkit.eventloop.inputhook"


def find(modules: dict[str, ModuleType] = sys.modules) -> Prompt | None:
    """Return the prompt whose loop runs in this thread, None if there is none."""
    module: Any = modules.get(_MODULE)
    if module is None:
        return None
    selector: Any = getattr(cpython.get_running_loop(), "_selector", None)
    descriptor = getattr(selector, "_r", None) if isinstance(selector, module.InputHookSelector) else None
    return None if descriptor is None else Prompt(descriptor)


class Prompt:
    """Keeps the pipe of one prompt silent. A prompt inside a wait inside a prompt has a pipe of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = self._write_end = -1

    def silence(self) -> None:
        """Put a silent pipe in its place. ``restore()`` has to follow, whatever this raises."""
        read_end, self._write_end = os.pipe()
        try:
            self._kept = os.dup(self._descriptor)
            os.dup2(read_end, self._descriptor, inheritable=False)
        finally:
            os.close(read_end)

    def restore(self) -> None:
        """Put it back; called again, what is left of it."""
        if self._kept != -1:
            os.dup2(self._kept, self._descriptor, inheritable=False)
            kept, self._kept = self._kept, -1
            os.close(kept)
        if self._write_end != -1:
            write_end, self._write_end = self._write_end, -1
            os.close(write_end)
