"""blocking(): sync views of functions, classes, instances and modules."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import contextvars
import copy
import functools
import inspect
import json
import math
import pickle
import pydoc
import re
import signal
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import anyio
import pytest
from isolated import isolated
from places import PLACES, shown, usable
from told import Told
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed

import bridge as package
from bridge import Bridge, BridgeClosed, blocking

Place = Callable[[Callable[[], Any]], Any]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(params=usable())
def waiting(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    """A bridge whose callers wait by one of the strategies."""
    with Bridge("facade", strategy=request.param, install_reactor=False, shutdown_timeout=30.0) as each:
        yield each


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest) -> Place:
    where: Place = request.param
    return where


@pytest.fixture
def default() -> Iterator[Bridge]:
    """The default bridge, whose thread does not outlive the test."""
    yield package.default_bridge()
    package.default_bridge().close()


def here() -> str:
    return threading.current_thread().name


def interrupt_main_thread_soon() -> None:
    """Press Ctrl-C when the main thread has gone to wait.

    No event tells when it has. A signal that comes just before it goes does not wake it: Python runs the handler when
    the wait ends.
    """
    ident = threading.main_thread().ident or 0
    asyncio.get_running_loop().call_later(0.01, signal.pthread_kill, ident, signal.SIGINT)


async def fetch(number: int, *, name: str = "n") -> str:
    """Fetch a number."""
    await asyncio.sleep(0)
    return f"{name}{number} {here()}"


def deferred(number: int) -> Deferred[str]:
    """Return a Deferred that fires in a while."""
    return succeed(f"{number} {here()}")


@inlineCallbacks
def inline(number: int) -> Any:
    result = yield succeed(number)
    return f"{result} {here()}"


def plain(number: int) -> str:
    return f"{number} {here()}"


async def count(stop: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


@contextlib.asynccontextmanager
async def opened(name: str) -> AsyncIterator[str]:
    yield f"{name} {here()}"


class Client:
    """A client of something."""

    kind = "class attribute"

    class Error(Exception):
        pass

    def __init__(self, name: str = "client", *, size: int = 3) -> None:
        self.name = name
        self.made_in = here()
        self.left: list[Any] = []
        self._size = size
        self._items: dict[Any, Any] = {}

    async def fetch(self, number: int, *, name: str = "n") -> str:
        """Fetch a number."""
        return await fetch(number, name=name)

    def deferred(self, number: int) -> Deferred[str]:
        return succeed(f"{number} {here()}")

    def plain(self, number: int = 0) -> str:
        return f"{number} {here()}"

    async def itself(self) -> Client:
        return self

    def also_itself(self) -> Client:
        return self

    async def child(self) -> Client:
        return Client("child")

    async def is_client(self, other: Any) -> bool:
        return type(other) is Client

    async def numbers(self, stop: int) -> AsyncIterator[int]:
        for number in range(stop):
            yield number

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        yield here()

    @classmethod
    async def made(cls, name: str) -> str:
        return f"{cls.__name__} {name} {here()}"

    @staticmethod
    async def static(name: str) -> str:
        return f"{name} {here()}"

    @property
    def size(self) -> int:
        """The size."""
        self.read_in = here()
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self.set_in = here()
        self._size = size

    @property
    def later(self) -> Deferred[str]:
        return succeed("fired")

    @property
    async def coming(self) -> str:
        return "come"

    @functools.cached_property
    def cached(self) -> str:
        return here()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Client) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, exc_type: Any, exc: Any, traceback: Any) -> bool:
        self.left.append(exc)
        return isinstance(exc, LookupError)

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self._size):
            yield number

    def __len__(self) -> int:
        return self._size

    def __contains__(self, item: object) -> bool:
        return item == "item"

    async def __getitem__(self, key: str) -> str:
        return f"{self._items.get(key)} {here()}"

    def __setitem__(self, key: str, value: Any) -> None:
        self._items[key] = value

    def __delitem__(self, key: str) -> None:
        del self._items[key]

    async def __call__(self, number: int) -> int:
        return number

    def __add__(self, other: Any) -> Any:
        return NotImplemented if not isinstance(other, int) else f"{self.name}+{other}"

    def __radd__(self, other: Any) -> str:
        return f"{other}+{self.name}"

    def __iadd__(self, other: Any) -> Client:
        self.name += str(other)
        return self


class Sync:
    def method(self) -> int:
        return 1


class Proxy:
    """Every method is a remote one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: succeed((name, args))


class Slotted:
    __slots__ = ("value",)

    async def fetch(self) -> Any:
        return self.value


@blocking(timeout=5)
async def decorated(number: int) -> int:
    """Return a number."""
    await asyncio.sleep(0)
    return number


@blocking
class Decorated:
    async def fetch(self) -> str:
        return here()


# --- functions


@pytest.mark.parametrize("function", [fetch, deferred, inline, plain, functools.partial(fetch)])
def test_a_function_s_view_blocks(waiting: Bridge, place: Place, function: Any) -> None:
    view = waiting.blocking(function)
    result = place(lambda: view(3))
    assert result.endswith("3 facade")


def test_arguments_are_handed_on(waiting: Bridge) -> None:
    assert waiting.blocking(fetch)(3, name="x") == "x3 facade"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        waiting.blocking(fetch)()


def test_a_coroutine_is_made_in_the_caller_s_thread(waiting: Bridge) -> None:
    made_in: list[str] = []

    class Function:
        """A coroutine function that says where it was called."""

        async def run(self) -> None:
            pass

    def make(*args: Any) -> Any:
        made_in.append(here())
        return Function().run()

    inspect.markcoroutinefunction(make) if sys.version_info >= (3, 12) else None
    waiting.blocking(make)()
    assert made_in == (["MainThread"] if sys.version_info >= (3, 12) else ["facade"])


def test_a_function_that_returns_a_deferred_may_touch_the_reactor(waiting: Bridge) -> None:
    def later() -> Deferred[str]:
        made: Deferred[str] = Deferred()
        waiting.reactor.callLater(0.001, made.callback, here())
        return made

    assert waiting.blocking(later)() == "facade"


def test_a_sync_function_runs_in_a_task_so_it_may_use_anyio(waiting: Bridge) -> None:
    assert waiting.blocking(lambda: anyio.get_current_task().id)()


def test_futures_that_a_function_returns_are_waited_for(waiting: Bridge) -> None:
    done: Future[str] = Future()
    done.set_result("concurrent")
    assert waiting.blocking(lambda: done)() == "concurrent"
    assert waiting.blocking(lambda: asyncio.ensure_future(fetch(3)))() == "n3 facade"
    with Bridge("other", install_reactor=False) as other:
        elsewhere = other.block_on(lambda: (asyncio.ensure_future(asyncio.sleep(0.01, "other")),))
        assert waiting.blocking(lambda: elsewhere[0])() == "other"


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("kind", ["coroutine", "Deferred", "plain"])
def test_the_very_error_comes_out_with_the_user_s_frames_only(waiting: Bridge, kind: str, suspend: bool) -> None:
    error = LookupError("no such thing")

    async def failing() -> None:
        if suspend:
            await asyncio.sleep(0)
        raise error

    def failed() -> Any:
        if kind == "Deferred":
            return fail(error)
        raise error

    view = waiting.blocking(failing if kind == "coroutine" else failed)
    with pytest.raises(LookupError) as caught:
        view()
    assert caught.value is error
    files = {str(entry.path) for entry in caught.traceback}
    assert files == {__file__}


def test_times_out(waiting: Bridge) -> None:
    @waiting.blocking(timeout=0.01)
    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    @waiting.blocking(timeout=0.01)
    def never() -> Deferred[None]:
        return Deferred()

    with pytest.raises(TimeoutError, match=r"coroutine .*for_ever did not finish within 0.01 seconds"):
        for_ever()
    with pytest.raises(TimeoutError, match=r"coroutine .*never did not finish within 0.01 seconds"):
        never()


def test_ctrl_c_cancels_and_cleans_up(waiting: Bridge) -> None:
    cleaned = threading.Event()

    @waiting.blocking
    async def interrupting() -> None:
        interrupt_main_thread_soon()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with pytest.raises(KeyboardInterrupt):
        interrupting()
    assert cleaned.is_set()


def test_context_variables_go_in_and_come_out(waiting: Bridge, place: Place) -> None:
    @waiting.blocking
    async def swap() -> str:
        seen = variable.get()
        variable.set("from the coroutine")
        return seen

    @waiting.blocking
    def sync_swap() -> str:
        seen = variable.get()
        variable.set("from the function")
        return seen

    def call() -> None:
        token = variable.set("from the caller")
        assert swap() == "from the caller"
        assert sync_swap() == "from the coroutine"
        assert variable.get() == "from the function"
        variable.reset(token)

    place(call)


def test_the_strategy_of_a_view_is_used() -> None:
    with pytest.raises(package.StrategyUnavailable, match="no such"):
        blocking(fetch, strategy="no such")(3)


def test_a_closed_bridge_refuses(waiting: Bridge) -> None:
    view = waiting.blocking(fetch)
    waiting.close()
    with pytest.raises(BridgeClosed):
        view(3)


def test_blocks_on_the_loop_s_own_thread(waiting: Bridge) -> None:
    async def inside() -> Any:
        client = waiting.blocking(Client("x"))
        return waiting.blocking(fetch)(3), client.fetch(4), client.plain(5), list(client.numbers(2))

    assert waiting.block_on(inside()) == ("n3 facade", "n4 facade", "5 facade", [0, 1])


def test_an_async_generator_function_becomes_one_of_iterators(waiting: Bridge, place: Place) -> None:
    view = waiting.blocking(count)
    assert place(lambda: list(view(5))) == [0, 1, 2, 3, 4]
    with view(5) as items:
        assert next(items) == 0


def test_the_timeout_of_a_generator_is_for_each_item(bridge: Bridge) -> None:
    waits: list[float | None] = []
    endless = threading.Event()

    class Noting(Told):
        def waiter(self) -> Any:
            waiter: Any = super().waiter()
            wait = waiter.wait
            waiter.wait = lambda timeout: (waits.append(timeout), wait(timeout))[1]
            return waiter

    @bridge.blocking(timeout=20, strategy=Noting(endless))
    async def slow() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0.001)
            yield number
        endless.set()
        await asyncio.get_running_loop().create_future()

    items = slow()
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert waits == [20.0] * 5
    with pytest.raises(TimeoutError, match="did not come within 20 seconds"):
        next(items)


def test_an_async_context_manager_function_works_in_with(waiting: Bridge, place: Place) -> None:
    def use() -> None:
        with waiting.blocking(opened)("x") as value:
            assert value == "x facade"

    place(use)


def test_a_function_that_returns_an_async_iterator_gives_a_sync_one(waiting: Bridge) -> None:
    class Countdown:
        left = 3

        def __aiter__(self) -> Countdown:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    view = waiting.blocking(Countdown)()
    assert next(view) == 2
    assert list(waiting.blocking(lambda: Countdown())()) == [2, 1, 0]
    assert waiting.blocking(lambda: count(3))().__next__() == 0


# --- decorators


def test_decorates_functions() -> None:
    assert inspect.signature(decorated) == inspect.signature(decorated.__wrapped__)
    assert decorated.__name__ == "decorated"
    assert not inspect.iscoroutinefunction(decorated)
    assert inspect.iscoroutinefunction(decorated.__wrapped__)


@pytest.mark.usefixtures("default")
def test_a_decorated_function_uses_the_default_bridge() -> None:
    assert decorated(3) == 3
    assert Decorated().fetch() == "bridge"


def test_decorates_methods(waiting: Bridge) -> None:
    class Service:
        def __init__(self) -> None:
            self.value = 3

        @waiting.blocking
        async def bare(self, other: int) -> int:
            """Add."""
            return self.value + other

        @waiting.blocking(timeout=5)
        def deferring(self) -> Deferred[int]:
            return succeed(self.value)

        @waiting.blocking
        @classmethod
        async def outer(cls) -> str:
            return cls.__name__

        @classmethod
        @waiting.blocking
        async def inner(cls) -> str:
            return cls.__name__

        @waiting.blocking
        @staticmethod
        async def static(value: int) -> int:
            return value

        @waiting.blocking
        @property
        async def size(self) -> int:
            return self.value

        @waiting.blocking
        async def numbers(self) -> AsyncIterator[int]:
            yield self.value

    service = Service()
    assert service.bare(2) == 5
    assert Service.bare(service, 2) == 5
    assert service.deferring() == 3
    assert service.outer() == Service.outer() == service.inner() == Service.inner() == "Service"
    assert service.static(4) == Service.static(4) == 4
    assert service.size == 3
    assert list(service.numbers()) == [3]
    assert inspect.signature(service.bare).parameters.keys() == {"other"}
    assert service.bare.__doc__ == "Add."
    assert waiting.blocking(service).bare(2) == 5


def test_a_method_that_is_bound_already_stays_so(waiting: Bridge) -> None:
    class Service:
        fetch = waiting.blocking(Client("x").fetch)

    assert Service().fetch(3) == "n3 facade"


# --- instances


@pytest.fixture
def client(waiting: Bridge) -> Any:
    return waiting.blocking(Client("client"))


def test_methods_block(client: Any, place: Place) -> None:
    def call() -> None:
        assert client.fetch(3, name="x") == "x3 facade"
        assert client.deferred(3) == "3 facade"
        assert client.plain(3) == "3 facade"
        assert client.static("s") == "s facade"
        assert client.made("m") == "Client m facade"
        assert list(client.numbers(3)) == [0, 1, 2]
        with client.opened() as where:
            assert where == "facade"

    place(call)


def test_plain_attributes_pass_through(client: Any) -> None:
    assert client.name == "client"
    assert client.kind == "class attribute"
    assert client.Error is Client.Error
    client.name = "other"
    assert client.__wrapped__.name == "other"
    client.extra = 3
    del client.extra
    assert not hasattr(client, "extra")
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = client.missing


def test_properties_are_read_and_set_on_the_loop_s_thread(client: Any) -> None:
    assert client.size == 3
    assert client.read_in == "facade"
    client.size = 5
    assert (client.size, client.set_in) == (5, "facade")
    assert client.cached == "facade"


def test_a_property_that_returns_an_awaitable_is_waited_for(client: Any) -> None:
    assert client.later == "fired"
    assert client.coming == "come"


def test_a_method_that_returns_its_object_returns_the_view(client: Any) -> None:
    assert client.itself() is client
    assert client.also_itself() is client
    with client as entered:
        assert entered is client


def test_a_view_that_is_passed_reaches_the_function_as_the_original(client: Any) -> None:
    assert client.is_client(client)
    assert client.is_client(other=client)


def test_async_iteration_works_in_for(client: Any, place: Place) -> None:
    assert place(lambda: list(client)) == [0, 1, 2]


def test_an_async_context_manager_works_in_with(client: Any) -> None:
    with client:
        raise LookupError  # which it swallows
    with pytest.raises(ValueError, match="goes on"), client:
        raise ValueError("goes on")
    lookup, value = client.left
    assert isinstance(lookup, LookupError)
    assert isinstance(value, ValueError)
    with pytest.raises(RuntimeError, match="was not entered"):
        client.__exit__(None, None, None)


def test_many_threads_enter_one_view(waiting: Bridge) -> None:
    semaphore = waiting.blocking(waiting.block_on(lambda: asyncio.Semaphore(2)))
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(10):
            with semaphore:
                inside.append(1)
                most.append(len(inside))
                waiting.block_on(asyncio.sleep(0))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 40
    assert max(most) <= 2
    assert not semaphore._bridge_entered


def test_operators_work_where_the_object_has_them(client: Any) -> None:
    assert len(client) == 3
    assert "item" in client
    assert "other" not in client
    client["key"] = "value"
    assert client["key"] == "value facade"
    del client["key"]
    assert client["key"] == "None facade"
    assert client(3) == 3
    assert client + 3 == "client+3"
    assert "x" + client == "x+client"
    view = client
    view += 3
    assert view is client
    assert client.name == "client3"
    with pytest.raises(TypeError, match="unsupported operand"):
        client + "x"


def test_operators_fail_where_the_object_lacks_them(waiting: Bridge) -> None:
    class Bare:
        async def fetch(self) -> None:
            pass

    view = waiting.blocking(Bare())
    for use in (len, iter, next, lambda x: x[0], lambda x: 1 in x, lambda x: x(), lambda x: x + 1, lambda x: x < x):
        with pytest.raises(TypeError):
            use(view)
    assert not callable(view)
    assert not isinstance(view, collections.abc.Iterable | collections.abc.Sized)
    with pytest.raises(TypeError), view:
        pass


def test_compares_and_hashes_as_the_original(client: Any) -> None:
    assert client == Client("client")
    assert Client("client") == client
    assert client == blocking(Client("client"))
    assert client != Client("other")
    assert {client: 1}[Client("client")] == 1
    assert client


def test_is_an_instance_of_the_original_s_class(client: Any) -> None:
    assert isinstance(client, Client)
    assert client.__class__ is Client
    assert not isinstance(client, int)
    assert isinstance(client, contextlib.AbstractContextManager)


def help_of(x: object) -> str:
    """Return what help() shows. Up to Python 3.13 it shows annotations that are strings with their quotes."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", pydoc.plain(pydoc.render_doc(x)))


def test_repr_shows_what_it_is_a_view_of(client: Any) -> None:
    assert repr(client) == f"<blocking view of {client.__wrapped__!r}>"
    assert str(client) == repr(client)
    assert repr(blocking(fetch)).startswith("<blocking view of <function fetch")
    assert repr(blocking(Client)) == f"<blocking view of {Client!r}>"
    assert repr(blocking(anyio)).startswith("<blocking view of <module 'anyio'")


def test_dir_and_help_show_the_original_s(client: Any) -> None:
    assert dir(client) == dir(client.__wrapped__)
    text = help_of(client)
    assert "A client of something." in text
    assert "fetch(self, number: int, *, name: str = 'n') -> str" in text
    assert "async fetch" not in text
    assert "Fetch a number." in text


def test_attributes_that_are_made_up_at_run_time_are_methods(waiting: Bridge) -> None:
    view = waiting.blocking(Proxy())
    assert view.anything(3) == ("anything", (3,))
    assert not hasattr(view, "_private")


def test_an_object_with_slots(waiting: Bridge) -> None:
    view = waiting.blocking(Slotted())
    view.value = 3
    assert view.fetch() == 3
    with pytest.raises(AttributeError):
        view.other = 3


def test_an_async_generator_object_becomes_an_iterator(waiting: Bridge) -> None:
    assert list(waiting.blocking(count(3))) == [0, 1, 2]


# --- classes


def test_a_class_makes_views_of_instances_on_the_loop_s_thread(waiting: Bridge, place: Place) -> None:
    view = waiting.blocking(Client)
    client = place(lambda: view("x", size=2))
    assert client.made_in == "facade"
    assert client.fetch(3) == "n3 facade"
    assert list(client) == [0, 1]


def test_a_class_s_methods_and_attributes(waiting: Bridge) -> None:
    view = waiting.blocking(Client)
    assert view.made("x") == "Client x facade"
    assert view.static("x") == "x facade"
    assert view.fetch(view("x"), 3) == "n3 facade"
    assert view.kind == "class attribute"
    assert view.Error is Client.Error
    assert view.__name__ == "Client"
    view.extra = 3
    assert Client.extra == 3  # type: ignore[attr-defined]
    del view.extra
    assert not hasattr(Client, "extra")


def test_instance_and_subclass_checks(waiting: Bridge) -> None:
    view = waiting.blocking(Client)

    class Sub(view):  # type: ignore[misc, valid-type]
        def more(self) -> str:
            return "more"

    assert isinstance(view(), view)
    assert isinstance(view(), Client)
    assert isinstance(Client(), view)
    assert not isinstance(3, view)
    assert issubclass(Client, view)
    assert issubclass(view, view)
    assert not issubclass(int, view)
    assert issubclass(Sub, view)
    assert isinstance(Sub(), view)
    assert isinstance(Sub(), Client)
    assert Sub("x").more() == "more"


def test_an_instance_that_can_be_awaited_is_not(waiting: Bridge) -> None:
    class Pool:
        def __await__(self) -> Any:
            raise AssertionError

        async def __aenter__(self) -> str:
            return "entered"

        async def __aexit__(self, *_: Any) -> None:
            pass

    with waiting.blocking(Pool)() as value:
        assert value == "entered"


def test_help_of_a_class_shows_its_signature() -> None:
    text = help_of(blocking(Client))
    assert "Client(name: str = 'client', *, size: int = 3)" in text
    assert "A client of something." in text


# --- modules


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("some_package", "A module.")
    made.__dict__.update(fetch=fetch, Client=Client, Sync=Sync, deferred=deferred, VERSION="1.0", math=math)
    made.__dict__["sub"] = types.ModuleType("some_package.sub")
    made.__dict__["sub"].__dict__["fetch"] = fetch
    monkeypatch.setitem(sys.modules, "some_package", made)
    return made


def test_a_module_s_attributes_are_viewed(waiting: Bridge, module: types.ModuleType) -> None:
    view = waiting.blocking(module)
    assert view.fetch(3) == "n3 facade"
    assert view.deferred(3) == "3 facade"
    assert view.Client("x").fetch(3) == "n3 facade"
    assert view.sub.fetch(3) == "n3 facade"
    assert view.Sync is Sync
    assert view.math is math
    assert view.VERSION == "1.0"
    assert view.__name__ == "some_package"
    assert isinstance(view, types.ModuleType)
    assert dir(view) == dir(module)
    assert "A module." in pydoc.plain(pydoc.render_doc(view))


@isolated
def test_a_module_of_deferreds() -> None:
    import treq
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from bridge import block_on, blocking, default_bridge

    class Hello(Resource):
        isLeaf = True

        def render_GET(self, request: object) -> bytes:
            return b"hello"

    port = block_on(lambda: reactor.listenTCP(0, Site(Hello()), interface="127.0.0.1"))
    view = blocking(treq)
    response = view.get(f"http://127.0.0.1:{port.getHost().port}/", persistent=False, timeout=10)
    assert view.text_content(response) == "hello"
    block_on(port.stopListening)
    default_bridge().close()


# --- what is viewed in turn


class Connection:
    """Something of the same package as Client, with something async in it."""

    async def fetch(self) -> str:
        return here()


class Maker:
    def __init__(self) -> None:
        self.connection = Connection()
        self.sync = Sync()

    async def connect(self) -> Connection:
        return Connection()

    def connect_sync(self) -> Connection:
        return Connection()

    async def make_sync(self) -> Sync:
        return Sync()

    async def connections(self) -> AsyncIterator[Connection]:
        yield Connection()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        yield Connection()

    async def event(self) -> asyncio.Event:
        return asyncio.Event()


def test_returned_objects_are_as_they_are_unless_asked_for(waiting: Bridge) -> None:
    maker = waiting.blocking(Maker())
    assert type(maker.connect()) is Connection
    assert type(maker.connect_sync()) is Connection
    assert type(maker.connection) is Connection
    assert [type(each) for each in maker.connections()] == [Connection]
    with maker.connected() as connection:
        assert type(connection) is Connection


def test_wrap_views_async_objects_of_the_same_package(waiting: Bridge) -> None:
    maker = waiting.blocking(Maker(), wrap=True)
    assert maker.connect().fetch() == "facade"
    assert maker.connect_sync().fetch() == "facade"
    assert maker.connection.fetch() == "facade"
    assert [each.fetch() for each in maker.connections()] == ["facade"]
    with maker.connected() as connection:
        assert connection.fetch() == "facade"
    assert type(maker.make_sync()) is Sync
    assert type(maker.sync) is Sync
    assert type(maker.event()) is asyncio.Event
    assert waiting.blocking(Maker, wrap=True)().connect().fetch() == "facade"
    assert waiting.blocking(Maker().connect, wrap=True)().fetch() == "facade"


@pytest.mark.parametrize("wrap", [asyncio.Event, (str, asyncio.Event), lambda x: isinstance(x, asyncio.Event)])
def test_wrap_takes_classes_and_a_function(waiting: Bridge, wrap: Any) -> None:
    maker = waiting.blocking(Maker(), wrap=wrap)
    event = maker.event()
    event.set()
    assert event.wait() is True
    assert type(maker.connect()) is Connection


def test_wrap_refuses_anything_else() -> None:
    with pytest.raises(TypeError, match="wrap is True, a class, a tuple"):
        blocking(fetch, wrap=3)  # type: ignore[call-overload]


# --- signatures, pickling and copying


def same(x: Any) -> Any:
    return x


def returns_deferred(number: int) -> Deferred[int]:
    raise NotImplementedError


def returns_awaitable() -> collections.abc.Awaitable[str]:
    raise NotImplementedError


def returns_unknown() -> NotImportedHere:  # type: ignore[name-defined] # noqa: F821
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "returns"),
    [
        (fetch, "str"),
        (plain, "str"),
        (returns_deferred, int),
        (returns_awaitable, str),
        (count, collections.abc.Iterator[int]),
        (opened, contextlib.AbstractContextManager[str]),
        (same, "Any"),
        (returns_unknown, "NotImportedHere"),
    ],
)
def test_the_signature_is_the_original_s_with_what_a_blocking_call_returns(function: Any, returns: Any) -> None:
    signature = inspect.signature(blocking(function))
    assert signature.parameters == inspect.signature(function).parameters
    assert signature.return_annotation == returns


def test_the_signature_of_a_method_lacks_self(client: Any) -> None:
    assert str(inspect.signature(client.fetch)) == "(number: 'int', *, name: 'str' = 'n') -> 'str'"
    assert inspect.signature(blocking(Client)) == inspect.signature(Client)


def test_a_function_s_view_has_its_names_and_docstring() -> None:
    view = blocking(fetch)
    assert view.__wrapped__ is fetch  # type: ignore[attr-defined]
    assert inspect.unwrap(view) is fetch
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(view, name) == getattr(fetch, name)
    assert not inspect.iscoroutinefunction(view)
    assert not inspect.isasyncgenfunction(blocking(count))
    assert "Fetch a number." in help_of(view)
    assert "fetch(number: int, *, name: str = 'n') -> str" in help_of(view)
    with pytest.raises(AttributeError):
        _ = view.__code__
    assert blocking(fetch) == blocking(fetch)
    assert hash(blocking(fetch)) == hash(blocking(fetch))
    assert blocking(fetch) != fetch


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_views_can_be_pickled(protocol: int) -> None:
    def again(x: Any) -> Any:
        return pickle.loads(pickle.dumps(x, protocol))

    assert again(blocking(json.loads, timeout=3)).__wrapped__ is json.loads
    assert again(blocking(anyio)).__wrapped__ is anyio
    assert again(blocking(asyncio.sleep))(0, "slept") == "slept"
    assert again(blocking(asyncio.Lock)).__wrapped__ is asyncio.Lock
    message = again(blocking(asyncio.Queue.get))
    assert message.__wrapped__ is asyncio.Queue.get
    assert again(blocking(asyncio.sleep, timeout=3, strategy="lock"))._timeout == 3


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickle find this module, which pytest imports under a name of its own."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or types.ModuleType(__name__))
    vars(sys.modules[__name__]).update(globals())


@pytest.mark.usefixtures("default", "importable")
def test_views_of_instances_and_decorated_objects_can_be_pickled() -> None:
    view = pickle.loads(pickle.dumps(blocking(Client("x"))))
    assert view.name == "x"
    assert view.fetch(3) == "n3 bridge"
    assert pickle.loads(pickle.dumps(view.fetch))(3) == "n3 bridge"
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert pickle.loads(pickle.dumps(Decorated)) is Decorated


def test_a_view_of_a_bridge_s_own_is_not_pickled_and_says_why(client: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle <Bridge 'facade', running>, .*views that the plain"):
        pickle.dumps(client)


def test_views_can_be_copied(client: Any) -> None:
    client.data = ["x"]
    shallow, deep = copy.copy(client), copy.deepcopy(client)
    assert type(shallow) is type(deep) is type(client)
    assert shallow.__wrapped__ is not client.__wrapped__
    assert shallow.data is client.data
    assert deep.data is not client.data
    assert deep.fetch(3) == "n3 facade"
    assert copy.copy(client.fetch)(3) == copy.deepcopy(client.fetch)(3) == "n3 facade"
    assert copy.copy(blocking(Client)) == copy.deepcopy(blocking(Client)) == blocking(Client)


def test_a_view_of_a_view_is_one_of_the_original(client: Any) -> None:
    assert blocking(client).__wrapped__ is client.__wrapped__
    assert blocking(blocking(fetch)).__wrapped__ is fetch  # type: ignore[attr-defined]
    assert blocking(blocking(Client)).__wrapped__ is Client


# --- bad input


@pytest.mark.parametrize(
    "x", [3, None, "text", [1], {}, object(), Sync(), Sync, int, LookupError, math, json], ids=shown
)
def test_refuses_what_has_nothing_async_in_it(x: Any) -> None:
    with pytest.raises(
        TypeError, match=r"there is nothing async in .*: use it as it is. blocking\(\) takes a function"
    ):
        blocking(x)


@pytest.mark.parametrize("x", [len, "".join, math.sqrt])
def test_refuses_builtin_functions(x: Any) -> None:
    with pytest.raises(TypeError, match=r"there is nothing async in .*: call it as it is"):
        blocking(x)


def test_refuses_what_is_one_result() -> None:
    coroutine = fetch(3)
    for x in (coroutine, Deferred(), Future()):
        with pytest.raises(TypeError, match=r"is one result, .*: write block_on"):
            blocking(x)
    coroutine.close()


def test_refuses_a_timeout_that_is_none() -> None:
    with pytest.raises(ValueError, match="timeout"):
        blocking(fetch, timeout=-1)
    with pytest.raises(TypeError, match="timeout"):
        blocking(fetch, timeout="3")  # type: ignore[call-overload]


class Wrapping:
    """Methods that are seen to return Deferreds by nothing but what they use."""

    def fetch(self) -> Any:
        return succeed(3)


class Hidden:
    def __init__(self) -> None:
        self._client = Client()

    def fetch(self) -> Any:
        return self._client.fetch(3)


@pytest.mark.parametrize("x", [Wrapping, Wrapping(), Hidden(), asyncio.Lock(), anyio, Proxy()], ids=lambda x: type(x))
def test_finds_what_is_async(x: Any) -> None:
    assert blocking(x).__wrapped__ is x


def test_looking_at_a_bridge_s_verbs_starts_nothing() -> None:
    with Bridge("idle", install_reactor=False) as other:
        other.close()
    idle = Bridge("idle", install_reactor=False)
    idle.blocking(Client)
    idle.blocking(fetch)
    idle.iterate(count(3))
    idle.enter(opened("x"))
    assert not idle.running
