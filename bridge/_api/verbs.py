"""map() and call(): many calls at once, and calls from a coroutine on another loop.

:class:`Verbs` is a base class of ``Bridge``, and the plain functions are the methods of another instance, as those of
:class:`~bridge._views.facade.Facade` are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .._values.outcomes import trim
from .._views.facade import Facade
from .documented import INTERNAL, Documented
from .engine import calls_for, load_on_a_loop

if TYPE_CHECKING:
    import concurrent.futures

    from .._runs.run import Owner

T = TypeVar("T")


class Verbs(Facade, metaclass=Documented):
    """The verbs for many calls, and for other loops."""

    def __dir__(self) -> Iterable[str]:
        return sorted(set(super().__dir__()) - INTERNAL)

    def _bridge_here(self) -> Owner:
        """Return the bridge that serves this thread."""
        return cast("Owner", self.caller())

    @overload
    async def call(self, x: Awaitable[T]) -> T: ...
    @overload
    async def call(self, x: concurrent.futures.Future[T]) -> T: ...
    @overload
    async def call(self, x: Callable[[], Awaitable[T]]) -> T: ...
    @overload
    async def call(self, x: Callable[[], concurrent.futures.Future[T]]) -> T: ...
    @overload
    async def call(self, x: Callable[[], T]) -> T: ...
    async def call(self, x: Any) -> Any:
        """Await x on the bridge's loop, in a coroutine on another asyncio loop.

        ::

            page = await bridge.call(lambda: treq.get(url))        # under uvicorn, in a notebook

        That other loop goes on meanwhile, also while the bridge starts. The work sees the caller's context variables;
        what it sets in them stays with it. Each cancellation of the caller cancels the work, and the caller waits for
        its cleanup.

        :param x: as for :meth:`block_on`.
        :raises BaseException: what the awaited code raised, the very object.
        :raises TypeError: x cannot be waited for.
        :raises BridgeError: no asyncio loop runs here, or as for :meth:`submit`.
        :raises BridgeClosed: the bridge is closed, or its loop ended during the call.
        :raises ReactorConflict: as for :meth:`block_on`.
        """
        try:
            await load_on_a_loop(x)
            from .._calls import elsewhere

            return await elsewhere.call(self._bridge_here(), x)
        except BaseException as error:
            trim(error)
            raise

    @overload
    def map(
        self,
        function: Callable[..., Awaitable[T] | concurrent.futures.Future[T]],
        /,
        *iterables: Iterable[Any],
        limit: int = 8,
        ordered: bool = True,
        timeout: float | None = None,
    ) -> Generator[T]: ...
    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        limit: int = 8,
        ordered: bool = True,
        timeout: float | None = None,
    ) -> Generator[T]: ...
    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        limit: int = 8,
        ordered: bool = True,
        timeout: float | None = None,
    ) -> Generator[Any]:
        """Yield the results of ``function`` for the items of the iterables, with some calls at a time on the loop.

        ::

            for page in bridge.map(fetch, urls, limit=20):
                ...

        Like ``Executor.map``, but the calls begin as results are asked for: never more than ``limit`` run. Leaving the
        loop early, by ``break``, an error or Ctrl-C, cancels the calls that were begun and waits for their cleanup,
        ``shutdown_timeout`` seconds at the most; their errors are not logged. ``close()`` does the same.

        :param function: called on the loop's thread with one item of each iterable. It returns a coroutine, a Deferred,
            a Future, or another value.
        :param iterables: read in this thread; the shortest one ends it.
        :param limit: how many calls may run at once.
        :param ordered: True for the order of the items, where results that come early are kept; False for the order in
            which the calls end.
        :param timeout: seconds from the first item on in which all results have to come; None for no limit.
        :raises BaseException: what a call raised, where its result would come; no further calls begin.
        :raises TimeoutError: the time is up.
        :raises TypeError: function cannot be called, something cannot be iterated over, or limit is not an int.
        :raises ValueError: limit is less than 1, or timeout is negative or NaN.
        :raises BridgeClosed: as for :meth:`block_on`.
        :raises DeadlockError: as for :func:`bridge.wait`.
        """
        try:
            calls_for()
            from .._calls import mapping

            return mapping.results(self._bridge_here, *mapping.checked(function, iterables, limit, timeout), ordered)
        except BaseException as error:
            trim(error)
            raise
