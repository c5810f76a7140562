"""Views of classes."""

from __future__ import annotations

import inspect
from typing import Any

from .._values.outcomes import trim
from .view import Factory, View, global_name, original, originals


class ClassView(View):
    """A sync view of a class. Calling it makes an instance on the loop's thread and returns a view of that."""

    _bridge_factory: Factory
    __wrapped__: type

    def __init__(self, factory: Factory, cls: type) -> None:
        self.__dict__.update(
            {name: getattr(cls, name) for name in ("__module__", "__name__", "__qualname__", "__doc__")}
        )
        self.__dict__.update(_bridge_factory=factory, __wrapped__=cls)

    def __get__(self, instance: Any, owner: type | None = None) -> ClassView:
        # For help(): it shows signature and docstring of objects that have a __get__.
        return self

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = originals(args, kwargs)
        try:
            return self._bridge_factory.construct(self.__wrapped__, args, kwargs)
        except BaseException as error:
            trim(error)
            raise

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__wrapped__, name)
        if name.startswith("__") and name.endswith("__"):
            return value
        return self._bridge_factory.class_attribute(value)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)

    def __dir__(self) -> list[str]:
        return dir(self.__wrapped__)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped__)

    # A class statement may name the view as a base; issubclass() then sees a subclass of the original.
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
        return global_name(self) or (self._bridge_factory.view, (self.__wrapped__,))
