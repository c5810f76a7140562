"""Views: what ``blocking()`` returns for a function, a class, an instance and a module.

- ``factory`` makes the views, and calls, waits and converts results for them.
- ``functions`` and ``classes`` have the views of these; ``objects`` has the views of instances and modules.
- ``signatures`` makes the signatures that ``help()`` shows of a function's view.
- ``inspection`` tells what an object is; ``detect`` whether it has something async in it.

All views that are reached from one another share a factory.

Code of the original runs in one of two threads. Coroutines are made in the caller's thread. Everything else that may
touch the reactor runs on the loop's thread, in a task. Comparing, hashing and printing stay in the caller's thread, so
that a look-up in a set of views does not cross to the loop. These modules import neither asyncio nor Twisted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .containers import converted

if TYPE_CHECKING:
    from ..strategies.interface import Strategy
    from .caller import ViewOwner


class View:
    """The base class of all sync views. ``__wrapped__`` is the original."""

    __slots__ = ()


_view_type: Any = View  # View declares no __wrapped__ for type checkers


def original(x: Any) -> Any:
    """Return the original of a view; x itself if it is not a view."""
    return x.__wrapped__ if isinstance(x, _view_type) else x


def originals(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with each view replaced by its original, in lists, tuples and dicts too."""
    args = tuple([converted(each, original) for each in args])
    return args, {name: converted(each, original) for name, each in kwargs.items()}


def global_name(view: Any) -> str | None:
    """Return the name by which the view can be imported, such as that of a decorated function; None if it cannot."""
    obj = view.__wrapped__
    found: Any = sys.modules.get(obj.__module__) if isinstance(getattr(obj, "__module__", None), str) else None
    name = getattr(obj, "__qualname__", "")
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        return None
    return name if found is view else None


class Factory(Protocol):
    """What views need of their factory."""

    block_on: Callable[..., Any]
    owner: ViewOwner
    strategy: str | Strategy | None
    timeout: float | None
    wrap: Any

    def view(self, obj: Any) -> Any:
        """Return the view of a class, an instance or a module."""
        ...

    def module(self, name: str) -> Any:
        """Return the view of a module."""
        ...

    def function(self, function: Callable[..., Any], view: Any = None) -> Any:
        """Return the view of a function."""
        ...

    def items(self, iterable: Any, source: Any = None) -> Any:
        """Return the items of an async iterable.

        :param source: the view of the object that the iterable is from.
        """
        ...

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, view: Any = None) -> Any:
        """Call a function in a task on the loop, wait for its result, and return that, viewed if need be."""
        ...

    def construct(self, cls: type, args: Any, kwargs: Any) -> Any:
        """Make an instance in a task on the loop, and return its view."""
        ...

    def maybe_view(self, value: Any, view: Any = None) -> Any:
        """Return a view of a result, an item or an attribute if ``wrap`` asks for one, else the value itself.

        Of a list, a tuple or a dict return one with views in it.
        """
        ...

    def attribute(self, obj: Any, name: str, view: Any) -> Any:
        """Return an attribute of an instance or a module, viewed if need be."""
        ...

    def class_attribute(self, value: Any) -> Any:
        """Return the value of a class's attribute, viewed if need be."""
        ...
