"""blocking(), iterate() and enter(): sync views of async objects.

:class:`Facade` is a base class of ``Bridge``, and the plain functions are the methods of one more instance; so each
signature and each contract stands here once. What they return is made elsewhere, and imported when it is needed:

- ``factory`` makes the views. It looks at what an object is and imports neither asyncio nor Twisted, so that a
  decorator in a module of the user's costs next to nothing.
- ``iterate`` and ``enter`` each keep one task on the loop for one iteration and one ``with`` block.

Everything in them that waits is a ``block_on``: so time-outs, Ctrl-C, the loop's death and the strategies are as there.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from .._threads.seconds import checked_seconds
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


class Facade:
    """The verbs that give sync views, on top of ``block_on``."""

    def block_on(self, x: Any, *, timeout: float | None = None, strategy: str | Strategy | None = None) -> Any:
        """Wait for x."""
        raise NotImplementedError

    def caller(self) -> Caller:
        """Return the bridge that serves this thread, for several calls that belong together."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError(
            f"cannot pickle {self!r}, which is a running thread, nor a view that it has made; views that the plain "
            "bridge.blocking() makes can be pickled"
        )

    # The more special comes first: a class is a callable, a coroutine function one that returns an awaitable.
    @overload
    def blocking(
        self,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Blocking: ...
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
        wrap: Wrap | None = None,
    ) -> Callable[P, T]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, AsyncIterator[T]],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Callable[P, Items[T]]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, AbstractAsyncContextManager[T, Any]],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Callable[P, AbstractContextManager[T, bool | None]]: ...
    @overload
    def blocking(
        self,
        obj: Callable[P, T],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Callable[P, T]: ...
    @overload
    def blocking(
        self,
        obj: ModuleType,
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Any: ...
    @overload
    def blocking(
        self,
        obj: AsyncIterator[T],
        /,
        *,
        timeout: float | None = None,
        strategy: str | Strategy | None = None,
        wrap: Wrap | None = None,
    ) -> Items[T]: ...
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

        A coroutine function's coroutine is made in the caller's thread and waited for. Every other function or method
        is called on the loop's thread, sync ones too, for they may touch the reactor; what it returns is waited for if
        it can be. An async generator becomes an iterator, as by :func:`iterate`, an async context manager works in
        ``with``, an object with ``__aiter__`` in ``for``. Attributes of a view are those of the original: plain data is
        read and set in place, properties on the loop's thread. A method that returns its object returns the view.
        Views that are passed as arguments reach the function as the originals. Comparing, hashing and printing need
        no loop. ``view.__wrapped__`` is the original.

        A type checker sees the sync signature of functions; views of classes, instances and modules are ``Any`` to it,
        for Python's types cannot say "each method, but sync".

        :param obj: what to view; left out to decorate with options.
        :param timeout: seconds that each wait of the view may take, an iteration's for one item; None for no limit.
        :param strategy: how to wait, if not in the bridge's own way.
        :param wrap: which returned objects (and items, attributes and what ``with`` gives) are viewed in turn: True for
            those with something async in them whose class comes from the same top-level package as obj's; or a class,
            a tuple of classes, or a function that is given the object and tells. None for none.
        :raises TypeError: there is nothing async in obj, or it is one result already, such as a coroutine.
        :raises ValueError: timeout is negative or NaN.
        """
        from .factory import ViewFactory

        try:
            factory = ViewFactory(self, checked_seconds(timeout, "timeout"), strategy, wrap)
            return factory.decorate if obj is _OMITTED else factory.decorate(obj)
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
        """Return a sync iterator over an async iterable; it is a context manager too, which closes it.

        ::

            with iterate(rows(), prefetch=64) as items:
                for row in items: ...

        The items are made by one task on the loop, in one context: context variables that the generator sets are set
        for the caller and the other way round, at each item. With ``prefetch`` the loop runs ahead, and this happens
        when the caller next has to wait.

        ``close()``, and leaving the ``with``, run an async generator's ``finally`` on the loop before they return. An
        iterator that is dropped is closed too, but not waited for. After that ``next()`` raises ``StopIteration``.
        Ctrl-C in a wait cancels the item that is being made, which ends a generator as it does in async code; other
        async iterators go on with the next item. Items that were made are not lost.

        :param prefetch: how many items the loop may make ahead of what the caller has taken; 0 makes each item when it
            is asked for.
        :param timeout: seconds to wait for one item, or for the generator to close; None to wait for ever.
        :param strategy: how to wait, if not in the bridge's own way.
        :raises TypeError: it is not an async iterable.
        :raises ValueError: prefetch or timeout is negative.
        """
        try:
            from . import detect

            detect.unless_async_iterable(async_iterable)
            prefetch = detect.unless_count(prefetch, "prefetch")
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
        the block, and may swallow it. What cancels that task meanwhile (a task group whose child has failed, an
        ``asyncio.timeout``) cannot interrupt the block: ``__aexit__`` runs at once, and what it raises is raised when
        the block ends. Calls that the block makes are tasks of their own, outside of what was entered.

        :param async_context_manager: one, or a function without arguments that returns one, which is called on the
            loop's thread: some can be made only there, and a reactor may be touched only there.
        :param timeout: seconds that entering may take, and leaving; None to wait for ever.
        :param strategy: how to wait, if not in the bridge's own way.
        :raises TypeError: it is not an async context manager.
        :raises ValueError: timeout is negative or NaN.
        """
        try:
            from . import detect

            if not callable(async_context_manager):
                detect.unless_async_context_manager(async_context_manager)
            seconds = checked_seconds(timeout, "timeout")
        except (TypeError, ValueError) as error:
            trim(error)
            raise
        from .enter import Entered

        return Entered(self, async_context_manager, seconds, strategy)
