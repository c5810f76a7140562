"""ViewFactory: makes the views, and calls, waits and converts results for them."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._errors import at
from .classes import class_view
from .containers import converted
from .detect import class_of, has, has_async, is_waited_for, short_name, top_level
from .functions import CoroutineFunctionView, FunctionView, GeneratorFunctionView
from .inspection import described, is_function, is_stdlib_builtin, package_of, runs_code
from .objects import ObjectView, begin, held_class, view_class
from .view import View, original

if TYPE_CHECKING:
    from ..strategies.interface import Strategy
    from .caller import ViewOwner
    from .enter import Held

_WRITE = "blocking() takes a function, or a class, an instance or a module that has something async in it"
_HINT = "; if its functions return Deferreds all the same, view each: blocking(obj.method)"


class ViewFactory:
    """The options of a view. Every view that is reached through it shares them: how to wait, and what to wrap."""

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
            raise TypeError(
                f"wrap is True, a class, a tuple of classes or a function of an object, not {wrap!r}"
                + at("wrong-value")
            )
        self.owner = owner
        self.timeout = timeout
        self.strategy = strategy
        self.wrap: Any = wrap or None
        self.package = package
        self.block_on = owner.block_on

    # Making views.

    def decorate(self, obj: Any, module: str | None = None) -> Any:
        """Return the view of an object that a user has passed to ``blocking()``.

        :param module: the module that calls ``blocking()``.
        :raises TypeError: it has nothing async in it.
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
            if is_stdlib_builtin(obj):
                raise TypeError(
                    f"there is nothing async in {described(obj)}: call it as it is. {_WRITE}" + at("nothing-async")
                )
            return factory.function(obj)
        if isinstance(obj, types.AsyncGeneratorType):
            return factory.items(obj)
        if is_waited_for(obj) and not isinstance(obj, type) and not has(class_of(obj), "__aenter__"):
            raise TypeError(
                f"{short_name(obj)} is one result, not something to call: write block_on(...). {_WRITE}"
                + at("nothing-async")
            )
        if not has_async(obj):
            hint = "" if top_level(obj if isinstance(obj, type) else type(obj)) == "builtins" else _HINT
            raise TypeError(
                f"there is nothing async in {described(obj)}: use it as it is. {_WRITE}{hint}" + at("nothing-async")
            )
        return class_view(factory, obj, module) if isinstance(obj, type) else factory.view(obj)

    def view(self, obj: Any, source: ObjectView | None = None, held: Held | None = None) -> Any:
        """Return the view of a class, an instance or a module.

        :param source: the view of the object that obj is from.
        :param held: the context manager that was entered for obj.
        """
        if isinstance(obj, type):
            return class_view(self, obj)
        cls: Any = class_of(obj)
        view = object.__new__(view_class(cls) if held is None else held_class(cls))
        object.__setattr__(view, "_bridge_factory", self)
        object.__setattr__(view, "_bridge_object", obj)
        begin(view, source, held)
        return view

    def function(self, function: Callable[..., Any], view: ObjectView | None = None) -> FunctionView:
        """Return the view of a function.

        :param view: the view of the object, for a method of its.
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

    def items(self, iterable: Any, source: ObjectView | None = None) -> Any:
        """Return the items of an async iterable.

        :param source: the view of the object that the iterable is from.
        """
        from .iterate import Items

        convert = None if self.wrap is None else functools.partial(self._viewed, source=source)
        return Items[Any](self.owner, iterable, 0, self.timeout, self.strategy, convert)

    # Calls on behalf of views.

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, view: ObjectView | None = None) -> Any:
        """Call a function in a task on the loop, wait for its result, and return that, viewed if need be."""
        called: Any = self._call_on_loop(function, args, kwargs, view)
        called.__qualname__ = getattr(function, "__qualname__", called.__qualname__)  # for messages
        value = self.block_on(called, timeout=self.timeout, strategy=self.strategy)
        if type(value) is _ForBlockOn:
            value = self.block_on(value.future, timeout=self.timeout, strategy=self.strategy)
        elif type(value) is _ToEnter:
            return self._entered(value.manager, view)
        return self.maybe_view(value, view)

    def _entered(self, manager: Any, view: ObjectView | None) -> Any:
        """Enter what could be awaited too, and return the view of its value, which a ``with`` may leave.

        The view leaves it when it is dropped. A value without anything async in it gets no view, and stays as it is.
        """
        from .enter import Held

        held = Held(self.owner, manager, self.timeout, self.strategy)
        value: Any = held.__enter__()
        is_own = view is not None and value is view._bridge_object
        if not is_own and (self._wraps(value) or has_async(value)):
            return self.view(value, view, held)
        held.detach()
        return self.maybe_view(value, view)

    async def _call_on_loop(self, function: Callable[..., Any], args: Any, kwargs: Any, view: ObjectView | None) -> Any:
        # A coroutine, since block_on would call a callable outside of any task, and anyio needs one.
        result = function(*args, **kwargs)
        cls = class_of(result)
        if has(cls, "__await__"):
            is_own = view is not None and result is view._bridge_object
            if self.wrap is not None and not is_own and has(cls, "__aenter__", "__aexit__"):
                return _ToEnter(result)
            get_loop = getattr(result, "get_loop", None)
            if get_loop is not None and get_loop() is not sys.modules["asyncio"].get_running_loop():
                return _ForBlockOn(result)
            return await result
        return _ForBlockOn(result) if is_waited_for(result) else self._view_if_async(result, view)

    def construct(self, cls: type, args: Any, kwargs: Any) -> Any:
        """Make an instance in a task on the loop, and return its view."""

        async def construct_on_loop() -> tuple[Any]:  # a tuple, so that block_on does not await an awaitable instance
            return (cls(*args, **kwargs),)

        coroutine: Any = construct_on_loop()
        coroutine.__qualname__ = cls.__qualname__
        (instance,) = self.block_on(coroutine, timeout=self.timeout, strategy=self.strategy)
        return self.view(instance)

    def _view_if_async(self, result: Any, view: ObjectView | None) -> Any:
        """Return a view of an async iterator or async context manager, which sync code cannot use; else the result."""
        cls = class_of(result)
        if cls is types.AsyncGeneratorType:
            return self.items(result, view)
        if has(cls, "__await__") or not (has(cls, "__aenter__", "__aexit__") or has(cls, "__anext__")):
            return result
        return result if view is not None and result is view._bridge_object else self.view(result, view)

    def maybe_view(self, value: Any, view: ObjectView | None = None) -> Any:
        """Return a view of a result, an item or an attribute if ``wrap`` asks for one, else the value itself."""
        if view is not None and value is view._bridge_object:
            return view
        return value if self.wrap is None else self._viewed(value, view)

    def _viewed(self, value: Any, source: ObjectView | None) -> Any:
        return converted(value, lambda each: self.view(each, source) if self._wraps(each) else each)

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
        """Return an attribute of an instance or a module, viewed if need be."""
        if name.startswith("__") and name.endswith("__"):
            return getattr(obj, name)
        if isinstance(obj, types.ModuleType):
            return self._module_attribute(obj, name)
        value = self.call(getattr, (obj, name), {}, view) if runs_code(obj, name, "__getattr__") else getattr(obj, name)
        return self.function(value, view) if is_function(value) else self.maybe_view(value, view)

    def class_attribute(self, value: Any) -> Any:
        """Return the value of a class's attribute, viewed if need be."""
        return self.function(value) if is_function(value) else self.maybe_view(value)

    def _module_attribute(self, module: Any, name: str) -> Any:
        value = getattr(module, name)
        if isinstance(value, View):
            return value
        if is_function(value):
            return self.function(value)
        if isinstance(value, type):
            # Other classes are not viewed: an 'except' clause takes no view.
            return self.view(value) if has_async(value) else value
        if isinstance(value, types.ModuleType):
            return self.view(value) if top_level(value) == self.package else value
        return self.maybe_view(value)

    # Pickling.

    def __reduce__(self) -> Any:
        return ViewFactory, (self.owner, self.timeout, self.strategy, self.wrap, self.package)

    def module(self, name: str) -> Any:
        """Return the view of a module, by the name that its view was pickled under."""
        return self.view(importlib.import_module(name))


class _ToEnter:
    """A result that is both awaitable and an async context manager. The caller's thread enters it."""

    __slots__ = ("manager",)

    def __init__(self, manager: Any) -> None:
        self.manager = manager


class _ForBlockOn:
    """A result that ``block_on`` waits for: a coroutine cannot await a Future of another loop, or a concurrent one."""

    __slots__ = ("future",)

    def __init__(self, future: Any) -> None:
        self.future = future
