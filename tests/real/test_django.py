"""Django's ORM inside a call: its async methods work in the caller's thread, on its connection, in its transaction."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import inspect
import io
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

django = pytest.importorskip("django")

from django.conf import settings  # noqa: E402

_folder = tempfile.TemporaryDirectory(prefix="django")

if not settings.configured:
    library: Any = types.ModuleType("library")  # the application that the models belong to
    library.__path__ = [_folder.name]
    sys.modules["library"] = library
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(_folder.name) / "db")}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=["library"],
        LANGUAGES=[("en", "English"), ("de", "German")],
        MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="of a test",
        USE_TZ=True,
    )
    django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import BaseCommand, call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.test import Client, TestCase, TransactionTestCase  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import translation  # noqa: E402

import bridge  # noqa: E402
from bridge import block_on, blocking, in_caller, iterate  # noqa: E402


class Author(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "library"


class Book(models.Model):
    title = models.CharField(max_length=50)
    number = models.IntegerField(default=0)
    authors = models.ManyToManyField(Author)
    publisher = models.ForeignKey(Author, null=True, on_delete=models.CASCADE, related_name="published")

    class Meta:
        app_label = "library"
        get_latest_by = "number"


@pytest.fixture(scope="module", autouse=True)
def _tables() -> Generator[None]:
    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Book)
    yield
    connections.close_all()
    _folder.cleanup()


@pytest.fixture(autouse=True)
def _no_rows(request: pytest.FixtureRequest) -> Generator[None]:
    yield
    if request.cls is not None:  # Django's own test cases roll back
        return
    Book.objects.all().delete()
    Author.objects.all().delete()


@contextlib.contextmanager
def _threads_of_queries() -> Iterator[set[int]]:
    """Note the threads in which queries run on this thread's connection."""
    seen: set[int] = set()

    def note(execute: Callable[..., Any], *args: Any) -> Any:
        seen.add(threading.get_ident())
        return execute(*args)

    with connection.execute_wrapper(note):
        yield seen


class RolledBack(Exception):
    pass


# --- views


def _count_in_transaction() -> list[int]:
    """Return what a call counts of one row that is not committed, and what is left when it is rolled back."""
    counted = []
    try:
        with transaction.atomic():
            Book.objects.create(title="in a transaction")
            counted.append(block_on(Book.objects.filter(title="in a transaction").acount(), timeout=20))
            counted.append(block_on(Book.objects.filter(title="in a transaction").aupdate(number=1), timeout=20))
            raise RolledBack
    except RolledBack:
        counted.append(Book.objects.filter(title="in a transaction").count())
    return counted


def sync_view(request: HttpRequest) -> JsonResponse:
    language = translation.get_language()

    async def work() -> list[Any]:
        return [await Book.objects.acount(), translation.get_language()]

    _, inside = block_on(work())
    return JsonResponse(
        {"counted": _count_in_transaction(), "languages": [language, inside, translation.get_language()]}
    )


async def async_view(request: HttpRequest) -> JsonResponse:
    def blocking() -> int:
        return block_on(Book.objects.acount(), timeout=20)  # in the thread of the server's loop, which stands still

    return JsonResponse({"counted": [blocking(), await Book.objects.acount()]})


urlpatterns = [path("sync", sync_view), path("async", async_view)]

ONE_ROW = {"counted": [1, 1, 0], "languages": ["de", "de", "de"]}
GERMAN = {"Accept-Language": "de"}


# --- a transaction


def test_the_callers_transaction() -> None:
    assert _count_in_transaction() == [1, 1, 0]


def test_in_any_thread() -> None:
    results: list[list[int]] = []

    def call() -> None:
        try:
            results.append(_count_in_transaction())
        finally:
            connections.close_all()

    for _ in range(3):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert results == [[1, 1, 0]] * 3


def test_tasks_and_nested_calls_share_the_transaction() -> None:
    def nested() -> int:
        Book.objects.create(title="b")
        return block_on(Book.objects.acount())

    async def work() -> list[int]:
        await Book.objects.acreate(title="a")
        assert await in_caller(nested) == 2
        return list(await asyncio.gather(*(Book.objects.acount() for _ in range(5))))

    with pytest.raises(RolledBack), transaction.atomic():
        assert block_on(work()) == [2] * 5
        raise RolledBack
    assert Book.objects.count() == 0


def test_iterations_are_of_the_transaction() -> None:
    with pytest.raises(RolledBack), transaction.atomic():
        Book.objects.bulk_create(Book(title=str(number)) for number in range(5))
        assert [book.title for book in iterate(Book.objects.order_by("title").aiterator(chunk_size=2))] == list("01234")
        assert [book.title for book in iterate(Book.objects.order_by("title"))] == list("01234")
        raise RolledBack


async def _count(_: object = None) -> int:
    return await Book.objects.filter(title="not committed").acount()


COUNTS: dict[str, tuple[int, Callable[[], int]]] = {
    "block_on": (1, lambda: block_on(_count())),
    "several in block_on": (1, lambda: max(block_on(_gathered()))),
    "blocking": (1, lambda: blocking(_count)()),
    # No thread waits for these, though one waits for their Futures.
    "map": (0, lambda: max(bridge.map(_count, range(2)))),
    "submit": (0, lambda: bridge.submit(_count()).result()),
    "submit in block_on": (0, lambda: block_on(bridge.submit(_count()))),
}


async def _gathered() -> list[int]:
    return await asyncio.gather(_count(), _count())


@pytest.mark.parametrize("way", COUNTS)
def test_which_calls_see_the_callers_transaction(way: str) -> None:
    expected, count = COUNTS[way]
    with pytest.raises(RolledBack), transaction.atomic():
        Book.objects.create(title="not committed")
        assert count() == expected
        raise RolledBack


# --- every async method


async def _first(values: Any) -> Any:
    async for value in values:
        return value
    return None


def _calls() -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """Return a call of each async method of a QuerySet."""
    books = Book.objects
    stored = Book.objects.order_by("pk")

    async def bulk_update() -> int:
        book = await stored.aget(title="a")
        book.number = 5
        return await books.abulk_update([book], ["number"])

    return {
        "aaggregate": lambda: books.aaggregate(models.Count("pk")),
        "abulk_create": lambda: books.abulk_create([Book(title="c"), Book(title="d")]),
        "abulk_update": bulk_update,
        "acontains": lambda: books.acontains(Book.objects.get(title="a")),
        "acount": lambda: books.acount(),
        "acreate": lambda: books.acreate(title="e"),
        "adelete": lambda: books.filter(title="e").adelete(),
        "aearliest": lambda: books.aearliest(),
        "aexists": lambda: books.aexists(),
        "aexplain": lambda: books.aexplain(),
        "afirst": lambda: stored.afirst(),
        "aget": lambda: books.aget(title="a"),
        "aget_or_create": lambda: books.aget_or_create(title="f"),
        "ain_bulk": lambda: books.ain_bulk(),
        "aiterator": lambda: _first(books.aiterator()),
        "alast": lambda: stored.alast(),
        "alatest": lambda: books.alatest(),
        "aupdate": lambda: books.aupdate(number=7),
        "aupdate_or_create": lambda: books.aupdate_or_create(title="g", defaults={"number": 1}),
    }


def _async_methods(cls: type) -> set[str]:
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return {name for name in dir(cls) if not name.startswith("_") and any(is_(getattr(cls, name)) for is_ in kinds)}


def test_every_async_method_of_a_queryset_is_called_here() -> None:
    assert _async_methods(models.QuerySet) <= set(_calls())


@pytest.mark.parametrize("name", sorted(_calls()))
def test_async_methods_of_a_queryset(name: str) -> None:
    with pytest.raises(RolledBack), transaction.atomic():
        Book.objects.create(title="a", number=1)
        Book.objects.create(title="b", number=2)
        call = _calls()[name]
        with _threads_of_queries() as threads:
            if name == "acontains":  # its argument is read here
                book = Book.objects.get(title="a")
                assert block_on(Book.objects.acontains(book)) is True
            else:
                block_on(call())
        assert threads == {threading.get_ident()}
        raise RolledBack
    assert Book.objects.count() == 0


def test_async_methods_of_a_model() -> None:
    async def work() -> int:
        book = Book(title="a")
        await book.asave()
        await Book.objects.aupdate(number=3)
        await book.arefresh_from_db()
        assert book.number == 3
        await book.adelete()
        return await Book.objects.acount()

    with _threads_of_queries() as threads, transaction.atomic():
        assert block_on(work()) == 0
    assert threads == {threading.get_ident()}


def test_async_methods_of_related_managers() -> None:
    async def work() -> None:
        book = await Book.objects.acreate(title="a")
        first = await book.authors.acreate(name="first")
        second = (await book.authors.aget_or_create(name="second"))[0]
        await book.authors.aupdate_or_create(name="second")
        await book.authors.aremove(first)
        assert [each.name async for each in book.authors.all()] == ["second"]
        await book.authors.aset([first, second])
        await book.authors.aadd(first)
        assert await book.authors.acount() == 2
        await book.authors.aclear()
        await first.published.aadd(book)
        await first.published.aset([])
        await first.published.acreate(title="b")
        assert await first.published.acount() == 1

    with pytest.raises(RolledBack), _threads_of_queries() as threads, transaction.atomic():
        block_on(work())
        raise RolledBack
    assert threads == {threading.get_ident()}


# --- WSGI, ASGI


def test_under_wsgi() -> None:
    assert Client().get("/sync", headers=GERMAN).json() == ONE_ROW


def test_under_a_real_wsgi_server() -> None:
    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)

    def serve() -> None:
        for _ in range(2):
            server.handle_request()
        connections.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(2):
            client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            client.request("GET", "/sync", headers=GERMAN)
            answer = client.getresponse()
            assert (answer.status, json.loads(answer.read())) == (200, ONE_ROW)
            client.close()
    finally:
        thread.join(30)
        server.server_close()


async def _asgi(path: str) -> Any:
    """Make a request to Django's ASGI handler, as a server does, and return its answer."""
    body: list[bytes] = []
    requested = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requested:
            return requested.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        body.append(message.get("body", b""))

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": [(b"accept-language", b"de")]}
    scope |= {"query_string": b"", "http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http"}
    await asyncio.wait_for(get_asgi_application()(scope, receive, send), 30)
    return json.loads(b"".join(body))


def test_a_sync_view_under_asgi(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("bridge._api.default._has_reported", False)

    async def serve() -> list[Any]:
        return list(await asyncio.gather(*(_asgi("/sync") for _ in range(4))))

    assert [each["languages"] for each in asyncio.run(serve())] == [["de", "de", "de"]] * 4
    assert asyncio.run(_asgi("/sync")) == ONE_ROW
    assert not [each for each in caplog.records if each.name.startswith("bridge")]  # of a worker of another loop


def test_an_async_view_under_asgi() -> None:
    Book.objects.create(title="committed")
    assert asyncio.run(_asgi("/async")) == {"counted": [1, 1]}


def test_under_asgi_on_a_loop_of_ours() -> None:
    Book.objects.create(title="committed")
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        assert runner.run(_asgi("/sync"))["languages"] == ["de", "de", "de"]
        assert runner.run(_asgi("/async")) == {"counted": [1, 1]}


# --- commands, tests


def test_in_a_management_command() -> None:
    class Command(BaseCommand):
        def handle(self, *args: Any, **options: Any) -> str:
            return str(_count_in_transaction())

    out = io.StringIO()
    call_command(Command(stdout=out), skip_checks=True)
    assert out.getvalue().strip() == "[1, 1, 0]"


class InATestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        Book.objects.create(title="of the class")

    def test_sees_what_the_test_has_set_up(self) -> None:
        Book.objects.create(title="of the test")
        assert block_on(Book.objects.acount()) == 2
        assert _count_in_transaction() == [1, 1, 0]

    def test_again(self) -> None:
        assert block_on(Book.objects.acount()) == 1

    async def test_an_async_test(self) -> None:
        assert await Book.objects.acount() == 1


class InATransactionTestCase(TransactionTestCase):
    available_apps: tuple[str, ...] = ()

    def test_sees_what_the_test_has_set_up(self) -> None:
        assert _count_in_transaction() == [1, 1, 0]
        Book.objects.create(title="of the test")
        assert block_on(Book.objects.acount()) == 1


# --- on the loop's own thread

PROGRAM = Path(__file__).with_name("programs") / "orm_on_the_loop.py"


@pytest.mark.process
def test_on_the_loops_own_thread_sync_code_of_the_orm_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "db"
    with contextlib.closing(sqlite3.connect(database)) as made:
        made.execute("create table library_book (id integer primary key autoincrement, title varchar(50) not null)")
    where = str(Path(bridge.__file__).parent.parent)
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", "run", str(PROGRAM), str(database)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": where},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.split() == ["refused", "0", "1"], ended.stdout + ended.stderr
