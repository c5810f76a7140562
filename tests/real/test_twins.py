"""Sync twins of async clients that people use, each at work with a real server on the loopback interface."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, serving

from bridge import Entered, Items, __version__, default_bridge
from bridge._cli.twin import command

pytestmark = [pytest.mark.process, pytest.mark.any_python]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def twin_of(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function that writes a twin and imports it."""

    def make(*names: str, **renamed: str) -> Any:
        path = tmp_path_factory.mktemp("twins") / f"twin_of_{names[0].partition(':')[0].replace('.', '_')}.py"
        asked = command.Asked(names, str(path), [f"{old}={new}" for old, new in renamed.items()])
        assert command.main(asked, __version__) == 0
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module

    return make


@pytest.fixture(scope="module", autouse=True)
def _ends_the_default_bridge() -> Iterator[None]:
    yield
    default_bridge().close()


# --- HTTP


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"path": self.path, "agent": self.headers.get("User-Agent", "")})

    def do_POST(self) -> None:
        self._answer({"body": self.rfile.read(int(self.headers["Content-Length"])).decode()})

    def _answer(self, answer: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_httpx(twin_of: Make, url: str) -> None:
    httpx = twin_of("httpx:AsyncClient")
    with httpx.Client(base_url=url, headers={"User-Agent": "twin"}) as client:
        assert type(client) is httpx.Client
        response = client.get("/a", params={"b": "c"})
        assert type(response) is httpx.Response
        assert response.json() == {"path": "/a?b=c", "agent": "twin"}
        assert client.post("/", content=b"x").json() == {"body": "x"}
        with client.stream("GET", "/s") as streamed:
            assert type(streamed) is httpx.Response
            with streamed.aiter_bytes(4) as chunks:
                assert type(chunks) is Items
                assert json.loads(b"".join(chunks))["path"] == "/s"
        assert client.send(client.build_request("GET", "/built")).json()["path"] == "/built"
        client.timeout = 3
        assert client.timeout.read == 3
    assert client.is_closed


def test_aiohttp(twin_of: Make, url: str) -> None:
    aiohttp = twin_of("aiohttp:ClientSession")
    with aiohttp.ClientSession(headers={"User-Agent": "twin"}) as session:
        with session.get(f"{url}/a") as response:
            assert response.status == 200
            assert response.json() == {"path": "/a", "agent": "twin"}
        response = session.post(url, data=b"x")
        assert type(response) is aiohttp.ClientResponse
        assert json.loads(response.content.read()) == {"body": "x"}
        response.release()
        assert not session.closed
    assert session.closed


def test_treq(twin_of: Make, url: str) -> None:
    treq = twin_of("treq")
    response = treq.get(f"{url}/a", headers={"User-Agent": ["twin"]})
    assert response.code == 200
    assert response.json() == {"path": "/a", "agent": "twin"}
    assert treq.json_content(treq.post(url, data=b"x", persistent=False)) == {"body": "x"}


# --- databases


@pytest.mark.timeout(180)
def test_redis(twin_of: Make, redis_port: int) -> None:
    redis = twin_of("redis.asyncio:Redis")
    with redis.Redis(port=redis_port, decode_responses=True) as client:
        assert client.set("a", "1") is True
        assert client.get("a") == "1"
        assert client.incr("a") == 2
        with client.pipeline(transaction=True) as pipeline:
            assert type(pipeline) is redis.Pipeline
            pipeline.set("b", 3)
            pipeline.incr("b")
            assert pipeline.execute() == [True, 4]
        with client.scan_iter("[ab]") as keys:
            assert sorted(keys) == ["a", "b"]
        with client.lock("lock", timeout=5) as lock:
            assert lock.owned()
        with client.pubsub() as listening:
            listening.subscribe("news")
            assert listening.get_message(timeout=5)["type"] == "subscribe"
            client.publish("news", "arrived")
            assert listening.get_message(timeout=5)["data"] == "arrived"


def test_asyncpg(twin_of: Make, postgres: Any) -> None:
    asyncpg = twin_of(
        "asyncpg:connect",
        "asyncpg:create_pool",
        "asyncpg:Connection",
        "asyncpg.pool:PoolConnectionProxy",
        "asyncpg.prepared_stmt:PreparedStatement",
    )
    where = {"host": postgres.folder, "user": postgres.user, "database": postgres.database}
    connection = asyncpg.connect(**where)
    assert type(connection) is asyncpg.Connection
    try:
        connection.execute("create temporary table pages (url text, size int)")
        with connection.transaction():
            connection.executemany("insert into pages values ($1, $2)", [("a", 1), ("b", 2)])
            with connection.cursor("select size from pages order by size").__iter__() as rows:
                assert [row["size"] for row in rows] == [1, 2]
        with contextlib.suppress(ZeroDivisionError), connection.transaction():
            connection.execute("delete from pages")
            raise ZeroDivisionError
        assert connection.fetchval("select count(*) from pages") == 2
        assert [tuple(row) for row in connection.fetch("select * from pages")] == [("a", 1), ("b", 2)]
        statement = connection.prepare("select $1::int + 1")
        assert statement.fetchval(2) == 3
    finally:
        connection.close()
    with asyncpg.create_pool(**where, min_size=1, max_size=2) as pool:
        assert type(pool) is asyncpg.Pool
        with pool.acquire() as each:
            assert each.fetchval("select 7") == 7
        assert pool.fetchval("select 8") == 8


# --- MCP


def test_mcp(twin_of: Make) -> None:
    mcp = twin_of("mcp:ClientSession", "mcp.client.streamable_http:streamable_http_client")
    port = free_port()
    program = Path(__file__).parent / "programs" / "mcp_server.py"
    environment = {name: each for name, each in os.environ.items() if not name.startswith("BRIDGE_")}
    with serving([sys.executable, str(program), str(port)], port, env=environment):
        transport = mcp.streamable_http_client(f"http://127.0.0.1:{port}/mcp")
        assert type(transport) is Entered
        with transport as (reading, writing), mcp.ClientSession(reading, writing) as session:
            assert session.initialize().server_info.name == "adder"
            assert sorted(tool.name for tool in session.list_tools().tools) == ["add", "greet"]
            called = session.call_tool("greet", {"name": "twin"})
            assert called.content[0].text == "hello twin"
            assert not called.is_error
