"""Twisted is imported when it is needed, and its reactor then comes onto the loop that runs already.

Each test has a process of its own, in which nothing of Twisted has been imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from isolated import isolated

import bridge

pytestmark = pytest.mark.any_python  # it is about what Twisted's modules import
_ROOT = str(Path(bridge.__file__).resolve().parent.parent)


# --- processes that need none


@isolated(fresh=True)
def test_calls_and_the_end_import_no_twisted_and_no_anyio() -> None:
    import asyncio
    import atexit
    import concurrent.futures
    import sys
    import threading

    import bridge

    def unneeded() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] in ("twisted", "anyio", "zope")]

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def failing() -> None:
        raise LookupError

    def blocking(number: int) -> int:
        return bridge.block_on(double(number))

    async def in_threads() -> int:
        return await asyncio.to_thread(blocking, 3)

    async def as_futures() -> list[int]:
        decorated = bridge.as_future(double)
        return await asyncio.gather(
            bridge.as_future(double(1)), decorated(2), bridge.as_future(bridge.submit(double(3)))
        )

    async def in_callers() -> int:
        return await bridge.in_caller(lambda: threading.get_ident())

    assert bridge.block_on(double(2)) == 4
    assert bridge.block_on(lambda: double(2)) == 4
    assert bridge.block_on(lambda: 5) == 5
    assert bridge.block_on(double(2), timeout=10, strategy="event") == 4
    assert bridge.submit(double(2)).result() == 4
    assert bridge.run(blocking, 2) == 4
    assert bridge.block_on(in_threads()) == 6
    assert bridge.block_on(as_futures()) == [2, 4, 6]
    assert bridge.block_on(in_callers()) == threading.get_ident()
    assert bridge.block_on(concurrent.futures.ThreadPoolExecutor(1).submit(blocking, 4)) == 8
    assert bridge.blocking(double)(4) == 8
    assert next(iter(bridge.as_completed([bridge.submit(double(1))]))).result() == 2
    for error, call in (LookupError, failing()), (TimeoutError, asyncio.sleep(10)):
        try:
            bridge.block_on(call, timeout=0.05)
        except error:
            pass
        else:
            raise AssertionError(error)
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        assert runner.run(double(1)) == 2
        assert runner.run(in_threads()) == 6
    assert bridge.default_bridge().stats().calls > 5
    with bridge.Bridge("another", install_reactor=False) as another:
        assert another.block_on(double(1)) == 2
    assert not unneeded()
    bridge.default_bridge().close()
    assert bridge.block_on(double(2)) == 4
    assert not unneeded()

    @atexit.register
    def at_the_end() -> None:  # called after ours
        assert not unneeded()

    bridge.submit(asyncio.sleep(60))


@isolated(stderr=r".*has waited for.*")
def test_a_report_and_a_dump_import_no_twisted() -> None:
    import asyncio
    import io
    import sys

    import bridge

    bridge.configure(stall_after=0.1)
    report = io.StringIO()

    async def slow() -> None:
        await asyncio.sleep(0.5)
        bridge.dump(report)

    bridge.block_on(slow())
    assert "slow" in report.getvalue()
    assert not [name for name in sys.modules if name.split(".")[0] in ("twisted", "anyio")]


@isolated(forks=True, options=("-W", "error", "-W", "ignore:This process:DeprecationWarning"))
def test_a_fork_imports_no_twisted() -> None:
    import asyncio
    import os
    import sys

    import bridge

    async def value() -> int:
        await asyncio.sleep(0)
        return 42

    assert bridge.block_on(value()) == 42
    child = os.fork()
    if not child:
        assert bridge.block_on(value()) == 42
        assert "twisted" not in sys.modules
        from twisted.internet import reactor

        assert bridge.default_bridge().reactor is reactor
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bridge.block_on(value()) == 42
    assert "twisted" not in sys.modules
    from twisted.internet import reactor

    assert bridge.default_bridge().reactor is reactor


@isolated
def test_the_exit_begins_before_that_of_process_pools_also_if_they_come_later() -> None:
    import sys
    import threading
    from typing import Any

    import bridge

    bridge.block_on(lambda: None)
    assert "concurrent.futures.process" not in sys.modules
    from concurrent.futures import process

    def name(registered: Any) -> str:  # a partial, and from CPython 3.14 on a lambda
        if hasattr(registered, "func"):
            return str(registered.func.__name__)
        cells = dict(zip(registered.__code__.co_freevars, registered.__closure__, strict=True))
        return str(cells["func"].cell_contents.__name__)

    assert [name(each) for each in threading._threading_atexits[-2:]] == ["_python_exit", "begin"]  # type: ignore[attr-defined]
    assert process.__spec__.loader is process.__loader__
    assert type(process.__loader__).__name__ == "SourceFileLoader"


# --- the reactor comes when it is needed


@isolated
def test_the_reactor_of_a_bridge_is_there_when_it_is_asked_for() -> None:
    import sys

    import bridge

    bridge.block_on(lambda: None)
    assert "twisted" not in sys.modules
    reactor = bridge.default_bridge().reactor
    assert reactor.running
    assert sys.modules["twisted.internet.reactor"] is reactor
    assert bridge.block_on(lambda: bridge.default_bridge().reactor) is reactor
    assert reactor._asyncioEventloop is bridge.default_bridge().loop


@isolated
def test_on_the_loop_the_import_gives_the_reactor_at_once() -> None:
    import sys

    import bridge

    def use() -> None:
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        assert reactor.running  # type: ignore[attr-defined]
        assert bridge.default_bridge().reactor is reactor
        assert bridge.block_on(deferLater(reactor, 0.01, lambda: "later")) == "later"

    bridge.run(use)
    assert not [each for each in sys.meta_path if type(each).__module__.startswith("bridge._twisted")]


@isolated
def test_another_thread_gets_our_reactor_which_refuses_it() -> None:
    import threading

    import bridge

    bridge.block_on(lambda: None)
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    try:
        reactor.callLater(0, print)  # type: ignore[attr-defined]
    except bridge.WrongThreadError as error:
        assert "bridge" in str(error)  # noqa: PT017
    else:
        raise AssertionError("it was not refused")
    called = threading.Event()
    reactor.callFromThread(called.set)  # type: ignore[attr-defined]
    assert called.wait(10)
    assert bridge.default_bridge().reactor is reactor
    assert bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "later")) == "later"
    bridge.default_bridge().close()
    assert not reactor.running  # type: ignore[attr-defined]
    assert bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: "later")) == "later"


@isolated
def test_a_thread_may_use_the_pool_right_after_the_import() -> None:
    import threading

    import bridge

    bridge.block_on(lambda: None)
    called = threading.Event()

    from twisted.internet import reactor

    reactor.callInThread(called.set)  # type: ignore[attr-defined]
    assert called.wait(10)


@isolated
def test_the_import_while_the_loop_stands_still_does_not_wait_for_it() -> None:
    import threading
    import time

    import bridge

    standing, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        standing.set()
        assert go_on.wait(30)
        # Another thread that asks for the reactor waits until it has started.
        reactor.addSystemEventTrigger("before", "startup", time.sleep, 0.2)  # type: ignore[attr-defined]

    future = bridge.submit(stand_still)
    assert standing.wait(30)
    from twisted.internet import reactor

    reactor.callFromThread(go_on.set)  # type: ignore[attr-defined]
    assert not reactor.running  # type: ignore[attr-defined]
    go_on.set()
    future.result(10)
    assert bridge.default_bridge().reactor is reactor
    assert reactor.running  # type: ignore[attr-defined]


@isolated
def test_who_started_first_has_its_reactor_installed() -> None:
    import sys

    from bridge import Bridge

    with Bridge("private", install_reactor=False) as private, Bridge("first") as first, Bridge("second") as second:
        assert "twisted" not in sys.modules
        from twisted.internet import reactor

        assert first.reactor is reactor
        others = [second.reactor, private.reactor]
        assert all(each.running for each in others)
        assert len({id(each) for each in [reactor, *others]}) == 3
        assert not [each for each in sys.meta_path if type(each).__module__.startswith("bridge._twisted")]


@isolated
def test_a_private_bridge_leaves_the_import_alone() -> None:
    from bridge import Bridge

    with Bridge(install_reactor=False) as private:
        private.start()
        from twisted.internet import reactor

        assert type(reactor).__module__.startswith("twisted.")
        assert private.reactor is not reactor
    with Bridge() as adopting:
        assert adopting.reactor is reactor


@isolated
def test_a_bridge_that_insists_has_its_reactor_at_the_start() -> None:
    import sys

    from bridge import Bridge

    with Bridge(install_reactor=True) as each:
        assert each.reactor is sys.modules["twisted.internet.reactor"]


@isolated
def test_after_the_close_the_import_is_twisteds_own() -> None:
    import sys

    from bridge import Bridge

    before = list(sys.meta_path)
    with Bridge() as each:
        each.block_on(lambda: None)
    assert [each for each in sys.meta_path if type(each).__module__.startswith("bridge._twisted")] == []
    assert before == [each for each in sys.meta_path if each in before]
    from twisted.internet import reactor

    assert type(reactor).__module__.startswith("twisted.")
    with Bridge() as each:
        assert each.reactor is reactor


# --- another reactor is installed meanwhile


@isolated
def test_an_idle_reactor_that_is_installed_meanwhile_is_adopted_with_the_first_deferred() -> None:
    import sys

    import bridge

    bridge.block_on(lambda: None)
    from twisted.internet import selectreactor
    from twisted.internet.task import deferLater

    selectreactor.install()  # type: ignore[no-untyped-call]
    reactor = sys.modules["twisted.internet.reactor"]
    assert type(reactor) is selectreactor.SelectReactor  # type: ignore[comparison-overlap]
    assert bridge.block_on(lambda: deferLater(reactor, 0.05, lambda: "later")) == "later"  # type: ignore[arg-type]
    assert bridge.default_bridge().reactor is reactor
    assert reactor.running


@isolated
def test_a_reactor_that_runs_elsewhere_is_a_conflict_for_what_needs_ours() -> None:
    import asyncio
    import sys
    import threading
    from typing import Any

    import bridge

    bridge.block_on(lambda: None)
    from twisted.internet import selectreactor
    from twisted.internet.defer import Deferred

    selectreactor.install()  # type: ignore[no-untyped-call]
    reactor: Any = sys.modules["twisted.internet.reactor"]
    running = threading.Event()
    reactor.callWhenRunning(running.set)
    thread = threading.Thread(target=reactor.run, args=(False,))
    thread.start()
    assert running.wait(10)
    waiting: Any = Deferred
    for call in (lambda: bridge.default_bridge().reactor), (lambda: bridge.block_on(waiting)):
        try:
            call()
        except bridge.ReactorConflict:
            pass
        else:
            raise AssertionError("no conflict")
    assert bridge.block_on(asyncio.sleep(0, "the loop goes on")) == "the loop goes on"
    reactor.callFromThread(reactor.stop)
    thread.join()


# --- what else Twisted brings


@isolated(stderr=r"ERROR:twisted:.*LookupError: lost.*")
def test_twisteds_log_goes_to_logging_from_its_import_on() -> None:
    import logging

    logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s")
    import bridge

    bridge.block_on(lambda: None)
    from twisted.logger import Logger

    log = Logger()

    def drop() -> None:
        from twisted.internet.defer import Deferred  # noqa: F401

        try:
            raise LookupError("lost")
        except LookupError:
            log.failure("it was", level=log.error and __import__("twisted.logger").logger.LogLevel.error)

    bridge.block_on(drop)
    bridge.default_bridge().close()


@isolated
def test_twisteds_context_is_that_of_each_stack_from_its_import_on() -> None:
    import asyncio
    from typing import Any

    import bridge

    seen: list[Any] = []

    def user(name: str) -> None:
        from twisted.python import context

        def blocked() -> None:
            bridge.block_on(asyncio.sleep(0.01))
            seen.append((name, context.get("who")))  # type: ignore[no-untyped-call]

        context.call({"who": name}, blocked)  # type: ignore[no-untyped-call]

    async def other() -> None:
        from twisted.internet import defer  # noqa: F401 - it comes with all that has to do with Twisted
        from twisted.python import context

        seen.append(context.get("who"))  # type: ignore[no-untyped-call]

    def both() -> None:
        from twisted.internet import defer  # noqa: F401

        asyncio.get_running_loop().create_task(other())
        user("first")

    bridge.run(both)
    assert seen == [None, ("first", "first")]


@isolated
def test_a_coroutine_awaits_the_first_deferred_of_the_process() -> None:
    import asyncio
    import sys

    import bridge

    async def work() -> str:
        await asyncio.sleep(0)
        from twisted.internet.defer import Deferred

        deferred: Deferred[str] = Deferred()
        asyncio.get_running_loop().call_later(0.01, deferred.callback, "fired")
        return await deferred

    assert bridge.block_on(work()) == "fired"
    assert "twisted.internet.reactor" not in sys.modules
    assert bridge.run(lambda: bridge.block_on(work())) == "fired"
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        assert runner.run(work()) == "fired"


@isolated
def test_a_cancelled_deferred_is_a_time_out() -> None:
    import bridge

    async def never() -> None:
        from twisted.internet.defer import Deferred

        await Deferred()

    try:
        bridge.block_on(never(), timeout=0.05)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no time-out")


# --- loops of the program


@isolated
def test_a_loop_of_the_program_gets_its_reactor_when_it_is_needed() -> None:
    import asyncio
    import sys

    import bridge

    async def main() -> None:
        await asyncio.sleep(0)
        assert "twisted" not in sys.modules
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        assert reactor.running  # type: ignore[attr-defined]
        assert reactor._asyncioEventloop is asyncio.get_running_loop()  # type: ignore[attr-defined]
        assert await deferLater(reactor, 0.01, lambda: 1) == 1
        assert bridge.block_on(deferLater(reactor, 0.01, lambda: 2)) == 2
        assert await asyncio.to_thread(lambda: bridge.block_on(lambda: deferLater(reactor, 0.01, lambda: 3))) == 3

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
        runner.run(main())
        runner.run(asyncio.sleep(0))
    assert not sys.modules["twisted.internet.reactor"].running
    assert not [each for each in sys.meta_path if type(each).__module__.startswith("bridge._twisted")]


@isolated
def test_between_two_runs_of_a_loop_of_the_program_twisteds_reactor_is_adopted() -> None:
    import asyncio

    import bridge

    async def main() -> None:
        from twisted.internet import reactor

        assert reactor.running  # type: ignore[attr-defined]
        assert reactor._asyncioEventloop is asyncio.get_running_loop()  # type: ignore[attr-defined]

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
        from twisted.internet import reactor  # noqa: F401

        runner.run(main())


@isolated
def test_a_worker_of_a_loop_of_the_program_gets_its_reactor() -> None:
    import asyncio
    from typing import Any

    import bridge

    def work() -> Any:
        from twisted.internet import reactor

        assert bridge.default_bridge().running is False
        return reactor

    async def main() -> None:
        attached = bridge.Bridge.attach()
        reactor = await asyncio.to_thread(work)
        assert reactor._asyncioEventloop is asyncio.get_running_loop()
        await asyncio.sleep(0)
        assert reactor.running
        assert attached.reactor is reactor

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())


@isolated
def test_a_bridge_that_is_attached_makes_the_reactor_of_a_loop_of_ours() -> None:
    import asyncio

    import bridge

    async def main() -> None:
        attached = bridge.Bridge.attach()
        reactor = await asyncio.to_thread(lambda: attached.reactor)
        assert reactor.running
        assert attached.reactor is reactor

    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.process
def test_a_script_on_the_loop_imports_twisted_when_it_does() -> None:
    script = Path(__file__).with_name("programs") / "imports_twisted_late.py"
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", "run", str(script)],
        env=os.environ | {"PYTHONPATH": _ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# --- races


@pytest.mark.process
@pytest.mark.timeout(170)
@pytest.mark.parametrize("seed", range(12))
def test_threads_and_code_on_the_loop_import_the_reactor_at_the_same_time(seed: int) -> None:
    races(seed=seed)


@isolated(timeout=60)
def races(seed: int) -> None:
    import asyncio
    import importlib
    import random
    import sys
    import threading
    import time
    from typing import Any

    import bridge

    dice = random.Random(seed)
    sys.setswitchinterval(10 ** dice.uniform(-6, -3))
    default = bridge.default_bridge()
    default.start()
    found: list[Any] = []
    barrier = threading.Barrier(7)
    modules = ["twisted.internet.reactor", "twisted.internet.task", "twisted.web.client", "twisted.internet.defer"]
    pauses = [dice.choice([0.0, 0.0, dice.uniform(0, 0.02)]) for _ in range(7)]
    firsts = [dice.choice(modules) for _ in range(7)]

    def get(number: int) -> None:
        importlib.import_module(firsts[number])
        from twisted.internet import reactor

        found.append(reactor)

    def in_thread(number: int) -> None:
        barrier.wait()
        time.sleep(pauses[number])
        get(number)
        if number == 2:
            found.append(default.reactor)

    def ask(number: int) -> None:
        barrier.wait()
        time.sleep(pauses[number])
        found.append(default.reactor)

    def on_loop(number: int) -> None:
        barrier.wait()
        time.sleep(pauses[number])
        get(number)
        from twisted.internet.task import deferLater

        assert bridge.block_on(deferLater(found[-1], 0.001, lambda: number)) == number

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=ask, args=(4,)))
    threads.append(threading.Thread(target=lambda: bridge.run(on_loop, 5)))
    for each in threads:
        each.start()
    barrier.wait()
    for number in range(20):
        assert bridge.block_on(asyncio.sleep(0, number)) == number
    for each in threads:
        each.join()
    assert len(found) == 7
    assert len({id(each) for each in found}) == 1
    assert found[0] is sys.modules["twisted.internet.reactor"]
    assert found[0].running
    assert not [each for each in sys.meta_path if type(each).__module__.startswith("bridge._twisted")]


@pytest.mark.process
@pytest.mark.timeout(170)
@pytest.mark.parametrize("seed", range(6))
def test_the_import_races_with_the_end_of_the_loop(seed: int) -> None:
    end_races(seed=seed)


@isolated(timeout=60)
def end_races(seed: int) -> None:
    import random
    import threading
    import time

    from bridge import Bridge

    pause = random.Random(seed).uniform(0, 0.4)
    each = Bridge()
    each.start()

    def get() -> None:
        from twisted.internet import reactor  # noqa: F401

    thread = threading.Thread(target=get)
    thread.start()
    time.sleep(pause)
    each.close()
    thread.join()
    with Bridge() as again:  # the reactor is free, whoever has made it
        from twisted.internet import reactor

        assert again.reactor is reactor
        assert again.reactor.running
