"""Views of instances and modules.

:func:`view_class` makes one view class for each class. It has the special methods of the original class and no others.
So ``len()``, ``in``, ``for`` and ``with`` work, or fail, as the user expects.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .._errors import BridgeError, at
from .._values.outcomes import trim
from .detect import class_of, has
from .inspection import has_own, is_function, runs_code
from .signatures import sync_signature
from .view import Factory, View, original, originals

if TYPE_CHECKING:
    from .enter import Held


class ObjectView(View):
    """A sync view of an instance or a module: the base of the classes that :func:`view_class` makes."""

    # All other attributes are read from, and set on, the original.
    __slots__ = (
        "__weakref__", "_bridge_entered", "_bridge_factory", "_bridge_held", "_bridge_items", "_bridge_object",
        "_bridge_source",
    )  # fmt: skip
    _bridge_factory: Factory
    _bridge_object: Any
    _bridge_entered: list[tuple[int, Any]]  # the open 'with' blocks: thread ident and context manager
    _bridge_items: Any  # the iterator behind next()
    _bridge_held: Held | None  # the context manager that was entered for the object, to be left when this is dropped
    _bridge_source: ObjectView | None  # the view that this is from, while that one holds a context manager open

    def __getattr__(self, name: str) -> Any:
        try:
            return self._bridge_factory.attribute(self._bridge_object, name, self)
        except BaseException as error:
            trim(error)
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        self._bridge_assign(setattr, name, original(value))

    def __delattr__(self, name: str) -> None:
        self._bridge_assign(delattr, name)

    def _bridge_assign(self, function: Callable[..., Any], *args: Any) -> None:
        obj = self._bridge_object
        if runs_code(obj, args[0], f"__{function.__name__}__"):
            self._bridge_factory.call(function, (obj, *args), {})
        else:
            function(obj, *args)

    @property
    def __wrapped__(self) -> Any:
        return self._bridge_object

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # isinstance() then takes the view for an instance of the original's class.
        return self._bridge_object.__class__

    def __dir__(self) -> list[str]:
        return dir(self._bridge_object)

    def __repr__(self) -> str:
        return f"<blocking view of {self._bridge_object!r}>"

    def __str__(self) -> str:
        obj = self._bridge_object
        return str(obj) if has_own(class_of(obj), "__str__") else repr(self)

    def __format__(self, spec: str) -> str:
        return format(self._bridge_object, spec)

    def __bool__(self) -> bool:
        return bool(self._bridge_object)

    def __eq__(self, other: object) -> Any:
        return self._bridge_object == original(other)

    def __ne__(self, other: object) -> Any:
        return self._bridge_object != original(other)

    def __hash__(self) -> int:
        return hash(self._bridge_object)

    def __copy__(self) -> Any:
        return self._bridge_factory.view(copy.copy(self._bridge_object))

    def __deepcopy__(self, memo: Any) -> Any:
        return self._bridge_factory.view(copy.deepcopy(self._bridge_object, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        factory, obj = self._bridge_factory, self._bridge_object
        if isinstance(obj, types.ModuleType):
            return factory.module, (obj.__name__,)
        return factory.view, (obj,)


def begin(view: ObjectView, source: ObjectView | None = None, held: Held | None = None) -> None:
    """Set the attributes of a new view other than its object and its factory.

    :param source: the view of the object that this one's is from.
    :param held: the context manager that was entered for the object.
    """
    keeps = source is not None and (source._bridge_held is not None or source._bridge_source is not None)
    object.__setattr__(view, "_bridge_entered", [])
    object.__setattr__(view, "_bridge_items", None)
    object.__setattr__(view, "_bridge_held", held)
    object.__setattr__(view, "_bridge_source", source if keeps else None)


class _Method:
    """A method in a view class, so that ``help()`` and editors see it there."""

    def __init__(self, cls: type, name: str) -> None:
        self._cls = weakref.ref(cls)  # weak, since _view_classes maps this class to ours
        self._name = name

    def __get__(self, view: ObjectView | None, owner: type) -> Any:
        if view is not None:
            return view.__getattr__(self._name)
        function = getattr(self._cls(), self._name)

        @functools.wraps(function)
        def shown(*args: Any, **kwargs: Any) -> Any:
            return function(*map(original, args), **kwargs)

        with contextlib.suppress(TypeError, ValueError):
            shown.__signature__ = sync_signature(function)  # type: ignore[attr-defined]
        return shown


# The special methods that a view class takes over from the original's class.
_COMPARED = ("__lt__", "__le__", "__gt__", "__ge__")
_FORWARDED = (
    *("__call__", "__len__", "__length_hint__", "__contains__", "__getitem__", "__setitem__", "__delitem__"),
    *("__reversed__", "__neg__", "__pos__", "__abs__", "__invert__", "__round__", "__trunc__", "__floor__", "__ceil__"),
    *("__int__", "__float__", "__complex__", "__index__", "__bytes__", "__fspath__"),
    *(
        f"__{prefix}{name}__"
        for prefix in ("", "r", "i")
        for name in (
            *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
            *("lshift", "rshift", "and", "xor", "or"),
        )
    ),
)

_view_classes: weakref.WeakKeyDictionary[type, type[ObjectView]] = weakref.WeakKeyDictionary()


def view_class(cls: type[Any]) -> type[ObjectView]:
    """Return the class for views of a class's instances; make it if it is new."""
    try:
        return _view_classes[cls]
    except KeyError:
        pass
    members: dict[str, Any] = {"__slots__": (), "__doc__": cls.__doc__, "__module__": cls.__module__}
    if issubclass(cls, types.ModuleType):
        members["__doc__"] = property(lambda view: view._bridge_object.__doc__)
    else:
        for name in dir(cls):
            if not name.startswith("_") and is_function(inspect.getattr_static(cls, name)):
                members[name] = _Method(cls, name)
    # Not getattr(), which also looks in the metaclass: every class has __call__ there.
    defined = {name for base in cls.__mro__[:-1] for name in vars(base) if has(cls, name)}
    members |= {name: _forwarding(name) for name in _FORWARDED if name in defined}
    members |= {name: _comparing(name) for name in _COMPARED if name in defined}
    if has(cls, "__aiter__"):
        members["__iter__"] = _iter
    elif has(cls, "__iter__"):
        members["__iter__"] = _sync_iter
    if has(cls, "__anext__"):
        members["__next__"] = _next
    elif has(cls, "__next__"):
        members["__next__"] = _forwarding("__next__")
    if has(cls, "__aenter__", "__aexit__"):
        members |= {"__enter__": _enter, "__exit__": _exit}
    elif has(cls, "__enter__", "__exit__"):
        members |= {name: _forwarding(name) for name in ("__enter__", "__exit__")}
    made = type(f"blocking({cls.__name__})", (ObjectView,), members)
    return _view_classes.setdefault(cls, made)


def _forwarding(name: str) -> Callable[..., Any]:
    def special(self: ObjectView, /, *args: Any, **kwargs: Any) -> Any:
        obj = self._bridge_object
        args, kwargs = originals(args, kwargs)
        try:
            return self._bridge_factory.call(getattr(class_of(obj), name), (obj, *args), kwargs, self)
        except BaseException as error:
            trim(error)
            raise

    special.__name__ = special.__qualname__ = name
    return special


def _comparing(name: str) -> Callable[..., Any]:
    def compare(self: ObjectView, other: object) -> Any:
        obj = self._bridge_object
        return getattr(class_of(obj), name)(obj, original(other))

    compare.__name__ = compare.__qualname__ = name
    return compare


def _iter(self: ObjectView) -> Any:
    return self._bridge_factory.items(self._bridge_object, self)


def _sync_iter(self: ObjectView) -> Any:
    return iter(self._bridge_object)


def _next(self: ObjectView) -> Any:
    items: Any = self._bridge_items
    if items is None:
        items = self._bridge_factory.items(self._bridge_object, self._bridge_source)
        object.__setattr__(self, "_bridge_items", items)
    return next(items)


def _enter(self: ObjectView) -> Any:
    from .enter import Entered

    factory = self._bridge_factory
    convert = functools.partial(factory.maybe_view, view=self)
    entered: Entered[Any] = Entered(factory.owner, self._bridge_object, factory.timeout, factory.strategy, convert)
    try:
        value = entered.__enter__()
    except BaseException as error:
        trim(error)
        raise
    self._bridge_entered.append((threading.get_ident(), entered))
    return value


@functools.cache
def held_class(cls: type[Any]) -> type[ObjectView]:
    """Return the class for views of instances that a context manager was entered for. They work in ``with``."""
    view = view_class(cls)
    members: dict[str, Any] = {"__slots__": (), "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(view.__name__, (view,), members | {"__enter__": _enter_held, "__exit__": _exit})


def _enter_held(self: ObjectView) -> Any:
    held = self._bridge_held
    if held is not None:
        object.__setattr__(self, "_bridge_held", None)
        self._bridge_entered.append((threading.get_ident(), held))
        return self
    if has(class_of(self._bridge_object), "__aenter__", "__aexit__"):
        return _enter(self)
    raise BridgeError(
        f"{self!r} was left before, and serves one 'with' statement only; call the function again"
        + at("one-with-statement")
    )


def _exit(
    self: ObjectView, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
) -> Any:
    # Leave the innermost 'with' block of this thread: several threads may have entered a lock or a pool. If this
    # thread has none, leave the last one of any thread.
    entered = self._bridge_entered
    if not entered:
        raise RuntimeError(f"{self!r} was not entered; use it in a 'with' statement" + at("one-with-statement"))
    here = threading.get_ident()
    index = max((number for number, (ident, _) in enumerate(entered) if ident == here), default=len(entered) - 1)
    _, innermost = entered.pop(index)
    try:
        return innermost.__exit__(exc_type, exc, traceback)
    except BaseException as error:
        trim(error)
        raise
