"""Detect whether an object has something async in it, without calling it.

A class or function is async if it has an async protocol, is a coroutine or async generator function, or is annotated to
return something awaitable. A function that returns a Deferred is often not annotated. So a function also counts as
async if its code uses Twisted, asyncio or anyio, directly or by way of a few calls.

``blocking()`` refuses a class, an instance or a module without anything async. It takes every single function.

Nothing here imports asyncio or Twisted.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
import sys
import weakref
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from .._errors import at

_LIBRARIES = frozenset({"anyio", "asyncio", "concurrent", "trio", "twisted"})
_PROTOCOLS = ("__aenter__", "__aiter__", "__anext__", "__await__")
ASYNC_METHODS = frozenset({*_PROTOCOLS, "__aexit__"})
_ANNOTATION = re.compile(r"\b(Async\w+|Awaitable|Coroutine|Deferred|Future)\b")
# Where the wrappers of the standard library keep the function.
_INNER: dict[type[Any], tuple[str, ...]] = {
    **dict.fromkeys((classmethod, staticmethod, MethodType), ("__func__",)),
    **dict.fromkeys((functools.partial, functools.partialmethod, functools.cached_property), ("func",)),
    property: ("fget",),
}
_DEPTH = 3  # how far calls from function to function are followed

_async_classes: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def class_of(x: object) -> type[Any]:
    """Return type(x), as ``type[Any]``: pyright calls the result of type(x) partly unknown."""
    return type(x)


def has(cls: type[Any], *names: str) -> bool:
    """Return whether instances of the class have these special methods."""
    return all(getattr(cls, name, None) is not None for name in names)


def is_waited_for(x: object) -> bool:
    """Return whether ``block_on(x)`` waits for x itself. If not, it would call x."""
    futures = sys.modules.get("concurrent.futures")
    if futures is not None and isinstance(x, futures.Future):
        return True
    return has(class_of(x), "__await__") or inspect.isawaitable(x)


def loop_of(x: Any) -> Any:
    """Return the asyncio loop that an object keeps as its own; None if there is none, or it is not known.

    A lock of asyncio's keeps the loop on which somebody has waited for it, and works on another all the same.
    """
    asyncio = sys.modules.get("asyncio")
    if top_level(class_of(x)) == "asyncio":
        return None
    for name in ("_loop", "loop"):
        loop = getattr(x, "__dict__", {}).get(name)
        if asyncio is not None and isinstance(loop, asyncio.AbstractEventLoop):
            return loop
    return None


def top_level(x: Any) -> str | None:
    """Return the top-level package of a class, a function or a module; None if unknown."""
    name = x.__name__ if isinstance(x, ModuleType) else getattr(x, "__module__", None)
    return name.partition(".")[0] if isinstance(name, str) else None


def has_async(x: Any) -> bool:
    """Return whether a class, a module or an instance has something async in it."""
    if isinstance(x, type):
        return _class_has_async(x) or _has_dynamic_attributes(x)
    if isinstance(x, ModuleType):
        return any(_is_async_member(value) for value in list(vars(x).values()))
    if _class_has_async(class_of(x)) or _has_dynamic_attributes(class_of(x)):
        return True
    members = getattr(x, "__dict__", {}).values()
    return any(is_async_function(member) or _class_has_async(class_of(member)) for member in list(members))


def _has_dynamic_attributes(cls: type) -> bool:
    """Return whether instances make up attributes at run time. Those may be async, as in a proxy of a remote object."""
    return hasattr(cls, "__getattr__")


def _is_async_member(value: Any) -> bool:
    return _class_has_async(value) if isinstance(value, type) else is_async_function(value)


def _class_has_async(cls: type) -> bool:
    try:
        return _async_classes[cls]
    except KeyError:
        found = not issubclass(cls, BaseException) and any(map(_base_has_async, cls.__mro__))
        _async_classes[cls] = found
        return found


def _base_has_async(cls: type) -> bool:
    if top_level(cls) in _LIBRARIES:
        return not issubclass(cls, BaseException)
    members = vars(cls)
    if any(name in members for name in _PROTOCOLS):
        return True
    return any(is_async_function(value) for value in list(members.values()))


def is_async_function(function: Any, depth: int = _DEPTH) -> bool:
    """Return whether a function is async, by its kind, its annotation, or the libraries that its code uses."""
    for each in _unwrapped(function):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            return True
        if not isinstance(each, FunctionType):
            continue
        returns = return_annotation(each)
        if returns is not None and _ANNOTATION.search(returns if isinstance(returns, str) else repr(returns)):
            return True
        for used in _used_by(each):
            if (used.partition(".")[0] if isinstance(used, str) else top_level(used)) in _LIBRARIES:
                return True
            if depth and isinstance(used, FunctionType) and is_async_function(used, depth - 1):
                return True
    return False


def return_annotation(function: Any) -> Any:
    """Return what a function is annotated to return; its text if it names something that is not there; else None."""
    try:
        return function.__annotations__.get("return")
    except Exception:  # from Python 3.14 on annotations are evaluated when they are asked for
        if sys.version_info >= (3, 14):
            from annotationlib import Format, get_annotations

            return get_annotations(function, format=Format.STRING).get("return")
        return None


def _unwrapped(function: Any) -> Iterator[Any]:
    """Yield a function, then each function that it wraps."""
    for _ in range(20):  # a limit, should the chain of wrappers be a circle
        yield function
        members: dict[str, Any] = getattr(function, "__dict__", {})
        for name in _INNER.get(class_of(function), ()):
            function = getattr(function, name)
            break
        else:
            if "__wrapped__" not in members:
                return
            function = members["__wrapped__"]


def _used_by(function: FunctionType) -> Iterator[Any]:
    """Yield the values of globals and closure variables that a function uses, and the names of modules it imports."""
    namespace = function.__globals__
    todo: list[CodeType] = [function.__code__]
    while todo:
        code = todo.pop()
        for name in code.co_names:
            if name in namespace:
                if not isinstance(namespace[name], str):
                    yield namespace[name]
            elif "." in name or name in _LIBRARIES:
                yield name
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not set yet
            pass


# Checks of arguments.


def checked_count(value: Any, name: str) -> int:
    """Return the value as an int.

    :raises TypeError: it is not an integer.
    :raises ValueError: it is negative.
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a number of items, an int, not {value!r}" + at("wrong-value")) from None
    if count < 0:
        raise ValueError(f"{name} is a number of items, 0 or more, not {value!r}" + at("wrong-value"))
    return count


def check_async_iterable(x: Any) -> None:
    """Raise TypeError unless ``async for`` takes x; the message says what to write."""
    if has(class_of(x), "__aiter__"):
        return
    name = short_name(x)
    if is_waited_for(x):
        raise TypeError(
            f"cannot iterate over {name}: it has to be waited for first; write iterate(block_on(...))"
            + at("cannot-iterate-or-enter")
        )
    if isinstance(x, type) or inspect.isroutine(x):
        raise TypeError(
            f"cannot iterate over {name}: call it, write iterate({x.__name__}(...))" + at("cannot-iterate-or-enter")
        )
    if has(class_of(x), "__iter__") or has(class_of(x), "__getitem__"):
        raise TypeError(
            f"{name} is not an async iterable; write 'for item in ...': a plain 'for' works already"
            + at("cannot-iterate-or-enter")
        )
    raise TypeError(
        f"cannot iterate over {name}: iterate takes what 'async for' takes, an object with __aiter__"
        + at("cannot-iterate-or-enter")
    )


def check_async_context_manager(x: Any) -> None:
    """Raise TypeError unless ``async with`` takes x; the message says what to write."""
    if has(class_of(x), "__aenter__", "__aexit__"):
        return
    name = short_name(x)
    if is_waited_for(x):
        raise TypeError(
            f"cannot enter {name}: it has to be waited for first; write enter(block_on(...))"
            + at("cannot-iterate-or-enter")
        )
    if has(class_of(x), "__enter__"):
        raise TypeError(
            f"{name} is not an async context manager; write 'with ...': a plain 'with' works already"
            + at("cannot-iterate-or-enter")
        )
    raise TypeError(
        f"cannot enter {name}: enter takes what 'async with' takes: it has __aenter__ and __aexit__"
        + at("cannot-iterate-or-enter")
    )


def short_name(x: Any) -> str:
    """Return a short name of x for a message."""
    name = getattr(x, "__qualname__", None)
    if isinstance(name, str):
        return f"{type(x).__name__} {name}"
    text = repr(x)
    return text if len(text) <= 80 else f"{text[:77]}..."
