"""blocking(), iterate() and enter(): sync views of async objects.

:class:`Facade` is a base class of ``Bridge``. The plain functions are the methods of another instance of it. So each
signature and each contract stands here once. Other modules implement them, and are imported on first use:

- ``factory`` makes the views. It imports neither asyncio nor Twisted, so a decorator in a user's module costs little.
- ``iterate`` keeps one task on the loop for one iteration, ``enter`` one task for one ``with`` block.

Every wait in them is a ``block_on``. So time-outs, Ctrl-C, the end of the loop and strategies work as they do there.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from .._errors import at
from .._values.numbers import checked_seconds
from .._values.outcomes import trim
from .caller import Caller

if TYPE_CHECKING:
    from ..strategies.interface import Strategy
    from .enter import Entered
    from .iterate import Items

P = ParamSpec("P")
T = TypeVar("T")


class _Omitted:
    def __repr__(self) -> str:
        return "<omitted>"


_OMITTED: Any = _Omitted()
Wrap = bool | type | tuple[type, ...] | Callable[[Any], bool]
Wrapping = Literal[True] | type | tuple[type, ...] | Callable[[Any], bool]
NoWrap = Literal[False] | None


class Blocking(Protocol):
    """What ``blocking(timeout=5)`` returns: ``blocking`` with these options."""

    @overload
    def __call__(self, obj: type[Any], /) -> Any: ...
    @overload
    def __call__(self, obj: Callable[P, Awaitable[T]], /) -> Callable[P, T]: ...
    @overload
    def __call__(self, obj: Callable[P, AsyncIterator[T]], /) -> Callable[P, Items[T]]: ...
    @overload
    def __call__(
        self, obj: Callable[P, AbstractAsyncContextManager[T, Any]], /
    ) -> Callable[P, AbstractContextManager[T, bool | None]]: ...
    @overload
    def __call__(self, obj: Callable[P, T], /) -> Callable[P, T]: ...
    @overload
    def __call__(self, obj: ModuleType, /) -> Any: ...
    @overload
    def __call__(self, obj: AsyncIterator[T], /) -> Items[T]: ...
    @overload
    def __call__(self, obj: object, /) -> Any: ...


class WrappingBlocking(Protocol):
    """What ``blocking(wrap=True)`` returns. Whether a result is viewed depends on the object, so results are Any."""

    @overload
    def __call__(self, obj: type[Any], /) -> Any: ...
    @overload
    def __call__(self, obj: Callable[P, Any], /) -> Callable[P, Any]: ...
    @overload
    def __call__(self, obj: object, /) -> Any: ...


class Facade:
    """The methods that return sync views, on top of ``block_on``."""

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        raise NotImplementedError

    def caller(self) -> Caller:
        """Return the bridge for this thread. An iteration or a ``with`` block makes all its calls on it."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError(
            f"cannot pickle {self!r}, which is a running thread, nor a view that it has made; views that the plain "
            "bridge.blocking() makes can be pickled" + at("cannot-pickle")
        )

    # The most special overload comes first: a class is a callable too, and so is a coroutine function.
    @overload
    def blocking(
        self,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Blocking: ...
    @overload
    def blocking(
        self,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrapping,
    ) -> WrappingBlocking: ...
    @overload
    def blocking(
        self,
        obj: type[Any],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Any: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, Awaitable[T]],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Callable[P, T]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, AsyncIterator[T]],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Callable[P, Items[T]]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, AbstractAsyncContextManager[T, Any]],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Callable[P, AbstractContextManager[T, bool | None]]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, T],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Callable[P, T]: ...
    @overload
    def blocking(
        self,
        obj: ModuleType,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Any: ...
    @overload
    def blocking(
        self,
        obj: AsyncIterator[T],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: NoWrap = None,
    ) -> Items[T]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, Any],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrapping,
    ) -> Callable[P, Any]: ...
    @overload
    def blocking(
        self,
        obj: object,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Any: ...
    def blocking(
        self,
        obj: Any = _OMITTED,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Any:
        """Return a sync view of a function, a class, an instance or a module; or decorate a function with it.

        ::

            page = blocking(treq).get(url)              # a module: its functions, called on the loop's thread
            with blocking(aiohttp.ClientSession, wrap=True)() as session:
                print(session.get(url).text())          # a class: its instances' methods block

            @blocking(timeout=5)
            async def fetch(url): ...                   # a function or method: fetch(url) blocks

        The view of a coroutine function makes the coroutine in the caller's thread and waits for it. Every other
        function or method is called on the loop's thread, sync functions too, since they may touch the reactor. If it
        returns something awaitable, the view waits for that. An async generator becomes an iterator, as by
        :func:`iterate`. An async context manager works in ``with``, an object with ``__aiter__`` in ``for``.

        A view has the attributes of the original. Plain data is read and set in the caller's thread, properties on the
        loop's thread. A method that returns its own object returns the view. A view that is passed as an argument
        reaches the function as the original, ``view.__wrapped__``. Comparing, hashing and printing need no loop.

        A type checker sees the sync signature of functions. Views of classes, instances and modules are ``Any``, since
        Python's types cannot express "each method, but sync"; so are results with ``wrap``. For authors of libraries,
        ``python -m bridge twin`` writes the sync class with its types. The view of a class is a class, for annotations
        too. A class that derives from it is sync, and ``super()`` in it reaches the views of the original's methods.

        :param obj: what to view; left out to decorate with options.
        :param timeout: seconds that each wait of the view may take, in an iteration for each item; None for no limit.
        :param strategy: how to wait; None for the bridge's own strategy.

        With ``wrap`` returned objects are viewed too, also in lists, tuples and dicts. What could be awaited as well as
        entered, such as ``pool.acquire()`` of asyncpg, is entered by the call. The end of a ``with`` block leaves it,
        or the end of the last reference to the returned view and to what came from it.

        :param wrap: which returned objects are viewed too, and which items, attributes and values of ``with``: True for
            objects with something async in them whose class is from the same top-level package as obj; or a class, a
            tuple of classes, or a function that takes the object and returns a bool. None for no object.
        :raises TypeError: obj has nothing async in it, or is a single result, such as a coroutine.
        :raises ValueError: timeout is negative or NaN.
        """
        from .factory import ViewFactory

        try:
            factory = ViewFactory(self, checked_seconds(timeout, "timeout"), strategy, wrap)
            if obj is _OMITTED:
                return factory.decorate
            if isinstance(obj, type):
                return factory.decorate(obj, sys._getframe(1).f_globals.get("__name__"))
            return factory.decorate(obj)
        except (TypeError, ValueError) as error:
            trim(error)
            raise

    def iterate(
        self,
        async_iterable: AsyncIterable[T],
        /,
        *,
        prefetch: int = 0,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
    ) -> Items[T]:
        """Return a sync iterator over an async iterable. As a context manager it closes itself.

        ::

            with iterate(rows(), prefetch=64) as items:
                for row in items: ...

        One task on the loop makes all items, in one context. Context variables that the generator sets are set for the
        caller, and the other way round, at each item. With ``prefetch`` the loop runs ahead, and this happens when the
        caller next has to wait.

        ``close()``, and leaving the ``with`` block, run an async generator's ``finally`` on the loop before they
        return. After that ``next()`` raises ``StopIteration``. An iterator that is dropped is closed too, but nothing
        waits for that.

        Ctrl-C in a wait cancels the item that is being made. This ends a generator, as in async code. Another async
        iterator goes on with the next item. Items that are made already are not lost.

        :param prefetch: how many items the loop may make ahead of the caller; 0 makes each item when ``next()`` asks.
        :param timeout: seconds to wait for one item, or for the generator to close; None to wait for ever.
        :param strategy: how to wait; None for the bridge's own strategy.
        :raises TypeError: it is not an async iterable, or prefetch is not an int.
        :raises ValueError: prefetch or timeout is negative.
        """
        try:
            from . import detect

            detect.check_async_iterable(async_iterable)
            prefetch = detect.checked_count(prefetch, "prefetch")
            seconds = checked_seconds(timeout, "timeout")
        except (TypeError, ValueError) as error:
            trim(error)
            raise
        from .iterate import Items

        return Items(self, async_iterable, prefetch, seconds, strategy)

    def enter(
        self,
        async_context_manager: AbstractAsyncContextManager[T, Any] | Callable[[], AbstractAsyncContextManager[T, Any]],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
    ) -> Entered[T]:
        """Return a sync context manager for one ``with`` statement.

        ::

            with enter(pool.connection()) as connection:
                rows = block_on(connection.fetch(query))
            with enter(lambda: asyncio.timeout(5)): ...

        One task on the loop calls ``__aenter__`` and ``__aexit__``, in one context. ``__aexit__`` gets the exception of
        the block, and may swallow it. Calls that the block makes are tasks of their own, outside of the entered scope.

        A cancellation of that task, by a task group whose child has failed or by ``asyncio.timeout``, cannot interrupt
        the block. ``__aexit__`` runs at once, and its exception is raised when the block ends.

        :param async_context_manager: an async context manager; or a function without arguments that returns one. The
            function is called on the loop's thread, where some context managers have to be made.
        :param timeout: seconds that entering may take, and that leaving may take; None to wait for ever.
        :param strategy: how to wait; None for the bridge's own strategy.
        :raises TypeError: it is not an async context manager.
        :raises BridgeError: by ``with``: it was made on another loop, as ``aiohttp.ClientSession()`` is in a coroutine;
            write ``enter(aiohttp.ClientSession)``.
        :raises ValueError: timeout is negative or NaN.
        """
        try:
            from . import detect

            if not callable(async_context_manager):
                detect.check_async_context_manager(async_context_manager)
            seconds = checked_seconds(timeout, "timeout")
        except (TypeError, ValueError) as error:
            trim(error)
            raise
        from .enter import Entered

        return Entered(self, async_context_manager, seconds, strategy)
