"""Spans of OpenTelemetry and the context of structlog across calls, by the packages themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bridge import Bridge, in_thread

opentelemetry = pytest.importorskip("opentelemetry.sdk.trace")
structlog = pytest.importorskip("structlog")

from opentelemetry import baggage, context, trace  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars  # noqa: E402
from structlog.testing import capture_logs  # noqa: E402

pytestmark = pytest.mark.any_python

spans = InMemorySpanExporter()
provider = opentelemetry.TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
tracer = provider.get_tracer(__name__)
log = structlog.get_logger()


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    spans.clear()
    clear_contextvars()
    with Bridge("test", install_reactor=False) as each:
        yield each
    clear_contextvars()


def in_the_thread(bridge: Bridge, view: Callable[[], Any]) -> Any:
    return view()


def in_another_thread(bridge: Bridge, view: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(view).result()


def in_a_task(bridge: Bridge, view: Callable[[], Any]) -> Any:
    async def task() -> Any:
        return view()

    return bridge.block_on(task(), timeout=20)


def in_a_worker(bridge: Bridge, view: Callable[[], Any]) -> Any:
    return bridge.block_on(lambda: in_thread(view), timeout=20)


PLACES = [in_the_thread, in_another_thread, in_a_task, in_a_worker]
places = pytest.mark.parametrize("place", PLACES, ids=lambda each: each.__name__)


@contextlib.contextmanager
def span(name: str) -> Iterator[trace.Span]:
    with tracer.start_as_current_span(name) as each:
        yield each
        assert trace.get_current_span() is each


def parents() -> dict[str, str | None]:
    """Return the parent of each span that has ended."""
    ended = spans.get_finished_spans()
    names = {each.context.span_id: each.name for each in ended}
    assert len(names) == len(ended)
    assert len({each.context.trace_id for each in ended}) == 1
    return {each.name: each.parent and names[each.parent.span_id] for each in ended}


@places
def test_spans_are_children_of_their_callers(bridge: Bridge, place: Callable[..., Any]) -> None:
    from twisted.internet.defer import Deferred

    later: list[Deferred[None]] = []

    async def leaf(name: str) -> None:
        with span(name):
            await asyncio.sleep(0.001)

    def sync_code() -> None:  # blocks inside of what is awaited
        with span("sync"):
            bridge.block_on(leaf("inside"), timeout=20)

    async def of_a_deferred() -> None:
        with span("deferred"):
            asyncio.get_running_loop().call_later(0.001, lambda: later.pop().callback(None))
            later.append(Deferred())
            await later[-1]

    async def fetch() -> None:
        with span("fetch"):
            await asyncio.gather(leaf("a"), leaf("b"))
            sync_code()
            await in_thread(lambda: bridge.block_on(leaf("of a worker"), timeout=20))
            await of_a_deferred()

    async def pages() -> Any:
        for number in range(2):
            with tracer.start_as_current_span(f"page {number}"):
                await asyncio.sleep(0)
            yield number

    def view() -> None:
        with span("view"):
            bridge.block_on(fetch(), timeout=20)
            bridge.blocking(leaf)("by a view")
            assert list(bridge.iterate(pages())) == [0, 1]
            bridge.submit(leaf("submitted")).result(20)

    place(bridge, view)
    assert parents() == {
        **dict.fromkeys(["fetch", "by a view", "page 0", "page 1", "submitted"], "view"),
        **dict.fromkeys(["a", "b", "sync", "of a worker", "deferred"], "fetch"),
        "inside": "sync",
        "view": None,
    }


@places
def test_many_callers_at_once_keep_their_own(bridge: Bridge, place: Callable[..., Any]) -> None:
    async def fetch(number: int) -> tuple[Any, Any]:
        await asyncio.sleep(0.001 * (number % 3))
        bind_contextvars(answered=number)
        return baggage.get_baggage("number"), get_contextvars()["number"]

    def view(number: int) -> None:
        token = context.attach(baggage.set_baggage("number", number))
        with bound_contextvars(number=number), tracer.start_as_current_span(f"{number}") as each:
            for _ in range(3):
                assert bridge.block_on(fetch(number), timeout=20) == (number, number)
                assert trace.get_current_span() is each
            assert get_contextvars() == {"number": number, "answered": number}
        context.detach(token)

    def one(number: int) -> None:
        place(bridge, lambda: view(number))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(40))) == [None] * 40
    assert len(spans.get_finished_spans()) == 40


@places
def test_an_error_is_the_spans(bridge: Bridge, place: Callable[..., Any]) -> None:
    async def fail() -> None:
        with span("fetch"):
            await asyncio.sleep(0.001)
            raise LookupError("no row")

    async def late() -> None:
        with span("late"):
            await asyncio.sleep(30)

    def view() -> None:
        with span("view") as each:
            with pytest.raises(LookupError):
                bridge.block_on(fail(), timeout=20)
            assert trace.get_current_span() is each
            with pytest.raises(TimeoutError):
                bridge.block_on(late(), timeout=0.01)
            assert trace.get_current_span() is each

    place(bridge, view)
    ended = {each.name: each for each in spans.get_finished_spans()}
    assert ended["fetch"].status.status_code is trace.StatusCode.ERROR
    assert ended["fetch"].events[0].attributes["exception.message"] == "no row"
    assert ended["view"].status.status_code is trace.StatusCode.UNSET
    assert ended["late"].end_time is not None
    assert parents() == {"fetch": "view", "late": "view", "view": None}


@places
def test_what_is_bound_goes_in_and_comes_out(bridge: Bridge, place: Callable[..., Any]) -> None:
    async def fetch() -> None:
        await asyncio.sleep(0.001)
        log.info("fetches")
        bind_contextvars(user="ann")
        with bound_contextvars(step=2):
            await asyncio.sleep(0.001)
            log.info("fetched")

    def view() -> None:
        bind_contextvars(request=7)
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as seen:
            bridge.block_on(fetch(), timeout=20)
            log.info("viewed")
        assert [(each.pop("event"), each) for each in seen] == [
            ("fetches", {"request": 7, "log_level": "info"}),
            ("fetched", {"request": 7, "user": "ann", "step": 2, "log_level": "info"}),
            ("viewed", {"request": 7, "user": "ann", "log_level": "info"}),
        ]

    place(bridge, view)
