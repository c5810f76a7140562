"""The thread trap: what only the loop's thread may do with a reactor is refused to others, and the error says how."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from isolated import isolated
from paths import ENVIRONMENT
from places import in_a_thread
from twisted.internet import interfaces, threads
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import LogEvent, globalLogPublisher

import bridge as package
from bridge import Bridge, BridgeClosed, WrongThreadError
from bridge._twisted.guard import GUARDED

pytestmark = pytest.mark.any_python  # it is about Twisted's methods
PATIENCE = 10.0

# What any thread may call, and why: Twisted says so, it starts or takes a thread of the pool, it only looks, or it adds
# to a list that the loop reads later.
FREE = {
    *("callFromThread", "wakeUp"),
    *("callInThread", "getThreadPool", "suggestThreadPoolSize"),
    *("getDelayedCalls", "getReaders", "getWriters", "seconds"),
    *("addSystemEventTrigger", "removeSystemEventTrigger", "installResolver", "installNameResolver"),
    "run",  # says itself that the reactor runs already
}


@pytest.fixture
def reactor(bridge: Bridge) -> Any:
    return bridge.reactor


class Quiet(Protocol):
    def dataReceived(self, data: bytes) -> None:
        pass


QUIET = Factory.forProtocol(Quiet)


def refused(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Call it, which has to be refused, and return the message."""
    with pytest.raises(WrongThreadError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def forms(message: str) -> list[str]:
    """Return the code that a message proposes, between its first line and its last."""
    _, *proposed, address = message.splitlines()
    assert address == "[bridge: wrong-thread]"
    return [line.split("  #")[0].strip() for line in proposed]


# --- what is refused


def test_every_method_of_a_reactor_is_either_guarded_or_free_for_a_reason(reactor: Any) -> None:
    methods = {
        name
        for interface in vars(interfaces).values()
        if isinstance(interface, type(interfaces.IReactorCore)) and interface.providedBy(reactor)
        for name in interface
        if callable(getattr(reactor, name, None))
    }
    assert {"callLater", "connectTCP", "callFromThread", "addReader", "spawnProcess"} <= methods
    assert {name for name in methods if not name.startswith("_")} - FREE <= GUARDED


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_another_thread_is_refused_before_anything_is_done(reactor: Any, name: str) -> None:
    before = reactor.getReaders(), reactor.getWriters(), reactor.getDelayedCalls()
    arguments: Any = {"callLater": (0, print), "callWhenRunning": (print,)}.get(name, ())
    if re.match("(add|remove).*(Reader|Writer)", name):
        arguments = [reactor.waker]
    method = functools.partial(getattr(reactor, name), *arguments)  # others do not even look at what they are given
    assert f"reactor.{name}" in refused(method)
    assert f"reactor.{name}" in refused(in_a_thread, method)
    assert (reactor.getReaders(), reactor.getWriters(), reactor.getDelayedCalls()) == before
    assert reactor.running


def test_it_is_a_bridge_error_with_the_name_of_both_threads(reactor: Any) -> None:
    message = refused(in_a_thread, lambda: reactor.callLater(0, print))
    assert re.search(r"was called in the thread 'Thread-\d+", message)
    assert "the reactor's loop runs in the thread 'test'" in message
    assert issubclass(WrongThreadError, package.BridgeError)


def test_the_loops_own_thread_may_do_everything(bridge: Bridge, reactor: Any) -> None:
    def use() -> list[str]:
        called: list[str] = []
        reactor.callWhenRunning(called.append, "running")
        call = reactor.callLater(1000, print)
        call.reset(900)
        call.delay(1)
        call.cancel()
        port = reactor.listenTCP(0, QUIET, interface="127.0.0.1")
        port.stopListening()
        return called

    assert bridge.block_on(use) == ["running"]


def test_a_timer_may_not_be_cancelled_or_moved_by_another_thread(bridge: Bridge, reactor: Any) -> None:
    fired = threading.Event()
    call = bridge.block_on(lambda: reactor.callLater(1000, fired.set))
    due = call.getTime()
    for method in (call.cancel, functools.partial(call.reset, 1), functools.partial(call.delay, -900)):
        assert "it came to reactor.callLater(...)" in refused(method)
    assert call.active()
    assert call.getTime() == due
    bridge.block_on(lambda: call.reset(0))
    assert fired.wait(PATIENCE)


def test_what_takes_the_reactor_is_refused_where_it_touches_it(reactor: Any, unhandled: list[LogEvent]) -> None:
    assert "deferLater(reactor, 1, print) was called" in refused(lambda: deferLater(reactor, 1, print))
    pending: Deferred[None] = Deferred()
    assert "pending.addTimeout(1, reactor) was called" in refused(lambda: pending.addTimeout(1, reactor))
    looping = LoopingCall(print)
    looping.clock = reactor
    refused(looping.start, 1, now=False)
    assert unhandled == []


def test_an_endpoint_answers_with_the_error(bridge: Bridge, reactor: Any, unhandled: list[LogEvent]) -> None:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", 9)
    assert "connectProtocol(endpoint, Quiet())" in refused(
        lambda: bridge.block_on(connectProtocol(endpoint, Quiet()), timeout=PATIENCE)
    )
    by_name = HostnameEndpoint(reactor, b"localhost", 9)  # making one is no trap
    message = refused(lambda: bridge.block_on(connectProtocol(by_name, Quiet()), timeout=PATIENCE))
    assert "it came to reactor.nameResolver.resolveHostName" in message
    assert unhandled == []


def test_a_transport_that_is_written_to_by_another_thread_says_so(bridge: Bridge, reactor: Any) -> None:
    connected: Deferred[Any] = Deferred()

    class Server(Protocol):
        def connectionMade(self) -> None:
            connected.callback(self.transport)

    port = bridge.block_on(lambda: reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1"))
    with socket.create_connection(("127.0.0.1", port.getHost().port), PATIENCE) as client:
        transport = bridge.block_on(connected, timeout=PATIENCE)
        message = refused(lambda: transport.loseConnection())
        assert "transport.loseConnection() was called" in message
        bridge.block_on(lambda: transport.write(b"still open"))
        assert client.recv(100) == b"still open"
        refused(lambda: transport.write(b"x"))
        bridge.block_on(transport.loseConnection)


def test_a_worker_thread_of_the_loop_is_another_thread(bridge: Bridge, reactor: Any) -> None:
    def in_worker() -> str:
        return refused(lambda: reactor.callLater(0, print))

    assert "reactor.callLater(0, print)" in bridge.block_on(asyncio.to_thread(in_worker))
    in_pool = functools.partial(threads.deferToThreadPool, reactor, reactor.getThreadPool(), in_worker)
    assert "reactor.callLater(0, print)" in bridge.block_on(in_pool)


def test_a_foreign_loop_in_this_thread_makes_no_difference(reactor: Any) -> None:
    async def main() -> str:
        return refused(lambda: reactor.callLater(0, print))

    assert "reactor.callLater(0, print)" in asyncio.run(main())


def test_a_signal_handler_in_another_thread_is_refused(reactor: Any) -> None:
    messages: list[str] = []

    def handler(*_: object) -> None:
        messages.append(refused(lambda: reactor.callLater(0, print)))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(messages) == 1


# Twisted has made the socket before it comes to the reactor, and leaves it to the garbage collector.
@pytest.mark.parametrize("kind", ["epoll", "select", "asyncio"])
@isolated(options=("-W", "error", "-W", "ignore:unclosed <socket:ResourceWarning"))
def test_methods_held_since_before_the_adoption_are_guarded(kind: str) -> None:
    import importlib

    importlib.import_module(f"twisted.internet.{kind}reactor").install()
    from twisted.internet.protocol import Factory
    from twisted.internet.reactor import callLater, connectTCP, listenTCP

    early = callLater(1000, print)

    import bridge

    bridge.default_bridge().start()
    for use in (
        lambda: callLater(0, print),
        lambda: listenTCP(0, Factory(), interface="127.0.0.1"),
        lambda: connectTCP("127.0.0.1", 9, Factory()),
        early.cancel,
    ):
        try:
            use()
        except bridge.WrongThreadError as error:
            message = str(error)
        else:
            raise AssertionError(use)
        assert "block_on(lambda:" in message, message


# --- what is free


def test_what_any_thread_may_call_works_in_any(bridge: Bridge, reactor: Any) -> None:
    called = threading.Event()
    reactor.callFromThread(called.set)
    assert called.wait(PATIENCE)
    in_pool = threading.Event()
    reactor.callInThread(in_pool.set)
    assert in_pool.wait(PATIENCE)
    reactor.suggestThreadPoolSize(3)
    assert reactor.getThreadPool().max == 3
    reactor.wakeUp()
    assert reactor.seconds() > 0
    order: list[str] = []
    gone = reactor.addSystemEventTrigger("before", "shutdown", order.append, "removed")
    reactor.addSystemEventTrigger("before", "shutdown", order.append, "kept")
    reactor.removeSystemEventTrigger(gone)
    bridge.close()
    assert order == ["kept"]


def test_the_pool_may_be_needed_by_many_threads_at_once(reactor: Any) -> None:
    barrier = threading.Barrier(8)
    pools: list[object] = []

    def need() -> None:
        barrier.wait(PATIENCE)
        pools.append(reactor.getThreadPool())

    needing = [threading.Thread(target=need) for _ in range(8)]
    for thread in needing:
        thread.start()
    for thread in needing:
        thread.join()
    assert len(pools) == 8
    assert len(set(pools)) == 1


def test_nobody_is_refused_before_the_first_life_and_between_two() -> None:
    with Bridge(install_reactor=False) as bridge:
        reactor, thread = bridge.reactor, bridge.thread
        assert thread is not None
        for number in range(3):
            bridge.loop.call_soon_threadsafe(bridge.loop.stop)
            thread.join(PATIENCE)
            fired = threading.Event()
            reactor.callLater(0.01, fired.set)
            running: list[int] = []
            reactor.callWhenRunning(running.append, number)
            bridge.start()
            thread = bridge.thread
            assert thread is not None
            assert fired.wait(PATIENCE)
            assert running == [number]
            refused(reactor.callLater, 0, print)
    assert reactor.callLater(1000, print).active()  # a closed bridge's: nothing will run it, and nobody objects


def test_twisteds_own_ways_from_another_thread_work(bridge: Bridge, reactor: Any) -> None:
    def blocking() -> str:
        answer = threads.blockingCallFromThread(reactor, deferLater, reactor, 0.01, lambda: "answer")
        several: list[str] = []
        threads.callMultipleInThread([(several.append, ("one",), {}), (several.append, ("two",), {})])
        return answer

    assert blocking() == "answer"
    assert in_a_thread(blocking) == "answer"
    in_pool = threads.deferToThreadPool(reactor, reactor.getThreadPool(), lambda: "pool")
    assert bridge.block_on(in_pool, timeout=PATIENCE) == "pool"
    assert bridge.block_on(lambda: reactor.resolve("localhost"), timeout=PATIENCE) == "127.0.0.1"


def test_logging_from_any_thread_reaches_an_observer(bridge: Bridge, unhandled: list[LogEvent]) -> None:
    from twisted.logger import Logger

    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        seen.append(str(event["log_format"]))
        bridge.reactor.callFromThread(len, seen)

    globalLogPublisher.addObserver(observe)
    try:
        Logger("test").info("from the main thread")
        in_a_thread(lambda: Logger("test").info("from a thread"))
        bridge.block_on(lambda: Logger("test").info("from the loop"))
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [each for each in seen if each.startswith("from")] == [
        "from the main thread",
        "from a thread",
        "from the loop",
    ]
    assert unhandled == []


# --- the message


def test_the_message_has_the_users_own_call(bridge: Bridge, reactor: Any) -> None:
    message = refused(lambda: bridge.block_on(deferLater(reactor, 1, lambda: 2), timeout=3))
    first = message.splitlines()[0]
    assert first.startswith("deferLater(reactor, 1, lambda: 2) was called in the thread 'MainThread'")
    assert f"({__file__}, line " in first
    assert forms(message)[:3] == [
        "bridge.block_on(lambda: deferLater(reactor, 1, lambda: 2), timeout=3)",
        "bridge.blocking(deferLater, timeout=3)(reactor, 1, lambda: 2)",
        "reactor.callFromThread(deferLater, reactor, 1, lambda: 2)",
    ]


def test_what_is_called_on_the_result_goes_into_the_lambda(bridge: Bridge, reactor: Any) -> None:
    message = refused(lambda: bridge.block_on(deferLater(reactor, 1, list).addCallback(len)))
    assert forms(message)[:2] == [
        "bridge.block_on(lambda: deferLater(reactor, 1, list).addCallback(len))",
        "reactor.callFromThread(lambda: deferLater(reactor, 1, list).addCallback(len))",
    ]


def test_what_is_called_on_the_value_is_called_on_a_view(bridge: Bridge, reactor: Any) -> None:
    class Page:
        status = 200

        def json(self) -> Deferred[list[int]]:
            return deferLater(reactor, 0.01, lambda: [1, 2])

    names = {"bridge": bridge, "reactor": reactor, "deferLater": deferLater, "Page": Page}
    view = "bridge.blocking(deferLater, wrap=True)(reactor, 0, Page).json()"
    for message, waits, value in (
        (refused(lambda: deferLater(reactor, 0, Page).json()), view, None),  # the treq test has its value
        (refused(lambda: bridge.block_on(deferLater(reactor, 0, Page)).json()), view, None),
        (
            refused(lambda: bridge.block_on(deferLater(reactor, 0, Page), timeout=9).status),
            "bridge.block_on(lambda: deferLater(reactor, 0, Page), timeout=9).status",
            200,
        ),
        (
            refused(lambda: bridge.block_on(deferLater(reactor, 0, Page).addCallback(Page.json)).copy()),
            "bridge.block_on(lambda: deferLater(reactor, 0, Page).addCallback(Page.json)).copy()",
            [1, 2],
        ),
    ):
        assert forms(message)[0] == waits
        assert value is None or eval(waits, names) == value
    plain = forms(refused(lambda: bridge.block_on(deferLater(reactor, 0, Page)).status))
    assert eval(plain[1], names) == 200
    assert "blocking" in plain[1]
    apart = forms(refused(lambda: bridge.block_on(deferLater(reactor, 0, Page), context_out=False)))
    assert not [form for form in apart if "blocking" in form]


def test_a_call_over_many_lines_is_shown_in_one(bridge: Bridge, reactor: Any) -> None:
    def call() -> None:
        (
            reactor
            .callLater(
                10,
                print,
                "several",
            )
        )  # fmt: skip

    assert forms(refused(call))[:2] == [
        "bridge.block_on(lambda: reactor.callLater(10, print, 'several'))",
        "reactor.callFromThread(reactor.callLater, 10, print, 'several')",
    ]


def test_a_long_call_is_shown_without_its_arguments(bridge: Bridge, reactor: Any) -> None:
    message = refused(
        lambda: reactor.callLater(
            10, print, "a rather long argument that nobody wants to read again", sep="and another"
        )
    )
    assert forms(message)[0] == "bridge.block_on(lambda: reactor.callLater(print, ...))"


def test_the_names_are_those_that_the_user_has(bridge: Bridge) -> None:
    mine, twisteds = bridge, bridge.reactor
    del bridge
    message = refused(lambda: (mine, twisteds.callLater(1, print)))
    assert forms(message)[:2] == [
        "mine.block_on(lambda: twisteds.callLater(1, print))",
        "twisteds.callFromThread(twisteds.callLater, 1, print)",
    ]


def test_a_stop_is_not_waited_for(reactor: Any) -> None:
    assert forms(refused(lambda: reactor.stop())) == ["reactor.callFromThread(reactor.stop)"]


def test_the_proposals_work_as_they_are_written(bridge: Bridge, reactor: Any) -> None:
    message = refused(lambda: bridge.block_on(deferLater(reactor, 0.01, str), timeout=PATIENCE))
    names = {"bridge": bridge, "reactor": reactor, "deferLater": deferLater, "PATIENCE": PATIENCE}
    waits, viewed, posted = forms(message)[:3]
    assert eval(waits, names) == ""
    assert eval(viewed, names) == ""
    assert eval(posted, names) is None


@pytest.mark.parametrize("code", ["later(reactor, 1, print)", "\n\nlater(reactor,\n 1, print)"])
def test_without_source_the_function_is_named(bridge: Bridge, reactor: Any, code: str) -> None:
    message = refused(exec, code, {"later": deferLater, "reactor": reactor})
    assert message.startswith("twisted.internet.task.deferLater(...) was called")
    assert "(<string>, line" in message
    assert forms(message)[:2] == [
        "bridge.block_on(lambda: twisted.internet.task.deferLater(...))",
        "reactor.callFromThread(twisted.internet.task.deferLater, ...)",
    ]
    message = refused(exec, "reactor.callLater(1, print)", {"reactor": reactor})
    assert message.startswith("reactor.callLater(...) was called")
    assert forms(message)[0] == "bridge.block_on(lambda: reactor.callLater(...))"


def test_a_call_that_cannot_be_moved_gets_no_lambda(reactor: Any) -> None:
    async def main() -> None:
        reactor.callLater(await asyncio.sleep(0, 1), print)

    assert not [form for form in forms(refused(asyncio.run, main())) if "await" in form]


def test_an_operator_that_touches_the_reactor_has_no_call(reactor: Any) -> None:
    class Timed:
        def __add__(self, seconds: float) -> object:
            return exec("reactor.callLater(seconds, print)", {"reactor": reactor, "seconds": seconds})

    assert "reactor.callLater(...) was called" in refused(lambda: Timed() + 1)


def test_the_error_keeps_no_frames_of_its_own(reactor: Any) -> None:
    class Tracked:
        pass

    gone: list[bool] = []

    def use() -> None:
        tracked = Tracked()
        weakrefs.append(importlib.import_module("weakref").ref(tracked))
        try:
            reactor.callLater(1, print, tracked)
        except WrongThreadError as error:
            gone.append(bool(str(error)))

    weakrefs: list[Any] = []
    gc.disable()
    try:
        use()
        assert gone == [True]
        assert weakrefs[0]() is None
    finally:
        gc.enable()


@isolated
def test_treq_in_the_wrong_thread_is_refused_whole() -> None:
    import gc
    import http.server
    import threading

    import psutil
    import treq
    from twisted.internet import reactor
    from twisted.logger import globalLogPublisher

    from bridge import WrongThreadError, block_on, blocking

    logged = []
    globalLogPublisher.addObserver(lambda event: "log_failure" in event and logged.append(event))

    class Hello(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = [f"http://{host}:{server.server_port}/" for host in ("127.0.0.1", "localhost")]
    descriptors = 0
    for _ in range(3):  # in the second one the pool has a connection for each
        for url in urls:
            assert block_on(lambda url=url: treq.get(url).addCallback(treq.content)) == b"hello"
        assert blocking(treq).content(blocking(treq).get(url)) == b"hello"
        descriptors = descriptors or psutil.Process().num_fds()
        delayed = len(reactor.getDelayedCalls())
        for url in urls:
            try:
                block_on(treq.get(url), timeout=5)
            except WrongThreadError as error:
                first, *forms, address = str(error).splitlines()
            else:
                raise AssertionError("it was not refused")
            assert first.startswith("treq.get(url) was called in the thread 'MainThread' ("), first
            assert address == "[bridge: wrong-thread]", address
            forms = [form.split("  #")[0].strip() for form in forms]
            assert forms == [
                "block_on(lambda: treq.get(url), timeout=5)",
                "blocking(treq, timeout=5).get(url)",
                "reactor.callFromThread(treq.get, url)",
            ], forms
        try:
            block_on(treq.get(url)).text()
        except WrongThreadError as error:
            viewed = str(error).splitlines()[1].split("  #")[0].strip()
            assert viewed == "blocking(treq, wrap=True).get(url).text()", viewed
            assert eval(viewed) == "hello"
        else:
            raise AssertionError("it was not refused")
        gc.collect()
        assert len(reactor.getDelayedCalls()) == delayed
        assert psutil.Process().num_fds() == descriptors
        assert logged == []


@isolated(stdout=r"WrongThreadError .*python -m bridge run calls_the_reactor\.py")
def test_a_script_is_told_how_to_run_whole() -> None:
    import runpy
    import sys
    from pathlib import Path

    script = str(Path(__file__).with_name("programs") / "calls_the_reactor.py")
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


def test_an_installed_program_is_told_how_to_run_whole(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    program = ModuleType("__main__")
    program.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", program)
    scripts = Path(sysconfig.get_path("scripts"))
    for file, shown in (
        (scripts / "pytest", "-m pytest"),
        (scripts / "no_module", str(scripts / "no_module")),
        (Path("/somewhere/job.py"), "job.py"),
    ):
        program.__file__ = str(file)
        assert forms(refused(lambda: reactor.callLater(0, print)))[-1] == f"python -m bridge run {shown}"


@pytest.mark.any_python
@pytest.mark.process
def test_a_test_is_told_how_to_run_whole_and_so_it_passes(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import bridge
            reactor = bridge.default_bridge().reactor

            def test_it():
                from twisted.internet.task import deferLater
                assert bridge.block_on(deferLater(reactor, 0, str)) == ""
            """
        )
    )
    pytests = Path(sysconfig.get_path("scripts")) / "pytest"
    options = ["-q", "-p", "no:cacheprovider", "test_it.py"]
    refused_there = (
        _run(tmp_path, str(pytests), *options) if pytests.exists() else _run(tmp_path, "-m", "pytest", *options)
    )
    assert "python -m bridge run -m pytest   " in refused_there
    assert "1 passed" in _run(tmp_path, "-m", "bridge", "run", "-m", "pytest", *options)


def _run(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout


def test_a_thread_that_calls_the_reactor_directly_has_no_code_of_the_users(bridge: Bridge, reactor: Any) -> None:
    messages: list[str] = []
    before, threading.excepthook = threading.excepthook, lambda hook: messages.append(str(hook.exc_value))
    try:
        thread = threading.Thread(target=reactor.callLater, args=(1, print))
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    assert messages[0].startswith("reactor.callLater(...) was called in the thread 'Thread-")
    assert forms(messages[0]) == [
        "bridge.block_on(lambda: reactor.callLater(...))",
        "reactor.callFromThread(reactor.callLater, ...)",
    ]


# --- other loops


def test_code_on_one_loop_that_takes_the_reactor_of_another_is_told_to_pass_its_own(
    bridge: Bridge, reactor: Any
) -> None:
    with Bridge("other", install_reactor=False) as other:
        message = refused(other.block_on, lambda: reactor.callLater(1, print))
        assert "was called in the thread 'other'" in message
        assert "This thread runs the loop of another reactor; pass that one" in message
        assert "Agent(bridge.reactor)" in message


def test_a_loop_that_the_program_runs_is_guarded() -> None:
    async def main() -> tuple[str, float]:
        reactor = package.Bridge.attach().reactor
        message = await asyncio.to_thread(lambda: refused(lambda: reactor.callLater(0, print)))
        return message, await deferLater(reactor, 0, lambda: 1.0)

    with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
        for run in (lambda work: work(), in_a_thread):
            message, one = run(lambda: runner.run(main()))
            assert one == 1.0
            assert "Bridge.attach(reactor).block_on(lambda: reactor.callLater(0, print))" in message
            assert "python -m bridge run" not in message


@isolated
def test_an_installed_reactor_is_guarded_while_it_runs() -> None:
    import threading

    import bridge

    reactor = bridge.install()
    messages = []

    def other():
        try:
            reactor.callLater(0, print)
        except bridge.WrongThreadError as error:
            messages.append(str(error))
        reactor.callFromThread(reactor.stop)

    reactor.callLater(0, threading.Thread(target=other).start)
    reactor.run()
    assert "Bridge.attach(reactor).block_on(lambda: reactor.callLater(0, print))" in messages[0], messages


def test_a_foreign_reactor_is_left_alone() -> None:
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    loop = asyncio.SelectorEventLoop()
    foreign: Any = AsyncioSelectorReactor(loop)
    running = threading.Event()
    foreign.callWhenRunning(running.set)
    thread = threading.Thread(target=foreign.run, args=(False,))
    thread.start()
    try:
        assert running.wait(PATIENCE)
        with Bridge(install_reactor=False) as bridge:
            bridge.start()
            call = foreign.callLater(1000, print)
            call.cancel()
    finally:
        foreign.callFromThread(foreign.stop)
        thread.join(PATIENCE)
        foreign.waker.connectionLost(None)
        loop.close()
    assert not thread.is_alive()


def test_a_refused_stop_leaves_the_loop_alive(bridge: Bridge, reactor: Any) -> None:
    refused(lambda: reactor.stop())
    assert bridge.block_on(asyncio.sleep(0, "alive")) == "alive"
    future = bridge.submit(asyncio.sleep(1000))
    reactor.callFromThread(reactor.stop)
    assert isinstance(future.exception(PATIENCE), BridgeClosed)
