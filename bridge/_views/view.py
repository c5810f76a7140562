"""Views: what ``blocking()`` returns for a function, an instance, a class and a module.

All views that are reached from one another share a :class:`ViewFactory`, which knows how to wait and what to view in
turn. A view of an instance or a module is of a class made for it (:func:`_view_class`) that has the special methods
which the original has and no others, so ``len()``, ``in``, ``for`` and ``with`` work, or fail, as the user expects.

Where code of the object's runs: a coroutine is made in the caller's thread; everything else that may touch the reactor
runs on the loop's, in a task; comparing, hashing and printing stay in the caller's thread, for a set of views must not
cost a crossing a look. Nothing here imports asyncio or Twisted.
"""

from __future__ import annotations

import collections.abc
import contextlib
import copy
import functools
import importlib
import inspect
import sys
import threading
import types
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from .._values.outcomes import trim
from .detect import class_of, has, has_async, is_waited_for, shown, top_level

if TYPE_CHECKING:
    from ..strategies.interface import Strategy
    from .caller import ViewOwner

_WRITE = "blocking() takes a function, or a class, an instance or a module that has something async in it"
_HINT = "; if its functions return Deferreds all the same, view each: blocking(obj.method)"


class ViewFactory:
    """How a view, and what is reached through it, waits, and what it views in turn."""

    __slots__ = ("block_on", "options", "owner", "package", "strategy", "timeout", "wrap")

    def __init__(
        self,
        owner: ViewOwner,
        timeout: float | None,
        strategy: str | Strategy | None,
        wrap: Any,
        package: str | None = None,
    ) -> None:
        if not (wrap is None or isinstance(wrap, bool | tuple) or callable(wrap)):
            raise TypeError(f"wrap is True, a class, a tuple of classes or a function of an object, not {wrap!r}")
        self.owner = owner
        self.timeout = timeout
        self.strategy = strategy
        self.wrap: Any = wrap or None
        self.package = package
        self.block_on = owner.block_on

    # What is viewed.

    def decorate(self, obj: Any) -> Any:
        """Return the view of what a user has passed.

        :raises TypeError: there is nothing async in it.
        """
        if isinstance(obj, View | FunctionView | ClassView):
            obj = original(obj)
        factory = ViewFactory(self.owner, self.timeout, self.strategy, self.wrap, _package_of(obj))
        if class_of(obj) in (classmethod, staticmethod):
            return class_of(obj)(factory.decorate(obj.__func__))
        if isinstance(obj, property):
            fget, fset, fdel = (each and factory.decorate(each) for each in (obj.fget, obj.fset, obj.fdel))
            return property(fget, fset, fdel, obj.__doc__)
        if _is_function(obj):
            if _is_plain_builtin(obj):
                raise TypeError(f"there is nothing async in {_shown(obj)}: call it as it is. {_WRITE}")
            return factory.function(obj)
        if isinstance(obj, types.AsyncGeneratorType):
            return factory.items(obj)
        if is_waited_for(obj) and not isinstance(obj, type) and not has(class_of(obj), "__aenter__"):
            raise TypeError(f"{shown(obj)} is one result, not something to call: write block_on(...). {_WRITE}")
        if not has_async(obj):
            hint = "" if top_level(obj if isinstance(obj, type) else type(obj)) == "builtins" else _HINT
            raise TypeError(f"there is nothing async in {_shown(obj)}: use it as it is. {_WRITE}{hint}")
        return factory.view(obj)

    def view(self, obj: Any) -> Any:
        """Return the view of a class, an instance or a module."""
        if isinstance(obj, type):
            return ClassView(self, obj)
        view = object.__new__(_view_class(class_of(obj)))
        object.__setattr__(view, "_bridge_factory", self)
        object.__setattr__(view, "_bridge_object", obj)
        object.__setattr__(view, "_bridge_entered", [])
        object.__setattr__(view, "_bridge_items", None)
        return view

    def function(self, function: Callable[..., Any], view: View | None = None) -> FunctionView:
        """Return the view of a function.

        :param view: of the object whose method it is.
        """
        if isinstance(function, FunctionView):
            function = function.__wrapped__
        elif isinstance(function, types.MethodType) and isinstance(function.__func__, FunctionView):
            function = types.MethodType(function.__func__.__wrapped__, function.__self__)
        if inspect.iscoroutinefunction(function):
            return CoroutineFunctionView(self, function, view)
        if inspect.isasyncgenfunction(function):
            return GeneratorFunctionView(self, function, view)
        return FunctionView(self, function, view)

    def items(self, iterable: Any) -> Any:
        """Return the items of an async iterable."""
        from .iterate import Items

        convert = None if self.wrap is None else self.given
        return Items[Any](self.owner, iterable, 0, self.timeout, self.strategy, convert)

    # What is done with it.

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, view: View | None = None) -> Any:
        """Call a function in a task on the loop, wait for what it returns, and return that for the user."""
        called: Any = self._called(function, args, kwargs, view)
        called.__qualname__ = getattr(function, "__qualname__", called.__qualname__)  # for messages
        value = self.block_on(called, timeout=self.timeout, strategy=self.strategy)
        if type(value) is _Elsewhere:
            value = self.block_on(value.future, timeout=self.timeout, strategy=self.strategy)
        return self.given(value, view)

    async def _called(self, function: Callable[..., Any], args: Any, kwargs: Any, view: View | None) -> Any:
        # A coroutine, not a callable for block_on, which would be called outside any task: anyio needs one.
        result = function(*args, **kwargs)
        if has(class_of(result), "__await__"):
            get_loop = getattr(result, "get_loop", None)
            if get_loop is not None and get_loop() is not sys.modules["asyncio"].get_running_loop():
                return _Elsewhere(result)
            return await result
        return _Elsewhere(result) if is_waited_for(result) else self._adopted(result, view)

    def construct(self, cls: type, args: Any, kwargs: Any) -> Any:
        """Make an instance in a task on the loop, and return its view."""

        async def constructed() -> tuple[Any]:  # in a tuple: some instances can be awaited, which is not asked for
            return (cls(*args, **kwargs),)

        coroutine: Any = constructed()
        coroutine.__qualname__ = cls.__qualname__
        (instance,) = self.block_on(coroutine, timeout=self.timeout, strategy=self.strategy)
        return self.view(instance)

    def _adopted(self, result: Any, view: View | None) -> Any:
        """Return a view of what nobody can wait for and no sync code can use: an async iterator or context manager."""
        cls = class_of(result)
        if cls is types.AsyncGeneratorType:
            return self.items(result)
        if has(cls, "__await__") or not (has(cls, "__aenter__", "__aexit__") or has(cls, "__anext__")):
            return result
        return result if view is not None and result is view._bridge_object else self.view(result)

    def given(self, value: Any, view: View | None = None) -> Any:
        """Return a value that came from the object as its user gets it: as it is, or viewed in turn."""
        if view is not None and value is view._bridge_object:
            return view
        return self.view(value) if self.wrap is not None and self._wraps(value) else value

    def _wraps(self, value: Any) -> bool:
        wrap, cls = self.wrap, class_of(value)
        if issubclass(cls, View | FunctionView | ClassView | type):
            return False
        if wrap is True:
            return top_level(cls) == self.package and has_async(cls)
        if isinstance(wrap, type | tuple):
            return isinstance(value, wrap)
        assert callable(wrap)
        return bool(wrap(value))

    def attribute(self, obj: Any, name: str, view: View) -> Any:
        """Return an attribute of an instance or a module for the user of its view."""
        if name.startswith("__") and name.endswith("__"):
            return getattr(obj, name)
        if isinstance(obj, types.ModuleType):
            return self._module_attribute(obj, name)
        if _runs_code(obj, name, "__getattr__"):
            value = self.call(getattr, (obj, name), {}, view)
        else:
            value = getattr(obj, name)
        return self.function(value, view) if _is_function(value) else self.given(value, view)

    def _module_attribute(self, module: Any, name: str) -> Any:
        value = getattr(module, name)
        if _is_function(value):
            return self.function(value)
        if isinstance(value, type):
            # Others stay as they are: an 'except' clause takes no view.
            return self.view(value) if has_async(value) else value
        if isinstance(value, types.ModuleType):
            return self.view(value) if top_level(value) == self.package else value
        return self.given(value)

    def reduced(self, obj: Any) -> tuple[Any, ...]:
        """Return what pickle makes the view of obj from."""
        is_module = isinstance(obj, types.ModuleType)
        parts = (self.owner, self.timeout, self.strategy, self.wrap, self.package)
        return _restored, (parts, is_module, obj.__name__ if is_module else obj)


class _Elsewhere:
    """A Future that a coroutine on the loop cannot await: another loop's, or a concurrent one. Or a generator."""

    __slots__ = ("future",)

    def __init__(self, future: Any) -> None:
        self.future = future


def _restored(parts: tuple[Any, ...], is_module: bool, obj: Any) -> Any:
    factory = ViewFactory(*parts)
    if is_module:
        return factory.view(importlib.import_module(obj))
    return factory.function(obj) if _is_function(obj) else factory.view(obj)


def original(x: Any) -> Any:
    """Return what x is a view of; x itself if it is none."""
    if isinstance(x, View):
        return x._bridge_object
    return x.__wrapped__ if isinstance(x, FunctionView | ClassView) else x


def _originals(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple([original(each) for each in args]), {name: original(each) for name, each in kwargs.items()}


class FunctionView:
    """A sync view of a function, which it calls on the loop's thread. In a class body it is a method."""

    # Not __code__ and its like, by which inspect would take this for the coroutine function.
    _FORWARDED = frozenset({"__annotations__", "__type_params__", "__self__", "__func__"})

    def __init__(self, factory: ViewFactory, function: Callable[..., Any], view: View | None) -> None:
        own = self.__dict__
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            try:
                own[name] = getattr(function, name)
            except AttributeError:  # a partial has no name
                pass
        self.__wrapped__ = function
        self._lens = factory
        self._view = view
        self._block_on = factory.block_on
        self._timeout = factory.timeout
        self._strategy = factory.strategy
        self._is_plain = factory.wrap is None and view is None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            if args or kwargs:
                args, kwargs = _originals(args, kwargs)
            return self._lens.call(self.__wrapped__, args, kwargs, self._view)
        except BaseException as error:
            trim(error)
            raise

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        function = self.__wrapped__
        if type(function) is not types.FunctionType:
            # A method that is bound already stays as it is; a builtin does not bind.
            bind = getattr(type(function), "__get__", None)
            if bind is None or bind(function, instance, owner) is function:
                return self
        return types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__" or (
            name not in self._FORWARDED and name.startswith(("__", "_is_coroutine", "_lens", "_view"))
        ):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.__wrapped__, name)

    @property
    def __signature__(self) -> inspect.Signature:
        return _sync_signature(self.__wrapped__)

    def __repr__(self) -> str:
        return f"<blocking view of {self.__wrapped__!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionView) and bool(self.__wrapped__ == other.__wrapped__)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __copy__(self) -> FunctionView:
        return self

    def __deepcopy__(self, memo: Any) -> FunctionView:
        return self

    def __reduce__(self) -> Any:
        return _global_name(self, self.__wrapped__) or self._lens.reduced(self.__wrapped__)


class CoroutineFunctionView(FunctionView):
    """A sync view of a coroutine function. The coroutine is made in the caller's thread."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            if args or kwargs:
                args, kwargs = _originals(args, kwargs)
            coroutine = self.__wrapped__(*args, **kwargs)
            value = self._block_on(coroutine, timeout=self._timeout, strategy=self._strategy)
        except BaseException as error:
            trim(error)
            raise
        return value if self._is_plain else self._lens.given(value, self._view)


class GeneratorFunctionView(FunctionView):
    """A sync view of an async generator function."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _originals(args, kwargs)
        return self._lens.items(self.__wrapped__(*args, **kwargs))


class ClassView:
    """A sync view of a class. Its instances are made on the loop's thread and viewed in turn."""

    _bridge_factory: ViewFactory
    __wrapped__: type

    def __init__(self, factory: ViewFactory, cls: type) -> None:
        self.__dict__.update(
            {name: getattr(cls, name) for name in ("__module__", "__name__", "__qualname__", "__doc__")}
        )
        self.__dict__.update(_bridge_factory=factory, __wrapped__=cls)

    def __get__(self, instance: Any, owner: type | None = None) -> ClassView:
        # Which does nothing, but for help(): it documents what has a __get__ by its signature and docstring.
        return self

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _originals(args, kwargs)
        try:
            return self._bridge_factory.construct(self.__wrapped__, args, kwargs)
        except BaseException as error:
            trim(error)
            raise

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__wrapped__, name)
        if name.startswith("__") and name.endswith("__"):
            return value
        return self._bridge_factory.function(value) if _is_function(value) else self._bridge_factory.given(value)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)

    def __dir__(self) -> list[str]:
        return dir(self.__wrapped__)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped__)

    # A class statement may name the view as a base, and issubclass() take it for a subclass of the original.
    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.__wrapped__,)

    @property
    def __bases__(self) -> tuple[type, ...]:
        return (self.__wrapped__,)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, cls: Any) -> bool:
        return issubclass(original(cls), self.__wrapped__)

    def __repr__(self) -> str:
        return f"<blocking view of {self.__wrapped__!r}>"

    def __eq__(self, other: object) -> bool:
        return bool(self.__wrapped__ == original(other))

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __copy__(self) -> ClassView:
        return self

    def __deepcopy__(self, memo: Any) -> ClassView:
        return self

    def __reduce__(self) -> Any:
        return _global_name(self, self.__wrapped__) or self._bridge_factory.reduced(self.__wrapped__)


class View:
    """A sync view of an instance or a module; the base of the classes that are made for each type."""

    # Every other name is the original's.
    __slots__ = ("__weakref__", "_bridge_entered", "_bridge_factory", "_bridge_items", "_bridge_object")
    _bridge_factory: ViewFactory
    _bridge_object: Any
    _bridge_entered: list[tuple[int, Any]]  # the open 'with' blocks, by thread
    _bridge_items: Any  # that next() takes from

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
        if _runs_code(obj, args[0], f"__{function.__name__}__"):
            self._bridge_factory.call(function, (obj, *args), {})
        else:
            function(obj, *args)

    @property
    def __wrapped__(self) -> Any:
        return self._bridge_object

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # By this isinstance() takes a view for an instance of the original's class.
        return self._bridge_object.__class__

    def __dir__(self) -> list[str]:
        return dir(self._bridge_object)

    def __repr__(self) -> str:
        return f"<blocking view of {self._bridge_object!r}>"

    def __str__(self) -> str:
        obj = self._bridge_object
        return str(obj) if _has_own(class_of(obj), "__str__") else repr(self)

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
        return self._bridge_factory.reduced(self._bridge_object)


class _Method:
    """A method in a view class, so that ``help()`` and editors see it there."""

    def __init__(self, cls: type, name: str) -> None:
        self._cls = weakref.ref(cls)  # the view class lives as long as the class: see _view_classes
        self._name = name

    def __get__(self, view: View | None, owner: type) -> Any:
        if view is not None:
            return view.__getattr__(self._name)
        function = getattr(self._cls(), self._name)

        @functools.wraps(function)
        def shown(*args: Any, **kwargs: Any) -> Any:
            return function(*map(original, args), **kwargs)

        with contextlib.suppress(TypeError, ValueError):
            shown.__signature__ = _sync_signature(function)  # type: ignore[attr-defined]
        return shown


# The special methods that a view class has where the original's class has them.
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

_view_classes: weakref.WeakKeyDictionary[type, type[View]] = weakref.WeakKeyDictionary()


def _view_class(cls: type[Any]) -> type[View]:
    """Return the class of the views of instances of a class."""
    try:
        return _view_classes[cls]
    except KeyError:
        pass
    members: dict[str, Any] = {"__slots__": (), "__doc__": cls.__doc__, "__module__": cls.__module__}
    if issubclass(cls, types.ModuleType):
        members["__doc__"] = property(lambda view: view._bridge_object.__doc__)
    else:
        for name in dir(cls):
            if not name.startswith("_") and _is_function(inspect.getattr_static(cls, name)):
                members[name] = _Method(cls, name)
    # Not getattr(), which would find those of the metaclass too: every class can be called.
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
    made = type(f"blocking({cls.__name__})", (View,), members)
    return _view_classes.setdefault(cls, made)


def _forwarding(name: str) -> Callable[..., Any]:
    def special(self: View, /, *args: Any, **kwargs: Any) -> Any:
        obj = self._bridge_object
        args, kwargs = _originals(args, kwargs)
        try:
            return self._bridge_factory.call(getattr(class_of(obj), name), (obj, *args), kwargs, self)
        except BaseException as error:
            trim(error)
            raise

    special.__name__ = special.__qualname__ = name
    return special


def _comparing(name: str) -> Callable[..., Any]:
    def compare(self: View, other: object) -> Any:
        obj = self._bridge_object
        return getattr(class_of(obj), name)(obj, original(other))

    compare.__name__ = compare.__qualname__ = name
    return compare


def _iter(self: View) -> Any:
    return self._bridge_factory.items(self._bridge_object)


def _sync_iter(self: View) -> Any:
    return iter(self._bridge_object)


def _next(self: View) -> Any:
    items: Any = self._bridge_items
    if items is None:
        items = self._bridge_factory.items(self._bridge_object)
        object.__setattr__(self, "_bridge_items", items)
    return next(items)


def _enter(self: View) -> Any:
    from .enter import Entered

    factory = self._bridge_factory
    convert = functools.partial(factory.given, view=self)
    entered: Entered[Any] = Entered(factory.owner, self._bridge_object, factory.timeout, factory.strategy, convert)
    try:
        value = entered.__enter__()
    except BaseException as error:
        trim(error)
        raise
    self._bridge_entered.append((threading.get_ident(), entered))
    return value


def _exit(
    self: View, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
) -> Any:
    # The innermost 'with' of this thread, as a lock or a pool may be entered in many at once; else of any.
    entered = self._bridge_entered
    if not entered:
        raise RuntimeError(f"{self!r} was not entered; use it in a 'with' statement")
    here = threading.get_ident()
    index = max((at for at, (ident, _) in enumerate(entered) if ident == here), default=len(entered) - 1)
    _, innermost = entered.pop(index)
    try:
        return innermost.__exit__(exc_type, exc, traceback)
    except BaseException as error:
        trim(error)
        raise


# What an object is.


def _shown(x: Any) -> str:
    return repr(x) if isinstance(x, type | types.ModuleType) else f"{shown(x)}, of type {type(x).__name__}"


def _is_function(x: Any) -> bool:
    if isinstance(x, type | types.ModuleType | classmethod | staticmethod | ClassView) or not callable(x):
        return False
    return inspect.isroutine(x) or isinstance(x, functools.partial) or "__wrapped__" in getattr(x, "__dict__", ())


def _is_plain_builtin(function: Any) -> bool:
    if not isinstance(function, types.BuiltinFunctionType | types.MethodWrapperType | types.WrapperDescriptorType):
        return False
    home = getattr(function, "__self__", None)
    return top_level(home if isinstance(home, types.ModuleType) else type(home)) in sys.stdlib_module_names


def _package_of(obj: Any) -> str | None:
    if isinstance(obj, type | types.ModuleType) or _is_function(obj):
        return top_level(obj)
    return top_level(type(obj))


def _runs_code(obj: Any, name: str, hook: str) -> bool:
    """Return whether reading or setting an attribute runs code of the object's: a property's, or the hook's."""
    cls = class_of(obj)
    for base in cls.__mro__:
        if name in vars(base):
            static = vars(base)[name]
            break
    else:
        if name in getattr(obj, "__dict__", ()):
            return hook != "__getattr__" and _has_own(cls, hook)
        return _has_own(cls, hook)
    if isinstance(static, functools.cached_property):
        return name not in getattr(obj, "__dict__", ())
    kind = class_of(static)
    return has(kind, "__get__", "__set__") and kind not in (types.MemberDescriptorType, types.GetSetDescriptorType)


def _has_own(cls: type[Any], hook: str) -> bool:
    return getattr(cls, hook, None) is not getattr(object, hook, None)


def _global_name(view: Any, obj: Any) -> str | None:
    """Return the name under which the view can be imported, as that of a decorated function; None if it cannot."""
    found: Any = sys.modules.get(obj.__module__) if isinstance(getattr(obj, "__module__", None), str) else None
    name = getattr(obj, "__qualname__", "")
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        return None
    return name if found is view else None


# Signatures.

_ASYNC_TO_SYNC: dict[Any, Any] = {
    collections.abc.AsyncIterable: collections.abc.Iterator,
    collections.abc.AsyncIterator: collections.abc.Iterator,
    collections.abc.AsyncGenerator: collections.abc.Iterator,
    contextlib.AbstractAsyncContextManager: contextlib.AbstractContextManager,
}
_RESULT_AT = {"Coroutine": 2, "Awaitable": 0, "Deferred": 0, "Future": 0, "Task": 0}  # among the type's arguments


def _sync_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature with the annotation of what a blocking call returns."""
    signature = inspect.signature(function)
    annotation = signature.return_annotation
    if annotation is signature.empty or inspect.iscoroutinefunction(function):
        return signature
    innermost: Any = inspect.unwrap(function)
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(innermost, "__globals__", {}))
        except Exception:  # imported for type checkers only
            return signature
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin in _ASYNC_TO_SYNC:
        sync = _ASYNC_TO_SYNC[origin]
        if inspect.isasyncgenfunction(innermost) and not inspect.isasyncgenfunction(function):  # asynccontextmanager
            sync = contextlib.AbstractContextManager
        annotation = sync[args[0]] if args else sync
    elif getattr(origin, "__name__", None) in _RESULT_AT:
        index = _RESULT_AT[origin.__name__]
        annotation = args[index] if index < len(args) else Any
    else:
        return signature
    return signature.replace(return_annotation=annotation)
