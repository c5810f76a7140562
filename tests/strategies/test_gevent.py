"""In a process that gevent has patched: the loop runs in a real thread, and a blocked call blocks one greenlet."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from isolated import isolated
from paths import ROOT, TESTS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="needs gevent, which 'nox -s gui' installs"
)

isolated = functools.partial(isolated, fresh=True)  # what gevent patches has not been imported before

orders = pytest.mark.parametrize("order", ["patched first", "imported first"])


@pytest.mark.process
@pytest.mark.timeout(240)
def test_conformance() -> None:
    program = Path(__file__).with_name("programs") / "pytest_under_gevent.py"
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={ROOT}"]
    options = ["-q", "-p", "no:cacheprovider", "-k", "(auto or gevent) and not moments"]
    suites = [str(TESTS / each) for each in ("strategies/test_conformance.py", "calls/test_in_caller.py")]
    ended = subprocess.run(
        [sys.executable, "-P", program, *config, *options, *suites],
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
        import bridge._calls.block_on
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


@isolated
def test_greenlets_go_on_while_a_bridge_closes() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    from collections.abc import Callable

    import gevent

    from bridge import Bridge

    async def cleans_up(until: Callable[[], bool]) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            while not until():
                await asyncio.sleep(0.01)
            cleaned.append(None)

    def tick() -> None:
        while True:
            ticks.append(None)
            gevent.sleep(0.01)

    def bridge_with_work(until: Callable[[], bool]) -> Bridge:
        bridge = Bridge(shutdown_timeout=15)
        bridge.submit(cleans_up(until))
        bridge.block_on(asyncio.sleep(0.01))
        return bridge

    ticks: list[None] = []
    cleaned: list[None] = []
    gevent.spawn(tick)
    bridge = bridge_with_work(lambda: len(ticks) > 10)
    ticks.clear()
    bridge.close()
    assert len(ticks) > 10
    assert len(cleaned) == 1

    # In the hub, where a signal handler may be, nobody can go on.
    bridge = bridge_with_work(lambda: True)
    gevent.get_hub().loop.run_callback(bridge.close)
    gevent.sleep(0)
    gevent.sleep(0)
    assert len(cleaned) == 2


@orders
@isolated
def test_a_thousand_greenlets_wait_at_once(order: str) -> None:
    import bridge

    if order == "imported first":
        import bridge._calls.block_on
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
def test_the_hub_of_the_main_thread_looks_up_for_signals_that_met_it_as_it_fell_asleep() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import gevent

    from bridge import block_on
    from bridge._threads import signals

    signals.LOOK_UP = 0.01

    def times_of_falling_asleep() -> list[None]:
        times: list[None] = []
        falls_asleep = gevent.get_hub().loop.prepare(ref=False)
        falls_asleep.start(times.append, None)
        return times

    def times_in_a_call() -> int:
        times = times_of_falling_asleep()
        block_on(asyncio.sleep(0.5))
        return len(times)

    async def until_it_has_often() -> None:
        while len(times) <= 15:
            await asyncio.sleep(0.01)

    times = times_of_falling_asleep()
    block_on(until_it_has_often())
    assert gevent.get_hub().threadpool.apply(times_in_a_call) < 10  # where no signals are handled
    gevent.sleep(0.05)
    times.clear()
    gevent.sleep(0.5)  # and nobody waits for a call
    assert len(times) < 10


@isolated(stderr=r".*KeyboardInterrupt.*")  # gevent's hub mentions it
def test_a_ctrl_c_as_a_greenlet_is_to_be_resumed_is_raised_in_the_main_one_and_the_other_goes_on() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    from typing import Any

    import gevent

    from bridge import block_on, strategies

    gevent_strategy: Any = strategies()["gevent"]
    parked = type(gevent_strategy.waiter()).parked
    times: list[None] = []

    class Waiter(type(gevent_strategy.waiter())):  # type: ignore[misc]
        __slots__ = ()

        @property
        def parked(self) -> object:
            if gevent.getcurrent() is gevent.get_hub():
                times.append(None)
                if len(times) == 1:
                    raise KeyboardInterrupt
            return parked.__get__(self)

        @parked.setter
        def parked(self, value: object) -> None:
            parked.__set__(self, value)

    class Strategy(type(gevent_strategy)):  # type: ignore[misc]
        def waiter(self) -> object:
            waiter = super().waiter()
            waiter.__class__ = Waiter
            return waiter

    other = gevent.spawn(lambda: block_on(asyncio.sleep(0.05, "value"), strategy=Strategy()))
    interrupted = False
    try:
        block_on(asyncio.sleep(10))
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    assert other.get(timeout=10) == "value"
    assert len(times) > 1


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


@orders
@isolated(options=())  # gevent warns of what was imported first
def test_workers_of_the_loop_are_real_threads(order: str) -> None:
    import sys

    if order == "imported first":
        sys.modules["ssl"] = None  # type: ignore[assignment]  # gevent warns of a patch that comes after its import
        import anyio.to_thread

        import bridge._calls.block_on

        del sys.modules["ssl"]
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import anyio
    import anyio.from_thread
    import anyio.to_thread
    from twisted.internet.threads import deferToThread

    import bridge
    from bridge import block_on, in_thread

    native_id = monkey.get_original("threading", "get_native_id")
    sleep = monkey.get_original("time", "sleep")
    main, loop = native_id(), block_on(native_id)
    reactor = bridge.default_bridge().reactor

    def by_executor() -> object:
        return asyncio.get_running_loop().run_in_executor(None, work)

    ways = {
        "asyncio.to_thread": lambda: asyncio.to_thread(work),
        "run_in_executor": by_executor,
        "deferToThread": lambda: deferToThread(work),
        "anyio.to_thread": lambda: anyio.to_thread.run_sync(work),
        "in_thread": lambda: in_thread(work),
    }

    def work() -> tuple[object, ...]:
        sleep(0.001)
        loop_here = block_on(asyncio.get_running_loop)
        return native_id(), loop_here is bridge.default_bridge().loop, block_on(asyncio.sleep(0.01, "back"))

    async def many(way: object) -> list[object]:
        async def one() -> object:
            return await way()  # type: ignore[operator]

        return await asyncio.gather(*[one() for _ in range(100)])

    for _ in range(2):
        for name, way in ways.items():
            found = block_on(many(way), timeout=15)
            threads = {each[0] for each in found}
            assert {each[1:] for each in found} == {(True, "back")}, (name, found)
            assert 1 < len(threads) <= 40, (name, threads)
            assert threads.isdisjoint({main, loop}), name
        bridge.default_bridge().close()
        loop = block_on(native_id)
    assert bridge.default_bridge().reactor is reactor


@isolated
def test_a_worker_of_anyios_works_in_the_scope_that_it_was_called_in() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import anyio
    import anyio.from_thread
    import anyio.to_thread

    from bridge import block_on, in_thread

    native_id = monkey.get_original("threading", "get_native_id")
    seen: list[str] = []

    begun: list[None] = []

    def blocked() -> None:
        begun.append(None)
        try:
            block_on(asyncio.sleep(100))
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def limited() -> bool:
        with anyio.move_on_after(0.05) as scope:
            await anyio.to_thread.run_sync(blocked)
        return scope.cancelled_caught

    assert block_on(limited(), timeout=15) is True
    while len(begun) < 2:  # else the time was up before the loop came to it
        try:
            block_on(in_thread(blocked), timeout=0.05)
        except TimeoutError:
            continue
        raise AssertionError
    assert seen == ["cancelled"] * 2

    def from_thread() -> list[object]:
        return [anyio.from_thread.run(anyio.sleep, 0.01), anyio.from_thread.run_sync(native_id)]

    assert block_on(lambda: anyio.to_thread.run_sync(from_thread), timeout=15) == [None, block_on(native_id)]
    try:
        block_on(in_thread(lambda: 1 // 0), timeout=15)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError


@isolated
def test_an_executor_whose_threads_are_greenlets_is_refused() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    import concurrent.futures

    from gevent import threadpool

    from bridge import BridgeError, block_on, default_bridge

    def refused(call: object) -> None:
        try:
            block_on(call, timeout=15)
        except BridgeError as error:
            refusals.append(str(error))

    refusals: list[str] = []

    loop = default_bridge().loop
    threads, processes = concurrent.futures.ThreadPoolExecutor(1), concurrent.futures.ProcessPoolExecutor(1)
    for executor in (threads, threadpool.ThreadPoolExecutor(1), processes):
        refused(lambda executor=executor: loop.run_in_executor(executor, print))
    loop.set_default_executor(threads)
    refused(lambda: asyncio.to_thread(print))
    assert len(refusals) == 4
    assert all("are greenlets, which do not run beside the loop; leave the executor out" in each for each in refusals)


@isolated
def test_a_program_that_runs_a_loop_of_ours_itself() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import anyio.to_thread
    from twisted.internet.threads import deferToThread

    from bridge import block_on, new_event_loop

    native_id = monkey.get_original("threading", "get_native_id")

    async def main() -> set[int]:
        assert await asyncio.to_thread(lambda: block_on(asyncio.sleep(0.01, "back"))) == "back"
        return {
            await asyncio.to_thread(native_id),
            await anyio.to_thread.run_sync(native_id),
            await deferToThread(native_id),
        }

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        for _ in range(2):
            assert native_id() not in runner.run(main())


@isolated
def test_anyios_threads_on_a_loop_that_is_not_ours_are_refused() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    from bridge import Bridge, BridgeError, in_thread

    async def main() -> str:
        attached = Bridge.attach()
        try:
            await in_thread(print)
        except BridgeError as error:
            return str(error)
        finally:
            attached.close()
        return ""

    assert "anyio's worker threads are greenlets on any loop that is not a bridge's own" in asyncio.run(main())


@isolated
def test_futures_are_waited_for_where_the_hub_has_nothing_else_to_do() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    import gevent

    from bridge import BridgeClosed, block_on, default_bridge, in_thread, submit

    def result(seconds: float) -> str:
        return submit(asyncio.sleep(seconds, "value")).result()

    # gevent would say of each of these that the operation would block forever.
    assert result(0.1) == "value"
    assert {result(0) for _ in range(100)} == {"value"}
    try:
        submit(asyncio.sleep(100)).result(0.05)
    except TimeoutError:
        pass
    else:
        raise AssertionError
    assert block_on(asyncio.to_thread(result, 0.05)) == "value"
    assert block_on(in_thread(result, 0.05)) == "value"
    portal = default_bridge().portal
    assert portal.call(asyncio.sleep, 0.05, "portal") == "portal"
    assert portal.start_task_soon(asyncio.sleep, 0.05, "portal").result() == "portal"
    for call in (lambda: portal.call(lambda: 1 // 0), lambda: submit(lambda: 1 // 0).result()):
        try:
            call()
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError
    future = submit(asyncio.sleep(100))
    closing = gevent.spawn_later(0.05, default_bridge().close)
    try:
        future.result()
    except BridgeClosed:
        pass
    else:
        raise AssertionError
    closing.join()
    refused = None
    try:
        portal.call(print)
    except RuntimeError as error:
        refused = error
    assert "not running" in str(refused)


@pytest.mark.process
@isolated
def test_greenlets_go_on_while_futures_are_waited_for() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    import concurrent.futures
    import threading
    from typing import Any

    import gevent

    import bridge

    ways: list[Any] = [
        lambda future: future.result(),
        lambda future: future.exception() or future.result(),
        lambda future: next(iter(bridge.wait([future]).done)).result(),
        lambda future: next(iter(bridge.as_completed([future]))).result(),
    ]
    done = asyncio.Event()

    async def work() -> str:
        await done.wait()
        return "value"

    # Each in a greenlet of its own, and another greenlet lets the work end when all of them wait.
    futures: Any = [bridge.submit(work()) for _ in ways]
    waiting = [gevent.spawn(way, future) for way, future in zip(ways, futures, strict=True)]

    def all_wait() -> bool:
        return all(future._waiters or future._condition._waiters for future in futures)

    def end() -> None:
        while not all_wait():
            gevent.sleep(0.001)
        bridge.block_on(lambda: done.set())

    ending = gevent.spawn(end)
    gevent.joinall([*waiting, ending], timeout=20, raise_error=True)
    assert [each.value for each in waiting] == ["value"] * 4

    # A Future of the standard library's, which another greenlet ends.
    for wait in ways[2:]:
        by_hand: concurrent.futures.Future[str] = concurrent.futures.Future()
        gevent.spawn_later(0.01, by_hand.set_result, "by hand")
        assert wait(by_hand) == "by hand"

    # Where the hub has nothing else to do, a time-out comes all the same, and kill() ends a wait; the work goes on.
    future: Any = bridge.submit(asyncio.sleep(1000))
    assert bridge.wait([future], 0.01).not_done == {future}
    for way in ways:
        greenlet = gevent.spawn(way, future)
        gevent.sleep(0.01)
        greenlet.kill()
        assert not future.done()
        assert not future._waiters
        assert not future._condition._waiters
    future.cancel()

    # On the loop's own thread, a real one, the stack switches.
    async def main() -> list[str]:
        assert threading.current_thread() is not threading.main_thread()
        return [way(bridge.submit(asyncio.sleep(0.01, "value"))) for way in ways]

    assert bridge.block_on(main()) == ["value"] * 4


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


@isolated(options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))  # of gevent's fork
def test_child_processes_of_each_world() -> None:
    from gevent import monkey

    monkey.patch_all()
    import asyncio
    import contextlib
    import os
    import subprocess
    from typing import Any

    import anyio
    import gevent
    from twisted.internet import defer, protocol, reactor
    from twisted.internet.utils import getProcessOutputAndValue

    from bridge import block_on, new_event_loop

    shell = "/bin/sh"

    async def of_asyncio(status: int) -> object:
        child = await asyncio.create_subprocess_exec(shell, "-c", f"echo {status}; exit {status}", stdout=-1)
        return (await child.communicate())[0], child.returncode

    async def of_anyio(status: int) -> object:
        ended = await anyio.run_process([shell, "-c", f"echo {status}; exit {status}"], check=False)
        return ended.stdout, ended.returncode

    def of_twisted(status: int) -> Any:
        ended = getProcessOutputAndValue(shell, ["-c", f"echo {status}; exit {status}"])
        return ended.addCallback(lambda found: (found[0], found[2]))

    def of_gevent(status: int) -> object:
        ended = subprocess.run([shell, "-c", f"echo {status}; exit {status}"], stdout=subprocess.PIPE)
        return ended.stdout, ended.returncode

    # Once gevent has started one, its handler of SIGCHLD reaps them all.
    assert [block_on(of_asyncio(1)), of_gevent(2)] == [(b"1\n", 1), (b"2\n", 2)]
    ways: list[Any] = [
        lambda status: block_on(of_asyncio(status)),
        lambda status: block_on(of_anyio(status)),
        lambda status: block_on(lambda: of_twisted(status)),
        of_gevent,
    ]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    spawned = [gevent.spawn(way, status) for status in range(5) for way in ways]
    gevent.joinall(spawned, timeout=30, raise_error=True)
    assert [each.value for each in spawned] == [(b"%d\n" % status, status) for status in range(5) for _ in ways]
    assert len(os.listdir("/proc/self/fd")) <= before or not before

    async def is_killed() -> int:
        child = await asyncio.create_subprocess_exec("/bin/sleep", "100")
        try:
            await asyncio.wait_for(child.wait(), 0.05)
        except TimeoutError:
            child.kill()
        return await child.wait()

    async def has_ended_as_it_is_killed() -> int:
        child = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 6")
        monkey.get_original("time", "sleep")(0.1)  # on the loop, which does not reap it meanwhile
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(9)
        return await child.wait()

    assert (block_on(is_killed()), block_on(has_ended_as_it_is_killed())) == (-9, 6)
    for _ in range(3):
        try:
            block_on(asyncio.create_subprocess_exec("/no/such/program"))
        except FileNotFoundError:
            pass
        else:
            raise AssertionError

    class Ends(protocol.ProcessProtocol):
        def __init__(self) -> None:
            self.status: Any = defer.Deferred()

        def processEnded(self, reason: Any) -> None:
            self.status.callback(reason.value.exitCode)

    def in_another_folder(terminal: bool) -> Any:  # by fork(), where the others are spawned
        ends, command = Ends(), "test -t 1 || exit 4; exit 3"
        reactor.spawnProcess(ends, shell, ["sh", "-c", command], path="/", usePTY=terminal)
        return ends.status

    assert [block_on(lambda: in_another_folder(True)), block_on(lambda: in_another_folder(False))] == [3, 4]

    # The functions of os themselves, in a worker thread and on a loop that the program runs itself.
    def forks() -> int:
        child = os.fork()
        if not child:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert block_on(asyncio.to_thread(forks)) == forks() == 7

    async def main() -> object:
        return await of_asyncio(5), await of_anyio(6), await asyncio.to_thread(forks), forks()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) == ((b"5\n", 5), (b"6\n", 6), 7, 7)
    assert of_gevent(8) == (b"8\n", 8)


@isolated(stderr=r"(Executing <.*)?")  # asyncio mentions what is slow on a busy machine
def test_the_debug_mode_of_asyncio() -> None:
    import os

    os.environ["PYTHONASYNCIODEBUG"] = "1"
    from gevent import monkey

    monkey.patch_all()
    import asyncio

    from bridge import block_on, default_bridge

    async def main() -> str:
        await asyncio.sleep(0.01)
        return block_on(asyncio.sleep(0.01, "blocked")) + await asyncio.to_thread(block_on, asyncio.sleep(0, "!"))

    assert block_on(main()) == "blocked!"
    loop = default_bridge().loop
    assert loop.get_debug()
    refused = None
    try:
        loop.call_soon(print)  # not in the loop's thread: this is what the mode is for
    except RuntimeError as error:
        refused = error
    assert "Non-thread-safe operation" in str(refused)


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.timeout(120)
@pytest.mark.skipif(importlib.util.find_spec("celery") is None, reason="needs Celery, which 'nox -s gui' installs")
def test_child_processes_in_tasks_of_celerys_gevent_pool(tmp_path: Path) -> None:
    programs = Path(__file__).with_name("programs")
    (tmp_path / "queue").mkdir()
    (tmp_path / "results").mkdir()
    path = os.pathsep.join([str(programs), *(each for each in sys.path if each)])
    environment = os.environ | {"PYTHONPATH": path, "CELERY_FOLDER": str(tmp_path), "C_FORCE_ROOT": "1"}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_tasks",
        "worker",
        "-P",
        "gevent",
        "-c",
        "8",
        "-l",
        "warning",
    ]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            caller = [sys.executable, programs / "celery_tasks.py"]
            called = subprocess.run(caller, env=environment, capture_output=True, text=True, timeout=90)
            worker.terminate()
            worker.wait(30)
        finally:
            worker.kill()
            worker.wait()
    shown = called.stdout + called.stderr + (tmp_path / "log").read_text()
    assert called.stdout == f"{[status for status in range(4) for _ in range(4)]}\n", shown
    assert "is lost" not in shown
    assert "Traceback" not in shown
    assert worker.returncode == 0, shown
