"""Call a function when a module has been imported, without importing the module.

A finder in ``sys.meta_path`` is called with the import lock of the whole process held. It must neither import anything
nor wait. So the function is called later, when the module has been executed: then only the lock of that module is held.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast


def add_finder(finder: Any) -> None:
    """Put a finder at the head of ``sys.meta_path``."""
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


def remove_finder(finder: Any) -> None:
    """Take a finder out of ``sys.meta_path``.

    The list is replaced, not changed. A thread that iterates over the list at this moment would miss the next finder,
    and so might not find its module.
    """
    finders = sys.meta_path.copy()
    if finder in finders:
        finders.remove(finder)
        sys.meta_path = finders


def replace_finders(standing: list[Any], wanted: list[Any]) -> None:
    """Put some finders at the head of ``sys.meta_path`` in the place of others, which stand there most likely."""
    finders = sys.meta_path
    if finders[: len(standing)] == standing:
        others = finders[len(standing) :]
    else:
        others = [each for each in finders if each not in standing and each not in wanted]
    sys.meta_path = wanted + others


class AfterImport:
    """Calls a function once, in the thread that imports a module, after its execution and before its first use.

    :param name: of the module.
    :param function: must not wait for another thread, which may wait for the module.
    """

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self._name = name
        self._function = function

    def watch(self) -> None:
        """Begin to watch for the import."""
        add_finder(self)

    def stop(self) -> None:
        """Stop watching for the import."""
        remove_finder(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec as the other finders find it, with our loader in it. None for any other module."""
        if fullname != self._name:
            return None
        for finder in list(sys.meta_path):
            find: Any = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast(Any, _Loader(spec.loader, self))
                return spec
        return None

    def has_loaded(self) -> None:
        """Stop watching and call the function."""
        self.stop()
        self._function()


class _Loader:
    """Wraps a module's own loader until the module has been executed."""

    def __init__(self, loader: Any, watch: AfterImport) -> None:
        self._own = loader
        self._watch = watch

    def create_module(self, spec: ModuleSpec) -> Any:
        """Call the module's own loader."""
        return self._own.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Execute the module, then tell the watch."""
        module.__spec__.loader = module.__loader__ = self._own
        self._own.exec_module(module)
        self._watch.has_loaded()
