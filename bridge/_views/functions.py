"""Views of functions: sync functions, coroutine functions and async generator functions."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from .._values.outcomes import trim
from .detect import class_of
from .signatures import sync_signature
from .view import Factory, View, global_name, originals


class FunctionView(View):
    """A sync view of a function. It calls the function on the loop's thread. In a class body it acts as a method."""

    # Not __code__ and the like: with these, inspect would take the view for a coroutine function.
    _FORWARDED = frozenset({"__type_params__", "__self__", "__func__"})

    def __init__(self, factory: Factory, function: Callable[..., Any], view: Any) -> None:
        own = self.__dict__
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            try:
                own[name] = getattr(function, name)
            except AttributeError:  # a partial has no name
                pass
        self.__wrapped__ = function
        self._bridge_factory = factory
        self._view = view
        self._block_on = factory.block_on
        self._timeout = factory.timeout
        self._strategy = factory.strategy
        self._returns_unchanged = factory.wrap is None and view is None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            if args or kwargs:
                args, kwargs = originals(args, kwargs)
            return self._bridge_factory.call(self.__wrapped__, args, kwargs, self._view)
        except BaseException as error:
            trim(error)
            raise

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        function = self.__wrapped__
        if type(function) is not types.FunctionType:
            # A bound method stays bound to its object; a builtin does not bind.
            bind = getattr(class_of(function), "__get__", None)
            if bind is None or bind(function, instance, owner) is function:
                return self
        return types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__" or (
            name not in self._FORWARDED and name.startswith(("__", "_is_coroutine", "_bridge", "_view"))
        ):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.__wrapped__, name)

    # Not by __getattr__: help() makes Python store empty annotations in each base class. Those would be found first.
    @functools.cached_property
    def __annotations__(self) -> Any:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride]
        return self.__wrapped__.__annotations__

    @property
    def __signature__(self) -> inspect.Signature:
        return sync_signature(self.__wrapped__)

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
        return global_name(self) or (self._bridge_factory.function, (self.__wrapped__,))


class CoroutineFunctionView(FunctionView):
    """A sync view of a coroutine function. The coroutine is made in the caller's thread."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            if args or kwargs:
                args, kwargs = originals(args, kwargs)
            coroutine = self.__wrapped__(*args, **kwargs)
            value = self._block_on(coroutine, timeout=self._timeout, strategy=self._strategy)
        except BaseException as error:
            trim(error)
            raise
        return value if self._returns_unchanged else self._bridge_factory.maybe_view(value, self._view)


class GeneratorFunctionView(FunctionView):
    """A sync view of an async generator function."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = originals(args, kwargs)
        return self._bridge_factory.items(self.__wrapped__(*args, **kwargs), self._view)
