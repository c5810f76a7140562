"""Objects in lists, tuples and dicts that cross to the loop and back: views on the caller's side, originals on ours."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

from .detect import class_of

_KINDS: tuple[Any, ...] = (dict, list, tuple)
_PLAIN = frozenset({bool, bytes, float, int, str, type(None)})


def converted(value: Any, convert: Callable[[Any], Any], outer: frozenset[int] = frozenset()) -> Any:
    """Return value converted; of a list, a tuple or a dict a new one with each item converted.

    A container in which this changes nothing is returned itself. Other containers are objects like any other.

    :param outer: the ids of the containers that it stands in. One that contains itself is left as it is there.
    """
    cls: Any = class_of(value)
    is_named = bool(issubclass(cls, tuple) and hasattr(cls, "_fields"))  # pyright: ignore[reportUnknownArgumentType]
    if not is_named and cls not in _KINDS:
        return convert(value)
    items: list[Any] = list(value.values() if cls is dict else value)
    if id(value) in outer or _PLAIN.issuperset(map(type, items)):
        return value
    inner = outer | {id(value)}
    made = [converted(each, convert, inner) for each in items]
    if all(map(is_, items, made)):
        return value
    if is_named:
        return value.__class__(*made)
    made_dict: Any = dict(zip(value, made, strict=True)) if cls is dict else None
    return made_dict if cls is dict else made if cls is list else tuple(made)
