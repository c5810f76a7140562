"""Views: what ``blocking()`` returns for a function, a class, an instance and a module.

- ``factory`` decides which object gets which view, and how a view calls, waits and returns.
- ``functions``, ``classes`` and ``objects`` have the views; the last one those of instances and modules.
- ``signatures`` has what ``help()`` shows of a function's view.
- ``inspection`` says what an object is; ``detect`` whether there is something async in it.

All views that are reached from one another share a factory. Where code of the object's runs: a coroutine is made in the
caller's thread; everything else that may touch the reactor runs on the loop's, in a task; comparing, hashing and
printing stay in the caller's thread, for a set of views must not cost a crossing a look. Nothing in these modules
imports asyncio or Twisted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..strategies.interface import Strategy
    from .caller import ViewOwner


class View:
    """A sync view of something: the base of all views. Its ``__wrapped__`` is the original."""

    __slots__ = ()


_view_type: Any = View  # type checkers find no __wrapped__ in a View


def original(x: Any) -> Any:
    """Return what x is a view of; x itself if it is none."""
    return x.__wrapped__ if isinstance(x, _view_type) else x


def originals(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments for the original: views among them are replaced by what they are views of."""
    return tuple([original(each) for each in args]), {name: original(each) for name, each in kwargs.items()}


def global_name(view: Any) -> str | None:
    """Return the name under which the view can be imported, as that of a decorated function; None if it cannot."""
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

    def items(self, iterable: Any) -> Any:
        """Return the items of an async iterable."""
        ...

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, view: Any = None) -> Any:
        """Call a function in a task on the loop, wait for what it returns, and return that for the user."""
        ...

    def construct(self, cls: type, args: Any, kwargs: Any) -> Any:
        """Make an instance in a task on the loop, and return its view."""
        ...

    def given(self, value: Any, view: Any = None) -> Any:
        """Return a value that came from the object as its user gets it: as it is, or viewed in turn."""
        ...

    def attribute(self, obj: Any, name: str, view: Any) -> Any:
        """Return an attribute of an instance or a module for the user of its view."""
        ...

    def class_attribute(self, value: Any) -> Any:
        """Return the value of a class's attribute for the user of its view."""
        ...
