"""Questions about an object: is it a function, does an attribute run code, which package is it from."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Any

from .detect import class_of, has, short_name, top_level


def described(x: Any) -> str:
    """Return name and type of x, for a message."""
    return repr(x) if isinstance(x, type | types.ModuleType) else f"{short_name(x)}, of type {type(x).__name__}"


def is_function(x: Any) -> bool:
    """Return whether x gets a view of a function: it is a function, a method, a partial or a decorated function."""
    if isinstance(x, type | types.ModuleType | classmethod | staticmethod) or not callable(x):
        return False
    return inspect.isroutine(x) or isinstance(x, functools.partial) or "__wrapped__" in getattr(x, "__dict__", ())


def is_stdlib_builtin(function: Any) -> bool:
    """Return whether a function is a builtin of the standard library. None of these returns anything to wait for."""
    if not isinstance(function, types.BuiltinFunctionType | types.MethodWrapperType | types.WrapperDescriptorType):
        return False
    owner = getattr(function, "__self__", None)
    return top_level(owner if isinstance(owner, types.ModuleType) else type(owner)) in sys.stdlib_module_names


def package_of(obj: Any) -> str | None:
    """Return the top-level package of an object; for an instance, that of its class."""
    if isinstance(obj, type | types.ModuleType) or is_function(obj):
        return top_level(obj)
    return top_level(type(obj))


def runs_code(obj: Any, name: str, hook: str) -> bool:
    """Return whether reading or setting an attribute runs the object's own code.

    :param hook: the special method that would run: ``__getattr__``, ``__setattr__`` or ``__delattr__``.
    """
    cls = class_of(obj)
    for base in cls.__mro__:
        if name in vars(base):
            static = vars(base)[name]
            break
    else:
        if name in getattr(obj, "__dict__", ()):
            return hook != "__getattr__" and has_own(cls, hook)
        return has_own(cls, hook)
    if isinstance(static, functools.cached_property):
        return name not in getattr(obj, "__dict__", ())
    kind = class_of(static)
    return has(kind, "__get__", "__set__") and kind not in (types.MemberDescriptorType, types.GetSetDescriptorType)


def has_own(cls: type[Any], hook: str) -> bool:
    """Return whether a class overrides a special method of ``object``."""
    return getattr(cls, hook, None) is not getattr(object, hook, None)
