"""What an object is: a function, or something whose attributes run code; which package it is from."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Any

from .classes import ClassView
from .detect import class_of, has, shown, top_level


def described(x: Any) -> str:
    """Return the name and the type of x for a message."""
    return repr(x) if isinstance(x, type | types.ModuleType) else f"{shown(x)}, of type {type(x).__name__}"


def is_function(x: Any) -> bool:
    """Return whether x becomes a view of a function: functions, methods, partials, and decorated ones of any class."""
    if isinstance(x, type | types.ModuleType | classmethod | staticmethod | ClassView) or not callable(x):
        return False
    return inspect.isroutine(x) or isinstance(x, functools.partial) or "__wrapped__" in getattr(x, "__dict__", ())


def is_plain_builtin(function: Any) -> bool:
    """Return whether a function is one of Python's own in C, which return nothing to wait for."""
    if not isinstance(function, types.BuiltinFunctionType | types.MethodWrapperType | types.WrapperDescriptorType):
        return False
    home = getattr(function, "__self__", None)
    return top_level(home if isinstance(home, types.ModuleType) else type(home)) in sys.stdlib_module_names


def package_of(obj: Any) -> str | None:
    """Return the name of the top-level package that an object comes from, an instance from that of its class."""
    if isinstance(obj, type | types.ModuleType) or is_function(obj):
        return top_level(obj)
    return top_level(type(obj))


def runs_code(obj: Any, name: str, hook: str) -> bool:
    """Return whether reading or setting an attribute runs code of the object's: a property's, or the hook's."""
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
    """Return whether a class has a special method of its own, not that of ``object``."""
    return getattr(cls, hook, None) is not getattr(object, hook, None)
