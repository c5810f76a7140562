"""In a process that gevent has patched: the loop runs in a real thread, and a blocked call blocks one greenlet."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from isolated import isolated

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="needs gevent, which 'nox -s gui' installs"
)

TESTS = Path(__file__).resolve().parent
orders = pytest.mark.parametrize("order", ["patched first", "imported first"])


@pytest.mark.timeout(240)
def test_conformance() -> None:
    program = (
        "import sys; from gevent import monkey; monkey.patch_all(); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    config = [f"--config-file={TESTS.parent / 'pyproject.toml'}", f"--rootdir={TESTS.parent}"]
    options = ["-q", "-p", "no:cacheprovider", "-k", "auto or gevent"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *config, *options, str(TESTS / "test_conformance.py")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        capture_output=True,
        text=True,
        timeout=220,
    )
    shown = ended.stdout + ended.stderr
    assert ended.returncode == 0, shown
    passed = re.search(r"^(\d+) passed, \d+ deselected in", ended.stdout, re.MULTILINE)
    assert passed is not None, shown
    assert int(passed[1]) > 130, shown


@orders
@isolated
def test_the_loop_runs_in_a_real_thread(order: str) -> None:
    import bridge

    if order == "imported first":
        import bridge._verbs
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import gevent

    native_id = monkey.get_original("threading", "get_native_id")
    ticks: list[None] = []

    def tick() -> None:
        while True:
            ticks.append(None)
            gevent.sleep(0.01)

    ticking = gevent.spawn(tick)
    # Without a word to gevent: time.sleep() would switch greenlets here.
    assert bridge.block_on(native_id) != native_id()

    async def until_it_has_ticked() -> str:
        while len(ticks) <= 5:
            await asyncio.sleep(0.01)
        return "value"

    assert bridge.block_on(until_it_has_ticked()) == "value"
    ticking.kill()
    bridge.default_bridge().close()
    assert bridge.block_on(asyncio.sleep(0, "again")) == "again"


@orders
@isolated
def test_a_thousand_greenlets_wait_at_once(order: str) -> None:
    import bridge

    if order == "imported first":
        import bridge._verbs
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import gevent

    async def until_all_wait(number: int) -> int:
        waiting.add(number)
        while len(waiting) < 1000:
            await asyncio.sleep(0.05)
        return number

    waiting: set[int] = set()
    spawned = [gevent.spawn(lambda n=n: bridge.block_on(until_all_wait(n))) for n in range(1000)]
    gevent.joinall(spawned)
    assert [each.value for each in spawned] == list(range(1000))


@isolated(stderr=r".*KeyboardInterrupt.*")  # gevent's hub mentions it
def test_time_outs_kills_and_ctrl_c_cancel_the_work() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    import os
    import signal

    import gevent

    from bridge import block_on

    cleaned: list[None] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(None)

    def timing_out() -> str:
        try:
            block_on(work(), timeout=0.05)
        except TimeoutError as error:
            return str(error)
        return ""

    assert "did not finish within 0.05 seconds" in gevent.spawn(timing_out).get()
    assert len(cleaned) == 1

    killed = gevent.spawn(lambda: block_on(work()))
    gevent.sleep(0.05)
    killed.kill()
    assert isinstance(killed.value, gevent.GreenletExit)
    assert len(cleaned) == 2

    caught = None
    limit = gevent.Timeout(0.05)
    limit.start()
    try:
        block_on(work())
    except gevent.Timeout as error:
        caught = error
    finally:
        limit.close()
    assert caught is limit
    assert len(cleaned) == 3

    gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    interrupted = False
    try:
        block_on(work())
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    assert len(cleaned) == 4


@isolated
def test_auto_finds_it() -> None:
    import asyncio

    import gevent

    from bridge import block_on, strategies

    auto = strategies()["auto"]
    lock, green = type(strategies()["lock"].waiter()), type(strategies()["gevent"].waiter())
    # Nothing is patched: the main greenlet blocks as ever, one of gevent's lets the others go on.
    assert type(auto.waiter()) is lock
    assert type(gevent.spawn(auto.waiter).get()) is green
    spawned = [gevent.spawn(lambda: block_on(asyncio.sleep(0.1, "value"))) for _ in range(20)]
    gevent.joinall(spawned)
    assert {each.value for each in spawned} == {"value"}

    from gevent import monkey

    monkey.patch_all()
    assert type(auto.waiter()) is green


@isolated
def test_workers_of_the_loop_are_real_threads() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    from twisted.internet.threads import deferToThread

    from bridge import BridgeError, block_on, in_thread, submit

    native_id = monkey.get_original("threading", "get_native_id")

    async def many() -> set[int]:
        return set(await asyncio.gather(*[asyncio.to_thread(native_id) for _ in range(200)]))

    assert native_id() not in block_on(many())
    assert block_on(lambda: deferToThread(native_id), timeout=10) != native_id()
    assert block_on(asyncio.to_thread(lambda: block_on(asyncio.sleep(0.01, "back"))), timeout=10) == "back"
    assert submit(asyncio.sleep(0.05, "submitted")).result(10) == "submitted"
    refused = None
    try:
        block_on(in_thread(native_id), timeout=10)
    except BridgeError as error:
        refused = error
    assert "asyncio.to_thread" in str(refused)


@isolated
def test_sockets_of_both_worlds_talk_to_each_other() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    import urllib.request

    import gevent

    from bridge import block_on

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = block_on(asyncio.start_server(answer, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    def get() -> bytes:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read()  # type: ignore[no-any-return]

    spawned = [gevent.spawn(get) for _ in range(20)]
    gevent.joinall(spawned, timeout=15)
    assert {each.value for each in spawned} == {b"hello"}

    async def fetch() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        page = await reader.read()
        writer.close()
        await writer.wait_closed()
        return page

    assert block_on(fetch(), timeout=10).endswith(b"hello")
    server.close()


@isolated
def test_blocking_in_the_hub_blocks_the_thread() -> None:
    import asyncio

    import gevent

    from bridge import block_on

    results: list[str] = []
    gevent.get_hub().loop.run_callback(
        lambda: results.append(block_on(asyncio.sleep(0.01, "value"), strategy="gevent"))
    )
    gevent.sleep(0.05)
    assert results == ["value"]
