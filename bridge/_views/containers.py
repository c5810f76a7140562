"""Objects in lists, tuples and dicts that cross to the loop and back: views on the caller's side, originals on ours."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

from .detect import class_of

_KINDS: tuple[Any, ...] = (dict, list, tuple)
_PLAIN = frozenset({bool, bytes, float, int, str, type(None)})


def converted(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return value converted; of a list, a tuple or a dict a new one with each item converted.

    A container in which this changes nothing is returned itself, and so is one that is nested too deeply to be looked
    through. Other containers are objects like any other.
    """
    if not _is_container(value):
        return convert(value)
    try:
        return _converted(value, convert, {})
    except RecursionError:
        return value


def _is_container(value: Any) -> bool:
    cls: Any = class_of(value)
    return cls in _KINDS or _is_named(cls)


def _is_named(cls: Any) -> bool:
    return bool(issubclass(cls, tuple) and hasattr(cls, "_fields"))  # pyright: ignore[reportUnknownArgumentType]


def _converted(value: Any, convert: Callable[[Any], Any], made_of: dict[int, Any]) -> Any:
    """Return a container converted.

    :param made_of: what has become of each container, by id. One that contains itself is left as it is there.
    """
    if id(value) in made_of:
        return made_of[id(value)]
    cls: Any = class_of(value)
    made_of[id(value)] = value
    # A dict is copied at once, since code of the loop's may add to it meanwhile.
    before: Any = value.copy() if cls is dict else value
    items: list[Any] = list(before.values() if cls is dict else before)
    if _PLAIN.issuperset(map(type, items)):
        return value
    made = [_converted(each, convert, made_of) if _is_container(each) else convert(each) for each in items]
    if all(map(is_, items, made)):
        return value
    result: Any
    if cls is dict:
        result = dict(zip(before, made, strict=True))
    elif cls is list:
        result = made
    else:
        result = value.__class__(*made) if _is_named(cls) else tuple(made)
    made_of[id(value)] = result
    return result
