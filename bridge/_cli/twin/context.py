"""What a type is the type of, and where its annotation stands."""

from __future__ import annotations

import ast
import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .source import Scope

Code = Callable[[str], str]  # takes the code of a value, and returns that of the converted one


class Mode(enum.Enum):
    """What a type is the type of."""

    RESULT = "a value of the library's, which becomes one of the twin's"
    PARAMETER = "a value of the caller's, which becomes one of the library's"
    KEEP = "a value that stays as it is"


@dataclass(frozen=True)
class Typed:
    """A type as the twin's file writes it."""

    text: str
    convert: Code | None = None


@dataclass(frozen=True)
class Variable:
    """What a type variable of a base class stands for in the class that is written."""

    node: ast.expr
    context: Context


@dataclass(frozen=True)
class Context:
    """Where an annotation stands, and what is made of its value.

    ``own`` is how the code reaches the twin itself: "self", "cls", or empty in a function.
    """

    scope: Scope
    mode: Mode = Mode.RESULT
    variables: dict[int | str, Variable] = field(default_factory=dict[int | str, "Variable"])
    own: str = ""
    depth: int = 0

    def other(self, **changes: Any) -> Context:
        """Return a copy with changes."""
        return dataclasses.replace(self, **changes)


class Twins(Protocol):
    """Which classes have a twin."""

    def name_of(self, cls: type[Any], mode: Mode) -> str | None:
        """Return the name of a class's twin; None if it has none. A result's class gets one if it is async."""
        ...

    def note_over_twins(self, cls: type[Any]) -> None:
        """Remember that a type variable of the class stands for a class with a twin somewhere."""
        ...

    def is_over_twins(self, cls: type[Any] | None) -> bool:
        """Return whether a type variable of the class stands for a class with a twin somewhere."""
        ...

    def is_own(self, cls: type[Any], context: Context) -> bool:
        """Return whether the class is one that the twin being written may be an instance of."""
        ...


def variables_of(parameters: Any, items: list[ast.expr], context: Context) -> dict[int | str, Variable]:
    """Return what type variables stand for, by identity and by name; Any for those that are given nothing."""
    anything = ast.parse("typing.Any", mode="eval").body
    found: dict[int | str, Variable] = {}
    for index, each in enumerate(parameters):
        if type(each).__name__ == "TypeVarTuple":  # it takes any number, also none
            break
        found[id(each)] = found[each.__name__] = Variable(items[index] if index < len(items) else anything, context)
    return found


def type_arguments(node: ast.expr) -> list[ast.expr]:
    """Return what stands in the brackets of a type; nothing if it has none."""
    if not isinstance(node, ast.Subscript):
        return []
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
