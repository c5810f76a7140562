"""Flask: its views block, or are ``async def`` on one loop, by the hook ``async_to_sync``, under a threaded server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from pages import Pages, pages

from bridge import Bridge

flask = pytest.importorskip("flask")

from flask import current_app, g, request, stream_with_context  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

pytestmark = [
    *(pytest.mark.process, pytest.mark.any_python),
    # From 3.15 on, of Flask itself.
    pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"),
]

THREADS = 8


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge("flask", install_reactor=False) as each:
        yield each


@pytest.fixture(scope="module")
def service() -> Iterator[Pages]:
    with pages() as each:
        yield each


class Meeting:
    """Lets nobody go on before so many have come: calls that wait for each other are on one loop, at one time."""

    def __init__(self) -> None:
        self.come = 0
        self.all_there = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the others."""
        self.come += 1
        if self.come == THREADS:
            self.all_there.set()
        await self.all_there.wait()


@pytest.fixture(scope="module")
def server(bridge: Bridge, service: Pages) -> Iterator[Any]:
    """The address of the application, the application, and a client of the tests' own."""

    class Application(flask.Flask):
        def async_to_sync(self, func: Any) -> Any:
            return bridge.blocking(func)

    app = Application(__name__)
    app.loops = set()
    app.torn_down = []
    variable: ContextVar[str] = ContextVar("variable")
    limits = httpx.Limits(max_connections=4)
    client = bridge.block_on(lambda: httpx.AsyncClient(base_url=service.url, limits=limits))
    meeting = Meeting()

    @app.before_request
    async def before() -> None:
        await asyncio.sleep(0)
        g.user = request.headers["X-User"]
        variable.set(g.user)

    @app.after_request
    async def after(response: Any) -> Any:
        await asyncio.sleep(0)
        response.headers["X-User"] = f"{g.user} {variable.get()}"
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        await asyncio.sleep(0)
        app.torn_down.append((g.user, error))

    @app.get("/sync/<page>")
    def sync(page: str) -> str:
        text = bridge.block_on(client.get(page), timeout=20).text
        return f"{text} for {g.user} {request.path} {variable.get()}"

    @app.get("/async/<page>")
    async def asynchronous(page: str) -> Any:
        app.loops.add(asyncio.get_running_loop())
        text = (await client.get(page)).text
        return f"{text} for {g.user} {request.path} {variable.get()}", 201

    @app.get("/below/<page>")
    async def below(page: str) -> str:
        return sync(page)  # which blocks on the loop's own thread

    @app.get("/meet")
    async def meet() -> str:
        await meeting.wait()
        return "met"

    @app.get("/stream")
    def stream() -> Any:
        async def numbers() -> Any:
            for number in range(5):
                await asyncio.sleep(0.001)
                yield f"{g.user}{number} "

        return stream_with_context(bridge.iterate(numbers()))

    @app.get("/fails")
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError(current_app.name)

    @app.errorhandler(LookupError)
    async def looked_up(error: LookupError) -> Any:
        await asyncio.sleep(0)
        return f"{error} {g.user}", 404

    listening = make_server("127.0.0.1", 0, app, threaded=True)
    listening.RequestHandlerClass.log_request = lambda *more: None
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        with httpx.Client() as browser:
            yield f"http://127.0.0.1:{listening.server_port}", app, browser
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
        bridge.block_on(client.aclose)


def _get(server: Any, path: str, user: str) -> Any:
    return server[2].get(server[0] + path, headers={"X-User": user}, timeout=30)


@pytest.mark.parametrize("kind", ["sync", "async", "below"])
def test_views_share_one_client(kind: str, server: Any, service: Pages) -> None:
    before = service.connections

    def one(number: int) -> None:
        answer = _get(server, f"/{kind}/page{number}", f"user{number}")
        expected = f"GET /page{number} for user{number} /{kind}/page{number} user{number}"
        assert (answer.status_code, answer.text) == (201 if kind == "async" else 200, expected)
        assert answer.headers["X-User"] == f"user{number} user{number}"

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(60)))
    assert service.connections - before <= 4
    assert len(server[1].loops) <= 1


def test_views_of_many_requests_are_on_the_loop_at_once(server: Any) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda number: _get(server, "/meet", "ann").text, range(THREADS)))
    assert answers == ["met"] * THREADS


def test_a_stream(server: Any) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda number: _get(server, "/stream", f"u{number}-").text, range(THREADS)))
    assert answers == ["".join(f"u{each}-{number} " for number in range(5)) for each in range(THREADS)]


def test_errors_go_to_the_handlers(server: Any) -> None:
    server[1].torn_down.clear()
    answer = _get(server, "/fails", "ann")
    assert (answer.status_code, answer.text) == (404, f"{__name__} ann")
    assert _get(server, "/async/a", "bob").status_code == 201
    assert server[1].torn_down == [("ann", None), ("bob", None)]
