"""ViewFactory: which object gets which view, and how a view calls, waits and returns."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .classes import ClassView
from .detect import class_of, has, has_async, is_waited_for, shown, top_level
from .functions import CoroutineFunctionView, FunctionView, GeneratorFunctionView
from .inspection import described, is_function, is_plain_builtin, package_of, runs_code
from .objects import ObjectView, view_class
from .view import View, original

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
        if isinstance(obj, View):
            obj = original(obj)
        factory = ViewFactory(self.owner, self.timeout, self.strategy, self.wrap, package_of(obj))
        if class_of(obj) in (classmethod, staticmethod):
            return class_of(obj)(factory.decorate(obj.__func__))
        if isinstance(obj, property):
            fget, fset, fdel = (each and factory.decorate(each) for each in (obj.fget, obj.fset, obj.fdel))
            return property(fget, fset, fdel, obj.__doc__)
        if is_function(obj):
            if is_plain_builtin(obj):
                raise TypeError(f"there is nothing async in {described(obj)}: call it as it is. {_WRITE}")
            return factory.function(obj)
        if isinstance(obj, types.AsyncGeneratorType):
            return factory.items(obj)
        if is_waited_for(obj) and not isinstance(obj, type) and not has(class_of(obj), "__aenter__"):
            raise TypeError(f"{shown(obj)} is one result, not something to call: write block_on(...). {_WRITE}")
        if not has_async(obj):
            hint = "" if top_level(obj if isinstance(obj, type) else type(obj)) == "builtins" else _HINT
            raise TypeError(f"there is nothing async in {described(obj)}: use it as it is. {_WRITE}{hint}")
        return factory.view(obj)

    def view(self, obj: Any) -> Any:
        """Return the view of a class, an instance or a module."""
        if isinstance(obj, type):
            return ClassView(self, obj)
        view = object.__new__(view_class(class_of(obj)))
        object.__setattr__(view, "_bridge_factory", self)
        object.__setattr__(view, "_bridge_object", obj)
        object.__setattr__(view, "_bridge_entered", [])
        object.__setattr__(view, "_bridge_items", None)
        return view

    def function(self, function: Callable[..., Any], view: ObjectView | None = None) -> FunctionView:
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

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, view: ObjectView | None = None) -> Any:
        """Call a function in a task on the loop, wait for what it returns, and return that for the user."""
        called: Any = self._called(function, args, kwargs, view)
        called.__qualname__ = getattr(function, "__qualname__", called.__qualname__)  # for messages
        value = self.block_on(called, timeout=self.timeout, strategy=self.strategy)
        if type(value) is _Elsewhere:
            value = self.block_on(value.future, timeout=self.timeout, strategy=self.strategy)
        return self.given(value, view)

    async def _called(self, function: Callable[..., Any], args: Any, kwargs: Any, view: ObjectView | None) -> Any:
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

    def _adopted(self, result: Any, view: ObjectView | None) -> Any:
        """Return a view of what nobody can wait for and no sync code can use: an async iterator or context manager."""
        cls = class_of(result)
        if cls is types.AsyncGeneratorType:
            return self.items(result)
        if has(cls, "__await__") or not (has(cls, "__aenter__", "__aexit__") or has(cls, "__anext__")):
            return result
        return result if view is not None and result is view._bridge_object else self.view(result)

    def given(self, value: Any, view: ObjectView | None = None) -> Any:
        """Return a value that came from the object as its user gets it: as it is, or viewed in turn."""
        if view is not None and value is view._bridge_object:
            return view
        return self.view(value) if self.wrap is not None and self._wraps(value) else value

    def _wraps(self, value: Any) -> bool:
        wrap, cls = self.wrap, class_of(value)
        if issubclass(cls, View | type):
            return False
        if wrap is True:
            return top_level(cls) == self.package and has_async(cls)
        if isinstance(wrap, type | tuple):
            return isinstance(value, wrap)
        assert callable(wrap)
        return bool(wrap(value))

    def attribute(self, obj: Any, name: str, view: ObjectView) -> Any:
        """Return an attribute of an instance or a module for the user of its view."""
        if name.startswith("__") and name.endswith("__"):
            return getattr(obj, name)
        if isinstance(obj, types.ModuleType):
            return self._module_attribute(obj, name)
        value = self.call(getattr, (obj, name), {}, view) if runs_code(obj, name, "__getattr__") else getattr(obj, name)
        return self.function(value, view) if is_function(value) else self.given(value, view)

    def class_attribute(self, value: Any) -> Any:
        """Return the value of a class's attribute for the user of its view."""
        return self.function(value) if is_function(value) else self.given(value)

    def _module_attribute(self, module: Any, name: str) -> Any:
        value = getattr(module, name)
        if is_function(value):
            return self.function(value)
        if isinstance(value, type):
            # Others stay as they are: an 'except' clause takes no view.
            return self.view(value) if has_async(value) else value
        if isinstance(value, types.ModuleType):
            return self.view(value) if top_level(value) == self.package else value
        return self.given(value)

    # Pickling.

    def __reduce__(self) -> Any:
        return ViewFactory, (self.owner, self.timeout, self.strategy, self.wrap, self.package)

    def module(self, name: str) -> Any:
        """Return the view of a module; of one that was pickled, by its name."""
        return self.view(importlib.import_module(name))


class _Elsewhere:
    """A Future that a coroutine on the loop cannot await: another loop's, or a concurrent one. Or a generator."""

    __slots__ = ("future",)

    def __init__(self, future: Any) -> None:
        self.future = future
