"""Notice the import of a module: for what need not be imported before somebody else does it.

A finder in ``sys.meta_path`` is asked with the import lock of the whole process held. It must not import anything
itself, nor wait for anything. What is to happen then, happens when the module has been executed: then only the lock of
that one module is held.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast


def add_finder(finder: Any) -> None:
    """Have a finder asked first, in every import from now on."""
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


def remove_finder(finder: Any) -> None:
    """Have a finder asked no longer.

    Not by removing it from the list: another thread that goes through the list just now would miss the next finder, and
    so might not find its module.
    """
    finders = sys.meta_path.copy()
    if finder in finders:
        finders.remove(finder)
        sys.meta_path = finders


class AfterImport:
    """Calls a function in the thread that has just imported a module, once, before anybody can use the module.

    :param name: of the module.
    :param function: must not wait for another thread, which may wait for the module.
    """

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self._name = name
        self._function = function

    def watch(self) -> None:
        """Look out for the import from now on."""
        add_finder(self)

    def stop(self) -> None:
        """Look out no longer."""
        remove_finder(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders return for the module, with a loader of ours; None for every other module."""
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
        """Call the function."""
        self.stop()
        self._function()


class _Loader:
    """Stands for a module's own loader until that has executed the module."""

    def __init__(self, loader: Any, watch: AfterImport) -> None:
        self._own = loader
        self._watch = watch

    def create_module(self, spec: ModuleSpec) -> Any:
        """Leave it to the module's own loader."""
        return self._own.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Execute the module, then say that it is there."""
        module.__spec__.loader = module.__loader__ = self._own
        self._own.exec_module(module)
        self._watch.has_loaded()
