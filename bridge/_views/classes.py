"""Views of classes.

A view of a class is a class itself, whose metaclass is :class:`ClassView`: annotations, ``help()``, documentation tools
and class statements take it for what it is. It has no instances of its own: calling it makes an instance of the
original on the loop's thread, and returns a view of that.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import sys
import types
from typing import Any

from .._errors import at
from .._values.outcomes import trim
from .detect import ASYNC_METHODS, class_of
from .signatures import signature_of
from .view import Factory, View, original, originals


class ClassView(View, type):
    """The class of the sync views of classes."""

    _bridge_factory: Factory
    __wrapped__: type

    def __new__(mcls, name: str, bases: tuple[type, ...], body: dict[str, Any], **kwargs: Any) -> Any:
        """Return a view, which has no bases; for a class statement that names a view as a base, a class of its own."""
        if not bases:
            return super().__new__(mcls, name, bases, body)
        from .subclasses import base_of

        every: tuple[Any, ...] = bases
        views = [each for each in every if isinstance(each, ClassView)]
        if len(views) > 1:
            names = " and ".join(repr(each.__wrapped__) for each in views)
            raise TypeError(
                f"a class cannot derive from the views of both {names}: let it have one as an attribute"
                + at("subclass-of-a-view")
            )
        (view,) = views
        base = base_of(view._bridge_factory, view.__wrapped__, view.__name__)
        others = tuple(base if each is view else each for each in every)
        return types.new_class(name, others, kwargs, lambda namespace: namespace.update(body))

    def __call__(cls, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = originals(args, kwargs)
        try:
            return cls._bridge_factory.construct(cls.__wrapped__, args, kwargs)
        except BaseException as error:
            trim(error)
            raise

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            # That of the global that it is assigned to: 'Client = blocking(AsyncClient)' is documented as Client, and
            # not as another name of AsyncClient.
            found = global_of(cls)
            if found is not None:
                return found
        return super().__getattribute__(name)

    def __getattr__(cls, name: str) -> Any:
        value = getattr(cls.__wrapped__, name)
        if name.startswith("__") and name.endswith("__"):
            return value
        return cls._bridge_factory.class_attribute(value)

    def __setattr__(cls, name: str, value: Any) -> None:
        setattr(cls.__wrapped__, name, value)

    def __delattr__(cls, name: str) -> None:
        delattr(cls.__wrapped__, name)

    def __dir__(cls) -> list[str]:
        return [name for name in dir(cls.__wrapped__) if name not in ASYNC_METHODS]

    @property
    def __signature__(cls) -> inspect.Signature:
        return signature_of(cls.__wrapped__)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.__wrapped__)

    def __subclasscheck__(cls, other: Any) -> bool:
        return issubclass(getattr(other, "__wrapped_class__", original(other)), cls.__wrapped__)

    def __repr__(cls) -> str:
        return f"<blocking view of {cls.__wrapped__!r}>"

    def __eq__(cls, other: object) -> bool:
        return bool(cls.__wrapped__ == original(other))

    def __hash__(cls) -> int:
        return hash(cls.__wrapped__)


def class_view(factory: Factory, cls: type[Any], module: str | None = None) -> ClassView:
    """Return the view of a class.

    :param module: the module that asked for it, which may have it as a global.
    """
    body: dict[str, Any] = {
        "__doc__": cls.__doc__,
        "__module__": module or cls.__module__,
        "__qualname__": cls.__qualname__,
        "__wrapped__": cls,
        "_bridge_factory": factory,
    }
    if hasattr(cls, "__class_getitem__"):
        body["__class_getitem__"] = classmethod(types.GenericAlias)
    for name in dir(cls):
        static: Any = inspect.getattr_static(cls, name)
        if name == "__init__" and isinstance(static, types.FunctionType):
            body[name] = _initializer(static)
        elif name.startswith("_") or isinstance(static, type):
            continue
        elif class_of(static) in (property, functools.cached_property):
            body[name] = property(None, doc=static.__doc__)
        elif class_of(static) in (classmethod, staticmethod) or callable(static):
            body[name] = _Member(name)
    view: ClassView = ClassView(cls.__name__, (), body)
    return view


class _Member:
    """A method in the view of a class, so that ``help()`` and documentation tools find it there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: ClassView) -> Any:
        return owner._bridge_factory.class_attribute(getattr(owner.__wrapped__, self._name))


def _initializer(function: Any) -> Any:
    """Return a function that shows how instances are made."""

    @functools.wraps(function)
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        raise TypeError("the view of a class has no instances of its own; call the view" + at("subclass-of-a-view"))

    return __init__


def global_of(view: ClassView) -> str | None:
    """Return the name of the global under which its module has a view; None if it has not."""
    module = sys.modules.get(type.__getattribute__(view, "__module__"))
    return next((name for name, value in list(vars(module).items()) if value is view), None) if module else None


def _reduced(view: ClassView) -> Any:
    return global_of(view) or (view._bridge_factory.view, (view.__wrapped__,))


copyreg.pickle(ClassView, _reduced)  # pickle asks no class for its __reduce__
