"""The names of the written file: each imported object has one, which nothing else in the file has."""

from __future__ import annotations

import ast
import builtins
import functools
import re
import sys
from typing import Any

from .heads import origin
from .source import MISSING, Target, module_of


class Names:
    """Gives names to what the file imports.

    :param taken: names that have a meaning in the file already: of twins, members, parameters and helpers.
    """

    def __init__(self, package: str, taken: set[str]) -> None:
        self._package = package
        self._taken = taken
        self._given: dict[tuple[str, str], str] = {}
        self._typing_only: set[tuple[str, str]] = set()
        self.variables: dict[str, str] = {}  # the assignment of each type variable that the file makes itself

    def use(self, target: Target, annotation: bool = False) -> str:
        """Return the name of an object, which is imported.

        :param annotation: an annotation only: if the library imports it for type checkers only, so does the twin.
        """
        key = self._address(target)
        if annotation and target.typing_only and key not in self._given:
            self._typing_only.add(key)
        elif not (annotation and target.typing_only):
            self._typing_only.discard(key)
        if key not in self._given:
            self._given[key] = self._free(key[1] or key[0].rpartition(".")[2])
        return self._given[key]

    def of(self, module: str, name: str) -> str:
        """Return the name of an object that is imported from a module."""
        return self.use(Target(module, name))

    def builtin(self, name: str) -> str:
        """Return how a builtin is written: ``builtins.list`` where a class of the file has a member ``list``."""
        return f"{self.use(Target('builtins', ''))}.{name}" if name in self._taken else name

    def _free(self, wanted: str) -> str:
        name = wanted
        while name in self._taken or name in self._given.values() or name in self.variables or hasattr(builtins, name):
            name = _other(name)
        return name

    def variable(self, name: str, kind: str, arguments: str) -> str:
        """Return the name of a type variable, which the file makes itself.

        :param kind: the name of ``TypeVar`` or the like.
        :param arguments: those after the name, with a comma in front.
        """
        while True:
            line = f'{name} = {kind}("{name}"{arguments})'
            if self.variables.get(name) == line:
                return name
            if name not in self.variables and name not in self._taken and name not in self._given.values():
                self.variables[name] = line
                return name
            name = _other(name)

    def _address(self, target: Target) -> tuple[str, str]:
        """Return the module that a user would import it from: a public one, if there is one."""
        value = origin(target.value)
        if value is not target.value:  # typing.List
            return value.__module__, value.__qualname__
        if not target.name or target.module.partition(".")[0] != self._package:
            return target.module, target.name
        defined = getattr(value, "__module__", None) if value is not MISSING else None
        if not (isinstance(defined, str) and target.name in module_of(defined).nodes):
            defined = None  # compiled, or made at run time
        homes = [each for each in (defined, target.module) if each is not None]
        for home in homes:
            parts = home.split(".")
            for length in range(1, len(parts) + 1):
                module = ".".join(parts[:length])
                if any(part.startswith("_") for part in parts[:length]) or target.name.startswith("_"):
                    break
                if getattr(sys.modules.get(module), target.name, MISSING) is value and _exports(module, target.name):
                    return module, target.name
        if defined is not None and getattr(sys.modules.get(defined), target.name, MISSING) is value:
            return defined, target.name
        return target.module, target.name

    def imports(self, used: set[str]) -> tuple[list[str], list[str]]:
        """Return the imports of the names that are used, and those for type checkers only, sorted as linters ask."""
        both: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        for (module, name), given in self._given.items():
            if given not in used:
                continue
            found = both[(module, name) in self._typing_only]
            if not name:
                parent, _, last = module.rpartition(".")
                found.setdefault(parent, []).append(last if last == given else f"{last} as {given}")
            else:
                found.setdefault(module, []).append(name if name == given else f"{name} as {given}")
        return _statements(both[0]), _statements(both[1])

    @property
    def uses_private(self) -> bool:
        """Whether a private name or module of the library is imported."""
        parts = [(*module.split("."), name) for module, name in self._given]
        return any(part.startswith("_") for each in parts if each[0] != "__future__" for part in each)


def names_in(code: str) -> set[str]:
    """Return the names that code uses, those in types that are written as strings included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Call):
            arguments = [*node.args, *(each.value for each in node.keywords)]
            texts = [each.value for each in arguments if isinstance(each, ast.Constant)]
            found |= {name for text in texts if isinstance(text, str) for name in re.findall(r"\w+", text)}
    return found


def _other(name: str) -> str:
    """Return another name. Not one with two underscores in front, which a class would mangle."""
    return f"{name}_" if name.startswith("_") else f"_{name}"


def _exports(module: str, name: str) -> bool:
    """Return whether type checkers let others import the name from the module."""
    read = module_of(module)
    if name in read.nodes or name in getattr(read.value, "__all__", ()):
        return True
    return name in read.names and not hasattr(read.value, "__all__") and hasattr(read.value, "__path__")


def _statements(found: dict[str, list[str]]) -> list[str]:
    plain = sorted(found.pop("", []))
    lines = [f"import {each}" for each in plain]

    def order(module: str) -> Any:
        return module.partition(".")[0] not in sys.stdlib_module_names, module

    for module in sorted(found, key=order):
        every = sorted(found[module], key=as_linters_sort)
        plain = [each for each in every if " as " not in each]
        for each in every:
            if " as " in each:
                lines.append(f"from {module} import {each}")
            elif each == plain[0]:
                lines.append(f"from {module} import {', '.join(plain)}")
    lines.sort(key=lambda line: line.split()[1].partition(".")[0] not in sys.stdlib_module_names)
    return lines


def as_linters_sort(name: str) -> Any:
    """Return the key by which linters sort names: constants first, then classes."""
    bare = name.split()[0]
    kind = 0 if bare.isupper() and len(bare) > 1 else 1 if bare[:1].isupper() else 2
    return kind, bare.lower()


@functools.cache
def parsed(text: str) -> ast.expr:
    """Return the tree of an expression; of ``Any`` if it is none."""
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return ast.Name("Any")
