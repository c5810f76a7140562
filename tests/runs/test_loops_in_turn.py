"""The installed reactor goes to the loop that runs: loops of new_event_loop() in turn, and the default bridge."""

from __future__ import annotations

import pytest
from isolated import isolated


@isolated
def test_two_loops_in_turn_share_the_installed_reactor() -> None:
    import asyncio

    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    import bridge

    async def main() -> None:
        from twisted.internet import reactor

        loop = asyncio.get_running_loop()
        assert reactor._asyncioEventloop is loop
        assert bridge.Bridge.attach().reactor is reactor
        assert await asyncio.wait_for(deferLater(reactor, 0.001, lambda: "deferred"), 5) == "deferred"
        assert await deferToThread(lambda: bridge.block_on(where())) is loop

    async def where() -> object:
        return asyncio.get_running_loop()

    first = asyncio.Runner(loop_factory=bridge.new_event_loop)
    first.run(main())
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as second:
        for _ in range(2):
            second.run(main())
            second.run(main())
            first.run(main())
    first.run(main())
    first.close()
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as third:
        third.run(main())


@isolated(stderr="(Exception ignored .*/dev/null.*)?")  # a descriptor that Twisted keeps in reserve once it listens
def test_an_idle_reactor_takes_what_it_was_given_to_the_next_loop() -> None:
    import asyncio

    import twisted.internet.task  # noqa: F401
    from twisted.internet.endpoints import TCP4ClientEndpoint
    from twisted.internet.protocol import Factory, Protocol, connectionDone

    import bridge

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    class Client(Protocol):
        def connectionMade(self) -> None:
            self.got: asyncio.Queue[bytes] = asyncio.Queue()

        def dataReceived(self, data: bytes) -> None:
            self.got.put_nowait(data)

    async def connect() -> Client:
        from twisted.internet import reactor

        port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        client = await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(
            Factory.forProtocol(Client)
        )
        assert await asks(client) == b"ping"
        return client

    async def asks(client: Client) -> bytes:
        client.got = asyncio.Queue()
        client.transport.write(b"ping")
        return await asyncio.wait_for(client.got.get(), 5)

    first = asyncio.Runner(loop_factory=bridge.new_event_loop)
    client = first.run(connect())
    from twisted.internet import reactor

    fired: list[str] = []
    reactor.callLater(0.01, fired.append, "a timer")
    reactor.callFromThread(fired.append, "from a thread")
    second = asyncio.Runner(loop_factory=bridge.new_event_loop)
    assert second.run(asks(client)) == b"ping"  # server and client have moved, too
    second.run(asyncio.sleep(0.05))
    assert sorted(fired) == ["a timer", "from a thread"]
    lost: list[object] = []
    client.connectionLost = lambda reason=connectionDone: lost.append(reason.type.__name__)  # type: ignore[method-assign]
    assert first.run(asks(client)) == b"ping"
    assert second.run(asks(client)) == b"ping"
    assert not lost
    second.close()
    assert lost == ["ConnectionLost"]
    first.close()


@isolated
def test_tests_use_the_default_bridge_and_loops_in_turn() -> None:
    import asyncio

    from twisted.internet.task import deferLater

    import bridge

    async def main() -> None:
        from twisted.internet import reactor

        assert reactor._asyncioEventloop is asyncio.get_running_loop()
        assert await asyncio.wait_for(deferLater(reactor, 0.001, lambda: "deferred"), 5) == "deferred"

    def in_a_runner() -> None:
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            runner.run(main())

    bridge.block_on(main())
    module = asyncio.Runner(loop_factory=bridge.new_event_loop)  # open from now on
    for _ in range(3):
        in_a_runner()
        bridge.block_on(main())
        module.run(main())
        bridge.block_on(main())
        bridge.default_bridge().close()
        in_a_runner()
    module.close()


@pytest.mark.parametrize("use", ["a server", "a timer", "a task", "asyncio's server", "a call", "a child"])
@isolated
def test_a_default_bridge_in_use_keeps_the_reactor(use: str) -> None:
    import asyncio
    import sys

    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, ProcessProtocol, Protocol

    import bridge

    tasks: list[object] = []

    async def serve() -> None:
        tasks.append(await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0))

    def use_it() -> None:
        if use == "a server":
            reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        elif use == "a timer":
            reactor.callLater(60, print)
        elif use == "a task":
            tasks.append(asyncio.get_running_loop().create_task(asyncio.sleep(60)))
        elif use == "a child":
            reactor.spawnProcess(ProcessProtocol(), sys.executable, [sys.executable, "-c", "input()"])

    async def main() -> bool:
        return reactor._asyncioEventloop is asyncio.get_running_loop()

    bridge.block_on(lambda: use_it() or None)
    if use == "asyncio's server":
        bridge.block_on(serve())
    if use == "a call":
        tasks.append(bridge.submit(asyncio.sleep(60)))
    loop = bridge.default_bridge().loop
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        assert not runner.run(main())
    assert bridge.block_on(main())
    assert bridge.default_bridge().loop is loop
    if use == "asyncio's server":
        bridge.block_on(lambda: tasks[0].close())  # type: ignore[attr-defined]


@isolated
def test_no_call_is_lost_while_the_default_bridge_leaves_its_reactor() -> None:
    import asyncio
    import threading

    import twisted.internet.defer  # noqa: F401

    import bridge

    errors: list[BaseException] = []
    counts = [0, 0]
    is_over = threading.Event()

    def calls(caller: int) -> None:
        try:
            while not is_over.is_set():
                assert bridge.block_on(asyncio.sleep(0, counts[caller])) == counts[caller]
                counts[caller] += 1
                if not counts[caller] % 10:
                    is_over.wait(0.003)  # so that the bridge is unused now and then
        except BaseException as error:
            errors.append(error)

    async def main() -> bool:
        from twisted.internet import reactor

        return reactor._asyncioEventloop is asyncio.get_running_loop()

    threads = [threading.Thread(target=calls, args=(caller,)) for caller in range(2)]
    for each in threads:
        each.start()
    taken = turns = 0
    while turns < 60 or (min(counts) < 20 and not errors):
        turns += 1
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            taken += runner.run(main())
    is_over.set()
    for each in threads:
        each.join()
    assert not errors, errors
    assert taken, "it was never left"


@isolated
def test_a_run_that_gives_way_before_its_first_call_is_open_has_a_successor() -> None:
    import asyncio

    import twisted.internet.defer  # noqa: F401

    import bridge
    from bridge._runs.owned import LoopThread

    runs = bridge.default_bridge().runs
    wait_ready = LoopThread.wait_ready
    left: list[LoopThread] = []

    def wait_and_leave(run: LoopThread) -> None:
        wait_ready(run)
        if len(left) < 3:
            left.append(run)
            runs._leave_reactor()  # as a loop of the program's does that begins to run just then

    LoopThread.wait_ready = wait_and_leave  # type: ignore[method-assign]
    assert bridge.block_on(asyncio.sleep(0, "value")) == "value"
    assert bridge.submit(asyncio.sleep(0, "value")).result() == "value"
    assert [run.over for run in left] == ["another loop has taken its reactor"] * 3


@isolated
def test_the_default_bridge_leaves_a_reactor_that_a_loop_has_where_it_is() -> None:
    import asyncio
    import threading

    from twisted.internet.task import deferLater

    import bridge

    def call() -> None:
        where.append(bridge.block_on(on_loop()))

    async def on_loop() -> object:
        return asyncio.get_running_loop()

    async def main() -> None:
        from twisted.internet import reactor

        loop = asyncio.get_running_loop()
        assert reactor._asyncioEventloop is loop
        for _ in range(3):  # the default bridge begins, and begins again
            caller = threading.Thread(target=call)
            caller.start()
            await asyncio.to_thread(caller.join)
            assert reactor._asyncioEventloop is loop
            assert await asyncio.wait_for(deferLater(reactor, 0.001, lambda: "fired"), 5) == "fired"
            await asyncio.to_thread(bridge.default_bridge().close)

    where: list[object] = []
    for _ in range(2):
        with bridge.default_bridge():
            assert bridge.block_on(lambda: deferLater(bridge.default_bridge().reactor, 0.001, lambda: 1)) == 1
        with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
            runner.run(main())
            assert runner.get_loop() not in where
    assert len(set(map(id, where))) == 6


@isolated
def test_an_idle_reactor_begins_nothing_where_another_runs() -> None:
    import asyncio
    import threading

    from twisted.internet.task import deferLater

    import bridge

    def later() -> object:
        from twisted.internet import reactor

        return deferLater(reactor, 0.01, lambda: 3)

    async def main() -> None:
        assert await later() == 3
        caller = threading.Thread(target=lambda: bridge.block_on(asyncio.sleep(0)))
        caller.start()
        while caller.is_alive():
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())
    message = ""
    try:  # the default bridge has a reactor of its own, as the loop had the installed one when it began
        bridge.block_on(later)
    except bridge.WrongThreadError as error:
        message = str(error)
    assert "the reactor's loop does not run" in message
    bridge.default_bridge().close()
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())


@isolated(forks=True, options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))
def test_a_loop_takes_the_reactor_of_the_parents_default_bridge() -> None:
    import asyncio
    import os

    from twisted.internet.task import deferLater

    import bridge

    def later() -> object:
        from twisted.internet import reactor

        return deferLater(reactor, 0.01, lambda: 3)

    async def main() -> object:
        return await asyncio.wait_for(later(), 20)

    assert bridge.block_on(later) == 3
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
                status = 0 if runner.run(main()) == 3 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bridge.block_on(later) == 3


@isolated
def test_in_thread_on_a_loop_that_nobody_has_attached_to() -> None:
    import asyncio

    import bridge

    async def main() -> None:
        assert await bridge.in_thread(bridge.block_on, where()) is asyncio.get_running_loop()

    async def where() -> object:
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())
        runner.run(main())
