"""The class that a class statement derives from where it names a view of a class.

``class Mine(blocking(AsyncClient))`` is a sync class: its methods are called in the caller's thread with a sync self,
``super()`` reaches the views of the original's methods, and an instance makes its original on the loop's thread.
"""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

from .._errors import at
from .detect import class_of, has
from .objects import ObjectView, begin, view_class
from .view import Factory, original, originals

_INSTANCE = {"_bridge_object", "_bridge_entered", "_bridge_items", "_bridge_held", "_bridge_source"}


class SubclassedView(ObjectView):
    """What an instance of such a class has besides a view's own: ``__init__``, and attributes of its class."""

    __slots__ = ()
    __wrapped_class__: type[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made: Any = object.__new__(cls)
        begin(made)
        return made

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        args, kwargs = originals(args, kwargs)
        factory, cls = self._bridge_factory, self.__wrapped_class__
        object.__setattr__(self, "_bridge_object", original(factory.construct(cls, args, kwargs)))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise TypeError(
                    f"{cls.__name__}.{name} is async, but {cls.__name__} derives from a sync view, so its self is sync;"
                    f" derive from {cls.__wrapped_class__.__name__} itself, and view that: blocking({cls.__name__})"
                    + at("subclass-of-a-view")
                )

    def __getattr__(self, name: str) -> Any:
        if name in _INSTANCE:
            raise AttributeError(
                f"{type(self).__name__} is not made yet: call super().__init__(...) first" + at("subclass-of-a-view")
            )
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = inspect.getattr_static(type(self), name, None)
        if own is not None and has(class_of(own), "__set__"):  # a property of the subclass
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, a blocking view of {self._bridge_object!r}>"

    def __copy__(self) -> Any:
        return restored(type(self), copy.copy(self._bridge_object))

    def __deepcopy__(self, memo: Any) -> Any:
        return restored(type(self), copy.deepcopy(self._bridge_object, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return restored, (type(self), self._bridge_object)


def restored(cls: type[Any], obj: Any) -> Any:
    """Return an instance of a subclass over an object that is made already."""
    made: Any = SubclassedView.__new__(cls)
    object.__setattr__(made, "_bridge_object", obj)
    return made


def base_of(factory: Factory, cls: type[Any], name: str) -> type[Any]:
    """Return the class that subclasses of the view of a class derive from.

    :param name: the view's.
    """
    view = view_class(cls)
    body: dict[str, Any] = {
        "__slots__": (),
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__wrapped_class__": cls,
        "_bridge_factory": factory,
    }
    for each in dir(cls):
        static = inspect.getattr_static(cls, each)
        if isinstance(static, property | functools.cached_property) and not each.startswith("_"):
            body[each] = _property(each, static.__doc__)
    return type(name, (SubclassedView, view), body)


def _property(name: str, doc: str | None) -> property:
    """Return a property of the original's, for ``super()`` and for those of the subclass that override it."""

    def read(self: Any) -> Any:
        return ObjectView.__getattr__(self, name)

    def write(self: Any, value: Any) -> None:
        ObjectView.__setattr__(self, name, value)

    return property(read, write, doc=doc)
