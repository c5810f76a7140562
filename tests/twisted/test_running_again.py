"""A reactor that the program runs: again after a crash, never after a stop, as each reactor of Twisted's does."""

from __future__ import annotations

import pytest
from isolated import isolated

pytestmark = pytest.mark.any_python  # it is about Twisted's reactors
KINDS = ["bridge", "asyncio"]  # Twisted's own is here to show that these tests ask for nothing more


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_it_runs_and_crashes_any_number_of_times(kind: str) -> None:
    import asyncio
    import importlib

    importlib.import_module({"bridge": "bridge", "asyncio": "twisted.internet.asyncioreactor"}[kind]).install()
    from twisted.internet import reactor

    ran = []
    for number in range(4):
        reactor.callWhenRunning(ran.append, f"starts {number}")
        reactor.callLater(0, ran.append, number)
        reactor.callLater(0.01, reactor.crash)
        reactor.run(installSignalHandlers=False)
        assert not reactor.running
    assert ran == [each for number in range(4) for each in (f"starts {number}", number)]
    asyncio.get_event_loop().close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["at once", "later"])
@isolated
def test_it_never_runs_again_after_a_stop_and_its_loop_stays_open(kind: str, when: str) -> None:
    import asyncio
    import importlib

    from twisted.internet.error import ReactorNotRestartable

    importlib.import_module({"bridge": "bridge", "asyncio": "twisted.internet.asyncioreactor"}[kind]).install()
    from twisted.internet import reactor

    outcomes = []

    def run_again() -> None:
        try:
            reactor.run()
        except ReactorNotRestartable:
            outcomes.append("refused")

    reactor.addSystemEventTrigger("after", "shutdown", run_again)
    if when == "at once":
        reactor.callWhenRunning(reactor.stop)
    else:
        reactor.callLater(0.01, reactor.stop)
    reactor.run()
    run_again()
    assert outcomes == ["refused", "refused"]
    loop = asyncio.get_event_loop()
    assert loop.run_until_complete(asyncio.sleep(0.001, "cleaned up")) == "cleaned up"
    loop.close()


@isolated
def test_what_a_crash_leaves_goes_on_in_the_next_run() -> None:
    import asyncio

    from twisted.internet.task import deferLater

    import bridge

    reactor = bridge.install()
    ended: list[object] = []

    async def task() -> None:
        ended.append(await deferLater(reactor, 0.05, lambda: "task"))

    def callback() -> None:
        ended.append(bridge.block_on(asyncio.sleep(0.05, "stack")))

    def main() -> None:
        ended.append(loop.create_task(task()))
        reactor.callLater(0, callback)
        reactor.callLater(0.01, reactor.crash)

    loop = asyncio.get_event_loop()
    reactor.callWhenRunning(main)
    reactor.run()
    assert len(ended) == 1
    reactor.callLater(0.2, reactor.crash)
    reactor.run()
    assert set(ended[1:]) == {"task", "stack"}
    loop.close()


@isolated
def test_what_a_stop_leaves_cleans_up() -> None:
    import asyncio

    import bridge

    reactor = bridge.install()
    ended: list[object] = []

    async def task() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            ended.append("task")

    def callback() -> None:
        try:
            bridge.block_on(asyncio.sleep(60))
        except bridge.BridgeClosed:
            ended.append("stack")

    def main() -> None:
        tasks.append(asyncio.get_event_loop().create_task(task()))
        reactor.callLater(0, callback)
        reactor.callLater(0.01, reactor.stop)

    tasks: list[object] = []
    reactor.callWhenRunning(main)
    reactor.run()
    assert sorted(map(str, ended)) == ["stack", "task"]
    asyncio.get_event_loop().close()


@isolated
def test_a_second_run_at_once_is_refused() -> None:
    import asyncio

    from twisted.internet.error import ReactorAlreadyRunning

    import bridge

    reactor = bridge.install()
    outcomes = []

    def main() -> None:
        try:
            reactor.run()
        except ReactorAlreadyRunning:
            outcomes.append("refused")
        reactor.callLater(0, reactor.crash)

    async def on_the_loop() -> None:
        main()

    reactor.callWhenRunning(main)
    reactor.run()
    asyncio.get_event_loop().run_until_complete(on_the_loop())  # the loop runs, and the reactor does not
    assert outcomes == ["refused"] * 2
    asyncio.get_event_loop().close()


@isolated
def test_its_module_installs_another_in_another_process() -> None:
    import sys

    import bridge

    reactor = bridge.install()
    assert sys.modules[reactor.__module__] is sys.modules[type(reactor).__module__]
    assert callable(vars(sys.modules[reactor.__module__])["install"])


@isolated
def test_it_runs_when_a_loop_or_a_bridge_that_had_it_is_closed() -> None:
    import asyncio

    from twisted.internet.task import deferLater

    import bridge

    async def main() -> str:
        from twisted.internet import reactor

        return await deferLater(reactor, 0.001, lambda: "deferred")

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        assert runner.run(main()) == "deferred"
    from twisted.internet import reactor

    ran: list[object] = []
    reactor.callLater(0.01, lambda: ran.append(bridge.block_on(main())) or reactor.crash())
    reactor.run()
    reactor._asyncioEventloop.close()

    assert bridge.block_on(main()) == "deferred"
    assert bridge.default_bridge().reactor is reactor
    bridge.default_bridge().close()
    reactor.callLater(0.01, lambda: ran.append(bridge.block_on(main())) or reactor.crash())
    reactor.run()
    assert ran == ["deferred", "deferred"]


@isolated
def test_it_lives_again_on_the_default_bridge_after_the_program_has_stopped_it() -> None:
    from twisted.internet.task import deferLater

    import bridge

    reactor = bridge.install()
    reactor.callLater(0.01, reactor.stop)
    reactor.run()
    loop = reactor._asyncioEventloop
    for _ in range(2):
        assert bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "deferred")) == "deferred"
        bridge.block_on(lambda: reactor.callLater(0, reactor.stop) and None)
        bridge.default_bridge().close()
    loop.close()


# What runs the reactor where it runs already, or was stopped: each error says what to write instead.


@isolated
def test_run_after_the_first_call_says_what_to_write() -> None:
    import threading

    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.error import ReactorAlreadyRunning
    from twisted.internet.task import deferLater, react

    import bridge
    from bridge import block_on, default_bridge

    assert block_on(lambda: "called") == "called"

    def refused(call: object) -> str:
        try:
            call()  # type: ignore[operator]
        except (ReactorAlreadyRunning, bridge.WrongThreadError) as error:
            return str(error)
        raise AssertionError("it was not refused")

    message = refused(reactor.run)
    assert message.startswith("reactor.run() runs the reactor, which runs already, in the thread 'bridge': "), message
    for form in "block_on(lambda: ...)", "default_bridge().thread.join()", "bridge.install()":
        assert f"\n    {form}  " in message, message
    assert "was called by code that the reactor runs; leave it out" in block_on(lambda: refused(reactor.run))
    # The function that react() calls, before it runs the reactor, needs the reactor's thread.
    message = refused(lambda: react(lambda reactor: deferLater(reactor, 0.001, lambda: "deferred")))
    lines = message.splitlines()
    assert len(lines) == 3, message
    assert lines[2] == "[bridge: wrong-thread]"
    assert lines[1].startswith("    block_on(lambda: main(reactor))  "), message
    assert lines[1].endswith("# instead of react(main): calls main and waits for its result"), message
    message = refused(lambda: react(lambda reactor: Deferred()))
    assert "react(main) runs the reactor" in message, message
    assert "\n    block_on(lambda: main(reactor))  " in message
    # What the messages say works.
    assert block_on(lambda: deferLater(reactor, 0.001, lambda: "deferred")) == "deferred"
    thread = default_bridge().thread
    assert thread is not None
    threading.Timer(0.01, reactor.callFromThread, [reactor.stop]).start()
    thread.join()


@isolated
def test_run_after_a_stop_says_what_to_write() -> None:
    from twisted.internet.error import ReactorNotRestartable
    from twisted.internet.task import deferLater

    import bridge

    reactor = bridge.install()
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    message = ""
    try:
        reactor.run()
    except ReactorNotRestartable as error:
        message = str(error)
    assert message.startswith("reactor.run() runs the reactor, which was stopped, and "), message
    assert "\n    block_on(lambda: ...)  " in message
    assert bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: "deferred")) == "deferred"


@isolated
def test_it_is_exactly_of_twisteds_class() -> None:
    import asyncio

    from twisted.internet import pollreactor
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    from bridge import Bridge, block_on

    pollreactor.install()
    from twisted.internet import reactor

    ran: list[str] = []
    reactor.callWhenRunning(ran.append, "startup")
    assert block_on(lambda: "called") == "called"
    assert ran == ["startup"]
    with Bridge(install_reactor=False) as private:
        assert type(private.reactor) is type(reactor) is AsyncioSelectorReactor
    # Other reactors of the class are as they were.
    loop = asyncio.SelectorEventLoop()
    other = AsyncioSelectorReactor(loop)
    assert "callLater" not in vars(other)
    assert other.nameResolver is vars(other)["_nameResolver"]
    other.callLater(0, other.stop)
    other.run()
    loop.close()
