"""The generic types that matter to a twin: what is awaited, iterated, entered, and what contains other types."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import types
import typing
from typing import Any

# The index of the type argument that is the result, by the qualified name: these modules need not be loaded.
_AWAITED = {
    "collections.abc.Awaitable": 0,
    "collections.abc.Coroutine": 2,
    "builtins.coroutine": 2,
    "_asyncio.Future": 0,
    "_asyncio.Task": 0,
    "asyncio.futures.Future": 0,
    "asyncio.tasks.Task": 0,
    "concurrent.futures._base.Future": 0,
    "twisted.internet.defer.Deferred": 0,
}
_ITERATED: tuple[Any, ...] = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
    types.AsyncGeneratorType,
)
_ENTERED = {"contextlib.AbstractAsyncContextManager", "contextlib._AsyncGeneratorContextManager"}
# What a container is written as in a comprehension, by its class. A value of the others is not taken apart.
_LISTS: tuple[Any, ...] = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_SETS: tuple[Any, ...] = (set, collections.abc.Set, collections.abc.MutableSet)
_DICTS: tuple[Any, ...] = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ARGUMENTS: dict[Any, int] = {
    **dict.fromkeys((*_LISTS, *_SETS, frozenset, type, collections.deque, collections.Counter), 1),
    **dict.fromkeys((collections.abc.Iterator, collections.abc.Container, collections.abc.Reversible), 1),
    **dict.fromkeys((collections.abc.AsyncIterator, collections.abc.AsyncIterable, collections.abc.Awaitable), 1),
    **dict.fromkeys((collections.abc.KeysView, collections.abc.ValuesView), 1),
    **dict.fromkeys((*_DICTS, collections.OrderedDict, collections.defaultdict, collections.ChainMap), 2),
    **dict.fromkeys((collections.abc.ItemsView, collections.abc.AsyncGenerator), 2),
    **dict.fromkeys((collections.abc.Generator, collections.abc.Coroutine), 3),
}
_FORMS = ("Annotated", "Any", "ClassVar", "Final", "Literal", "NotRequired", "Optional", "Required", "Self", "Union")


def origin(value: Any) -> Any:
    """Return ``list`` for ``typing.List``; the object itself if it is no such alias."""
    if isinstance(value, type) or hasattr(value, "__args__") or not hasattr(value, "__origin__"):
        return value
    return value.__origin__ if getattr(value, "__module__", "") in ("typing", "typing_extensions") else value


def qualified(value: Any) -> str:
    """Return the module and the name of a class."""
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def name_of(value: Any) -> str:
    """Return the name of a class."""
    name: str = value.__name__
    return name


def form(value: Any) -> str:
    """Return the name of a special form of ``typing``, such as ``Optional``; empty for anything else."""
    if value is types.UnionType:
        return "Union"
    for name in _FORMS:
        if value is getattr(typing, name):
            return name
    extensions = getattr(value, "__module__", "") == "typing_extensions" and getattr(value, "_name", None)
    return extensions if extensions in _FORMS else ""


def awaited_at(value: Any) -> int | None:
    """Return which argument of the type is the result of awaiting; None if it is nothing to await."""
    return _AWAITED.get(qualified(origin(value)))


def is_iterated(value: Any) -> bool:
    """Return whether ``async for`` takes it, and it is a type of the standard library."""
    return any(origin(value) is each for each in _ITERATED)


def is_entered(value: Any) -> bool:
    """Return whether ``async with`` takes it, and it is a type of the standard library."""
    return origin(value) is contextlib.AbstractAsyncContextManager or qualified(value) in _ENTERED


def container(value: Any) -> str:
    """Return "list", "set", "frozenset", "dict" or "tuple" for what is rebuilt as that; else empty."""
    of = origin(value)
    for name, kinds in (("list", _LISTS), ("set", _SETS), ("dict", _DICTS)):
        if any(of is each for each in kinds):
            return name
    return "tuple" if of is tuple else "frozenset" if of is frozenset else ""


def number_of_arguments(value: Any) -> int:
    """Return how many type arguments a generic class of the standard library takes; 0 if it is none.

    For ``tuple`` it is -1, which takes any number, and for ``Callable`` -2.
    """
    of = origin(value)
    if of is tuple or of is collections.abc.Callable:
        return -1 if of is tuple else -2
    return _ARGUMENTS.get(of, 0) if isinstance(of, type) else 0


def is_type_variable(value: Any) -> bool:
    """Return whether it is a TypeVar, a ParamSpec or a TypeVarTuple, of whichever module."""
    return type(value).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple")
